//! Histograms while they are recorded.

use std::sync::atomic::Ordering::Relaxed;

use super::distribution::{BUCKETS, Distribution, STEP, Unit, bucket_of, bucket_of_steps};
use crate::sync::AtomicU64;

/// Buckets, sum and largest value. Either one thread at a time records with
/// [`record_alone`](Self::record_alone), or any number with [`record`](Self::record).
pub(crate) struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Adds a value; from any thread.
    pub(crate) fn record(&self, value: u64) {
        self.counts[bucket_of(value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
        if value > self.max.load(Relaxed) {
            self.max.fetch_max(value, Relaxed);
        }
    }

    /// Adds a value, for the one thread that owns this histogram at the moment: plain loads and
    /// stores.
    pub(crate) fn record_alone(&self, value: u64) {
        self.count_alone(bucket_of(value));
        self.add_alone(value, value);
    }

    /// Adds values of between `steps` and `steps + 1` [steps](STEP) each, in the same way.
    pub(crate) fn record_steps_alone(&self, all: impl Iterator<Item = u32>) {
        let (mut sum, mut max) = (0_u64, 0);
        for steps in all {
            self.count_alone(bucket_of_steps(steps));
            let value = u64::from(steps) * STEP + STEP / 2;
            sum += value;
            max = max.max(value);
        }
        self.add_alone(sum, max);
    }

    #[inline]
    fn count_alone(&self, bucket: usize) {
        let count = &self.counts[bucket];
        count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
    }

    fn add_alone(&self, sum: u64, max: u64) {
        let all = self.sum.load(Relaxed);
        self.sum.store(all.wrapping_add(sum), Relaxed);
        if max > self.max.load(Relaxed) {
            self.max.store(max, Relaxed);
        }
    }

    /// Adds what is recorded here to a distribution.
    pub(crate) fn read_into(&self, all: &mut Distribution) {
        for (count, more) in all.counts.iter_mut().zip(&self.counts) {
            *count += more.load(Relaxed);
        }
        all.sum = all.sum.wrapping_add(self.sum.load(Relaxed));
        all.max = all.max.max(self.max.load(Relaxed));
    }

    /// What is recorded here.
    pub(crate) fn read(&self, unit: Unit) -> Distribution {
        let mut all = Distribution::new(unit);
        self.read_into(&mut all);
        all
    }
}
