//! A pool's settings, with their defaults. [`Builder`](super::Builder) fills them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use r2d2::{CustomizeConnection, HandleError, ManageConnection, NopConnectionCustomizer};

use super::{Reset, Tally};
use crate::event::HandleEvent;
use crate::recovery::{Breaker, RetryPolicy};

/// A hook on a connection; an error discards the connection.
pub(super) type Hook<M> = Box<
    dyn Fn(&mut <M as ManageConnection>::Connection) -> Result<(), <M as ManageConnection>::Error>
        + Send
        + Sync,
>;

#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own"
)]
pub(super) struct Settings<M: ManageConnection> {
    pub(super) name: Option<Arc<str>>,
    pub(super) max_size: u32,
    pub(super) min_idle: Option<u32>,
    pub(super) test_on_check_out: Option<bool>,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) connection_timeout: Duration,
    pub(super) validation_bypass: Duration,
    pub(super) validation_timeout: Duration,
    pub(super) keepalive_interval: Option<Duration>,
    pub(super) health_check_interval: Option<Duration>,
    pub(super) read_only: bool,
    /// Where callers are counted, if a fleet wants to know at a glance how many there are.
    pub(super) tally: Option<Arc<Tally>>,
    pub(super) metrics: bool,
    pub(super) response_time_window: u32,
    pub(super) error_rate_window: u32,
    pub(super) max_connecting: u32,
    pub(super) overtaking: Duration,
    pub(super) retry_attempts: u32,
    pub(super) retry_delay: Duration,
    /// Whether there are fewer connections while the server is overloaded.
    pub(super) adaptive: bool,
    /// `None`: never.
    pub(super) breaker: Option<Breaker>,
    pub(super) reset: Reset,
    pub(super) max_waiters: Option<u32>,
    pub(super) leak_threshold: Option<Duration>,
    pub(super) deadlock_detection: Option<Duration>,
    /// `None`: they are logged, and our errors carry them as their source.
    pub(super) error_handler: Option<Box<dyn HandleError<M::Error>>>,
    pub(super) event_handler: Option<Box<dyn HandleEvent>>,
    pub(super) customizer: Box<dyn CustomizeConnection<M::Connection, M::Error>>,
    pub(super) after_connect: Option<Hook<M>>,
    pub(super) before_lease: Option<Hook<M>>,
    pub(super) after_return: Option<Hook<M>>,
}

impl<M: ManageConnection> Default for Settings<M> {
    fn default() -> Self {
        Self {
            name: None,
            max_size: 10,
            min_idle: None,
            test_on_check_out: None,
            max_lifetime: Some(Duration::from_secs(30 * 60)),
            idle_timeout: Some(Duration::from_secs(10 * 60)),
            connection_timeout: Duration::from_secs(30),
            validation_bypass: Duration::from_millis(500),
            validation_timeout: Duration::from_secs(3),
            keepalive_interval: Some(Duration::from_secs(60)),
            health_check_interval: Some(Duration::from_secs(60)),
            read_only: false,
            tally: None,
            metrics: true,
            response_time_window: 1000,
            error_rate_window: 1000,
            max_connecting: 4,
            overtaking: Duration::from_millis(4),
            retry_attempts: 3,
            retry_delay: Duration::from_secs(1),
            adaptive: true,
            breaker: Some(Breaker::new()),
            reset: Reset::Fast,
            max_waiters: None,
            leak_threshold: None,
            deadlock_detection: Some(Duration::from_millis(100)),
            error_handler: None,
            event_handler: None,
            customizer: Box::new(NopConnectionCustomizer),
            after_connect: None,
            before_lease: None,
            after_return: None,
        }
    }
}

impl<M: ManageConnection> Settings<M> {
    /// The connections that are kept ready; like r2d2, as many as there may be,
    /// unless told otherwise.
    pub(super) fn min_idle(&self) -> u32 {
        self.min_idle.unwrap_or(self.max_size)
    }

    /// How often and when operations are tried again that say nothing about it.
    pub(super) fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy::new(self.retry_attempts).longest_pause(self.retry_delay)
    }

    /// How long a connection may have been idle and yet be handed out unchecked.
    pub(super) fn bypass(&self) -> Duration {
        match self.test_on_check_out {
            None => self.validation_bypass,
            Some(true) => Duration::ZERO,
            Some(false) => Duration::MAX,
        }
    }
}

impl<M: ManageConnection> fmt::Debug for Settings<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("max_size", &self.max_size)
            .field("min_idle", &self.min_idle)
            .field("test_on_check_out", &self.test_on_check_out)
            .field("max_lifetime", &self.max_lifetime)
            .field("idle_timeout", &self.idle_timeout)
            .field("connection_timeout", &self.connection_timeout)
            .field("validation_bypass", &self.validation_bypass)
            .field("validation_timeout", &self.validation_timeout)
            .field("keepalive_interval", &self.keepalive_interval)
            .field("health_check_interval", &self.health_check_interval)
            .field("read_only", &self.read_only)
            .field("metrics", &self.metrics)
            .field("response_time_window", &self.response_time_window)
            .field("error_rate_window", &self.error_rate_window)
            .field("max_connecting", &self.max_connecting)
            .field("overtaking", &self.overtaking)
            .field("retry_attempts", &self.retry_attempts)
            .field("retry_delay", &self.retry_delay)
            .field("adaptive", &self.adaptive)
            .field("breaker", &self.breaker)
            .field("reset", &self.reset)
            .field("max_waiters", &self.max_waiters)
            .field("leak_threshold", &self.leak_threshold)
            .field("deadlock_detection", &self.deadlock_detection)
            .field("error_handler", &self.error_handler)
            .field("event_handler", &self.event_handler)
            .field("connection_customizer", &self.customizer)
            .finish_non_exhaustive()
    }
}
