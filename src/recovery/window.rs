//! How many of the calls of the last seconds failed or were slow.
//!
//! Failures are noted here as they happen; how many calls there were is counted elsewhere
//! anyway, as a number that only grows, and read off when something fails. So a call that
//! succeeds costs nothing. What is counted begins with the first failure in the window: calls
//! before it say nothing about the time since.

use crate::clock::{Ticks, ticks};

const SLICES: usize = 10;

#[derive(Clone, Copy, Default)]
struct Slice {
    /// Which slice of all time it is.
    number: u64,
    /// When the first entry was made, and how many calls there had been.
    since: Ticks,
    calls_before: u64,
    failed: u64,
    slow: u64,
    /// Of those that failed: such as no call counts, since they never had a connection.
    besides: u64,
}

/// The last seconds.
pub(super) struct Window {
    slice: Ticks,
    slices: [Slice; SLICES],
}

/// What to note.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Failed,
    /// Failed without having been counted as a call.
    FailedBesides,
    Slow,
}

/// What there was in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) slow: u64,
    /// When the first of them failed or was slow.
    pub(super) since: Ticks,
}

impl Window {
    pub(super) fn new(length: std::time::Duration) -> Self {
        Self {
            slice: (ticks(length) / SLICES as u64).max(1),
            slices: [Slice::default(); SLICES],
        }
    }

    pub(super) fn clear(&mut self) {
        self.slices = [Slice::default(); SLICES];
    }

    /// Notes one that failed or was slow, when there have been so many calls in all, itself
    /// perhaps not yet among them; gives what there was in the window.
    pub(super) fn note(&mut self, entry: Entry, now: Ticks, calls: u64) -> Sums {
        let number = now / self.slice;
        let slice = &mut self.slices[number as usize % SLICES];
        if slice.number != number || slice.since == 0 {
            *slice = Slice {
                number,
                since: now.max(1),
                calls_before: calls,
                ..Slice::default()
            };
        }
        match entry {
            Entry::Failed => slice.failed += 1,
            Entry::FailedBesides => {
                slice.failed += 1;
                slice.besides += 1;
            }
            Entry::Slow => slice.slow += 1,
        }
        let oldest = number.saturating_sub(SLICES as u64 - 1);
        let within = |slice: &&Slice| slice.since > 0 && slice.number >= oldest;
        let mut sums = Sums {
            since: now,
            ..Sums::default()
        };
        let (mut before, mut besides) = (calls, 0);
        for slice in self.slices.iter().filter(within) {
            sums.failed += slice.failed;
            sums.slow += slice.slow;
            sums.since = sums.since.min(slice.since);
            before = before.min(slice.calls_before);
            besides += slice.besides;
        }
        // The one that is noted is not over, so that it is not counted yet.
        sums.calls = (calls - before + besides + 1).max(sums.failed.max(sums.slow));
        sums
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Ticks = 1_000_000_000;

    #[test]
    fn counts_what_was_within() {
        let mut window = Window::new(Duration::from_secs(10));
        // A hundred calls a second, of which ten fail.
        let mut last = Sums::default();
        for call in 0..3000_u64 {
            if call % 10 == 0 {
                last = window.note(Entry::Failed, call * SECOND / 100, call);
            }
        }
        assert!((900..=1000).contains(&last.calls), "{last:?}");
        assert!((90..=100).contains(&last.failed), "{last:?}");
    }

    #[test]
    fn what_was_before_the_first_failure_does_not_count() {
        let mut window = Window::new(Duration::from_secs(10));
        let sums = window.note(Entry::Slow, 100 * SECOND, 1_000_000);
        assert_eq!((sums.calls, sums.failed, sums.slow), (1, 0, 1));
        let sums = window.note(Entry::FailedBesides, 101 * SECOND, 1_000_000);
        assert_eq!((sums.calls, sums.failed, sums.since), (2, 1, 100 * SECOND));
        let sums = window.note(Entry::Failed, 200 * SECOND, 2_000_000);
        assert_eq!((sums.calls, sums.failed), (1, 1));
    }
}
