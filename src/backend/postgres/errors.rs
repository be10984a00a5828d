//! The driver's errors in this crate's words.
//!
//! SQLSTATE classes and codes: PostgreSQL manual, appendix A.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::Write as _;
use std::sync::Arc;

use postgres::error::{DbError, ErrorPosition, SqlState};

use super::fuse::Blown;
use crate::error::{ConnectFailure, Error, ErrorKind, Phase, classify_io};
use crate::security::{unquoted, values_are_masked};

/// The kind of an error with this SQLSTATE. Whole codes come first, then their
/// classes (the first two characters).
fn kind_of_state(state: &SqlState, phase: Phase) -> ErrorKind {
    let code = state.code();
    match code {
        "3D000" if phase == Phase::Connect => ErrorKind::Configuration,
        "57P03" if phase == Phase::Connect => ErrorKind::Connect(ConnectFailure::Refused),
        "28000" | "28P01" => ErrorKind::Authentication,
        "42501" => ErrorKind::Permission,
        "25006" => ErrorKind::WrongRole,
        "40001" | "40P01" | "55P03" | "40002" => ErrorKind::Conflict,
        "57014" => ErrorKind::Cancelled,
        "25P03" | "25P04" | "57P01" | "57P02" | "57P03" | "57P05" => ErrorKind::ConnectionLost,
        "53300" | "53400" => ErrorKind::Overloaded,
        "42P01" | "42883" | "3D000" | "3F000" | "42704" => ErrorKind::NotFound,
        _ => match code.get(..2).unwrap_or_default() {
            "08" => ErrorKind::ConnectionLost,
            "23" | "44" => ErrorKind::Constraint,
            "28" => ErrorKind::Authentication,
            "53" => ErrorKind::ResourceLimit,
            "40" => ErrorKind::Conflict,
            "57" => ErrorKind::Overloaded,
            // 54: too large for an index, too many columns: the same next time.
            "0A" | "20" | "21" | "22" | "25" | "26" | "34" | "3B" | "42" | "54" => {
                ErrorKind::InvalidOperation
            }
            _ => ErrorKind::Other,
        },
    }
}

/// The kind of a driver's error in this phase.
pub(super) fn kind_of(error: &postgres::Error, phase: Phase) -> ErrorKind {
    if let Some(db) = error.as_db_error() {
        return kind_of_state(db.code(), phase);
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
    if text.starts_with("authentication error") {
        return ErrorKind::Authentication;
    }
    if text.starts_with("invalid con") {
        return ErrorKind::Configuration;
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
                || kind_of_state(db.code(), Phase::Operation) == ErrorKind::ConnectionLost
        }
        None => matches!(
            kind_of(error, Phase::Operation),
            ErrorKind::ConnectionLost | ErrorKind::DeadlineExceeded
        ),
    }
}

/// The driver's error as one of ours.
pub(super) fn ours(error: postgres::Error, phase: Phase) -> Error {
    let kind = kind_of(&error, phase);
    let mut message = match error.as_db_error() {
        Some(db) => describe(db),
        None => chain_of(&error),
    };
    if let Some(advice) = advice(kind, phase) {
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
pub(super) fn describe(db: &DbError) -> String {
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
        return describe(db);
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

fn advice(kind: ErrorKind, phase: Phase) -> Option<&'static str> {
    match (kind, phase) {
        (ErrorKind::Authentication, Phase::Connect) => {
            Some("check user and password (DB_USER, DB_PASSWORD) and the server's pg_hba.conf")
        }
        (ErrorKind::Configuration, Phase::Connect) => Some("check the database name (DB_NAME)"),
        (ErrorKind::Connect(ConnectFailure::Tls), _) => {
            Some("check the CA file (DB_SSL_CA_FILE) and the mode (DB_SSL_MODE)")
        }
        (ErrorKind::Overloaded, Phase::Connect) => {
            Some("lower the pools' sizes (POOL_MAX_CONNECTIONS) or raise max_connections there")
        }
        (ErrorKind::DeadlineExceeded, Phase::Validate) => Some(
            "the server hangs, or is slower than connect_timeout for a reset \
             (DB_CONNECT_TIMEOUT) or check_timeout for a check (DB_CHECK_TIMEOUT)",
        ),
        _ => None,
    }
}

impl From<postgres::Error> for Error {
    /// For `?` on the driver's own calls: phase [`Operation`](Phase::Operation).
    fn from(error: postgres::Error) -> Self {
        ours(error, Phase::Operation)
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

    #[test]
    fn codes_before_classes() {
        for (code, kind) in [
            ("23505", ErrorKind::Constraint),
            ("40001", ErrorKind::Conflict),
            ("42601", ErrorKind::InvalidOperation),
            ("42501", ErrorKind::Permission),
            ("42P01", ErrorKind::NotFound),
            ("25006", ErrorKind::WrongRole),
            ("53300", ErrorKind::Overloaded),
            ("53200", ErrorKind::ResourceLimit),
            ("54000", ErrorKind::InvalidOperation),
            ("57P01", ErrorKind::ConnectionLost),
            ("57014", ErrorKind::Cancelled),
            ("XX000", ErrorKind::Other),
        ] {
            assert_eq!(
                kind_of_state(&SqlState::from_code(code), Phase::Operation),
                kind,
                "{code}"
            );
        }
        let missing = SqlState::from_code("3D000");
        assert_eq!(
            kind_of_state(&missing, Phase::Connect),
            ErrorKind::Configuration
        );
        assert_eq!(
            kind_of_state(&missing, Phase::Operation),
            ErrorKind::NotFound
        );
    }
}
