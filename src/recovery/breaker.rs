//! When a circuit breaker opens, and how it closes: the settings.

use std::time::Duration;

/// When the circuit breaker of a pool opens, and how it closes again.
///
/// While a server keeps failing, each operation that is sent to it costs time and threads, and
/// what is sent when it comes back knocks it down again. So
/// [`Pool::execute`](crate::Pool::execute) and batches go through a *circuit breaker*. It
/// counts failures that are the server's: it cannot be reached, connections are lost, it does
/// not answer by the deadline, it says that it is overloaded. A refused operation (a
/// constraint, a syntax error) shows that the server works; a pool that is exhausted says
/// nothing about it; a login that is refused is not tried again anyway.
///
/// * *Closed*: everything goes through.
/// * *Open*, after too many failures: `execute` fails at once, with the kind of the error that
///   opened it; operations of a batch stay in the queue, until their deadlines or until the pool is
///   closed. After a time that doubles with each fruitless try, or at once when a server that could
///   not be reached passes a check again, it is
/// * *half-open*: a few operations go through. Enough successes close it, one failure opens it
///   again.
///
/// Leases are not stopped: whoever calls [`Pool::get`](crate::Pool::get) waits for its
/// connection until the timeout, as ever. The attempts to connect are paced by themselves.
///
/// By default it opens after 10 failures in a row, or when half of at least 50 calls within 10
/// seconds fail, and in both cases only after a second of it: a server that restarts within
/// that is left to the retries. It is open for half a second at first and for 10 seconds at
/// most, lets three probes through at a time, and closes after two that succeed. Slow calls do
/// not count unless [`slow`](Self::slow) says what is slow.
///
/// ```
/// use std::time::Duration;
/// use millpond::{Breaker, Pool};
/// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
///
/// let breaker = Breaker::new()
///     .failures(5)
///     .rate(0.3, 100)
///     .open_for(Duration::from_secs(1), Duration::from_secs(30));
/// let pool = Pool::builder().breaker(breaker).build(manager)?;
/// assert_eq!(pool.metrics().breaker, millpond::BreakerState::Closed);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a breaker does nothing before a pool has it"]
pub struct Breaker {
    pub(super) failures: u32,
    pub(super) rate: f64,
    pub(super) requests: u64,
    pub(super) window: Duration,
    pub(super) slow: Option<(Duration, f64)>,
    pub(super) lasting: Duration,
    pub(super) probes: u32,
    pub(super) successes: u32,
    pub(super) first_pause: Duration,
    pub(super) longest_pause: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 10,
            rate: 0.5,
            requests: 50,
            window: Duration::from_secs(10),
            slow: None,
            lasting: Duration::from_secs(1),
            probes: 3,
            successes: 2,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(10),
        }
    }
}

impl Breaker {
    /// The default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens after so many failures in a row; 10 by default, 0 for never because of that.
    /// Failed attempts to connect count too.
    pub fn failures(mut self, in_a_row: u32) -> Self {
        self.failures = in_a_row;
        self
    }

    /// Opens when this share of the calls, from 0 to 1, fails, of at least so many within the
    /// [`window`](Self::window); 0.5 of 50 by default, a share above 1 for never because of
    /// that. Calls are attempts at operations, groups of a batch, and leases.
    pub fn rate(mut self, share: f64, calls: u32) -> Self {
        self.rate = share;
        self.requests = calls.max(1).into();
        self
    }

    /// Over what time shares are counted, since the first failure in it; 10 seconds by default.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Opens also when this share of the calls, from 0 to 1, takes longer than `threshold`,
    /// of as many calls as for [`rate`](Self::rate). Off by default.
    pub fn slow(mut self, threshold: Duration, share: f64) -> Self {
        self.slow = Some((threshold, share));
        self
    }

    /// Opens only once there have been failures for so long; a second by default.
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasting = time;
        self
    }

    /// How many operations, or groups of a batch of one operation each, are let through at a
    /// time while it is half-open; 3 by default, at least 1.
    pub fn probes(mut self, at_once: u32) -> Self {
        self.probes = at_once.max(1);
        self
    }

    /// Closes after so many of them have succeeded; 2 by default, at least 1.
    pub fn successes(mut self, count: u32) -> Self {
        self.successes = count.max(1);
        self
    }

    /// How long it is open at first, and how long at most: the time doubles with each fruitless
    /// try; half a second and 10 seconds by default. Half of it is certain, half is drawn, so
    /// that many programs do not come back at once. A server that asks for a longer pause
    /// (`Retry-After`) gets it, up to the most.
    pub fn open_for(mut self, first: Duration, longest: Duration) -> Self {
        self.first_pause = first;
        self.longest_pause = longest.max(first);
        self
    }
}
