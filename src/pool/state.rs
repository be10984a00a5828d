//! What a pool says of itself: [`State`] and [`Holder`].

use std::fmt;
use std::panic::Location;
use std::time::Duration;

/// A pool's numbers at one moment. Read without a lock, so the figures of a busy
/// pool may be a few nanoseconds apart.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct State {
    /// Open connections: idle, leased, or being checked or cleaned.
    pub connections: u32,
    /// Connections that wait for a user.
    pub idle_connections: u32,
    /// Connections that a caller holds.
    pub leased: u32,
    /// Connections that the pool itself checks or cleans at this moment.
    pub in_care: u32,
    /// Connections being established.
    pub connecting: u32,
    /// Connections being closed.
    pub closing: u32,
    /// Callers that wait for a connection.
    pub waiters: u32,
    /// The most connections that may exist at once.
    pub max_size: u32,
    /// The most that may exist now: `max_size`, or less while the server is overloaded (see
    /// [`adaptive`](crate::Builder::adaptive)).
    pub limit: u32,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} connections open: {} idle, {} leased",
            self.connections, self.max_size, self.idle_connections, self.leased
        )?;
        for (count, what) in [
            (self.in_care, "being checked"),
            (self.connecting, "connecting"),
            (self.closing, "closing"),
            (self.waiters, "callers waiting"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        if self.limit < self.max_size {
            write!(f, ", no more than {} for now", self.limit)?;
        }
        Ok(())
    }
}

/// Who holds a connection: the place in the program and the thread that took it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The connection's number.
    pub connection_id: u64,
    /// Where `get` was called.
    pub location: &'static Location<'static>,
    /// The thread that took or last used it.
    pub thread: String,
    /// For how long it has been held.
    pub held: Duration,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "connection {} held {:.3} s by thread `{}` at {}",
            self.connection_id,
            self.held.as_secs_f64(),
            self.thread,
            self.location
        )
    }
}
