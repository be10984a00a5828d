//! The builder of a pool: r2d2's methods, and ours.

mod watching;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use r2d2::{CustomizeConnection, HandleError, ManageConnection};
use scheduled_thread_pool::ScheduledThreadPool;

use super::settings::Settings;
use super::{Pool, Reset};
use crate::config::Vars;
use crate::error::Error;
use crate::event::HandleEvent;

/// More connections than any server takes; each has its place in memory from the beginning.
const MOST_CONNECTIONS: u32 = 100_000;

/// Configures and builds a [`Pool`].
///
/// ```
/// # #[derive(Debug)] struct Nothing;
/// # impl millpond::ManageConnection for Nothing {
/// #     type Connection = ();
/// #     type Error = std::io::Error;
/// #     fn connect(&self) -> std::io::Result<()> { Ok(()) }
/// #     fn is_valid(&self, _: &mut ()) -> std::io::Result<()> { Ok(()) }
/// #     fn has_broken(&self, _: &mut ()) -> bool { false }
/// # }
/// # fn main() -> Result<(), millpond::Error> {
/// # let manager = Nothing;
/// use std::time::Duration;
///
/// let pool = millpond::Pool::builder()
///     .name("orders")
///     .max_size(20)
///     .min_idle(Some(2))
///     .connection_timeout(Duration::from_secs(5))
///     .build(manager)?;
/// # let _ = pool; Ok(()) }
/// ```
#[must_use = "a builder does nothing until it builds"]
pub struct Builder<M: ManageConnection> {
    pub(super) settings: Settings<M>,
}

impl<M: ManageConnection> Default for Builder<M> {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
        }
    }
}

impl<M: ManageConnection> fmt::Debug for Builder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Builder").field(&self.settings).finish()
    }
}

/// What r2d2 has too, with the same meaning and the same defaults.
impl<M: ManageConnection> Builder<M> {
    /// A builder with the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most connections that exist at once. 10 by default.
    ///
    /// # Panics
    /// If it is 0.
    pub fn max_size(mut self, max_size: u32) -> Self {
        assert!(max_size > 0, "max_size must be positive");
        self.settings.max_size = max_size;
        self
    }

    /// How many idle connections are kept ready; `None`, the default, means as many
    /// as `max_size`. They are opened when the pool is built; later, too few open
    /// connections are replaced at once, and too few idle ones after a second at most,
    /// so that a burst does not open more than it needs.
    pub fn min_idle(mut self, min_idle: Option<u32>) -> Self {
        self.settings.min_idle = min_idle;
        self
    }

    /// Accepted for the sake of r2d2's interface and not used: one background thread
    /// serves all pools of the process.
    pub fn thread_pool(self, _: Arc<ScheduledThreadPool>) -> Self {
        self
    }

    /// `true`: every connection is checked before it is leased. `false`: none is.
    /// By default, those that have not been used for
    /// [`validation_bypass`](Self::validation_bypass) are.
    pub fn test_on_check_out(mut self, test_on_check_out: bool) -> Self {
        self.settings.test_on_check_out = Some(test_on_check_out);
        self
    }

    /// How old a connection may grow; 30 minutes by default, `None` for no limit.
    /// Each gets up to a tenth less, so that they do not all end together. A leased
    /// one is closed when it comes back.
    ///
    /// # Panics
    /// If it is zero.
    pub fn max_lifetime(mut self, max_lifetime: Option<Duration>) -> Self {
        assert_ne!(
            max_lifetime,
            Some(Duration::ZERO),
            "max_lifetime must be positive"
        );
        self.settings.max_lifetime = max_lifetime;
        self
    }

    /// How long a connection may stay unused before it is closed; 10 minutes by
    /// default, `None` for no limit. Each gets up to a tenth more. If fewer than
    /// `min_idle` are left, new ones are opened.
    ///
    /// # Panics
    /// If it is zero.
    pub fn idle_timeout(mut self, idle_timeout: Option<Duration>) -> Self {
        assert_ne!(
            idle_timeout,
            Some(Duration::ZERO),
            "idle_timeout must be positive"
        );
        self.settings.idle_timeout = idle_timeout;
        self
    }

    /// How long [`Pool::get`] waits at most; 30 seconds by default.
    ///
    /// # Panics
    /// If it is zero.
    pub fn connection_timeout(mut self, connection_timeout: Duration) -> Self {
        assert!(
            connection_timeout > Duration::ZERO,
            "connection_timeout must be positive"
        );
        self.settings.connection_timeout = connection_timeout;
        self
    }

    /// Is handed the manager's errors that happen in the background. By default they
    /// are logged. Since the handler takes the error, the pool's own errors then
    /// carry a copy of its text as their source.
    pub fn error_handler(mut self, error_handler: Box<dyn HandleError<M::Error>>) -> Self {
        self.settings.error_handler = Some(error_handler);
        self
    }

    /// Is told what happens to connections.
    pub fn event_handler(mut self, event_handler: Box<dyn HandleEvent>) -> Self {
        self.settings.event_handler = Some(event_handler);
        self
    }

    /// Prepares connections after they were established, and takes them when they are
    /// closed; both in the background.
    pub fn connection_customizer(
        mut self,
        customizer: Box<dyn CustomizeConnection<M::Connection, M::Error>>,
    ) -> Self {
        self.settings.customizer = customizer;
        self
    }

    /// Builds the pool and waits until it has opened `min_idle` connections.
    ///
    /// # Errors
    /// If that does not succeed within `connection_timeout`; at once if it cannot
    /// succeed at all, because the password or another setting is wrong.
    ///
    /// # Panics
    /// If `min_idle` is larger than `max_size`.
    pub fn build(self, manager: M) -> Result<Pool<M>, Error> {
        let pool = self.build_unchecked(manager);
        pool.wait_for_initialization()?;
        Ok(pool)
    }

    /// Builds the pool and lets it open its connections in the background.
    ///
    /// # Panics
    /// If `min_idle` is larger than `max_size`.
    pub fn build_unchecked(self, manager: M) -> Pool<M> {
        if let Some(min_idle) = self.settings.min_idle {
            assert!(
                self.settings.max_size >= min_idle,
                "min_idle must be no larger than max_size"
            );
        }
        Pool::assemble(self.settings, manager)
    }
}

/// Beyond r2d2.
impl<M: ManageConnection> Builder<M> {
    /// Takes `POOL_MAX_CONNECTIONS` (10), `POOL_MIN_CONNECTIONS` (2),
    /// `POOL_CONNECTION_TIMEOUT` (30.0), `POOL_IDLE_TIMEOUT` (300.0),
    /// `POOL_RETRY_ATTEMPTS` (3), `POOL_RETRY_DELAY` (1.0), `POOL_HEALTH_CHECK_INTERVAL` (60.0;
    /// for keepalive too), `POOL_BREAKER_FAILURES` (10; 0 for no circuit breaker),
    /// `POOL_BREAKER_RATE` (0.5), `POOL_BREAKER_SLOW_TIME` (none; calls that take longer count
    /// for another such share), `POOL_ADAPTIVE_LIMIT` (true), `POOL_READ_ONLY` (false),
    /// `PERFORMANCE_METRICS_ENABLED` (true),
    /// `PERFORMANCE_RESPONSE_TIME_WINDOW` and `PERFORMANCE_ERROR_RATE_WINDOW` (1000) from the
    /// environment, times in seconds; in brackets the defaults.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration), naming every variable that
    /// cannot be understood.
    pub fn from_env() -> Result<Self, Error> {
        Vars::process().read(Self::from_vars)
    }

    pub(crate) fn from_vars(vars: &mut Vars<'_>) -> Self {
        let seconds = Duration::from_secs;
        let accepted = format!("a number from 1 to {MOST_CONNECTIONS}");
        let mut max_size = vars
            .parse::<u32>("POOL_MAX_CONNECTIONS", &accepted)
            .unwrap_or(10);
        if !(1..=MOST_CONNECTIONS).contains(&max_size) {
            vars.mistake("POOL_MAX_CONNECTIONS", &max_size.to_string(), &accepted);
            max_size = 10;
        }
        let named = vars.parse::<u32>("POOL_MIN_CONNECTIONS", "a number from 0");
        if let Some(min_idle) = named.filter(|min_idle| *min_idle > max_size) {
            let accepted = format!("at most POOL_MAX_CONNECTIONS, which is {max_size}");
            vars.mistake("POOL_MIN_CONNECTIONS", &min_idle.to_string(), &accepted);
        }
        let timeout = vars
            .seconds("POOL_CONNECTION_TIMEOUT")
            .unwrap_or(seconds(30));
        let idle = vars.seconds("POOL_IDLE_TIMEOUT").unwrap_or(seconds(300));
        let attempts = vars.parse("POOL_RETRY_ATTEMPTS", "a whole number");
        let retry = vars.seconds("POOL_RETRY_DELAY").unwrap_or(seconds(1));
        let check = vars
            .seconds("POOL_HEALTH_CHECK_INTERVAL")
            .unwrap_or(seconds(60));
        let adaptive = vars.flag("POOL_ADAPTIVE_LIMIT");
        let read_only = vars.flag("POOL_READ_ONLY");
        let metrics = vars.flag("PERFORMANCE_METRICS_ENABLED");
        let times = vars.window("PERFORMANCE_RESPONSE_TIME_WINDOW");
        let errors = vars.window("PERFORMANCE_ERROR_RATE_WINDOW");
        Self::new()
            .max_size(max_size)
            .min_idle(Some(named.unwrap_or(2).min(max_size)))
            .connection_timeout(timeout)
            .idle_timeout(Some(idle))
            .retry_attempts(attempts.unwrap_or(3))
            .retry_delay(retry)
            .keepalive_interval(Some(check))
            .health_check_interval(Some(check))
            .adaptive(adaptive.unwrap_or(true))
            .read_only(read_only.unwrap_or(false))
            .metrics(metrics.unwrap_or(true))
            .response_time_window(times.unwrap_or(1000))
            .error_rate_window(errors.unwrap_or(1000))
            .breaker_from_vars(vars)
    }

    /// The pool's name in messages, logs and metrics; the backend's name by default.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// A connection that was used, or passed a check, within this time is leased
    /// without a check; half a second by default. After one connection turned out
    /// dead, all that were idle since before are checked anyway.
    pub fn validation_bypass(mut self, bypass: Duration) -> Self {
        self.settings.validation_bypass = bypass;
        self
    }

    /// A check that took longer than this counts as failed; 3 seconds by default. What
    /// ends a check that hangs is the manager's own timeout (`check_timeout` of the four
    /// backends); until then the caller waits for another connection or its deadline.
    pub fn validation_timeout(mut self, timeout: Duration) -> Self {
        self.settings.validation_timeout = timeout;
        self
    }

    /// Idle connections are pinged in the background when they have been silent for
    /// this long; a minute by default, `None` for never.
    ///
    /// # Panics
    /// If it is zero.
    pub fn keepalive_interval(mut self, interval: Option<Duration>) -> Self {
        assert_ne!(
            interval,
            Some(Duration::ZERO),
            "keepalive_interval must be positive"
        );
        self.settings.keepalive_interval = interval;
        self
    }

    /// The most connections that are being established at once; 4 by default, at
    /// least 1.
    pub fn max_connecting(mut self, max_connecting: u32) -> Self {
        self.settings.max_connecting = max_connecting.max(1);
        self
    }

    /// For how long the head of the line may be overtaken by threads that are running
    /// already; 4 milliseconds by default. From half of that on, a connection that comes
    /// back goes to a waiter that is awake, if there is one. Where the line is so long
    /// that waiting takes longer anyway, the bound is half as long again as that.
    ///
    /// Zero is strictly first come, first served, at some cost in throughput.
    pub fn overtaking(mut self, bound: Duration) -> Self {
        self.settings.overtaking = bound;
        self
    }

    /// How many attempts [`Pool::execute`] makes in all at an operation that says nothing
    /// about it; 3 by default, and none counts as one.
    pub fn retry_attempts(mut self, attempts: u32) -> Self {
        self.settings.retry_attempts = attempts;
        self
    }

    /// The longest pause between two attempts at an operation, and between two to
    /// connect (there half a second at most while callers wait); a second by default.
    /// Pauses grow exponentially up to it, with full jitter.
    pub fn retry_delay(mut self, longest: Duration) -> Self {
        self.settings.retry_delay = longest;
        self
    }

    /// What is cleaned when a lease ends; [`Reset::Fast`] by default. Has no effect
    /// with a manager that only knows r2d2's trait.
    pub fn reset(mut self, policy: Reset) -> Self {
        self.settings.reset = policy;
        self
    }

    /// The most callers that may wait at once; the next is refused with
    /// [`Overloaded`](crate::ErrorKind::Overloaded). No limit by default.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// use std::time::Duration;
    /// use millpond::ErrorKind;
    ///
    /// let pool = millpond::Pool::builder().max_size(1).max_waiters(Some(0)).build(manager)?;
    /// let held = pool.get()?;
    /// let error = pool.get_timeout(Duration::from_secs(5)).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Overloaded);
    /// # drop(held);
    /// # Ok(()) }
    /// ```
    pub fn max_waiters(mut self, most: Option<u32>) -> Self {
        self.settings.max_waiters = most;
        self
    }

    /// A lease held for longer is reported in the log, once, with the place and the
    /// thread that took it, and again when it comes back. Off by default.
    ///
    /// # Panics
    /// If it is zero.
    pub fn leak_threshold(mut self, threshold: Option<Duration>) -> Self {
        assert_ne!(
            threshold,
            Some(Duration::ZERO),
            "leak_threshold must be positive"
        );
        self.settings.leak_threshold = threshold;
        self
    }

    /// When every connection is held by threads that wait for another one, and that
    /// has not changed for this grace, the newest waiter gets an error; 100
    /// milliseconds by default, `None` for never. The grace is for leases that were
    /// sent to another thread, which counts as their holder once it uses them.
    pub fn deadlock_detection(mut self, grace: Option<Duration>) -> Self {
        self.settings.deadlock_detection = grace;
        self
    }

    /// Is run in the background on each new connection, after the customizer's
    /// `on_acquire`; an error closes the connection and counts as a failed connect.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// let pool = millpond::Pool::builder()
    ///     .after_connect(|connection: &mut r2d2_sqlite::rusqlite::Connection| {
    ///         connection.execute_batch("PRAGMA foreign_keys = ON")
    ///     })
    ///     .build(manager)?;
    /// let on: bool = pool.get()?.query_row("PRAGMA foreign_keys", [], |row| row.get(0))?;
    /// assert!(on);
    /// # Ok(()) }
    /// ```
    pub fn after_connect(
        mut self,
        hook: impl Fn(&mut M::Connection) -> Result<(), M::Error> + Send + Sync + 'static,
    ) -> Self {
        self.settings.after_connect = Some(Box::new(hook));
        self
    }

    /// Is run on the caller's thread before each lease; an error closes the
    /// connection and is returned to the caller. If it does I/O, the caller's
    /// deadline does not bound it.
    pub fn before_lease(
        mut self,
        hook: impl Fn(&mut M::Connection) -> Result<(), M::Error> + Send + Sync + 'static,
    ) -> Self {
        self.settings.before_lease = Some(Box::new(hook));
        self
    }

    /// Is run on the caller's thread when a lease ends; an error closes the
    /// connection. Should not do I/O.
    pub fn after_return(
        mut self,
        hook: impl Fn(&mut M::Connection) -> Result<(), M::Error> + Send + Sync + 'static,
    ) -> Self {
        self.settings.after_return = Some(Box::new(hook));
        self
    }
}
