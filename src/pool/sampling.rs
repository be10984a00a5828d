//! Which leases of a connection are timed exactly, for the distribution of hold times.
//!
//! The exact clock costs as much as a whole lease and return. So all leases are timed as long
//! as they come at intervals that make this cost nothing, as leases that talk to a server
//! do; when they come faster, every twenty-ninth is: a number that divides no usual pattern, so
//! that the sample is fair.

use crate::clock::Ticks;

/// Leases at shorter intervals are sampled, in nanoseconds.
const SHORT: Ticks = 2_000;
/// Then each so many.
const STRIDE: u32 = 29;

/// Where a connection stands in its sample.
pub(super) struct Sampling {
    /// Leases to leave out before the next that is timed; never, when metrics are off.
    left: Option<u32>,
    stride: u32,
    /// When the last timed lease ended.
    ended: Ticks,
    /// The lease under way is timed.
    timed: bool,
}

impl Sampling {
    pub(super) fn new(on: bool) -> Self {
        Self {
            left: on.then_some(0),
            stride: 1,
            ended: 0,
            timed: false,
        }
    }

    /// A lease begins; whether it is timed exactly.
    #[inline]
    pub(super) fn begin(&mut self) -> bool {
        self.timed = match &mut self.left {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        };
        self.timed
    }

    /// Whether the lease under way is timed exactly.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.timed
    }

    /// A timed lease ended now.
    pub(super) fn end(&mut self, now: Ticks) {
        let interval = now.saturating_sub(self.ended) / u64::from(self.stride);
        self.ended = now;
        self.stride = if interval < SHORT { STRIDE } else { 1 };
        self.left = Some(self.stride - 1);
        self.timed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_leases_are_all_timed_and_few_of_the_fast_ones() {
        let mut sampling = Sampling::new(true);
        let mut run = |from: u64, step: u64, leases: u64| {
            let mut timed = 0;
            for number in 0..leases {
                if sampling.begin() {
                    timed += 1;
                    sampling.end(from + number * step);
                }
            }
            timed
        };
        assert_eq!(run(10_000, 10_000, 100), 100);
        assert!((10..=11).contains(&run(2_000_000, 100, 290)));
        // One stride later it is noticed that they are slow again.
        assert!(run(3_000_000, 10_000, 100) >= 71);
        assert!(!Sampling::new(false).begin());
    }
}
