//! The pool over any r2d2 manager.
//!
//! # The house
//!
//! [`exchange`] moves boxes between slots and waiters and knows nothing of
//! connections. [`entry`] is what is in the boxes. [`shared`] is the pool itself:
//! the ways of a lease out and back. [`ledger`] and [`growth`] decide what to open,
//! [`work`] does what may block on the keeper's crew, [`upkeep`] is the keeper's
//! visit, [`pulse`] has the server checked and says how it is, [`breaking`] keeps operations from
//! one that keeps failing, [`limit`] finds out how many connections
//! an overloaded one bears, [`waiting`] explains to waiters
//! why they wait, [`deadlock`] finds those that would wait for ever. [`desk`] is what each slot
//! tells the world, [`counters`] and [`requests`] what happened, [`reading`] reads it all.
//! [`member`] is what a fleet of several servers asks each of its pools.
//!
//! # Invariants
//!
//! 1. idle + leased + in care + connecting + closing ≤ `max_size`, always (after
//!    `set_max_size` to less: as soon as the surplus has come back). A slot is
//!    reserved before a connect starts and freed after the connection is dropped, by
//!    a guard, so every slot comes back whatever panics.
//! 2. Caller threads never connect, ping, clean or close a connection; `get` returns
//!    by its deadline whatever the server does. (A `before_lease` hook is the
//!    program's own and runs on its thread.)
//! 3. No lock is held across I/O, user code or a wake-up.
//! 4. A waiter that gave up is never handed a connection; a connection handed over
//!    is never lost (see [`exchange`]).
//! 5. Once the gate is closed, every connection goes to the crew to be closed: those
//!    that are idle by whoever closes, those that come back by whoever puts them.

mod breaking;
mod builder;
pub(crate) mod care;
mod control;
mod counters;
mod deadlock;
mod desk;
mod entry;
mod exchange;
mod growth;
mod lease;
mod ledger;
mod limit;
mod member;
mod pulse;
mod reading;
mod requests;
mod returns;
mod sampling;
mod settings;
mod shared;
mod state;
mod tally;
#[cfg(test)]
mod tests;
mod upkeep;
mod waiting;
mod work;

use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

pub use self::builder::Builder;
pub use self::counters::{CloseReason, PoolMetrics};
pub use self::lease::{ConnectionInfo, PooledConnection};
pub use self::state::{Holder, State};
pub(crate) use self::tally::Tally;

use r2d2::ManageConnection;

use self::settings::Settings;
use self::shared::Shared;
use crate::clock::{Clock, Ticks};
use crate::error::Error;
use crate::keeper::{self, Tended};
use crate::record::Place;
use crate::recovery::RetryPolicy;

/// What is done with a connection when its lease ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reset {
    /// Nothing: what one lease leaves behind is there for the next.
    None,
    /// What the backend noticed is undone: open transaction, settings,
    /// subscriptions, another database. Costs nothing where nothing was noticed.
    #[default]
    Fast,
    /// Everything is undone after each lease, noticed or not: one round trip.
    Full,
}

/// A pool of connections. Handles are cheap to clone; the connections are closed
/// when the last handle is dropped and the last lease has come back.
///
/// ```
/// # #[derive(Debug)] struct Nothing;
/// # impl millpond::ManageConnection for Nothing {
/// #     type Connection = u32;
/// #     type Error = std::io::Error;
/// #     fn connect(&self) -> std::io::Result<u32> { Ok(7) }
/// #     fn is_valid(&self, _: &mut u32) -> std::io::Result<()> { Ok(()) }
/// #     fn has_broken(&self, _: &mut u32) -> bool { false }
/// # }
/// # fn main() -> Result<(), millpond::Error> {
/// # let manager = Nothing;
/// let pool = millpond::Pool::builder().max_size(4).build(manager)?;
/// std::thread::scope(|scope| {
///     for _ in 0..8 {
///         scope.spawn(|| {
///             let connection = pool.get().expect("a connection");
///             assert_eq!(*connection, 7);
///         });
///     }
/// });
/// assert_eq!(pool.state().idle_connections, 4);
/// # Ok(()) }
/// ```
pub struct Pool<M: ManageConnection>(Arc<Root<M>>);

/// What the handles share; when it goes, the pool closes.
struct Root<M: ManageConnection> {
    shared: Arc<Shared<M>>,
}

impl<M: ManageConnection> Drop for Root<M> {
    fn drop(&mut self) {
        self.shared.shut();
    }
}

impl<M: ManageConnection> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: ManageConnection + fmt::Debug> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.0.shared;
        f.debug_struct("Pool")
            .field("state", &shared.state())
            .field("config", &shared.settings)
            .field("manager", &shared.manager)
            .finish()
    }
}

impl<M: ManageConnection> Pool<M> {
    /// A pool with the default settings.
    ///
    /// # Errors
    /// Those of [`Builder::build`].
    pub fn new(manager: M) -> Result<Self, Error> {
        Self::builder().build(manager)
    }

    /// A builder with the default settings.
    pub fn builder() -> Builder<M> {
        Builder::new()
    }

    fn assemble(settings: Settings<M>, manager: M) -> Self {
        let shared = Shared::new(settings, manager, Clock::System);
        let weak: Weak<Shared<M>> = Arc::downgrade(&shared);
        let tended: Weak<dyn Tended> = weak;
        // Joins before the first job, so that the keeper's threads are there for it; and
        // the keeper first comes by when jobs can wake it.
        let membership = keeper::join(tended);
        // Nobody else has seen `shared` yet.
        let _ = shared.membership.set(membership);
        let now = shared.clock.now();
        shared.stir(now);
        shared.wake_keeper(now);
        Self(Arc::new(Root { shared }))
    }

    fn wait_for_initialization(&self) -> Result<(), Error> {
        let shared = &self.0.shared;
        let timeout = shared.settings.connection_timeout;
        let start = Instant::now();
        let mut ledger = shared.ledger.lock();
        loop {
            if shared.state().connections >= ledger.min_idle {
                return Ok(());
            }
            if let (true, Some(error)) = (ledger.hopeless, &ledger.last_error) {
                return Err(error.clone());
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                drop(ledger);
                return Err(shared.timed_out(timeout));
            }
            // In parts, since a wait for as long as there is time would overflow.
            shared
                .changed
                .wait_for(&mut ledger, left.min(Duration::from_secs(3600)));
        }
    }

    /// Takes a connection, waiting for at most `connection_timeout`.
    ///
    /// # Errors
    /// * [`Exhausted`](crate::ErrorKind::Exhausted): all connections were in use, and
    ///   the message names who holds them; or a deadlock was found.
    /// * The kind of the last failed connect, if connecting is what fails: at once if
    ///   it cannot heal (a wrong password), else at the deadline.
    /// * [`Overloaded`](crate::ErrorKind::Overloaded): `max_waiters` wait already.
    /// * [`Closed`](crate::ErrorKind::Closed): the pool was closed, or was still paused
    ///   at the deadline.
    /// * Phase [`Hook`](crate::Phase::Hook): the `before_lease` hook failed.
    #[track_caller]
    #[inline]
    pub fn get(&self) -> Result<PooledConnection<M>, Error> {
        self.get_timeout(self.0.shared.settings.connection_timeout)
    }

    /// Takes a connection, waiting for at most `timeout`.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// use std::time::Duration;
    ///
    /// let pool = millpond::Pool::new(manager)?;
    /// let connection = pool.get_timeout(Duration::from_millis(50))?;
    /// connection.execute_batch("CREATE TABLE visits (at TEXT)")?;
    /// # Ok(()) }
    /// ```
    #[track_caller]
    #[inline]
    pub fn get_timeout(&self, timeout: Duration) -> Result<PooledConnection<M>, Error> {
        let shared = &self.0.shared;
        let location = Location::caller();
        let now = shared.lease_time();
        match shared.take(now) {
            Some(entry) => shared.lease(entry, location, now, now),
            None => shared.wait(timeout, location, false),
        }
    }

    /// Takes an idle connection, if there is one that needs no check. Never waits, so
    /// unlike r2d2's it never checks one: those that need it are checked in the
    /// background for whoever comes next. With `test_on_check_out(true)` that is soon
    /// after a check only; use [`get_timeout`](Self::get_timeout) there.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// let pool = millpond::Pool::builder().max_size(1).build(manager)?;
    /// let first = pool.try_get().expect("one is idle");
    /// assert!(pool.try_get().is_none());
    /// # drop(first);
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn try_get(&self) -> Option<PooledConnection<M>> {
        let shared = &self.0.shared;
        let location = Location::caller();
        let now = shared.lease_time();
        let entry = shared.take(now)?;
        shared.lease(entry, location, now, now).ok()
    }

    /// The pool's numbers now. Takes no lock.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// let pool = millpond::Pool::builder().max_size(3).build(manager)?;
    /// let lease = pool.get()?;
    /// let state = pool.state();
    /// assert_eq!((state.connections, state.leased), (3, 1));
    /// assert_eq!(state.to_string(), "3 of 3 connections open: 2 idle, 1 leased");
    /// # drop(lease);
    /// # Ok(()) }
    /// ```
    pub fn state(&self) -> State {
        self.0.shared.state()
    }

    /// Who holds connections now, the longest first.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// let pool = millpond::Pool::new(manager)?;
    /// let lease = pool.get()?;
    /// let holder = &pool.holders()[0];
    /// assert_eq!(holder.location.file(), file!());
    /// # drop(lease);
    /// # Ok(()) }
    /// ```
    pub fn holders(&self) -> Vec<Holder> {
        let shared = &self.0.shared;
        shared.holders(shared.clock.now())
    }

    /// The manager.
    pub fn manager(&self) -> &M {
        &self.0.shared.manager
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.0.shared.name
    }

    #[cfg(feature = "batch")]
    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.0.shared.name
    }

    /// The most connections that exist at once.
    pub fn max_size(&self) -> u32 {
        self.0
            .shared
            .rules
            .max_size
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The idle connections that are kept ready, as configured.
    pub fn min_idle(&self) -> Option<u32> {
        self.0.shared.settings.min_idle
    }

    /// Whether connections are checked before they are leased, all of them or those
    /// that have been idle for a while.
    pub fn test_on_check_out(&self) -> bool {
        self.0.shared.settings.test_on_check_out.unwrap_or(true)
    }

    /// How old a connection may grow.
    pub fn max_lifetime(&self) -> Option<Duration> {
        self.0.shared.settings.max_lifetime
    }

    /// How long a connection may stay unused.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.0.shared.settings.idle_timeout
    }

    /// How often and when operations are tried again that say nothing about it.
    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        self.0.shared.settings.retry_policy()
    }

    /// Where its operations run.
    pub(crate) fn place(&self) -> Place {
        self.0.shared.place()
    }

    /// Adds to an error where it happened.
    pub(crate) fn locate(&self, error: Error) -> Error {
        self.0.shared.at_home(error)
    }

    /// An operation failed after so long, without a connection.
    pub(crate) fn note_failed(&self, error: &Error, took: Ticks) {
        if let Some(requests) = &self.0.shared.requests {
            requests.failed_without_connection(error.kind(), took);
        }
    }

    /// Operations are begun, which earns retries.
    pub(crate) fn earn_retries(&self, operations: u32) {
        self.0.shared.budget.earn(operations);
    }

    /// Whether a retry was earned; then it is to be made.
    pub(crate) fn spend_retry(&self) -> bool {
        self.0.shared.budget.spend()
    }

    /// An attempt failed like this, and there will be another.
    pub(crate) fn note_retry(&self, error: &Error) {
        if let Some(requests) = &self.0.shared.requests {
            requests.count_retries(1);
        }
        self.0.shared.doubt(error);
    }

    /// How long [`get`](Self::get) waits at most.
    pub fn connection_timeout(&self) -> Duration {
        self.0.shared.settings.connection_timeout
    }
}
