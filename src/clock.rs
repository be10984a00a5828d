//! The one clock for everything timed.
//!
//! Time is a number of nanoseconds since the process first asked, so that it fits
//! an atomic. Whatever decides by time takes `now` as a parameter or asks the
//! [`Clock`] it was given; tests hand in one that they move by hand.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Nanoseconds since the process first read the clock.
pub(crate) type Ticks = u64;

/// A moment that never comes.
pub(crate) const NEVER: Ticks = Ticks::MAX;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Where the time comes from.
#[derive(Clone, Debug, Default)]
pub(crate) enum Clock {
    /// The system's monotonic clock.
    #[default]
    System,
    /// A clock that a test moves by hand.
    #[cfg(test)]
    Manual(std::sync::Arc<std::sync::atomic::AtomicU64>),
}

impl Clock {
    /// The time now. Costs about 15 ns: take few stamps.
    #[inline]
    pub(crate) fn now(&self) -> Ticks {
        match self {
            Self::System => START.elapsed().as_nanos() as Ticks,
            #[cfg(test)]
            Self::Manual(now) => now.load(std::sync::atomic::Ordering::SeqCst),
        }
    }
}

/// A duration as ticks, without overflow.
pub(crate) fn ticks(duration: Duration) -> Ticks {
    Ticks::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

/// The moment this long after `now`; [`NEVER`] when it is too far away.
pub(crate) fn after(now: Ticks, duration: Duration) -> Ticks {
    now.saturating_add(ticks(duration))
}

/// The time from one moment to a later one; zero when it is not later.
pub(crate) fn between(from: Ticks, to: Ticks) -> Duration {
    Duration::from_nanos(to.saturating_sub(from))
}
