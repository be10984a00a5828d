//! How often and when an operation is tried again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;
use crate::error::{Error, ErrorKind};

/// The first pause of the usual policies.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// How often and when an operation is tried again. Whether it is tried again at all
/// depends on the error too: only what was certainly not applied, or may run twice, and can
/// succeed by itself.
///
/// ```
/// use std::time::Duration;
/// use millpond::RetryPolicy;
///
/// let patient = RetryPolicy::new(5).longest_pause(Duration::from_secs(2));
/// assert_eq!(patient.attempts(), 5);
/// assert_eq!(RetryPolicy::never().attempts(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    attempts: u32,
    #[serde(with = "seconds", default = "first_pause")]
    first_pause: Duration,
    #[serde(with = "seconds", default = "longest_pause")]
    longest_pause: Duration,
}

fn first_pause() -> Duration {
    FIRST_PAUSE
}

fn longest_pause() -> Duration {
    Duration::from_secs(1)
}

impl Default for RetryPolicy {
    /// Three attempts.
    fn default() -> Self {
        Self::new(3)
    }
}

impl RetryPolicy {
    /// So many attempts in all, the first one included; pauses of up to 50 milliseconds
    /// at first, up to a second in the end. None counts as one.
    pub fn new(attempts: u32) -> Self {
        Self {
            attempts: attempts.max(1),
            first_pause: first_pause(),
            longest_pause: longest_pause(),
        }
    }

    /// One attempt.
    pub fn never() -> Self {
        Self::new(1)
    }

    /// The most that the first pause can be.
    #[must_use]
    pub fn first_pause(mut self, pause: Duration) -> Self {
        self.first_pause = pause;
        self
    }

    /// The most that any pause can be.
    #[must_use]
    pub fn longest_pause(mut self, pause: Duration) -> Self {
        self.longest_pause = pause;
        self
    }

    /// How many attempts are made in all.
    pub fn attempts(&self) -> u32 {
        self.attempts.max(1)
    }

    /// The pause after this many failed attempts, because of this error.
    pub(crate) fn pause(&self, failed: u32, error: &Error) -> Duration {
        let doublings = failed.saturating_sub(1).min(20);
        let ceiling = self.first_pause.saturating_mul(1 << doublings);
        let ceiling = ceiling.min(self.longest_pause);
        let certain = if error.kind() == ErrorKind::Overloaded {
            0.5
        } else {
            0.0
        };
        let drawn = ceiling.mul_f64(certain + (1.0 - certain) * fastrand::f64());
        error.retry_after().map_or(drawn, |asked| asked.max(drawn))
    }
}

/// Whether an operation may be tried again after this error.
pub(crate) fn may_retry(error: &Error, may_repeat: bool) -> bool {
    let certainly_not_applied = !error.outcome_unknown();
    error.is_retryable()
        && error.kind() != ErrorKind::DeadlineExceeded
        && (certainly_not_applied || may_repeat)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Phase;

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, Phase::Operation, "test")
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let policy = RetryPolicy::new(9).longest_pause(Duration::from_millis(300));
        let lost = error(ErrorKind::ConnectionLost);
        for failed in 1..60 {
            let ceiling =
                Duration::from_millis(50 << (failed - 1).min(10)).min(Duration::from_millis(300));
            assert!(policy.pause(failed, &lost) <= ceiling);
        }
        let busy = error(ErrorKind::Overloaded);
        assert!(policy.pause(9, &busy) >= Duration::from_millis(150));
        let told = busy.with_retry_after(Duration::from_secs(7));
        assert_eq!(policy.pause(1, &told), Duration::from_secs(7));
    }

    #[test]
    fn only_what_is_safe_and_can_succeed_is_tried_again() {
        let lost = || error(ErrorKind::ConnectionLost);
        assert!(may_retry(&lost(), false));
        assert!(!may_retry(&lost().with_outcome_unknown(), false));
        assert!(may_retry(&lost().with_outcome_unknown(), true));
        assert!(may_retry(&error(ErrorKind::Conflict), false));
        assert!(!may_retry(&error(ErrorKind::Constraint), true));
        assert!(!may_retry(&error(ErrorKind::DeadlineExceeded), true));
    }
}
