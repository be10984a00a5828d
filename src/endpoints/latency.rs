//! How long an endpoint's operations take, as a moving average that follows a peak at once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Ticks;

/// How long until a peak counts for a third. (Finagle's default.)
const DECAY: f64 = 10e9;

/// Finagle's peak EWMA: what is above the average takes its place; what is below moves it, the
/// more the longer the last one is ago; and it shrinks while nothing is heard, so that an
/// endpoint that was slow is tried again. Threads that meet here may lose one of their values.
#[derive(Default)]
pub(super) struct Latency {
    /// Nanoseconds, as the bits of an `f64`; 0 until there is one.
    cost: AtomicU64,
    at: AtomicU64,
}

fn weight(passed: Ticks) -> f64 {
    (-(passed as f64) / DECAY).exp()
}

impl Latency {
    /// An operation that ended now took so long.
    pub(super) fn observe(&self, took: Ticks, now: Ticks) {
        let before = self.at.swap(now, Relaxed);
        let cost = f64::from_bits(self.cost.load(Relaxed));
        let took = took as f64;
        let cost = if took > cost {
            took
        } else {
            let weight = weight(now.saturating_sub(before));
            cost * weight + took * (1.0 - weight)
        };
        self.cost.store(cost.to_bits(), Relaxed);
    }

    /// The average by now.
    pub(super) fn read(&self, now: Ticks) -> Option<Duration> {
        let cost = f64::from_bits(self.cost.load(Relaxed));
        if cost <= 0.0 {
            return None;
        }
        let passed = now.saturating_sub(self.at.load(Relaxed));
        Duration::try_from_secs_f64(cost * weight(passed) / 1e9).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Ticks = 1_000_000_000;

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let latency = Latency::default();
        assert_eq!(latency.read(0), None);
        for second in 1..20 {
            latency.observe(1000, second * SECOND);
        }
        assert_eq!(latency.read(19 * SECOND), Some(Duration::from_micros(1)));
        latency.observe(50_000, 20 * SECOND);
        assert_eq!(latency.read(20 * SECOND), Some(Duration::from_micros(50)));
        latency.observe(1000, 21 * SECOND);
        let soon = latency.read(21 * SECOND).expect("known").as_nanos();
        assert!((40_000..50_000).contains(&soon), "{soon}");
        // Nothing heard: it deserves another try.
        let later = latency.read(81 * SECOND).expect("known").as_nanos();
        assert!(later < 500, "{later}");
    }
}
