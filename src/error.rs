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

mod io;
mod kind;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::io::classify_by_io;
#[cfg(feature = "_net")]
pub(crate) use self::io::classify_io;
pub use self::kind::{ConnectFailure, ErrorKind, Phase};
use crate::pool::{Holder, State};
use crate::security::values_are_masked;

/// A driver's error, kept as the cause of one of ours.
pub type Source = Arc<dyn StdError + Send + Sync + 'static>;
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
    at_any_load: bool,
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
            at_any_load: false,
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

    /// Marks whether the server says so however few connections are used.
    #[cfg(any(feature = "redis", feature = "mongodb", feature = "http"))]
    pub(crate) fn at_any_load(mut self, yes: bool) -> Self {
        self.0.at_any_load = yes;
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

    /// Whether the server is overloaded in such a way that fewer connections help.
    pub(crate) fn asks_for_less(&self) -> bool {
        self.kind() == ErrorKind::Overloaded && self.phase() != Phase::Queue && !self.0.at_any_load
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
