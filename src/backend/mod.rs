//! The backends: one folder each, one cargo feature each, one trait.
//!
//! Each folder has the same rooms: `config` (builder, URL, environment),
//! `manager` (the r2d2 manager and [`Backend`]), `connection` (what a lease
//! derefs to), `errors` (classification). Whoever knows one knows all.
//!
//! [`Backend`] is what a manager may tell a pool beyond r2d2's
//! [`ManageConnection`]: how its errors are classified, how a connection is
//! cleaned for its next user, how healthy the service is, and how it runs operations, one
//! by one and in groups. A manager of this crate calls [`adopt`] when it is made, so that
//! every pool over it, however built, knows; a manager of your own does the same:
//!
//! ```
//! # use millpond::{backend::{self, Backend, Service}, Deadline, Error, ErrorKind, ManageConnection, NoOperation, Reset};
//! # #[derive(Debug)] struct Down;
//! # impl std::fmt::Display for Down { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("down") } }
//! # impl std::error::Error for Down {}
//! struct Echo;
//!
//! impl Echo {
//!     fn new() -> Self {
//!         backend::adopt::<Self>();
//!         Self
//!     }
//! }
//! # impl ManageConnection for Echo {
//! #     type Connection = ();
//! #     type Error = Down;
//! #     fn connect(&self) -> Result<(), Down> { Ok(()) }
//! #     fn is_valid(&self, _: &mut ()) -> Result<(), Down> { Ok(()) }
//! #     fn has_broken(&self, _: &mut ()) -> bool { false }
//! # }
//! // ... its `ManageConnection` ...
//!
//! impl Backend for Echo {
//!     const NAME: &'static str = "echo";
//!     type Operation = NoOperation; // only leases
//!     type Reply = ();
//!     fn endpoint(&self) -> String { "echo.internal:7".into() }
//!     fn classify(_: &Down) -> ErrorKind { ErrorKind::ConnectionLost }
//!     fn execute(&self, _: &mut (), operation: &NoOperation, _: Deadline) -> Result<(), Error> {
//!         match *operation {}
//!     }
//! }
//! # let pool = millpond::Pool::new(Echo::new()).unwrap();
//! ```

#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "mongodb")]
pub mod mongodb;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "_net")]
mod table;

#[cfg(feature = "batch")]
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use r2d2::ManageConnection;
use serde::Serialize;

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Phase};
use crate::health::Certificate;
use crate::operation::{Operation, Outcome};
use crate::pool::{self, Reset};
use crate::recovery::seconds;

/// What a manager tells a pool beyond r2d2's trait. See the [module](self).
///
/// No method may block longer than the manager's own timeouts, and `execute` and
/// `execute_batch` no longer than their deadline: `endpoint`, `classify` and `is_clean` do
/// no I/O at all.
pub trait Backend: ManageConnection<Error: Send + Sync> + Sized {
    /// The backend's short name, such as `postgres`.
    const NAME: &'static str;

    /// Whether a group of operations costs less than the same operations one by one, so
    /// that a batch makes its groups large. Else they are as small as keeps its workers
    /// busy.
    const NATIVE_BATCH: bool = false;

    /// What it runs; [`NoOperation`](crate::NoOperation) if nothing.
    type Operation: Operation;

    /// What an operation gives back.
    type Reply: Send + 'static;

    /// The server's address as an operator would write it, without user or
    /// password: `db1.internal:5432/app`.
    fn endpoint(&self) -> String;

    /// The error's kind.
    fn classify(error: &Self::Error) -> ErrorKind;

    /// Runs one operation, which has been validated.
    ///
    /// # Errors
    /// What the server refused ([`Phase::Operation`]), and what
    /// befell the connection; marked with
    /// [`outcome_unknown`](Error::with_outcome_unknown) if the operation may have taken
    /// effect all the same. At the deadline,
    /// [`DeadlineExceeded`](ErrorKind::DeadlineExceeded).
    fn execute(
        &self,
        conn: &mut Self::Connection,
        operation: &Self::Operation,
        deadline: Deadline,
    ) -> Result<Self::Reply, Error>;

    /// Runs a group of operations, in any order, and gives each its own outcome, in the
    /// order of the slice: exactly one for each. What one does must not fail another. An
    /// outcome of [`NotExecuted`](Outcome::NotExecuted) or one that failed with a
    /// [`Conflict`](ErrorKind::Conflict) is tried again by the caller, as are those that
    /// may run twice. By default one after the other. Whoever cuts a group in parts because of
    /// something bad in it says so with [`note_split`].
    fn execute_batch(
        &self,
        conn: &mut Self::Connection,
        operations: &[&Self::Operation],
        deadline: Deadline,
    ) -> Vec<Outcome<Self::Reply>> {
        let run = |operation: &&Self::Operation| {
            if let Some(error) = why_not_begun(self, conn, deadline) {
                return Outcome::NotExecuted(error);
            }
            self.execute(conn, operation, deadline).into()
        };
        operations.iter().map(run).collect()
    }

    /// Whether this connection can go to its next user as it is, under this
    /// policy. Called on the thread that returns the lease, so it does no I/O: it
    /// looks at what the connection noticed. `true` by default.
    fn is_clean(&self, conn: &Self::Connection, policy: Reset) -> bool {
        let _ = (conn, policy);
        true
    }

    /// Cleans what the last user left behind. Called in the background for a
    /// connection that [`is_clean`](Self::is_clean) does not vouch for; an error
    /// discards the connection. Does nothing by default.
    fn reset(&self, conn: &mut Self::Connection, policy: Reset) -> Result<(), Self::Error> {
        let _ = (conn, policy);
        Ok(())
    }

    /// Asks the server who it is and how it does. By default the liveness check
    /// of [`ManageConnection::is_valid`], timed.
    fn check(&self, conn: &mut Self::Connection) -> Result<Service, Self::Error> {
        let start = std::time::Instant::now();
        self.is_valid(conn)?;
        Ok(Service {
            latency: start.elapsed(),
            ..Service::default()
        })
    }

    /// Whether the next attempt to connect would use another password or certificate than the
    /// last one did, because the file that it comes from has changed. Asked now and then while
    /// attempts are refused, in the background; may read that file. `None`, the default, if that
    /// cannot happen: then a login that is refused is tried again now and then all the same.
    fn credentials_changed(&self) -> Option<bool> {
        None
    }

    /// What went over this connection so far, as far as the driver tells.
    fn traffic(conn: &Self::Connection) -> Traffic {
        let _ = conn;
        Traffic::default()
    }
}

/// Why no further operation of a group can be begun on this connection, if none can.
fn why_not_begun<B: Backend>(
    backend: &B,
    conn: &mut B::Connection,
    deadline: Deadline,
) -> Option<Error> {
    let (kind, why) = if deadline.is_over() {
        (
            ErrorKind::DeadlineExceeded,
            "the deadline was over before its turn came",
        )
    } else if backend.has_broken(conn) {
        (
            ErrorKind::ConnectionLost,
            "the connection was lost before its turn came",
        )
    } else {
        return None;
    };
    Some(Error::new(kind, Phase::Operation, why).with_endpoint(backend.endpoint()))
}

/// Makes every pool over this manager type know its [`Backend`]. Cheap; call it
/// where the manager is made.
pub fn adopt<B: Backend>() {
    pool::care::adopt::<B>(pool::care::Care {
        backend: B::NAME,
        endpoint: B::endpoint,
        classify: B::classify,
        capture: |error| std::sync::Arc::new(error),
        is_clean: Some(B::is_clean),
        reset: B::reset,
        check: Some(B::check),
        credentials_changed: Some(B::credentials_changed),
        traffic: B::traffic,
    });
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Service {
    /// The server's version, as it prints it.
    pub version: Option<String>,
    /// What part it plays.
    pub role: Role,
    /// Whether it takes writes, where that could be told.
    pub writable: Option<bool>,
    /// How far a replica is behind, where that could be told.
    #[serde(rename = "lag_seconds", with = "seconds::optional")]
    pub lag: Option<Duration>,
    /// How long the check's round trip took.
    #[serde(rename = "latency_seconds", with = "seconds")]
    pub latency: Duration,
    /// How the connection is encrypted.
    pub encryption: Encryption,
    /// When the certificates expire on which the connection depends, as far as that is known:
    /// at most one of each kind.
    pub certificates: Vec<Certificate>,
}

impl Service {
    /// A service of this role that answered after `latency`.
    pub fn new(role: Role, latency: Duration) -> Self {
        Self {
            role,
            latency,
            ..Self::default()
        }
    }

    /// The same, with what is known of the certificates.
    #[cfg(feature = "_net")]
    pub(crate) fn with_certificates(mut self, certificates: Vec<Certificate>) -> Self {
        self.certificates = certificates;
        self
    }

    /// The same, over a connection that is encrypted like this.
    #[cfg(feature = "_net")]
    pub(crate) fn with_encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = encryption;
        self
    }
}

/// How a connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Encryption {
    /// Not known.
    #[default]
    Unknown,
    /// Not at all.
    None,
    /// By TLS, of a version that the driver does not tell.
    Tls,
    /// By TLS 1.2.
    Tls12,
    /// By TLS 1.3.
    Tls13,
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::Tls => "TLS",
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3",
        })
    }
}

/// What part a server plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// Not known, or the backend has no roles.
    #[default]
    Unknown,
    /// Takes writes.
    Primary,
    /// A read-only copy of a primary.
    Replica,
    /// Routes to others: mongos, a proxy.
    Router,
    /// Stands alone.
    Standalone,
}

/// What went over one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Statements, commands or requests sent.
    pub statements: Option<u64>,
    /// Bytes sent.
    pub bytes_sent: Option<u64>,
    /// Bytes received.
    pub bytes_received: Option<u64>,
}

impl Traffic {
    /// So many statements, and nothing known about bytes.
    pub fn statements(count: u64) -> Self {
        Self {
            statements: Some(count),
            ..Self::default()
        }
    }
}

#[cfg(feature = "batch")]
thread_local! {
    /// How often the group that this thread executes was split.
    static SPLITS: Cell<u64> = const { Cell::new(0) };
}

/// Counts that [`Backend::execute_batch`], on this thread, split its group or a part of it to
/// find what is bad in it; see [`BatchMetrics::splits`](crate::BatchMetrics::splits).
///
/// ```
/// millpond::backend::note_split();
/// ```
#[cfg(feature = "batch")]
pub fn note_split() {
    SPLITS.set(SPLITS.get() + 1);
}

/// How often that was since it was last asked.
#[cfg(feature = "batch")]
pub(crate) fn take_splits() -> u64 {
    SPLITS.take()
}
