//! Histograms while they are recorded.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::distribution::{BUCKETS, Distribution, Unit, bucket_of};

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
            counts: [const { AtomicU64::new(0) }; BUCKETS],
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

    /// Adds a value `count` times, for the one thread that owns this histogram at the moment:
    /// plain loads and stores.
    #[inline]
    pub(crate) fn record_alone(&self, value: u64, count: u64) {
        let bucket = &self.counts[bucket_of(value)];
        bucket.store(bucket.load(Relaxed).wrapping_add(count), Relaxed);
        let sum = self.sum.load(Relaxed);
        self.sum
            .store(sum.wrapping_add(value.wrapping_mul(count)), Relaxed);
        if value > self.max.load(Relaxed) {
            self.max.store(value, Relaxed);
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
