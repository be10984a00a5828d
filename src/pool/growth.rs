//! How many connections to open now: a pure function of what the pool sees.
//!
//! Opening one is worth it when the callers that wait would otherwise wait longer
//! than a connect takes. That is estimated in two ways: by what is known (the
//! queue's length, the mean hold, the connections that serve it), and, since holds
//! can change, by how long the queue has existed: once that is longer than a
//! connect takes, a connect would have paid off, so the estimate was wrong (the
//! ski-rental argument: at worst twice the wait of a clairvoyant pool). So a burst
//! of short operations passes without a new connection, and a lasting load grows the
//! pool.

use std::time::Duration;

/// How long the idle connections may be fewer than `min_idle` before the pool
/// opens more, as long as `min_idle` connections exist at all.
pub(super) const REFILL_DELAY: Duration = Duration::from_secs(1);

/// What the pool sees.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    pub(super) max_size: u32,
    pub(super) max_connecting: u32,
    /// Slots in use: open, connecting or closing.
    pub(super) reserved: u32,
    pub(super) connecting: u32,
    /// Open connections, whoever has them.
    pub(super) open: u32,
    pub(super) idle: u32,
    pub(super) min_idle: u32,
    /// For how long the idle connections have been too few.
    pub(super) short_for: Duration,
    pub(super) waiting: u32,
    /// For how long somebody has been waiting without a break.
    pub(super) queue_age: Duration,
    /// How long a lease lasts, as far as one knows.
    pub(super) hold: Duration,
    /// How long a connect takes.
    pub(super) connect: Duration,
    /// The last attempts to connect failed: one at a time until one succeeds.
    pub(super) failing: bool,
}

impl Demand {
    /// How many connects to start now.
    pub(super) fn wanted(&self) -> u32 {
        let at_once = if self.failing { 1 } else { self.max_connecting };
        let limit = self
            .max_size
            .saturating_sub(self.reserved)
            .min(at_once.saturating_sub(self.connecting));
        let coming = self.open + self.connecting;
        let floor = self.min_idle.min(self.max_size).saturating_sub(coming);
        let refill = if self.short_for >= REFILL_DELAY {
            self.min_idle.saturating_sub(self.idle + self.connecting)
        } else {
            0
        };
        floor.max(refill).max(self.for_waiters()).min(limit)
    }

    fn for_waiters(&self) -> u32 {
        let unserved = self.waiting.saturating_sub(self.connecting);
        if unserved == 0 || self.idle >= self.waiting {
            return 0;
        }
        if self.open == 0 {
            return unserved;
        }
        let drain = self.hold.saturating_mul(unserved) / self.open;
        if drain > self.connect || self.queue_age > self.connect {
            unserved
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn burst() -> Demand {
        Demand {
            max_size: 50,
            max_connecting: 4,
            reserved: 5,
            open: 5,
            min_idle: 5,
            waiting: 45,
            hold: 2 * MS,
            connect: 150 * MS,
            ..Demand::default()
        }
    }

    #[test]
    fn a_burst_of_short_operations_opens_nothing() {
        assert_eq!(burst().wanted(), 0);
    }

    #[test]
    fn a_burst_of_long_ones_does_within_bounds() {
        assert_eq!(
            Demand {
                hold: 200 * MS,
                ..burst()
            }
            .wanted(),
            4
        );
        assert_eq!(
            Demand {
                hold: 200 * MS,
                max_size: 6,
                ..burst()
            }
            .wanted(),
            1
        );
    }

    #[test]
    fn a_lasting_queue_does() {
        assert_eq!(
            Demand {
                queue_age: 151 * MS,
                ..burst()
            }
            .wanted(),
            4
        );
    }

    #[test]
    fn an_empty_pool_opens_one_for_each_waiter() {
        let empty = Demand {
            reserved: 0,
            open: 0,
            min_idle: 0,
            waiting: 2,
            ..burst()
        };
        assert_eq!(empty.wanted(), 2);
        assert_eq!(
            Demand {
                failing: true,
                ..empty
            }
            .wanted(),
            1
        );
        assert_eq!(
            Demand {
                failing: true,
                connecting: 1,
                ..empty
            }
            .wanted(),
            0
        );
    }

    #[test]
    fn too_few_open_are_replaced_at_once_and_too_few_idle_later() {
        let calm = Demand {
            waiting: 0,
            ..burst()
        };
        assert_eq!(
            Demand {
                open: 3,
                reserved: 3,
                ..calm
            }
            .wanted(),
            2
        );
        assert_eq!(Demand { idle: 2, ..calm }.wanted(), 0);
        assert_eq!(
            Demand {
                idle: 2,
                short_for: REFILL_DELAY,
                ..calm
            }
            .wanted(),
            3
        );
    }
}
