//! The driver's real sockets, counted from its own events.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mongodb::event::cmap::CmapEvent;
use mongodb::options::ServerAddress;
use parking_lot::Mutex;

/// The driver's sockets at one moment. Those of its monitors (two per server) are
/// not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sockets {
    /// Open sockets, those being established included.
    pub open: u64,
    /// Sockets that an operation uses.
    pub in_use: u64,
    /// The most that were open at once.
    pub peak: u64,
    /// Sockets made since the manager exists.
    pub created: u64,
    /// Sockets closed since then, failed attempts included.
    pub closed: u64,
    /// How often the driver gave up all its sockets to a server after a failure.
    pub clears: u64,
}

/// A cheap handle on a manager's [`Sockets`], for metrics: clone it, keep it, read
/// it at any time from any thread.
///
/// ```
/// use millpond::{MongoDb, MongoDbConfig};
/// let manager = MongoDb::new(MongoDbConfig::new())?;
/// let meter = manager.meter();
/// assert_eq!(meter.read().open, 0);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SocketMeter(Arc<Counters>);

impl SocketMeter {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self(counters)
    }

    /// The numbers now.
    pub fn read(&self) -> Sockets {
        self.0.read()
    }
}

/// Fed by the driver's events.
#[derive(Debug, Default)]
pub(super) struct Counters {
    created: AtomicU64,
    closed: AtomicU64,
    peak: AtomicU64,
    clears: AtomicU64,
    // By identity, because the driver checks in sockets that it never reported as
    // checked out, when an operation gives up while its socket is being made.
    in_use: Mutex<HashSet<(ServerAddress, u32)>>,
}

impl Counters {
    pub(super) fn note(&self, event: CmapEvent) {
        match event {
            CmapEvent::ConnectionCreated(_) => {
                let created = self.created.fetch_add(1, Ordering::Relaxed) + 1;
                let open = created.saturating_sub(self.closed.load(Ordering::Relaxed));
                self.peak.fetch_max(open, Ordering::Relaxed);
            }
            CmapEvent::ConnectionClosed(event) => {
                self.closed.fetch_add(1, Ordering::Relaxed);
                self.in_use
                    .lock()
                    .remove(&(event.address, event.connection_id));
            }
            CmapEvent::ConnectionCheckedOut(event) => {
                self.in_use
                    .lock()
                    .insert((event.address, event.connection_id));
            }
            CmapEvent::ConnectionCheckedIn(event) => {
                self.in_use
                    .lock()
                    .remove(&(event.address, event.connection_id));
            }
            CmapEvent::PoolCleared(_) => {
                self.clears.fetch_add(1, Ordering::Release);
            }
            _ => {}
        }
    }

    /// How often the driver gave up its sockets; a permit older than the last time
    /// is suspect.
    pub(super) fn clears(&self) -> u64 {
        self.clears.load(Ordering::Acquire)
    }

    fn read(&self) -> Sockets {
        // Closed first: a socket that closes in between counts as open, never below 0.
        let closed = self.closed.load(Ordering::Relaxed);
        let created = self.created.load(Ordering::Relaxed);
        Sockets {
            open: created.saturating_sub(closed),
            in_use: self.in_use.lock().len() as u64,
            peak: self.peak.load(Ordering::Relaxed),
            created,
            closed,
            clears: self.clears(),
        }
    }
}
