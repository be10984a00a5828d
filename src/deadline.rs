//! The moment by which an operation has to be over.

use std::time::{Duration, Instant};

/// The moment by which something has to be over; perhaps never.
///
/// ```
/// use std::time::Duration;
/// use millpond::Deadline;
///
/// let soon = Deadline::within(Duration::from_millis(50));
/// assert!(soon.remaining().is_some_and(|left| left <= Duration::from_millis(50)));
/// assert!(Deadline::NEVER.remaining().is_none());
/// assert!(soon < Deadline::NEVER);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// There is none.
    pub const NEVER: Self = Self(None);

    /// This long from now; never, where that is too far away for the clock.
    pub fn within(limit: Duration) -> Self {
        Self(Instant::now().checked_add(limit))
    }

    /// At this moment.
    pub fn at(moment: Instant) -> Self {
        Self(Some(moment))
    }

    /// The moment, if there is one.
    pub fn moment(self) -> Option<Instant> {
        self.0
    }

    /// The time that is left: zero once it is over, `None` if there is no end.
    pub fn remaining(self) -> Option<Duration> {
        self.0
            .map(|moment| moment.saturating_duration_since(Instant::now()))
    }

    /// The time that is left, but at most `limit`.
    pub fn remaining_within(self, limit: Duration) -> Duration {
        self.remaining().map_or(limit, |left| left.min(limit))
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        self.remaining().is_some_and(|left| left.is_zero())
    }
}

/// This long from now; where that is too far away for the clock, some thirty years.
pub(crate) fn moment_in(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit)
        .unwrap_or_else(|| now + Duration::from_secs(1_000_000_000))
}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Deadline {
    /// The earlier one is less; [`NEVER`](Self::NEVER) is the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self.0, other.0) {
            (Some(ours), Some(theirs)) => ours.cmp(&theirs),
            (ours, theirs) => ours.is_none().cmp(&theirs.is_none()),
        }
    }
}

impl From<Option<Duration>> for Deadline {
    /// This long from now, if any.
    fn from(limit: Option<Duration>) -> Self {
        limit.map_or(Self::NEVER, Self::within)
    }
}
