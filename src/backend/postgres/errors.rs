//! The driver's errors in this crate's words. What the server says has a code, and the codes
//! have a [table](super::kind_of_sqlstate); what the driver found out by itself is sorted in
//! [`kind_of`].

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::Write as _;
use std::sync::Arc;

use postgres::error::{DbError, ErrorPosition, SqlState};

use super::batch::Shift;
use super::codes::{is_open, kind_of_state};
use super::connector::NotOffered;
use super::fuse::Blown;
use crate::error::{ConnectFailure, Error, ErrorKind, Phase, classify_io};
use crate::security::{TlsSettings, unquoted, values_are_masked};

/// How messages about TLS name our settings.
const TLS: TlsSettings = TlsSettings {
    ca_file: "DB_SSL_CA_FILE",
    client: "DB_SSL_CERT_FILE and DB_SSL_KEY_FILE",
    address: "DB_HOST and DB_PORT",
    host: "DB_HOST, or DB_SSL_MODE=verify-ca if its name does not matter",
    min_version: "DB_SSL_MIN_VERSION",
    plaintext: "DB_SSL_MODE=disable",
};

/// The kind of a driver's error in this phase.
pub(super) fn kind_of(error: &postgres::Error, phase: Phase) -> ErrorKind {
    if let Some(db) = error.as_db_error() {
        return kind_of_state(db.code(), db.message(), phase);
    }
    if phase == Phase::Connect
        && let Some((kind, _)) = tls_problem(error)
    {
        return kind;
    }
    // The driver has no public kinds; what it prints first is its kind.
    let text = error.to_string();
    if text.starts_with("error performing TLS handshake") {
        // Our connector's errors, also where the handshake was not come to yet.
        return match io_cause(error).map_or(ErrorKind::Other, classify_io) {
            ErrorKind::ConnectionLost => ErrorKind::Connect(ConnectFailure::Refused),
            kind @ ErrorKind::Connect(_) => kind,
            _ => ErrorKind::Connect(ConnectFailure::Tls),
        };
    }
    if text.starts_with("timeout waiting for server") {
        return match phase {
            Phase::Connect => ErrorKind::Connect(ConnectFailure::Timeout),
            _ => ErrorKind::DeadlineExceeded,
        };
    }
    if let Some(io) = io_cause(error) {
        let kind = classify_io(io);
        return match (kind, phase) {
            _ if phase != Phase::Connect && is_blown(io) => ErrorKind::DeadlineExceeded,
            // Going down, coming up, or no PostgreSQL.
            (ErrorKind::ConnectionLost, Phase::Connect) => {
                ErrorKind::Connect(ConnectFailure::Refused)
            }
            (ErrorKind::Connect(_), Phase::Connect) => kind,
            // On an established connection these mean that it is lost.
            (ErrorKind::Connect(_) | ErrorKind::Other, _) => ErrorKind::ConnectionLost,
            _ => kind,
        };
    }
    if error.is_closed() {
        return match phase {
            Phase::Connect => ErrorKind::Connect(ConnectFailure::Refused),
            _ => ErrorKind::ConnectionLost,
        };
    }
    if text.starts_with("authentication error") || chain_of(error).contains("password missing") {
        return ErrorKind::Authentication;
    }
    if text.starts_with("invalid con") {
        // The server asks for a password, and there is none.
        return match error.source().map(ToString::to_string) {
            Some(cause) if cause.starts_with("password missing") => ErrorKind::Authentication,
            _ => ErrorKind::Configuration,
        };
    }
    if text.starts_with("error serializing")
        || text.starts_with("error deserializing")
        || text.starts_with("expected ")
        || text.starts_with("invalid column")
    {
        return ErrorKind::InvalidOperation;
    }
    if text.starts_with("query returned an unexpected number of rows") {
        return ErrorKind::NotFound;
    }
    ErrorKind::Other
}

/// The first I/O error among the causes.
fn io_cause(error: &postgres::Error) -> Option<&std::io::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

/// What is wrong with the encryption, where that is it. Only while connecting: later, it means
/// that the connection is lost.
fn tls_problem(error: &postgres::Error) -> Option<(ErrorKind, String)> {
    let inner = io_cause(error)?.get_ref()?;
    if inner.is::<NotOffered>() {
        let kind = ErrorKind::Connect(ConnectFailure::Tls);
        return Some((kind, TLS.no_tls("it says so")));
    }
    inner
        .downcast_ref::<rustls::Error>()
        .map(|error| TLS.explain(error))
}

/// Whether it comes from a blown fuse.
fn is_blown(error: &std::io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn StdError + Send + Sync>::is::<Blown>)
}

/// Whether the connection is lost after this error.
pub(super) fn breaks(error: &postgres::Error) -> bool {
    match error.as_db_error() {
        Some(db) => {
            db.severity() == "FATAL"
                || kind_of_state(db.code(), db.message(), Phase::Operation)
                    == ErrorKind::ConnectionLost
        }
        None => matches!(
            kind_of(error, Phase::Operation),
            ErrorKind::ConnectionLost | ErrorKind::DeadlineExceeded
        ),
    }
}

/// Whether nobody knows what became of an operation that was sent and met this error. What
/// the server answers with an error is rolled back, unless it says otherwise.
pub(super) fn leaves_open(error: &postgres::Error) -> bool {
    match (error.as_db_error(), kind_of(error, Phase::Operation)) {
        (_, ErrorKind::ConnectionLost) | (None, ErrorKind::DeadlineExceeded) => true,
        (Some(db), _) => is_open(db.code()),
        (None, _) => false,
    }
}

/// The driver's error as one of ours.
pub(super) fn ours(error: postgres::Error, phase: Phase) -> Error {
    ours_shifted(error, phase, Shift::default())
}

/// The same, of a statement that the server got in another place than its author wrote it.
pub(super) fn ours_shifted(error: postgres::Error, phase: Phase, shift: Shift) -> Error {
    if phase == Phase::Connect
        && let Some((kind, message)) = tls_problem(&error)
    {
        return Error::new(kind, phase, message).with_source(Arc::new(error));
    }
    let kind = kind_of(&error, phase);
    let mut message = match error.as_db_error() {
        Some(db) => describe(db, shift),
        None => chain_of(&error),
    };
    let code = error.code().map(SqlState::code);
    if kind == ErrorKind::Authentication && message.contains("certificate") {
        let _ = write!(message, "; check {}", TLS.client);
    } else if kind == ErrorKind::Authentication && message.contains("no encryption") {
        message.push_str("; the server may want TLS (DB_SSL_MODE=require): see its pg_hba.conf");
    } else if let Some(advice) = advice(kind, phase, code) {
        let _ = write!(message, "; {advice}");
    }
    let ours = Error::new(kind, phase, message);
    if phase == Phase::Connect {
        // A login carries no values, and no server repeats its password.
        ours.with_source(Arc::new(error))
    } else {
        ours.with_driver_error(error)
    }
}

/// An operation's error that the server gave because we asked it to cancel.
pub(super) fn cancelled_in_time(error: postgres::Error) -> Error {
    let message = format!(
        "the server cancelled the statement at the deadline ({}); give it more time",
        chain_of(&error)
    );
    Error::new(ErrorKind::DeadlineExceeded, Phase::Operation, message).with_driver_error(error)
}

/// An operation's error on a connection that was given up at the deadline.
pub(super) fn left_at_deadline(error: Error) -> Error {
    let message = format!("{Blown}: {}", error.message());
    Error::new(ErrorKind::DeadlineExceeded, Phase::Operation, message).because_of(error)
}

/// The server's message with its code, and where it helps hint and position. While values
/// are masked without its detail, which repeats the row's values.
fn describe(db: &DbError, shift: Shift) -> String {
    let masked = values_are_masked();
    let code = db.code().code();
    let said = if masked {
        without_values(db.message(), code)
    } else {
        db.message().into()
    };
    let mut text = format!("{said} (SQLSTATE {code})");
    if let Some(detail) = db.detail().filter(|_| !masked) {
        let _ = write!(text, "; detail: {detail}");
    }
    // The server's own hints name identifiers; what a function raises is its author's.
    if let Some(hint) = db.hint().filter(|_| !masked || !is_raised(code)) {
        let _ = write!(text, "; hint: {hint}");
    }
    if let Some(ErrorPosition::Original(position)) = db.position() {
        let position = (*position as usize + shift.written).saturating_sub(shift.sent);
        let _ = write!(text, "; at character {position}");
    }
    text
}

/// Whether the text is of the author of a function: `raise_exception`, and what `RAISE`
/// without an error's level has.
fn is_raised(code: &str) -> bool {
    matches!(code, "P0001" | "00000" | "01000")
}

/// The server's message without the values that it quotes: those of a class 22 error, of
/// which everything between the first quote and the last may be a value, and a literal at
/// which the syntax is wrong.
fn without_values<'a>(message: &'a str, code: &str) -> Cow<'a, str> {
    let is_literal = || {
        let at = message.rsplit_once("at or near \"");
        let plain = |letter: char| letter.is_alphabetic() || letter == '_';
        at.is_some_and(|(_, token)| {
            let token = token.trim_end_matches('"');
            token.len() > 1 && !token.chars().all(plain)
        })
    };
    if code.starts_with("22") || code == "42601" && is_literal() {
        return unquoted(message, '"', '"');
    }
    message.into()
}

/// What the server tells beside an answer, as the log may have it.
pub(super) fn notice(notice: &DbError) -> Cow<'_, str> {
    if values_are_masked() && is_raised(notice.code().code()) {
        return "(a text of the database's own, which may have values)".into();
    }
    notice.message().into()
}

/// The error with its causes.
pub(super) fn chain_of(error: &postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return describe(db, Shift::default());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            let _ = write!(text, ": {next}");
        }
        cause = error.source();
    }
    text
}

/// What to do about it.
fn advice(kind: ErrorKind, phase: Phase, code: Option<&str>) -> Option<&'static str> {
    let advice = match (kind, phase, code) {
        (ErrorKind::Authentication, Phase::Connect, _) => {
            "check user and password (DB_USER, DB_PASSWORD) and the server's pg_hba.conf"
        }
        (ErrorKind::Permission, Phase::Connect, _) => {
            "the user (DB_USER) needs the right CONNECT on the database (DB_NAME)"
        }
        (ErrorKind::Configuration, Phase::Connect, Some("3D000")) => {
            "check the database name (DB_NAME)"
        }
        (ErrorKind::Configuration, Phase::Connect, Some(_)) => {
            "check the session's options (DB_OPTIONS)"
        }
        (ErrorKind::Connect(ConnectFailure::Refused), _, Some("57P03")) => {
            "it is starting, stopping or recovering; it is tried again"
        }
        (ErrorKind::Overloaded, Phase::Connect, _) => {
            "lower the pools' sizes (POOL_MAX_CONNECTIONS) or raise max_connections there"
        }
        (ErrorKind::DeadlineExceeded, Phase::Validate, _) => {
            "the server hangs, or is slower than connect_timeout for a reset \
             (DB_CONNECT_TIMEOUT) or check_timeout for a check (DB_CHECK_TIMEOUT)"
        }
        (ErrorKind::DeadlineExceeded, Phase::Operation, Some(_)) => {
            "make the statement faster, or allow it more time (statement_timeout, \
             DB_STATEMENT_TIMEOUT)"
        }
        (ErrorKind::ConnectionLost, _, Some("25P03")) => {
            "end transactions sooner, or raise idle_in_transaction_session_timeout there"
        }
        (ErrorKind::ConnectionLost, _, Some("25P04")) => {
            "make transactions shorter, or raise transaction_timeout there"
        }
        (ErrorKind::ConnectionLost, _, Some("57P05")) => {
            "let the pool close idle connections before the server does (POOL_IDLE_TIMEOUT)"
        }
        (ErrorKind::InvalidOperation, _, Some("25P02")) => {
            "an earlier statement has failed: roll the transaction back"
        }
        (ErrorKind::WrongRole, Phase::Operation, _) => {
            "the server or the transaction is read-only: name the primary (DB_HOST), or ask for \
             it (DB_TARGET_SESSION_ATTRS=read-write)"
        }
        (ErrorKind::Permission, Phase::Operation, _) => "grant the right to the user (DB_USER)",
        (ErrorKind::Conflict, Phase::Operation, _) => {
            "it was rolled back, and may succeed if it is run again"
        }
        (ErrorKind::NotFound, Phase::Operation, Some(code)) if code.starts_with("42") => {
            "check the name, the search_path and the database (DB_NAME)"
        }
        (ErrorKind::ResourceLimit, Phase::Operation, _) => {
            "the server is short of something: see its log, its disks and its limits"
        }
        _ => return None,
    };
    Some(advice)
}

impl From<postgres::Error> for Error {
    /// For `?` on the driver's own calls: phase [`Operation`](Phase::Operation), and an
    /// unknown outcome where the connection was lost.
    fn from(error: postgres::Error) -> Self {
        let open = leaves_open(&error);
        let ours = ours(error, Phase::Operation);
        if open {
            ours.with_outcome_unknown()
        } else {
            ours
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_value_is_told_without_it() {
        for (code, message, told) in [
            (
                "22P02",
                "invalid input syntax for type integer: \"a\"b\"",
                "integer: \"?\"",
            ),
            (
                "42601",
                "syntax error at or near \"'secret'\"",
                "near \"?\"",
            ),
            ("42601", "syntax error at or near \"FORM\"", "near \"FORM\""),
            ("42601", "syntax error at or near \")\"", "near \")\""),
            ("42703", "column \"nme\" does not exist", "column \"nme\""),
        ] {
            let masked = without_values(message, code);
            assert!(masked.contains(told), "{masked}");
        }
    }
}
