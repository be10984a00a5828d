//! Settings for metrics, health and the circuit breaker.

#[cfg(feature = "_net")]
use std::sync::Arc;
use std::time::Duration;

use r2d2::ManageConnection;

use super::Builder;
use crate::config::Vars;
use crate::recovery::Breaker;

impl<M: ManageConnection> Builder<M> {
    /// How often the pool's server is asked how it is; a minute by default, `None` for never.
    /// It is also asked at once when an operation fails in a way that puts it in doubt, and
    /// then each second until it answers. What it says is part of [`Pool::health`](crate::Pool::health).
    ///
    /// # Panics
    /// If it is zero.
    pub fn health_check_interval(mut self, interval: Option<Duration>) -> Self {
        assert_ne!(
            interval,
            Some(Duration::ZERO),
            "health_check_interval must be positive"
        );
        self.settings.health_check_interval = interval;
        self
    }

    /// Says that the pool is meant for reading only, so that a server that takes no writes is
    /// as it should be. `false` by default.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.settings.read_only = read_only;
        self
    }

    /// What the pool will be called, if that was said.
    #[cfg(feature = "_net")]
    pub(crate) fn given_name(&self) -> Option<Arc<str>> {
        self.settings.name.clone()
    }

    #[cfg(feature = "_net")]
    pub(crate) fn is_read_only(&self) -> bool {
        self.settings.read_only
    }

    /// Whether operations are counted and leases timed; `true` by default. What costs nothing
    /// is counted anyway.
    pub fn metrics(mut self, metrics: bool) -> Self {
        self.settings.metrics = metrics;
        self
    }

    /// Over how many requests the recent response time is; 1,000 by default, at least one and
    /// at most a million.
    pub fn response_time_window(mut self, requests: u32) -> Self {
        self.settings.response_time_window = requests;
        self
    }

    /// Over how many requests the recent error rate is; 1,000 by default, at least one and at
    /// most a million.
    pub fn error_rate_window(mut self, requests: u32) -> Self {
        self.settings.error_rate_window = requests;
        self
    }

    /// When operations are no longer sent to a server that keeps failing; by default as
    /// [`Breaker`] says, `None` for never.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// let pool = millpond::Pool::builder().breaker(None).build(manager)?;
    /// # Ok(()) }
    /// ```
    pub fn breaker(mut self, breaker: impl Into<Option<Breaker>>) -> Self {
        self.settings.breaker = breaker.into();
        self
    }

    /// Whether fewer connections are used at once while the server says that it is overloaded;
    /// `true` by default.
    ///
    /// When an operation fails as [`Overloaded`](crate::ErrorKind::Overloaded), the pool goes on
    /// with seven tenths of the connections in use; when a connect does, with those that are open.
    /// The others are closed, and callers wait in line as if `max_size` were so low. While the
    /// server refuses nothing, there is one more from time to time, until there may be `max_size`
    /// again. [`State::limit`](crate::State::limit) and the pool's health tell of it. Not so where
    /// the server would say it to any number of connections, as Redis does while it reads its data
    /// from disk: the tables of codes say `at any load` there.
    ///
    /// Threads that take two connections at once are given room for them by
    /// [`deadlock_detection`](Self::deadlock_detection), which is on unless it is switched off.
    /// Of operations that the program runs itself, the pool knows what it is
    /// [told](crate::PooledConnection::record).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// use std::time::Duration;
    /// use millpond::{Error, ErrorKind, Phase, Pool, PooledConnection};
    ///
    /// let pool = Pool::builder().max_size(10).adaptive(true).build(manager)?;
    /// let leases = [pool.get()?, pool.get()?, pool.get()?, pool.get()?];
    /// let error = Error::new(ErrorKind::Overloaded, Phase::Operation, "too much to do");
    /// PooledConnection::record(&leases[0], Duration::from_millis(1), Err(&error));
    /// assert_eq!(pool.state().limit, 2);
    /// # Ok(()) }
    /// ```
    pub fn adaptive(mut self, adaptive: bool) -> Self {
        self.settings.adaptive = adaptive;
        self
    }

    /// Takes `POOL_BREAKER_FAILURES` (10; 0 for no circuit breaker), `POOL_BREAKER_RATE` (0.5)
    /// and `POOL_BREAKER_SLOW_TIME` (none; seconds) from variables.
    pub(super) fn breaker_from_vars(self, vars: &mut Vars<'_>) -> Self {
        let mut breaker = Breaker::new();
        let failures = vars.parse(
            "POOL_BREAKER_FAILURES",
            "a number, 0 for no circuit breaker",
        );
        if let Some(failures) = failures {
            breaker = breaker.failures(failures);
        }
        let accepted = "a share of the calls, more than 0 and up to 1";
        let mut share = 0.5;
        if let Some(rate) = vars.parse::<f64>("POOL_BREAKER_RATE", accepted) {
            if rate > 0.0 && rate <= 1.0 {
                share = rate;
                breaker = breaker.rate(rate, 50);
            } else {
                vars.mistake("POOL_BREAKER_RATE", &rate.to_string(), accepted);
            }
        }
        if let Some(threshold) = vars.seconds("POOL_BREAKER_SLOW_TIME") {
            breaker = breaker.slow(threshold, share);
        }
        self.breaker((failures != Some(0)).then_some(breaker))
    }
}
