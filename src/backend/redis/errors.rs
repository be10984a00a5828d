//! Redis errors in the crate's vocabulary.
//!
//! The driver knows few of the server's error codes, so the code itself decides:
//!
//! | code | kind |
//! |---|---|
//! | `NOAUTH` `WRONGPASS` | `Authentication` |
//! | `NOPERM` `DENIED` | `Permission` |
//! | `READONLY` `MOVED` `ASK` | `WrongRole` |
//! | `LOADING` `BUSY` `TRYAGAIN` `CLUSTERDOWN` `MASTERDOWN` `NOREPLICAS`, too many clients | `Overloaded` |
//! | `OOM` `MISCONF` | `ResourceLimit` |
//! | `NOSCRIPT` `NOGROUP` `NOTBUSY` | `NotFound` |
//! | `BUSYKEY` `BUSYGROUP` | `Constraint` |
//! | `NOPROTO`; while connecting: database out of range | `Configuration` |
//! | any other | `InvalidOperation` |

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind as Driver, RedisError};

use crate::deadline::Deadline;
use crate::error::{ConnectFailure, Error, ErrorKind, Phase, classify_io};
use crate::security::values_are_masked;

/// The kind of a driver's error on an established connection.
pub(super) fn classify(error: &RedisError) -> ErrorKind {
    match error.kind() {
        Driver::AuthenticationFailed => ErrorKind::Authentication,
        Driver::Io => io_cause(error).map_or(ErrorKind::ConnectionLost, classify_lost),
        Driver::Parse | Driver::ClusterConnectionNotFound => ErrorKind::ConnectionLost,
        Driver::UnexpectedReturnType | Driver::Client => ErrorKind::InvalidOperation,
        Driver::InvalidClientConfig | Driver::RESP3NotSupported => ErrorKind::Configuration,
        _ => {
            let text = error.detail().unwrap_or_default();
            error
                .code()
                .map_or(ErrorKind::Other, |code| classify_code(code, text))
        }
    }
}

fn classify_code(code: &str, text: &str) -> ErrorKind {
    match code {
        "NOAUTH" | "WRONGPASS" => ErrorKind::Authentication,
        "NOPERM" | "DENIED" => ErrorKind::Permission,
        "READONLY" | "MOVED" | "ASK" => ErrorKind::WrongRole,
        "LOADING" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "NOREPLICAS" => {
            ErrorKind::Overloaded
        }
        "OOM" | "MISCONF" => ErrorKind::ResourceLimit,
        "NOSCRIPT" | "NOGROUP" | "NOTBUSY" => ErrorKind::NotFound,
        "BUSYKEY" | "BUSYGROUP" => ErrorKind::Constraint,
        "NOPROTO" => ErrorKind::Configuration,
        "ERR" if text.starts_with("max number of clients") => ErrorKind::Overloaded,
        // What servers before 6.0 say to a wrong or needless password.
        "ERR" if text.contains("invalid password") || text.contains("AUTH") => {
            ErrorKind::Authentication
        }
        _ => ErrorKind::InvalidOperation,
    }
}

/// An I/O error after the connection was established.
fn classify_lost(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ErrorKind::DeadlineExceeded,
        _ if tls_cause(error).is_some() => ErrorKind::Connect(ConnectFailure::Tls),
        _ => ErrorKind::ConnectionLost,
    }
}

/// An I/O error before that.
pub(super) fn classify_connect(error: &io::Error) -> ErrorKind {
    if tls_cause(error).is_some() {
        return ErrorKind::Connect(ConnectFailure::Tls);
    }
    match classify_io(error) {
        // The server hung up on the handshake: it turned the connection away.
        ErrorKind::ConnectionLost => ErrorKind::Connect(ConnectFailure::Refused),
        kind => kind,
    }
}

/// The I/O error inside. The driver keeps it behind an `Arc` in its `source`, so
/// that looking through the chain of causes does not find it.
fn io_cause(error: &RedisError) -> Option<&io::Error> {
    let source = StdError::source(error)?;
    let shared = source.downcast_ref::<Arc<dyn StdError + Send + Sync>>()?;
    shared.downcast_ref()
}

fn tls_cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// An error while connecting, with what to do about it.
pub(super) fn connecting(error: RedisError, endpoint: &str) -> Error {
    let kind = match io_cause(&error) {
        Some(io) => classify_connect(io),
        None if is_tls(&error) => ErrorKind::Connect(ConnectFailure::Tls),
        None => match classify(&error) {
            ErrorKind::ConnectionLost => ErrorKind::Connect(ConnectFailure::Refused),
            ErrorKind::InvalidOperation if names_database(&error) => ErrorKind::Configuration,
            kind => kind,
        },
    };
    let hint = match kind {
        ErrorKind::Authentication => "; check REDIS_USER and REDIS_PASSWORD",
        ErrorKind::Permission => "; check the ACL of REDIS_USER",
        ErrorKind::Connect(ConnectFailure::Refused) => {
            "; check REDIS_HOST and REDIS_PORT, that the server runs, and whether it wants TLS"
        }
        ErrorKind::Connect(ConnectFailure::Timeout) => {
            "; the server did not answer within REDIS_CONNECT_TIMEOUT"
        }
        ErrorKind::Connect(ConnectFailure::Dns) => "; check REDIS_HOST",
        ErrorKind::Connect(ConnectFailure::Tls) => "; check REDIS_SSL and REDIS_SSL_CA_FILE",
        ErrorKind::Configuration if names_database(&error) => "; check REDIS_DB",
        ErrorKind::Overloaded => "; the server takes no more work for now",
        _ => "",
    };
    // A server that does not know HELLO repeats the password in it.
    let said = error.to_string();
    let told = without_arguments(&said);
    let ours = Error::new(kind, Phase::Connect, format!("{told}{hint}")).with_endpoint(endpoint);
    if told == said {
        ours.with_driver_error(error)
    } else {
        ours
    }
}

/// An error while connecting to a Cluster. The driver puts what went wrong with
/// each node into one text, so that is all there is to go by.
pub(super) fn connecting_cluster(error: RedisError, endpoint: &str) -> Error {
    let detail = error.detail().unwrap_or_default();
    let has = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    let kind = if has(&["NOAUTH", "WRONGPASS", "authentication failed"]) {
        ErrorKind::Authentication
    } else if has(&["certificate", "TLS", "tls"]) {
        ErrorKind::Connect(ConnectFailure::Tls)
    } else if has(&["lookup address"]) {
        ErrorKind::Connect(ConnectFailure::Dns)
    } else if has(&["refused"]) {
        ErrorKind::Connect(ConnectFailure::Refused)
    } else if has(&["timed out", "unavailable"]) {
        ErrorKind::Connect(ConnectFailure::Timeout)
    } else {
        return connecting(error, endpoint);
    };
    Error::new(
        kind,
        Phase::Connect,
        format!(
            "{}; check REDIS_CLUSTER_NODES",
            without_arguments(&error.to_string())
        ),
    )
    .with_endpoint(endpoint)
}

fn names_database(error: &RedisError) -> bool {
    error
        .detail()
        .is_some_and(|text| text.contains("DB index") || text.contains("SELECT"))
}

fn is_tls(error: &RedisError) -> bool {
    StdError::source(error)
        .and_then(|source| source.downcast_ref::<Arc<dyn StdError + Send + Sync>>())
        .is_some_and(|shared| shared.downcast_ref::<rustls::Error>().is_some())
}

/// An error on an established connection.
pub(super) fn on_connection(error: RedisError, phase: Phase, endpoint: &str) -> Error {
    Error::new(classify(&error), phase, text(&error))
        .with_endpoint(endpoint)
        .with_driver_error(error)
}

/// What a server answered to an operation instead of a reply.
pub(super) fn refused(error: RedisError, endpoint: &str) -> Error {
    Error::from(error).with_endpoint(endpoint)
}

/// What the error says. While values are masked without the arguments that a server repeats:
/// those of a command that it does not know, and what it quotes, but for commands' names.
pub(super) fn text(error: &RedisError) -> String {
    let said = error.to_string();
    if values_are_masked() {
        without_arguments(&said)
    } else {
        said
    }
}

fn without_arguments(said: &str) -> String {
    let said = said.split(", with args beginning with").next();
    let said = said.unwrap_or_default();
    let Some(first) = said.find('\'') else {
        return said.to_owned();
    };
    let (before, rest) = (&said[..first], &said[first + 1..]);
    let last = rest.rfind('\'').unwrap_or(rest.len());
    let (quoted, after) = (&rest[..last], rest.get(last + 1..).unwrap_or_default());
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._|-".contains(letter);
    let is_name = quoted.len() <= 32 && quoted.chars().all(plain);
    if is_name && (before.ends_with("command ") || after.starts_with(" command")) {
        return said.to_owned();
    }
    format!("{before}'?'{after}")
}

/// Why an operation cannot run on a lease on which `MULTI` was sent.
pub(super) fn in_transaction(endpoint: &str) -> Error {
    let message = "the lease is in a transaction; end it with EXEC or DISCARD first";
    Error::new(ErrorKind::InvalidOperation, Phase::Operation, message).with_endpoint(endpoint)
}

/// Whether a script failed in its middle: the server says where.
pub(super) fn is_inside_script(error: &RedisError) -> bool {
    let text = error.detail().unwrap_or_default();
    text.contains("@user_script") || text.contains("@user_function")
}

/// What befell a connection before an operation had its reply.
pub(super) fn unanswered(error: RedisError, deadline: Deadline, endpoint: &str) -> Error {
    let kind = classify(&error);
    let message = match kind {
        ErrorKind::DeadlineExceeded if deadline.is_over() => {
            "no reply by the operation's deadline".to_owned()
        }
        ErrorKind::DeadlineExceeded => {
            "no reply in time; REDIS_READ_TIMEOUT and REDIS_WRITE_TIMEOUT are the limits".to_owned()
        }
        _ => format!("the connection was lost before the reply: {}", text(&error)),
    };
    Error::new(kind, Phase::Operation, message)
        .with_endpoint(endpoint)
        .with_driver_error(error)
}

/// An error of an operation. Where the connection failed under it, the outcome is
/// unknown.
impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        let kind = classify(&error);
        let lost = matches!(error.kind(), Driver::Io | Driver::Parse);
        let ours = Self::new(kind, Phase::Operation, text(&error)).with_driver_error(error);
        if lost {
            ours.with_outcome_unknown()
        } else {
            ours
        }
    }
}

#[cfg(test)]
mod tests {
    use redis::{RedisError, ServerErrorKind};

    use super::{classify, classify_code, without_arguments};
    use crate::ErrorKind;

    #[test]
    fn arguments_that_a_server_repeats_are_left_out() {
        for (said, told) in [
            (
                "unknown command 'GOT', with args beginning with: 'secret' ",
                "unknown command 'GOT'",
            ),
            (
                "wrong number of arguments for 'get' command",
                "wrong number of arguments for 'get' command",
            ),
            (
                "No such key 'se'cret' or consumer group 'secret' in XREADGROUP",
                "No such key '?' in XREADGROUP",
            ),
            ("unknown command 'se cret'", "unknown command '?'"),
            ("cut off 'secret", "cut off '?'"),
            ("value is not an integer", "value is not an integer"),
        ] {
            assert_eq!(without_arguments(said), told);
        }
    }

    #[test]
    fn codes_that_the_driver_does_not_know() {
        for (code, kind) in [
            ("NOAUTH", ErrorKind::Authentication),
            ("WRONGPASS", ErrorKind::Authentication),
            ("OOM", ErrorKind::ResourceLimit),
            ("MISCONF", ErrorKind::ResourceLimit),
            ("WRONGTYPE", ErrorKind::InvalidOperation),
        ] {
            let error = redis::make_extension_error(code.into(), None);
            assert_eq!(classify(&error), kind, "{code}");
        }
        assert_eq!(
            classify_code("ERR", "max number of clients reached"),
            ErrorKind::Overloaded
        );
        assert_eq!(
            classify_code("ERR", "syntax error"),
            ErrorKind::InvalidOperation
        );
    }

    #[test]
    fn codes_that_it_knows() {
        let error = RedisError::from((redis::ErrorKind::from(ServerErrorKind::ReadOnly), "no"));
        assert_eq!(classify(&error), ErrorKind::WrongRole);
    }

    #[test]
    fn io_errors_are_found_behind_the_drivers_arc() {
        let lost = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        assert_eq!(classify(&lost.into()), ErrorKind::ConnectionLost);
        let late = std::io::Error::from(std::io::ErrorKind::WouldBlock);
        let error = crate::Error::from(RedisError::from(late));
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        assert!(error.outcome_unknown());
    }
}
