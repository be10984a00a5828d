//! Settings for metrics and health.

use std::time::Duration;

use r2d2::ManageConnection;

use super::Builder;

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
}
