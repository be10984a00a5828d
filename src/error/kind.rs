//! What went wrong, and where in the life of a request.

use std::fmt;

/// Why a connection could not be established, where the cause is below login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectFailure {
    /// Nothing listens on that address, or the server turned the connection away.
    Refused,
    /// The server could not be reached, or did not finish the handshake in time.
    Timeout,
    /// The host name could not be resolved.
    Dns,
    /// The TLS handshake failed: certificate, host name, version, or no TLS at all.
    Tls,
}

/// What went wrong, in one vocabulary for all backends.
///
/// | what happens | kind | what the library does |
/// |---|---|---|
/// | nothing listens, or the server is starting, stopping or hangs up on the handshake | `Connect(Refused)` | tries again with exponential backoff and full jitter until the deadline |
/// | no answer to the handshake in time, or no way to the host | `Connect(Timeout)` | the same |
/// | the host has no address | `Connect(Dns)` | tells the waiters after one attempt |
/// | certificate, host name, TLS version, or no TLS at all | `Connect(Tls)` | the same; it never falls back to plaintext |
/// | wrong user, password or certificate | `Authentication` | the same |
/// | the user may not do this | `Permission` | not tried again |
/// | unknown database, option, number of a database, write concern | `Configuration` | while connecting tells the waiters after one attempt; not tried again |
/// | every connection is in use until the deadline | `Exhausted` | says who holds them |
/// | too many connections, loading, `Retry-After`, rate limits | `Overloaded` | tried again after what the server asks, or a pause that is never near zero |
/// | serialisation failure, deadlock, write conflict, lock not available | `Conflict` | tried again: nothing was applied |
/// | syntax, unknown column, wrong type, what the server does not know | `InvalidOperation` | not tried again |
/// | unique, foreign key, check, not null; what exists already; `RAISE EXCEPTION` | `Constraint` | not tried again |
/// | unknown table, function, script, cursor, path | `NotFound` | not tried again |
/// | a write to a replica | `WrongRole` | tried again, where the server did nothing |
/// | the connection breaks, or the server ends it | `ConnectionLost` | the connection is replaced; tried again if nothing was sent or it may run twice, else the [outcome is unknown](crate::Error::outcome_unknown) |
/// | the operation's deadline, a timeout of a setting, of the server | `DeadlineExceeded` | not tried again; the outcome is unknown if the server did not say that it gave up |
/// | memory, disk, open files, local ports | `ResourceLimit` | tried again |
/// | somebody cancelled it | `Cancelled` | not tried again |
/// | the pool is closed | `Closed` | not tried again |
/// | internal errors of servers, corruption | `Other` | not tried again |
///
/// Which of a server's codes is which kind is in one table for each backend:
#[cfg_attr(
    feature = "postgres",
    doc = "[SQLSTATE](crate::backend::postgres::kind_of_sqlstate),"
)]
#[cfg_attr(
    feature = "redis",
    doc = "[Redis' answers](crate::backend::redis::kind_of_answer),"
)]
#[cfg_attr(
    feature = "mongodb",
    doc = "[MongoDB's codes](crate::backend::mongodb::kind_of_code),"
)]
#[cfg_attr(
    feature = "http",
    doc = "[HTTP statuses](crate::backend::http::kind_of_status),"
)]
/// and errors of input and output by the operating system's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No connection could be established.
    Connect(ConnectFailure),
    /// The server did not accept the user, password or certificate.
    Authentication,
    /// The user may not do this.
    Permission,
    /// A setting is wrong, or names something that does not exist on the server.
    Configuration,
    /// Every connection was in use until the deadline.
    Exhausted,
    /// The server, or the pool's queue, takes no more work for now.
    Overloaded,
    /// The server gave up this attempt in favour of another one: serialisation
    /// failure, deadlock, write conflict.
    Conflict,
    /// The operation itself is wrong: syntax, unknown column, wrong type.
    InvalidOperation,
    /// A constraint of the data forbids it: unique, foreign key, check, not null.
    Constraint,
    /// What the operation names does not exist.
    NotFound,
    /// The server has the wrong role for it, such as a read-only replica.
    WrongRole,
    /// An established connection was lost.
    ConnectionLost,
    /// The time allowed for it was over.
    DeadlineExceeded,
    /// A limit of the process or the server forbids it.
    ResourceLimit,
    /// It was cancelled.
    Cancelled,
    /// The pool is closed or paused.
    Closed,
    /// None of the above; see [`source`](std::error::Error::source).
    Other,
}

impl ErrorKind {
    /// Whether the same attempt may succeed later without anybody changing a
    /// setting. Says nothing about whether repeating it is *safe*; see
    /// [`Error::outcome_unknown`](crate::Error::outcome_unknown).
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Connect(cause) => {
                matches!(cause, ConnectFailure::Refused | ConnectFailure::Timeout)
            }
            Self::Exhausted
            | Self::Overloaded
            | Self::Conflict
            | Self::WrongRole
            | Self::ConnectionLost
            | Self::DeadlineExceeded
            | Self::ResourceLimit => true,
            _ => false,
        }
    }

    /// All of them.
    pub(crate) const ALL: [Self; 20] = [
        Self::Connect(ConnectFailure::Refused),
        Self::Connect(ConnectFailure::Timeout),
        Self::Connect(ConnectFailure::Dns),
        Self::Connect(ConnectFailure::Tls),
        Self::Authentication,
        Self::Permission,
        Self::Configuration,
        Self::Exhausted,
        Self::Overloaded,
        Self::Conflict,
        Self::InvalidOperation,
        Self::Constraint,
        Self::NotFound,
        Self::WrongRole,
        Self::ConnectionLost,
        Self::DeadlineExceeded,
        Self::ResourceLimit,
        Self::Cancelled,
        Self::Closed,
        Self::Other,
    ];

    /// The kind as a word for labels and JSON: `connect_refused`, `authentication`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect(ConnectFailure::Refused) => "connect_refused",
            Self::Connect(ConnectFailure::Timeout) => "connect_timeout",
            Self::Connect(ConnectFailure::Dns) => "connect_dns",
            Self::Connect(ConnectFailure::Tls) => "connect_tls",
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::Configuration => "configuration",
            Self::Exhausted => "exhausted",
            Self::Overloaded => "overloaded",
            Self::Conflict => "conflict",
            Self::InvalidOperation => "invalid_operation",
            Self::Constraint => "constraint",
            Self::NotFound => "not_found",
            Self::WrongRole => "wrong_role",
            Self::ConnectionLost => "connection_lost",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::ResourceLimit => "resource_limit",
            Self::Cancelled => "cancelled",
            Self::Closed => "closed",
            Self::Other => "other",
        }
    }

    /// Whether a failed attempt to *connect* can heal by itself, so that the pool
    /// goes on trying until the caller's deadline. What cannot (a bad password,
    /// an unknown database, a bad certificate, a bad host name) is reported to the
    /// waiters after one attempt.
    pub(crate) fn connect_may_heal(self) -> bool {
        !matches!(
            self,
            Self::Connect(ConnectFailure::Dns | ConnectFailure::Tls)
                | Self::Authentication
                | Self::Permission
                | Self::Configuration
                | Self::InvalidOperation
                | Self::NotFound
        )
    }
}

impl serde::Serialize for ErrorKind {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect(ConnectFailure::Refused) => "connection refused",
            Self::Connect(ConnectFailure::Timeout) => "connecting timed out",
            Self::Connect(ConnectFailure::Dns) => "host name not found",
            Self::Connect(ConnectFailure::Tls) => "TLS failed",
            Self::Authentication => "authentication failed",
            Self::Permission => "permission denied",
            Self::Configuration => "wrong configuration",
            Self::Exhausted => "no connection available",
            Self::Overloaded => "overloaded",
            Self::Conflict => "conflict with concurrent work",
            Self::InvalidOperation => "invalid operation",
            Self::Constraint => "constraint violated",
            Self::NotFound => "not found",
            Self::WrongRole => "server has the wrong role",
            Self::ConnectionLost => "connection lost",
            Self::DeadlineExceeded => "deadline exceeded",
            Self::ResourceLimit => "resource limit reached",
            Self::Cancelled => "cancelled",
            Self::Closed => "pool closed",
            Self::Other => "error",
        })
    }
}

/// Where in the life of a request it went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// While reading or checking settings.
    Configure,
    /// While waiting for a connection.
    Queue,
    /// While establishing a connection.
    Connect,
    /// While checking that a connection is alive.
    Validate,
    /// In a hook or customizer that the program installed.
    Hook,
    /// While running an operation.
    Operation,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configure => "configure",
            Self::Queue => "queue",
            Self::Connect => "connect",
            Self::Validate => "validate",
            Self::Hook => "hook",
            Self::Operation => "operation",
        })
    }
}
