//! The slow side's account: which slots are free, how connecting goes, what care
//! is waiting. Under one lock that no lease of an idle connection ever takes.

use std::collections::VecDeque;
use std::time::Duration;

use r2d2::ManageConnection;

use super::counters::CloseReason;
use super::entry::Entry;
use super::limit::Limit;
use crate::clock::{NEVER, Ticks, after};
use crate::error::{Error, ErrorKind};

/// The first pause after a failed connect; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// The longest pause while callers wait, so that traffic is back within a second of
/// the server's return.
const PAUSE_WITH_WAITERS: Duration = Duration::from_millis(500);
/// The first pause after a failure that cannot heal by itself; it doubles with each.
/// Until it is over, callers get the same error at once.
const FIRST_PAUSE_WHEN_HOPELESS: Duration = Duration::from_secs(1);
/// The longest pause after such a failure: soon enough to notice that somebody has
/// mended it.
const PAUSE_WHEN_HOPELESS: Duration = Duration::from_secs(2);
/// The same for a login that is refused: too seldom to lock an account.
const PAUSE_WHEN_REFUSED: Duration = Duration::from_secs(30);
/// With a password from a file, which is looked at meanwhile, that is the pause already after so
/// many refusals.
const REFUSALS: u32 = 3;

/// Care for one connection, which may block.
pub(super) enum Care<M: ManageConnection> {
    /// A caller wants it, and it has been idle for long.
    Validate(Box<Entry<M>>),
    /// Nobody wants it; keep it alive.
    Ping(Box<Entry<M>>),
    /// Ask the server how it is.
    Examine(Box<Entry<M>>),
    Reset(Box<Entry<M>>),
    Close(Box<Entry<M>>, CloseReason),
}

pub(super) struct Ledger<M: ManageConnection> {
    /// Slots that nobody has reserved.
    pub(super) vacant: Vec<u32>,
    /// Slots that somebody has.
    pub(super) reserved: u32,
    pub(super) max_size: u32,
    /// What the server bears, while it is overloaded.
    pub(super) limit: Limit,
    pub(super) min_idle: u32,
    pub(super) connecting: u32,
    /// How long a connect takes: a moving average, once there was one.
    pub(super) connect_time: Option<Duration>,
    pub(super) failures: u32,
    /// The last failure cannot heal by itself.
    pub(super) hopeless: bool,
    pub(super) last_error: Option<Error>,
    pub(super) retry_at: Ticks,
    pub(super) background_retry_at: Ticks,
    /// When to look again whether credentials have changed that were refused.
    pub(super) credentials_at: Ticks,
    /// Since when somebody has been waiting without a break, as seen by `stir`.
    pub(super) queue_since: Ticks,
    /// Since when the idle connections are too few.
    pub(super) short_since: Ticks,
    /// Care that waits for a lane.
    pub(super) backlog: VecDeque<Care<M>>,
    pub(super) lanes_in_use: u32,
}

impl<M: ManageConnection> Ledger<M> {
    pub(super) fn new(max_size: u32, min_idle: u32) -> Self {
        Self {
            vacant: (0..max_size).rev().collect(),
            reserved: 0,
            max_size,
            limit: Limit::default(),
            min_idle,
            connecting: 0,
            connect_time: None,
            failures: 0,
            hopeless: false,
            last_error: None,
            retry_at: 0,
            background_retry_at: 0,
            credentials_at: 0,
            queue_since: NEVER,
            short_since: NEVER,
            backlog: VecDeque::new(),
            lanes_in_use: 0,
        }
    }

    /// The most connections that there may be now.
    pub(super) fn most(&self) -> u32 {
        self.max_size.min(self.limit.most())
    }

    /// A connect succeeded after this long.
    pub(super) fn note_success(&mut self, took: Duration) {
        self.connect_time = Some(match self.connect_time {
            None => took,
            Some(mean) => (mean * 3 + took) / 4,
        });
        self.forget_failures();
    }

    /// The next attempt to connect need not wait.
    pub(super) fn forget_failures(&mut self) {
        self.failures = 0;
        self.hopeless = false;
        self.last_error = None;
        self.retry_at = 0;
        self.background_retry_at = 0;
    }

    /// A connect failed. If it can heal by itself: pause with full jitter (Brooker,
    /// "Exponential Backoff And Jitter", 2015), up to `longest`. `watched`: somebody looks whether
    /// the password changes that was refused.
    pub(super) fn note_failure(
        &mut self,
        error: Error,
        now: Ticks,
        longest: Duration,
        watched: bool,
    ) {
        let kind = error.kind();
        let factor = 1_u32 << self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        self.hopeless = !kind.connect_may_heal();
        self.last_error = Some(error);
        if self.hopeless {
            let longest = match kind {
                ErrorKind::Authentication | ErrorKind::Permission => PAUSE_WHEN_REFUSED,
                _ => PAUSE_WHEN_HOPELESS,
            };
            let ceiling = if watched && self.failures >= REFUSALS {
                longest
            } else {
                let doubled = FIRST_PAUSE_WHEN_HOPELESS.saturating_mul(factor);
                doubled.min(longest)
            };
            // Half of it for certain: full jitter can draw next to nothing.
            let pause = ceiling.mul_f64(0.5 + 0.5 * fastrand::f64());
            self.retry_at = after(now, pause);
            self.background_retry_at = self.retry_at;
        } else {
            let longest = longest.max(FIRST_PAUSE);
            let ceiling = FIRST_PAUSE.saturating_mul(factor).min(longest);
            // A server that has too many clients is given a certain pause.
            let certain = if kind == ErrorKind::Overloaded {
                0.5
            } else {
                0.0
            };
            let draw =
                |ceiling: Duration| ceiling.mul_f64(certain + (1.0 - certain) * fastrand::f64());
            self.retry_at = after(now, draw(ceiling.min(PAUSE_WITH_WAITERS)));
            self.background_retry_at = after(now, draw(ceiling));
        }
    }

    /// The failure to give to callers at once, instead of having them wait for an
    /// attempt that cannot succeed.
    pub(super) fn verdict(&self, now: Ticks) -> Option<&Error> {
        let waits = self.hopeless && now < self.retry_at;
        self.last_error.as_ref().filter(|_| waits)
    }
}
