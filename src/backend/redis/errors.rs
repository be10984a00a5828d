//! Redis errors in the crate's vocabulary.
//!
//! The driver knows few of the server's error codes, so the code itself decides, by its
//! [table](super::kind_of_answer).

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind as Driver, RedisError};

use super::codes::{is_at_any_load, kind_of_code, kind_of_connect_code};
use crate::deadline::Deadline;
use crate::error::{ConnectFailure, Error, ErrorKind, Phase, classify_io};
use crate::security::{TlsSettings, values_are_masked};

/// How messages about TLS name our settings.
const TLS: TlsSettings = TlsSettings {
    ca_file: "REDIS_SSL_CA_FILE",
    client: "REDIS_SSL_CERT_FILE and REDIS_SSL_KEY_FILE",
    address: "REDIS_HOST and REDIS_PORT",
    host: "REDIS_HOST",
    min_version: "REDIS_SSL_MIN_VERSION",
    plaintext: "REDIS_SSL=false",
};

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
                .map_or(ErrorKind::Other, |code| kind_of_code(code, text))
        }
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
    if let Some(problem) = tls_problem(&error) {
        let (kind, message) = TLS.explain(problem);
        return Error::new(kind, Phase::Connect, message)
            .with_endpoint(endpoint)
            .with_source(Arc::new(error));
    }
    let kind = match io_cause(&error) {
        Some(io) => classify_connect(io),
        None => match classify(&error) {
            ErrorKind::ConnectionLost => ErrorKind::Connect(ConnectFailure::Refused),
            kind => answered(&error).map_or(kind, |(code, text)| kind_of_connect_code(code, text)),
        },
    };
    let hint = match kind {
        ErrorKind::Authentication => "; check REDIS_USER and REDIS_PASSWORD",
        ErrorKind::Permission if error.code() == Some("DENIED") => {
            "; set a password there, and REDIS_PASSWORD, or let it listen on loopback only"
        }
        ErrorKind::Permission => "; check the ACL of REDIS_USER",
        ErrorKind::Connect(ConnectFailure::Refused) => {
            "; check REDIS_HOST and REDIS_PORT, that the server runs, and whether it wants TLS"
        }
        ErrorKind::Connect(ConnectFailure::Timeout) => {
            "; the server did not answer within REDIS_CONNECT_TIMEOUT"
        }
        ErrorKind::Connect(ConnectFailure::Dns) => "; check REDIS_HOST",
        ErrorKind::Configuration if error.code() == Some("NOPROTO") => "; set REDIS_PROTOCOL=2",
        ErrorKind::Configuration if error.to_string().contains("cluster support disabled") => {
            "; it stands alone: name it by REDIS_HOST, not by REDIS_CLUSTER_NODES"
        }
        ErrorKind::Configuration if error.code() == Some("ERR") => "; check REDIS_DB",
        ErrorKind::Overloaded if error.code() == Some("ERR") => {
            "; lower the pools' sizes (POOL_MAX_CONNECTIONS) or raise maxclients there"
        }
        ErrorKind::Overloaded => "; the server takes no more work for now, it is tried again",
        ErrorKind::ResourceLimit => "; see the server's log, its disk and its memory",
        _ => "",
    };
    // A server that does not know HELLO repeats the password in it.
    let said = error.to_string();
    let told = without_arguments(&said);
    let ours = Error::new(kind, Phase::Connect, format!("{told}{hint}"))
        .at_any_load(says_so_at_any_load(&error))
        .with_endpoint(endpoint);
    if told == said {
        ours.with_driver_error(error)
    } else {
        ours
    }
}

/// What the server answered, where it did: code and text.
fn answered(error: &RedisError) -> Option<(&str, &str)> {
    match error.kind() {
        Driver::Server(_) | Driver::Extension => {
            Some((error.code()?, error.detail().unwrap_or_default()))
        }
        _ => None,
    }
}

/// Whether the server says so however few connections are used.
fn says_so_at_any_load(error: &RedisError) -> bool {
    answered(error).is_some_and(|(code, text)| is_at_any_load(code, text))
}

/// What to do about a command that the server refused.
fn advice(error: &RedisError) -> Option<&'static str> {
    let advice = match error.code()? {
        "NOAUTH" => "set REDIS_PASSWORD",
        "NOPERM" => "grant it in the ACL of the user (REDIS_USER)",
        "READONLY" => {
            "it is a replica: name the primary (REDIS_HOST), or the Sentinels that know it \
             (REDIS_SENTINELS)"
        }
        "MOVED" | "ASK" => "it is a node of a Cluster: name its nodes (REDIS_CLUSTER_NODES)",
        "CROSSSLOT" => "give the keys one slot by a {tag} that they share, or ask one by one",
        "LOADING" => "it is reading its data from disk; it is tried again",
        "BUSY" => "a script runs there: wait, or end it by SCRIPT KILL",
        "NOREPLICAS" => "it has lost replicas: see min-replicas-to-write there",
        "CLUSTERDOWN" => "nodes of the Cluster are missing: see CLUSTER INFO",
        "MASTERDOWN" => "it has lost its primary: see replica-serve-stale-data there",
        "OOM" => "raise maxmemory there, let it evict keys (maxmemory-policy), or keep less",
        "MISCONF" => "see the server's log: it cannot write to its disk",
        "NOSCRIPT" => "load it by SCRIPT LOAD, or send the script itself by EVAL",
        "EXECABORT" => "see the errors of the commands before EXEC; none was executed",
        _ => return None,
    };
    Some(advice)
}

fn with_advice(said: &str, error: &RedisError) -> String {
    match advice(error) {
        Some(advice) => format!("{said}; {advice}"),
        None => said.to_owned(),
    }
}

/// The TLS layer's own error, as it is or in an I/O error.
fn tls_problem(error: &RedisError) -> Option<&rustls::Error> {
    if let Some(io) = io_cause(error) {
        return tls_cause(io);
    }
    let source = StdError::source(error)?;
    let shared = source.downcast_ref::<Arc<dyn StdError + Send + Sync>>()?;
    shared.downcast_ref()
}

/// The server took the handshake for a command, and answers commands in plaintext.
pub(super) fn without_tls(endpoint: &str) -> Error {
    let kind = ErrorKind::Connect(ConnectFailure::Tls);
    let message = TLS.no_tls("it answers PING in plaintext");
    Error::new(kind, Phase::Connect, message).with_endpoint(endpoint)
}

/// An error on an established connection.
pub(super) fn on_connection(error: RedisError, phase: Phase, endpoint: &str) -> Error {
    let message = with_advice(&text(&error), &error);
    Error::new(classify(&error), phase, message)
        .at_any_load(says_so_at_any_load(&error))
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
        let message = with_advice(&text(&error), &error);
        let ours = Self::new(kind, Phase::Operation, message)
            .at_any_load(says_so_at_any_load(&error))
            .with_driver_error(error);
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

    use super::{classify, without_arguments};
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
