//! A leased connection.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use r2d2::{Extensions, ManageConnection};

use super::counters::CloseReason;
use super::entry::Entry;
use super::shared::Shared;
use crate::backend::Traffic;
use crate::clock::{Ticks, between};
use crate::error::Error;
use crate::record::Place;
use crate::threads;

/// A connection taken out of a pool. It derefs to the manager's connection, and
/// goes back when dropped; dropped by a panic, it is closed instead.
///
/// Dropping does no I/O: cleaning and closing happen in the background.
pub struct PooledConnection<M: ManageConnection> {
    /// `None` only while dropping.
    entry: Option<Box<Entry<M>>>,
}

/// What a pool knows of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The connection's number, unique in the process.
    pub id: u64,
    /// How long ago it was established.
    pub age: Duration,
    /// How many times it has been leased, this time included.
    pub uses: u64,
    /// How long ago its previous lease ended; its age, if there was none.
    pub last_used: Duration,
    /// For how long it has been held.
    pub held: Duration,
    /// What went over it, as far as the driver tells.
    pub traffic: Traffic,
}

impl<M: ManageConnection> PooledConnection<M> {
    pub(super) fn new(entry: Box<Entry<M>>) -> Self {
        Self { entry: Some(entry) }
    }

    #[inline]
    fn entry(&self) -> &Entry<M> {
        // The entry is taken in `drop` and in methods that consume the lease only.
        self.entry
            .as_ref()
            .expect("a lease has its connection until it is dropped")
    }

    #[inline]
    fn entry_mut(&mut self) -> &mut Entry<M> {
        // As above.
        self.entry
            .as_mut()
            .expect("a lease has its connection until it is dropped")
    }

    /// The values that were attached to this connection.
    pub fn extensions(this: &Self) -> &Extensions {
        &this.entry().extensions
    }

    /// The values that were attached to this connection, to change them.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// use millpond::PooledConnection;
    ///
    /// struct Prepared(u32);
    ///
    /// let pool = millpond::Pool::builder().max_size(1).build(manager)?;
    /// let mut lease = pool.get()?;
    /// PooledConnection::extensions_mut(&mut lease).insert(Prepared(7));
    /// drop(lease);
    /// let lease = pool.get()?;
    /// let kept = PooledConnection::extensions(&lease).get::<Prepared>();
    /// assert_eq!(kept.map(|prepared| prepared.0), Some(7));
    /// # Ok(()) }
    /// ```
    pub fn extensions_mut(this: &mut Self) -> &mut Extensions {
        &mut this.entry_mut().extensions
    }

    /// What the pool knows of this connection.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// use millpond::PooledConnection;
    ///
    /// let pool = millpond::Pool::builder().max_size(1).build(manager)?;
    /// drop(pool.get()?);
    /// let lease = pool.get()?;
    /// assert_eq!(PooledConnection::info(&lease).uses, 2);
    /// # Ok(()) }
    /// ```
    pub fn info(this: &Self) -> ConnectionInfo {
        let entry = this.entry();
        let shared = entry.place.shared();
        let now = shared.clock.now();
        ConnectionInfo {
            id: entry.id,
            age: between(entry.born, now),
            uses: entry.uses,
            last_used: between(entry.used_at, now),
            held: between(entry.leased_at, now),
            traffic: (shared.knowledge.traffic)(&entry.conn),
        }
    }

    /// The manager and the connection, to run something on it.
    pub(crate) fn parts(this: &mut Self) -> (&M, &mut M::Connection) {
        this.note_user();
        let entry = this.entry_mut();
        (&entry.place.shared().manager, &mut entry.conn)
    }

    /// Counts an operation of your own that you ran on this lease with the driver's means, and
    /// that took so long, among the pool's [operations](crate::metrics::OperationMetrics).
    /// Those run by [`execute`](Self::execute) count themselves.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// use std::time::Instant;
    /// use millpond::PooledConnection;
    ///
    /// let pool = millpond::Pool::new(manager)?;
    /// let lease = pool.get()?;
    /// let start = Instant::now();
    /// lease.execute_batch("CREATE TABLE visits (at TEXT)")?;
    /// PooledConnection::record(&lease, start.elapsed(), Ok(()));
    /// assert_eq!(pool.metrics().operations.succeeded, 1);
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn record(this: &Self, took: Duration, result: Result<(), &Error>) {
        // Nothing takes five hundred years, beyond which this would wrap around.
        let took = took.as_nanos() as u64;
        match result {
            Ok(()) => Self::succeeded(this, took, 1),
            Err(error) => Self::failed(this, took, error),
        }
    }

    /// So many operations on this lease succeeded after so long.
    #[inline]
    pub(crate) fn succeeded(this: &Self, took: Ticks, count: u64) {
        if let Some(meter) = &this.entry().meter {
            for _ in 0..count {
                meter.succeeded(took);
            }
        }
    }

    /// An operation on this lease failed after so long.
    pub(crate) fn failed(this: &Self, took: Ticks, error: &Error) {
        let entry = this.entry();
        let shared = entry.place.shared();
        if let (Some(requests), Some(meter)) = (&shared.requests, &entry.meter) {
            requests.count_failed(error.kind(), took);
            meter.failed(took);
        }
        shared.doubt(error);
    }

    /// Where its operations run.
    pub(crate) fn place(this: &Self) -> Place {
        this.entry().place.shared().place()
    }

    /// Adds to an error where it happened.
    pub(crate) fn locate(this: &Self, error: Error) -> Error {
        this.entry().place.shared().at_home(error)
    }

    /// Closes the connection instead of giving it back; the pool opens another one
    /// when it needs one.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// use millpond::PooledConnection;
    ///
    /// let pool = millpond::Pool::builder().max_size(1).build(manager)?;
    /// let lease = pool.get()?;
    /// let id = PooledConnection::info(&lease).id;
    /// PooledConnection::discard(lease);
    /// assert_ne!(PooledConnection::info(&pool.get()?).id, id);
    /// # Ok(()) }
    /// ```
    pub fn discard(mut self) {
        self.entry_mut().discard = Some(CloseReason::Discarded);
    }

    /// Closes the connection because a hook refused it.
    pub(super) fn refuse(&mut self) {
        self.entry_mut().discard = Some(CloseReason::Hook);
    }

    /// Notes that this thread uses the lease now, for the messages that name holders
    /// and for the detection of deadlocks: a lease may have been sent to it.
    #[inline]
    fn note_user(&self) {
        let entry = self.entry();
        let thread = threads::current();
        if entry.user.load(Relaxed) != thread {
            entry.user.store(thread, Relaxed);
            entry.place.desk().moved_to(thread);
        }
    }
}

impl<M: ManageConnection> Drop for PooledConnection<M> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            Shared::give_back(entry);
        }
    }
}

impl<M: ManageConnection> Deref for PooledConnection<M> {
    type Target = M::Connection;

    #[inline]
    fn deref(&self) -> &M::Connection {
        self.note_user();
        &self.entry().conn
    }
}

impl<M: ManageConnection> DerefMut for PooledConnection<M> {
    #[inline]
    fn deref_mut(&mut self) -> &mut M::Connection {
        self.note_user();
        &mut self.entry_mut().conn
    }
}

impl<M> fmt::Debug for PooledConnection<M>
where
    M: ManageConnection,
    M::Connection: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.entry().conn, f)
    }
}
