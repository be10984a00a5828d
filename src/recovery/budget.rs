//! A budget for retries: when nearly everything fails, trying everything again several times
//! multiplies the load on a server that is in trouble already. So each operation earns a tenth
//! of a retry, and a retry that is not earned is not made. (The token bucket of Finagle's
//! `RetryBudget`.)

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// What a retry costs; an operation earns one.
const RETRY: u32 = 10;
/// The most that can be saved, and what there is at first: retries for a short disturbance.
const MOST: u32 = 100 * RETRY;

/// The retries that a pool's operations have earned.
pub(crate) struct Budget(AtomicU32);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(MOST))
    }
}

impl Budget {
    /// An operation is begun. While the budget is full, which is nearly always, this writes
    /// nothing that others read.
    #[inline]
    pub(crate) fn earn(&self, operations: u32) {
        let saved = self.0.load(Relaxed);
        if saved < MOST {
            // Threads that meet here may save a little more than there may be.
            self.0.fetch_add(operations.min(MOST - saved), Relaxed);
        }
    }

    /// Takes a retry out of the budget; whether there was one.
    pub(crate) fn spend(&self) -> bool {
        let take = |saved: u32| saved.checked_sub(RETRY);
        self.0.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_long_run_a_tenth_is_tried_again() {
        let budget = Budget::default();
        let mut retries = 0;
        for _ in 0..100_000 {
            budget.earn(1);
            // Everything fails, and wants three attempts.
            retries += u32::from(budget.spend()) + u32::from(budget.spend());
        }
        assert!((10_000..=10_100).contains(&retries), "{retries}");
    }

    #[test]
    fn savings_have_a_limit() {
        let budget = Budget::default();
        (0..100_000).for_each(|_| budget.earn(7));
        assert_eq!((0..1000).filter(|_| budget.spend()).count(), 100);
    }
}
