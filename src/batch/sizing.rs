//! How large a group may be, learned from how long groups took.
//!
//! A full group that took much less than the target lets the next be twice as large; one
//! that took longer lets it shrink in proportion, so that the size settles where a group
//! takes about as long as it may. What is sent singly to see whether a server is well again says
//! nothing about groups.

use crate::clock::Ticks;

pub(super) struct Sizing {
    most: usize,
    limit: usize,
    target: Ticks,
}

/// A group of this size took this long.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) executed: usize,
    pub(super) took: Ticks,
    /// It was as large as it could be.
    pub(super) full: bool,
}

impl Sizing {
    /// Begins with `first` and never exceeds `most`.
    pub(super) fn new(first: usize, most: usize, target: Ticks) -> Self {
        Self {
            most,
            limit: first.clamp(1, most),
            target: target.max(1),
        }
    }

    /// The most operations for the next group.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// A group has been executed.
    pub(super) fn learn(&mut self, sample: Sample) {
        let Sample {
            executed,
            took,
            full,
        } = sample;
        if executed == 0 {
            return;
        }
        if took > self.target {
            let fitting = executed as u128 * u128::from(self.target) / u128::from(took);
            // A single slow group, such as one during a checkpoint, halves it at most.
            self.limit = (fitting as usize).max(self.limit / 2).clamp(1, self.most);
        } else if full && took < self.target / 2 {
            self.limit = (self.limit * 2).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(executed: usize, took: Ticks, full: bool) -> Sample {
        Sample {
            executed,
            took,
            full,
        }
    }

    #[test]
    fn settles_where_a_group_takes_as_long_as_it_may() {
        let cost = 100;
        let mut sizing = Sizing::new(1, 1000, 10_000);
        for _ in 0..20 {
            let size = sizing.limit();
            sizing.learn(sample(size, size as Ticks * cost, true));
        }
        assert!((51..=100).contains(&sizing.limit()), "{}", sizing.limit());
        // Ten times slower: smaller within a few groups.
        for _ in 0..5 {
            let size = sizing.limit();
            sizing.learn(sample(size, size as Ticks * cost * 10, true));
        }
        assert!((5..=10).contains(&sizing.limit()), "{}", sizing.limit());
    }

    #[test]
    fn never_below_one_nor_above_the_most() {
        let mut sizing = Sizing::new(500, 100, 10);
        assert_eq!(sizing.limit(), 100);
        for _ in 0..20 {
            sizing.learn(sample(sizing.limit(), 1_000_000, true));
        }
        assert_eq!(sizing.limit(), 1);
        for _ in 0..20 {
            sizing.learn(sample(sizing.limit(), 0, true));
        }
        assert_eq!(sizing.limit(), 100);
    }

    #[test]
    fn groups_that_were_not_full_prove_nothing_about_larger_ones() {
        let mut sizing = Sizing::new(8, 100, 1000);
        sizing.learn(sample(3, 1, false));
        assert_eq!(sizing.limit(), 8);
    }
}
