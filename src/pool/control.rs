//! Steering a running pool: pause, clear, resize, drain, close.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use r2d2::ManageConnection;

use super::Pool;
use super::counters::CloseReason;
use super::exchange::Gate;
use super::shared::Shared;
use crate::error::Error;

/// How often a drain looks for connections that became idle after it began.
const SWEEP_EVERY: Duration = Duration::from_millis(20);

impl<M: ManageConnection> Pool<M> {
    /// Leases nothing until [`resume`](Self::resume): who comes waits, up to the
    /// usual timeout. Opens no connections meanwhile either, not even up to `min_idle`.
    /// Has no effect on a closed pool.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// use std::time::Duration;
    ///
    /// let pool = millpond::Pool::new(manager)?;
    /// pool.pause();
    /// assert!(pool.get_timeout(Duration::from_millis(10)).is_err());
    /// pool.resume();
    /// assert!(pool.get().is_ok());
    /// # Ok(()) }
    /// ```
    pub fn pause(&self) {
        self.0.shared.exchange.set_gate(Gate::Paused);
    }

    /// Leases again after [`pause`](Self::pause) or [`drain`](Self::drain).
    pub fn resume(&self) {
        let shared = &self.0.shared;
        shared.exchange.set_gate(Gate::Open);
        shared.stir(shared.clock.now());
    }

    /// Closes every connection that exists now: the idle ones at once, the others as
    /// they come back. New ones take their place, without regard to earlier failures to
    /// connect: this is the thing to call after a password was mended.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// use millpond::PooledConnection;
    ///
    /// let pool = millpond::Pool::builder().max_size(1).build(manager)?;
    /// let before = PooledConnection::info(&pool.get()?).id;
    /// pool.clear();
    /// assert_ne!(PooledConnection::info(&pool.get()?).id, before);
    /// # Ok(()) }
    /// ```
    pub fn clear(&self) {
        self.0.shared.clear();
    }

    /// Changes the most connections that may exist at once. Growing takes effect at
    /// once; when shrinking, the surplus is closed as it comes back.
    ///
    /// # Panics
    /// If it is 0.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// let pool = millpond::Pool::builder().max_size(2).build(manager)?;
    /// pool.set_max_size(5);
    /// let leases: Result<Vec<_>, _> = (0..5).map(|_| pool.get()).collect();
    /// assert_eq!(leases?.len(), 5);
    /// # Ok(()) }
    /// ```
    pub fn set_max_size(&self, max_size: u32) {
        assert!(max_size > 0, "max_size must be positive");
        self.0.shared.resize(max_size);
    }

    /// Stops leasing and closes every connection, waiting for at most `timeout` until
    /// all have come back. The pool stays paused; [`resume`](Self::resume) opens it
    /// again.
    ///
    /// # Errors
    /// [`DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded), naming who still
    /// holds a connection. They are closed all the same when they come back.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// use std::time::Duration;
    ///
    /// let pool = millpond::Pool::new(manager)?;
    /// let lease = pool.get()?;
    /// let error = pool.drain(Duration::from_millis(10)).unwrap_err();
    /// assert!(error.to_string().contains(file!()), "who holds one: {error}");
    /// drop(lease);
    /// pool.drain(Duration::from_secs(5))?;
    /// pool.resume();
    /// assert!(pool.get().is_ok());
    /// # Ok(()) }
    /// ```
    pub fn drain(&self, timeout: Duration) -> Result<(), Error> {
        self.pause();
        self.clear();
        self.0.shared.wait_until_empty("drain", timeout)
    }

    /// Closes the pool for good: who waits or comes is refused with
    /// [`Closed`](crate::ErrorKind::Closed), and every connection is closed. Waits for
    /// at most `timeout` until all have come back.
    ///
    /// # Errors
    /// [`DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded), naming who still
    /// holds a connection. They are closed all the same when they come back.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// use std::time::Duration;
    ///
    /// let pool = millpond::Pool::new(manager)?;
    /// pool.close(Duration::from_secs(5))?;
    /// assert_eq!(pool.get().unwrap_err().kind(), millpond::ErrorKind::Closed);
    /// # Ok(()) }
    /// ```
    pub fn close(&self, timeout: Duration) -> Result<(), Error> {
        self.0.shared.shut();
        self.0.shared.wait_until_empty("close", timeout)
    }
}

impl<M: ManageConnection> Shared<M> {
    /// Closes the gate for good.
    pub(super) fn shut(self: &Arc<Self>) {
        self.exchange.set_gate(Gate::Closed);
        self.next_epoch();
        self.exchange.refuse_all(|| self.closed());
        self.sweep_if_closed();
    }

    fn clear(self: &Arc<Self>) {
        let generation = self.rules.generation.fetch_add(1, Ordering::SeqCst) + 1;
        self.next_epoch();
        self.close_idle(|entry| (entry.generation < generation).then_some(CloseReason::Cleared));
        self.connect_again();
    }

    /// Connects without regard to earlier failures.
    pub(super) fn connect_again(self: &Arc<Self>) {
        let mut ledger = self.ledger.lock();
        ledger.forget_failures();
        self.rules.hopeless.store(false, Ordering::SeqCst);
        drop(ledger);
        self.stir(self.clock.now());
    }

    fn resize(self: &Arc<Self>, max_size: u32) {
        let mut ledger = self.ledger.lock();
        let have = self.exchange.slots();
        if max_size > have {
            self.exchange.grow_to(max_size);
            ledger.vacant.extend(have..self.exchange.slots());
        }
        ledger.max_size = max_size;
        ledger.min_idle = self.settings.min_idle.unwrap_or(max_size).min(max_size);
        self.rules.max_size.store(max_size, Ordering::SeqCst);
        let too_many = ledger.reserved > self.post_limit(&ledger);
        drop(ledger);
        self.next_epoch();
        let now = self.clock.now();
        if too_many {
            self.close_idle(|entry| self.is_surplus(entry, now).then_some(CloseReason::Surplus));
        }
        self.stir(now);
    }

    fn wait_until_empty(self: &Arc<Self>, what: &str, timeout: Duration) -> Result<(), Error> {
        let start = Instant::now();
        let mut ledger = self.ledger.lock();
        while ledger.reserved > 0 {
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                drop(ledger);
                return Err(self.still_held(what, timeout));
            }
            self.changed.wait_for(&mut ledger, left.min(SWEEP_EVERY));
            drop(ledger);
            // One may have been on its way to its slot when the others were swept.
            let now = self.clock.now();
            self.close_idle(|entry| self.unwanted(entry, now));
            ledger = self.ledger.lock();
        }
        Ok(())
    }
}
