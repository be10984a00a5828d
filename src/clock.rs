//! The one clock for everything timed.
//!
//! Time is a number of nanoseconds on the system's monotonic clock, so that it fits an
//! atomic. Whatever decides by time takes `now` as a parameter or asks the [`Clock`]
//! it was given; tests hand in one that they move by hand.
//!
//! Reading the exact clock costs 30 to 40 ns on the machines this was measured on (a
//! virtual machine's time-stamp counter), a whole lease and return without it about
//! 30. The hot path therefore reads the *coarse* clock (8 ns): the time of the
//! kernel's last tick, up to 4 ms old, never ahead of the exact one. What is decided by
//! it, freshness and lifetimes, does not need more; a mean of many intervals between
//! coarse stamps is exact, since the errors of both ends cancel out.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds on the monotonic clock.
pub(crate) type Ticks = u64;

/// A moment that never comes.
pub(crate) const NEVER: Ticks = Ticks::MAX;

#[cfg(any(target_os = "linux", target_os = "android"))]
const COARSE: ClockId = ClockId::MonotonicCoarse;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const COARSE: ClockId = ClockId::Monotonic;

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
    /// The time now, exactly.
    #[inline]
    pub(crate) fn now(&self) -> Ticks {
        self.read(ClockId::Monotonic)
    }

    /// The time of the kernel's last tick.
    #[inline]
    pub(crate) fn coarse(&self) -> Ticks {
        self.read(COARSE)
    }

    #[inline]
    fn read(&self, id: ClockId) -> Ticks {
        match self {
            Self::System => {
                let time = clock_gettime(id);
                // Neither part of a monotonic time is negative.
                time.tv_sec
                    .cast_unsigned()
                    .wrapping_mul(1_000_000_000)
                    .wrapping_add(time.tv_nsec.cast_unsigned())
            }
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
