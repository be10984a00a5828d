//! One error type over the pool and all four backends.
//!
//! An [`Error`] says *what* went wrong ([`ErrorKind`]), *where* in the life of a
//! request ([`Phase`]), on which pool and endpoint, what held the connections at
//! that moment, and keeps the driver's own error. Its message names the setting to change. It
//! never contains a secret: whoever builds one passes text that is already masked. What a
//! driver's error prints may repeat values, so the chain of causes has a stand-in for it while
//! values are masked.
//!
//! It is one pointer wide and cheap to clone, because one failed connect is
//! delivered to every waiter.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::pool::{Holder, State};
use crate::security::values_are_masked;

/// A driver's error, kept as the cause of one of ours.
pub type Source = Arc<dyn StdError + Send + Sync + 'static>;

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
/// | the connection breaks, or the server ends it | `ConnectionLost` | the connection is replaced; tried again if nothing was sent or it may run twice, else the [outcome is unknown](Error::outcome_unknown) |
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
    /// [`Error::outcome_unknown`].
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

/// The error of everything in this crate.
///
/// It says what went wrong ([`kind`](Self::kind)), where in the life of a request
/// ([`phase`](Self::phase)), in which pool and at which endpoint, what held the
/// connections at that moment, and keeps the driver's own error
/// ([`driver_error`](Self::driver_error)). The message names the setting to change, and
/// never contains a secret.
#[derive(Clone)]
pub struct Error(Box<Inner>);

/// A cause, as the chain of causes has it.
#[derive(Clone)]
struct Cause {
    error: Source,
    /// The name of its type, if what it prints may repeat values.
    telltale: Option<&'static str>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.telltale.filter(|_| values_are_masked()) {
            None => self.error.fmt(f),
            Some(name) => write!(
                f,
                "{name}; its text may repeat values and is shown with \
                 SECURITY_MASK_SENSITIVE_DATA=false"
            ),
        }
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Cause {
    /// The I/O error behind it, which has no values and which programs look for.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let mut next = self.error.source();
        while let Some(error) = next {
            if error.is::<std::io::Error>() {
                return Some(error);
            }
            next = error.source();
        }
        None
    }
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    phase: Phase,
    message: String,
    outcome_unknown: bool,
    retry_after: Option<Duration>,
    pool: Option<Arc<str>>,
    endpoint: Option<Arc<str>>,
    state: Option<State>,
    holders: Arc<[Holder]>,
    source: Option<Cause>,
}

impl Error {
    /// An error of this kind and phase. The message says what happened and what to
    /// do about it, and contains no secret.
    pub fn new(kind: ErrorKind, phase: Phase, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            phase,
            message: message.into(),
            outcome_unknown: false,
            retry_after: None,
            pool: None,
            endpoint: None,
            state: None,
            holders: Arc::new([]),
            source: None,
        }))
    }

    /// Adds the cause. What it prints is shown, so it must repeat no value; if it may, use
    /// [`with_driver_error`](Self::with_driver_error).
    #[must_use]
    pub fn with_source(mut self, source: Source) -> Self {
        self.0.source = Some(Cause {
            error: source,
            telltale: None,
        });
        self
    }

    /// Adds a cause whose text may repeat what the operation carried or the server holds. While
    /// values are [masked](crate::security), [`source`](std::error::Error::source) is a stand-in
    /// that prints its type alone.
    ///
    /// ```
    /// use millpond::{Error, ErrorKind, Phase};
    /// use std::error::Error as _;
    ///
    /// let driver = "x".parse::<i32>().unwrap_err();
    /// let error = Error::new(ErrorKind::Other, Phase::Operation, "not a number")
    ///     .with_driver_error(driver.clone());
    /// assert!(error.source().unwrap().to_string().contains("ParseIntError; its text"));
    /// assert_eq!(error.driver_error(), Some(&driver));
    /// ```
    #[must_use]
    pub fn with_driver_error<E: StdError + Send + Sync + 'static>(mut self, error: E) -> Self {
        self.0.source = Some(Cause {
            error: Arc::new(error),
            telltale: Some(std::any::type_name::<E>()),
        });
        self
    }

    /// Adds the cause of this other error, or itself where it has none.
    pub(crate) fn because_of(mut self, other: Self) -> Self {
        if other.0.source.is_none() {
            return self.with_source(Arc::new(other));
        }
        self.0.source = other.0.source;
        self
    }

    /// Changes the message.
    pub(crate) fn with_message(mut self, message: String) -> Self {
        self.0.message = message;
        self
    }

    /// Adds the address of the server that it is about.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<Arc<str>>) -> Self {
        self.0.endpoint = Some(endpoint.into());
        self
    }

    /// Marks that the operation was sent and its effect is not known.
    #[must_use]
    pub fn with_outcome_unknown(mut self) -> Self {
        self.0.outcome_unknown = true;
        self
    }

    /// Adds how long the server asks to wait before the next attempt.
    #[must_use]
    pub fn with_retry_after(mut self, pause: Duration) -> Self {
        self.0.retry_after = Some(pause);
        self
    }

    pub(crate) fn with_pool(mut self, pool: Arc<str>) -> Self {
        self.0.pool = Some(pool);
        self
    }

    pub(crate) fn with_state(mut self, state: State, holders: Arc<[Holder]>) -> Self {
        self.0.state = Some(state);
        self.0.holders = holders;
        self
    }

    /// What happened and what to do about it, without the kind and the place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The driver's own error, if it is of this type: `error.driver_error::<postgres::Error>()`.
    /// What it prints may contain values, whatever is masked.
    ///
    /// ```no_run
    /// # #[cfg(feature = "postgres")]
    /// # fn f(error: &millpond::Error) {
    /// let driver = error.driver_error::<postgres::Error>();
    /// if let Some(refused) = driver.and_then(postgres::Error::as_db_error) {
    ///     println!("constraint: {:?}", refused.constraint());
    /// }
    /// # }
    /// ```
    pub fn driver_error<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.source.as_ref()?.error.downcast_ref()
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Where it went wrong.
    pub fn phase(&self) -> Phase {
        self.0.phase
    }

    /// Whether the same attempt may succeed later by itself.
    pub fn is_retryable(&self) -> bool {
        self.0.kind.is_retryable()
    }

    /// Whether the operation was sent and it is not known whether it took effect.
    pub fn outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }

    /// How long the server asks to wait before the next attempt, where it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The name of the pool, where one is involved.
    pub fn pool(&self) -> Option<&str> {
        self.0.pool.as_deref()
    }

    /// The server's address, where one is involved.
    pub fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    /// The pool's state when it happened, where one is involved.
    pub fn state(&self) -> Option<&State> {
        self.0.state.as_ref()
    }

    /// Who held the pool's connections when it happened.
    pub fn holders(&self) -> &[Holder] {
        &self.0.holders
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        write!(f, "{}", inner.kind)?;
        if !inner.message.is_empty() {
            write!(f, ": {}", inner.message)?;
        }
        match (&inner.pool, &inner.endpoint) {
            (Some(pool), Some(endpoint)) => write!(f, " [pool {pool}, {endpoint}]")?,
            (Some(pool), None) => write!(f, " [pool {pool}]")?,
            (None, Some(endpoint)) => write!(f, " [{endpoint}]")?,
            (None, None) => {}
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        let mut out = f.debug_struct("Error");
        out.field("kind", &inner.kind).field("phase", &inner.phase);
        out.field("message", &inner.message);
        if inner.outcome_unknown {
            out.field("outcome_unknown", &true);
        }
        if let Some(pause) = inner.retry_after {
            out.field("retry_after", &pause);
        }
        if let Some(pool) = &inner.pool {
            out.field("pool", pool);
        }
        if let Some(endpoint) = &inner.endpoint {
            out.field("endpoint", endpoint);
        }
        if let Some(state) = &inner.state {
            out.field("state", state);
        }
        if !inner.holders.is_empty() {
            out.field("holders", &inner.holders);
        }
        if let Some(source) = &inner.source {
            out.field("source", &source.to_string());
        }
        out.finish()
    }
}

impl StdError for Error {
    /// The cause: the driver's own error, or while values are [masked](crate::security) a
    /// stand-in for it, unless it has none.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let cause = self.0.source.as_ref()?;
        Some(match cause.telltale.filter(|_| values_are_masked()) {
            Some(_) => cause as &(dyn StdError + 'static),
            None => &*cause.error,
        })
    }
}

/// A guess at the kind of an error of a driver that this crate knows nothing
/// about: the first I/O error in its chain of causes decides.
pub(crate) fn classify_by_io(error: &(dyn StdError + 'static)) -> ErrorKind {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return classify_io(io);
        }
        next = error.source();
    }
    ErrorKind::Other
}

/// The kind of an I/O error while connecting or on an established connection.
pub(crate) fn classify_io(error: &std::io::Error) -> ErrorKind {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::ConnectionRefused | Io::NotFound => ErrorKind::Connect(ConnectFailure::Refused),
        Io::TimedOut
        | Io::WouldBlock
        | Io::HostUnreachable
        | Io::NetworkUnreachable
        | Io::NetworkDown => ErrorKind::Connect(ConnectFailure::Timeout),
        Io::ConnectionReset
        | Io::ConnectionAborted
        | Io::BrokenPipe
        | Io::NotConnected
        | Io::UnexpectedEof => ErrorKind::ConnectionLost,
        Io::PermissionDenied => ErrorKind::Permission,
        // The first two: no local port is free.
        Io::AddrNotAvailable
        | Io::AddrInUse
        | Io::OutOfMemory
        | Io::StorageFull
        | Io::QuotaExceeded => ErrorKind::ResourceLimit,
        // The standard library has no stable kind for too many open files, of the process
        // (EMFILE) or the system (ENFILE).
        _ if matches!(error.raw_os_error(), Some(23 | 24)) => ErrorKind::ResourceLimit,
        // Nor for a failed name look-up; its message is the only sign.
        _ if error.to_string().contains("lookup address") => {
            ErrorKind::Connect(ConnectFailure::Dns)
        }
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn io_errors_by_kind() {
        let of = |number| classify_io(&io::Error::from_raw_os_error(number));
        for (number, kind) in [
            (111, ErrorKind::Connect(ConnectFailure::Refused)),
            (110, ErrorKind::Connect(ConnectFailure::Timeout)),
            (113, ErrorKind::Connect(ConnectFailure::Timeout)),
            (104, ErrorKind::ConnectionLost),
            (13, ErrorKind::Permission),
            (24, ErrorKind::ResourceLimit),
            (99, ErrorKind::ResourceLimit),
        ] {
            assert_eq!(of(number), kind, "errno {number}");
        }
        let name = io::Error::other("failed to lookup address information");
        assert_eq!(classify_io(&name), ErrorKind::Connect(ConnectFailure::Dns));
    }
}
