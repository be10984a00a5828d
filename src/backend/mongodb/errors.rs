//! The driver's errors in this crate's vocabulary.
//!
//! The server's codes have a [table](super::kind_of_code). What the driver found out by
//! itself (I/O, server selection, BSON) is sorted in [`kind_of`].

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{self, Document};
use mongodb::error::{
    Error as DriverError, ErrorKind as DriverKind, GridFsErrorKind, NO_WRITES_PERFORMED,
    SYSTEM_OVERLOADED_ERROR, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT,
    WriteFailure,
};

use super::codes::{is_about_the_command, is_at_any_load, is_open, kind_in_table, kind_of_code};
use super::operation::Reach;
use crate::error::{ConnectFailure, Error, ErrorKind, Phase, classify_io};
use crate::security::{TlsSettings, unquoted, values_are_masked};

/// How messages about TLS name our settings.
const TLS: TlsSettings = TlsSettings {
    ca_file: "MONGODB_SSL_CA_FILE",
    client: "MONGODB_SSL_CERT_FILE (certificate and key in one)",
    address: "MONGODB_HOST and MONGODB_PORT",
    host: "MONGODB_HOST",
    min_version: "MONGODB_SSL_MIN_VERSION",
    plaintext: "MONGODB_SSL=false",
};

/// The kind of an error of the driver.
pub(super) fn kind_of(error: &DriverError) -> ErrorKind {
    if let Some(code) = code_of(error) {
        return match kind_in_table(code) {
            Some(kind) => kind,
            None if error.contains_label(SYSTEM_OVERLOADED_ERROR) => ErrorKind::Overloaded,
            None if error.contains_label(TRANSIENT_TRANSACTION_ERROR) => ErrorKind::Conflict,
            None => kind_of_code(code),
        };
    }
    if let Some((kind, _)) = tls_problem(error) {
        return kind;
    }
    match &*error.kind {
        DriverKind::Authentication { .. } => ErrorKind::Authentication,
        DriverKind::Io(io) => classify_io(io),
        DriverKind::ConnectionPoolCleared { .. } => ErrorKind::ConnectionLost,
        DriverKind::ServerSelection { message, .. } => by_selection_text(message),
        DriverKind::DnsResolve { .. } => ErrorKind::Connect(ConnectFailure::Dns),
        DriverKind::InvalidTlsConfig { .. } => ErrorKind::Configuration,
        DriverKind::Shutdown => ErrorKind::Closed,
        DriverKind::GridFs(
            GridFsErrorKind::FileNotFound { .. } | GridFsErrorKind::RevisionNotFound { .. },
        ) => ErrorKind::NotFound,
        DriverKind::InvalidArgument { .. }
        | DriverKind::Bson(_)
        | DriverKind::SessionsNotSupported
        | DriverKind::Transaction { .. }
        | DriverKind::IncompatibleServer { .. }
        | DriverKind::MissingResumeToken => ErrorKind::InvalidOperation,
        // A bulk write that was cut off has its reason as the source.
        _ => match std::error::Error::source(error).and_then(|cause| cause.downcast_ref()) {
            Some(cause) => kind_of(cause),
            None => ErrorKind::Other,
        },
    }
}

/// The driver reports a failed server selection as a text that prints every
/// server's last error; there is nothing else to look at.
fn by_selection_text(message: &str) -> ErrorKind {
    let has = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    if has(&["certificate", "TLS"]) {
        ErrorKind::Connect(ConnectFailure::Tls)
    } else if has(&["lookup address", "DNS"]) {
        ErrorKind::Connect(ConnectFailure::Dns)
    } else if has(&["Connection refused"]) {
        ErrorKind::Connect(ConnectFailure::Refused)
    } else if has(&["Connection reset", "unexpected end", "Broken pipe"]) {
        ErrorKind::ConnectionLost
    } else if has(&["RSSecondary", "RsSecondary"]) {
        ErrorKind::WrongRole
    } else {
        ErrorKind::Connect(ConnectFailure::Timeout)
    }
}

/// The server's code, where it answered with one.
fn code_of(error: &DriverError) -> Option<i32> {
    match &*error.kind {
        DriverKind::Command(error) => Some(error.code),
        DriverKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        DriverKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        DriverKind::InsertMany(error) => {
            let write = error.write_errors.iter().flatten().next();
            let concern = error.write_concern_error.as_ref();
            write
                .map(|error| error.code)
                .or(concern.map(|error| error.code))
        }
        DriverKind::BulkWrite(error) => {
            let first = error.write_errors.iter().min_by_key(|(index, _)| **index);
            let concern = error.write_concern_errors.first();
            first
                .map(|(_, error)| error.code)
                .or(concern.map(|error| error.code))
        }
        _ => None,
    }
}

/// What the server said, or what the driver found, without the driver's internals.
pub(super) fn describe(error: &DriverError) -> String {
    match &*error.kind {
        DriverKind::Command(error) => {
            format!(
                "{} (code {} {})",
                without_values(&error.message),
                error.code,
                error.code_name
            )
        }
        DriverKind::Write(WriteFailure::WriteError(error)) => {
            format!("{} (code {})", without_values(&error.message), error.code)
        }
        DriverKind::Write(WriteFailure::WriteConcernError(error)) => format!(
            "written, but the write concern was not met: {} (code {})",
            error.message, error.code
        ),
        DriverKind::InsertMany(error) => {
            let refused = error.write_errors.as_deref().unwrap_or_default();
            match (refused.first(), &error.write_concern_error) {
                (Some(first), _) => format!(
                    "{} documents were refused, the first of them number {}: {} (code {})",
                    refused.len(),
                    first.index,
                    without_values(&first.message),
                    first.code
                ),
                (None, Some(concern)) => format!(
                    "written, but the write concern was not met: {} (code {})",
                    concern.message, concern.code
                ),
                (None, None) => "insert_many failed".to_owned(),
            }
        }
        DriverKind::BulkWrite(error) => {
            let first = error.write_errors.iter().min_by_key(|(index, _)| **index);
            let first = first.map(|(index, error)| (index, &error.message, error.code));
            let concern = error.write_concern_errors.first();
            match (first, concern) {
                (Some((index, message, code)), _) => format!(
                    "{} writes were refused, the first of them number {index}: {} (code {code})",
                    error.write_errors.len(),
                    without_values(message)
                ),
                (None, Some(concern)) => format!(
                    "written, but the write concern was not met: {} (code {})",
                    concern.message, concern.code
                ),
                (None, None) => "bulk_write failed".to_owned(),
            }
        }
        DriverKind::Io(io) => match tls_problem(error) {
            Some((_, text)) => text,
            None => io.to_string(),
        },
        // It prints what is known of each server, and no value.
        DriverKind::ServerSelection { message, .. } => message.clone(),
        kind => without_values(&kind.to_string()),
    }
}

/// What is wrong with the encryption, and what to do, where that is it.
pub(super) fn tls_problem(error: &DriverError) -> Option<(ErrorKind, String)> {
    let DriverKind::Io(io) = &*error.kind else {
        return None;
    };
    // What a mongod without TLS does with a handshake, in the words of `tokio-rustls`.
    if io.kind() == std::io::ErrorKind::UnexpectedEof && io.to_string() == "tls handshake eof" {
        let kind = ErrorKind::Connect(ConnectFailure::Tls);
        return Some((kind, TLS.hung_up()));
    }
    let inner = io.get_ref()?.downcast_ref()?;
    Some(TLS.explain(inner))
}

/// What it means when a server with TLS hangs up on each new connection: a mongod that is not
/// shown the certificate that it wants finishes the handshake, and then closes without an alert.
pub(super) fn wants_certificate(error: &DriverError) -> Option<(ErrorKind, String)> {
    let kind = ErrorKind::Connect(ConnectFailure::Tls);
    (kind_of(error) == ErrorKind::ConnectionLost).then(|| (kind, TLS.hung_up_later()))
}

/// Whether a new socket could not be made, as opposed to one that broke.
pub(super) fn is_connect_failure(error: &DriverError) -> bool {
    tls_problem(error).is_some()
        || matches!(
            kind_of(error),
            ErrorKind::Connect(ConnectFailure::Refused | ConnectFailure::Dns | ConnectFailure::Tls)
        )
}

/// Whether the driver sent something whose effect nobody knows.
fn outcome_unknown(error: &DriverError, kind: ErrorKind) -> bool {
    if error.contains_label(NO_WRITES_PERFORMED) {
        return false;
    }
    let not_sent = matches!(
        &*error.kind,
        DriverKind::ConnectionPoolCleared { .. } | DriverKind::ServerSelection { .. }
    );
    let concern_failed = matches!(
        &*error.kind,
        DriverKind::Write(WriteFailure::WriteConcernError(_))
    );
    error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT)
        || concern_failed
        || code_of(error).is_some_and(is_open)
        || (!not_sent
            && matches!(
                kind,
                ErrorKind::ConnectionLost
                    | ErrorKind::DeadlineExceeded
                    | ErrorKind::Connect(ConnectFailure::Timeout)
            ))
}

/// The kind of an error of an operation, whose socket existed already.
fn kind_of_operation(error: &DriverError) -> ErrorKind {
    match kind_of(error) {
        // An established socket that timed out is one that the monitor cut.
        ErrorKind::Connect(ConnectFailure::Timeout)
            if matches!(&*error.kind, DriverKind::Io(_)) =>
        {
            ErrorKind::ConnectionLost
        }
        kind => kind,
    }
}

/// What to do about an operation that failed.
fn advice(kind: ErrorKind) -> Option<&'static str> {
    let advice = match kind {
        ErrorKind::Permission => {
            "grant the user (MONGODB_USER) a role that may do this on the database"
        }
        ErrorKind::Authentication => {
            "check user, password and auth source (MONGODB_USER, MONGODB_PASSWORD, \
             MONGODB_AUTH_SOURCE)"
        }
        ErrorKind::WrongRole => {
            "the server is not the primary: name the set (MONGODB_REPLICA_SET), or let \
             secondaries answer reads (MONGODB_READ_PREFERENCE)"
        }
        ErrorKind::Conflict => "other work was in its way; it may succeed if it is run again",
        ErrorKind::Configuration => {
            "check MONGODB_WRITE_CONCERN and MONGODB_REPLICA_SET against the members there are"
        }
        ErrorKind::ResourceLimit => {
            "the server is short of memory, disk or files: see its log, or ask for less at once"
        }
        ErrorKind::Overloaded => "the server takes no more work for now; it is tried again",
        _ => return None,
    };
    Some(advice)
}

fn build(error: DriverError, kind: ErrorKind, unknown: bool) -> Error {
    let mut message = describe(&error);
    if let Some(advice) = advice(kind) {
        message = format!("{message}; {advice}");
    }
    let at_any_load = code_of(&error).is_some_and(is_at_any_load);
    let ours = Error::new(kind, Phase::Operation, message)
        .at_any_load(at_any_load)
        .with_driver_error(error);
    if unknown {
        ours.with_outcome_unknown()
    } else {
        ours
    }
}

impl From<DriverError> for Error {
    /// An error of an operation that ran on the driver's own client.
    fn from(error: DriverError) -> Self {
        let kind = kind_of_operation(&error);
        let unknown = outcome_unknown(&error, kind);
        build(error, kind, unknown)
    }
}

/// An error of an operation that can have done so much.
pub(super) fn of_operation(error: DriverError, reach: Reach) -> Error {
    let kind = kind_of_operation(&error);
    let unknown = match reach {
        Reach::Read => false,
        Reach::One => outcome_unknown(&error, kind),
        Reach::Many => !nothing_applied(&error, kind),
    };
    build(error, kind, unknown)
}

/// Whether an error of a command that writes many documents, or of many writes in one
/// command, says for certain that none was made. A server that is interrupted (by a limit of
/// time, an operator, a fail-over, its own end) has often made some, and says nothing of
/// them; so only refusals that precede all work count.
fn nothing_applied(error: &DriverError, kind: ErrorKind) -> bool {
    error.contains_label(NO_WRITES_PERFORMED)
        || match &*error.kind {
            DriverKind::ConnectionPoolCleared { .. }
            | DriverKind::ServerSelection { .. }
            | DriverKind::InvalidArgument { .. }
            | DriverKind::Authentication { .. }
            | DriverKind::SessionsNotSupported
            | DriverKind::Shutdown => true,
            DriverKind::Command(said) => match kind {
                ErrorKind::Permission
                | ErrorKind::Authentication
                | ErrorKind::Configuration
                | ErrorKind::Overloaded => true,
                ErrorKind::InvalidOperation | ErrorKind::NotFound => {
                    is_about_the_command(said.code)
                }
                _ => false,
            },
            DriverKind::Io(_) => matches!(kind, ErrorKind::Connect(_)),
            _ => false,
        }
}

/// The server's error of one write among several, as the driver has it for a single one.
/// `written` is an entry of `writeErrors` in a server's reply.
pub(super) fn write_error(written: Document) -> DriverError {
    match bson::deserialize_from_document(written) {
        Ok(error) => DriverKind::Write(WriteFailure::WriteError(error)).into(),
        Err(error) => error.into(),
    }
}

/// The same of a write concern that was not met.
pub(super) fn concern_error(concern: Document) -> DriverError {
    match bson::deserialize_from_document(concern) {
        Ok(error) => DriverKind::Write(WriteFailure::WriteConcernError(error)).into(),
        Err(error) => error.into(),
    }
}

/// Whether a server refused an insert because exactly this `_id` is there already.
pub(super) fn is_duplicate_of(error: &DriverError, id: &ObjectId) -> bool {
    let DriverKind::Write(WriteFailure::WriteError(error)) = &*error.kind else {
        return false;
    };
    error.code == 11000
        && error.message.contains("index: _id_ ")
        && error.message.contains(&id.to_hex())
}

/// A message without the documents and texts that it quotes, which hold values.
fn without_values(message: &str) -> String {
    if !values_are_masked() {
        return message.to_owned();
    }
    // What a script of `$where` or `$function` fails with is a piece of it.
    let told = message.split_once(":: caused by :: ");
    let message = match told {
        Some((told, cause)) if cause.contains("Error: ") => told.trim_end(),
        _ => message,
    };
    let text = unquoted(message, '{', '}');
    unquoted(&text, '"', '"').into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_message_keeps_no_value() {
        let text = "E11000 duplicate key error collection: shop.users index: mail_1 dup key: \
                    { mail: \"a@b.c\", sub: { n: 1 } }";
        assert_eq!(
            without_values(text),
            "E11000 duplicate key error collection: shop.users index: mail_1 dup key: {?}"
        );
        let text = "dup key: { mail: \"a } secret\" }, invalid type: string \"secret\", expected";
        assert!(!without_values(text).contains("secret"));
        let text = "Executor error during find command :: caused by :: ReferenceError: secret is";
        assert_eq!(without_values(text), "Executor error during find command");
    }

    #[test]
    fn a_selection_failure_is_sorted_by_what_it_prints() {
        for (text, kind) in [
            (
                "I/O error: Connection refused (os error 111)",
                ConnectFailure::Refused,
            ),
            ("failed to lookup address information", ConnectFailure::Dns),
            (
                "invalid peer certificate: UnknownIssuer",
                ConnectFailure::Tls,
            ),
            ("Server selection timeout", ConnectFailure::Timeout),
        ] {
            assert_eq!(by_selection_text(text), ErrorKind::Connect(kind), "{text}");
        }
    }
}
