//! How many operations, and how many bytes of them, may be queued; and how submitters wait
//! until there is room.
//!
//! Both numbers share one atomic word (operations in the upper 24 bits, bytes in the
//! lower 40), so that letting one in is a single addition, taken back if it was too much.
//!
//! Nobody waits for room that is there. A waiter counts itself in `waiting` and then tries
//! once more in the lounge; a releaser gives room back and then looks at `waiting`; both with a
//! barrier in between. So either the try finds the room, or the releaser finds the waiter
//! and rings, which the waiter hears asleep or before its next try (see `model`).

use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use crate::sync::{AtomicU64, AtomicUsize, Lounge, barrier};

const BYTES: u32 = 40;

/// The most that the word can count.
pub(super) const MOST_OPERATIONS: usize = (1 << 23) - 1;
pub(super) const MOST_BYTES: usize = (1 << 39) - 1;

pub(super) struct Gate {
    used: AtomicU64,
    max_operations: usize,
    max_bytes: usize,
    waiting: AtomicUsize,
    lounge: Lounge,
}

fn word(operations: usize, bytes: usize) -> u64 {
    ((operations as u64) << BYTES) | bytes as u64
}

fn parts(word: u64) -> (usize, usize) {
    let bytes = word & ((1 << BYTES) - 1);
    ((word >> BYTES) as usize, bytes as usize)
}

impl Gate {
    pub(super) fn new(max_operations: usize, max_bytes: usize) -> Self {
        Self {
            used: AtomicU64::new(0),
            max_operations: max_operations.min(MOST_OPERATIONS),
            max_bytes: max_bytes.min(MOST_BYTES),
            waiting: AtomicUsize::new(0),
            lounge: Lounge::default(),
        }
    }

    /// Operations and bytes that are queued.
    pub(super) fn used(&self) -> (usize, usize) {
        parts(self.used.load(SeqCst))
    }

    /// The bounds.
    pub(super) fn limits(&self) -> (usize, usize) {
        (self.max_operations, self.max_bytes)
    }

    /// Whether more is queued than should be.
    pub(super) fn is_overfull(&self) -> bool {
        let (operations, bytes) = self.used();
        operations > self.max_operations || bytes > self.max_bytes
    }

    /// Lets one operation of this size in, if there is room.
    pub(super) fn enter(&self, bytes: usize) -> bool {
        let add = word(1, bytes);
        let (operations, all) = parts(self.used.fetch_add(add, SeqCst) + add);
        if operations <= self.max_operations && all <= self.max_bytes {
            return true;
        }
        self.release(1, bytes);
        false
    }

    /// Lets so many in, room or not: those that are tried again, and those for which
    /// others will be shed.
    pub(super) fn force(&self, operations: usize, bytes: usize) {
        self.used.fetch_add(word(operations, bytes), SeqCst);
    }

    /// The same as [`enter`](Self::enter), waiting for room until then.
    pub(super) fn enter_until(
        &self,
        bytes: usize,
        deadline: Option<Instant>,
        give_up: impl Fn() -> bool,
    ) -> bool {
        if self.enter(bytes) {
            return true;
        }
        self.waiting.fetch_add(1, SeqCst);
        barrier();
        let attempt = || {
            // Not `enter`: it rings when it takes its addition back.
            if self.try_enter(bytes) {
                return Some(true);
            }
            give_up().then_some(false)
        };
        let entered = self.lounge.wait(deadline, attempt).unwrap_or(false);
        self.waiting.fetch_sub(1, SeqCst);
        entered
    }

    fn try_enter(&self, bytes: usize) -> bool {
        let enter = |used| {
            let next = used + word(1, bytes);
            let (operations, all) = parts(next);
            (operations <= self.max_operations && all <= self.max_bytes).then_some(next)
        };
        self.used.fetch_update(SeqCst, SeqCst, enter).is_ok()
    }

    /// So many have left the queue.
    pub(super) fn release(&self, operations: usize, bytes: usize) {
        self.forget(operations, bytes);
        self.ring();
    }

    /// The same, where [`ring`](Self::ring) follows once no lock is held.
    pub(super) fn forget(&self, operations: usize, bytes: usize) {
        self.used.fetch_sub(word(operations, bytes), SeqCst);
    }

    /// Wakes those who wait, to look again.
    pub(super) fn ring(&self) {
        barrier();
        if self.waiting.load(SeqCst) > 0 {
            self.lounge.ring();
        }
    }
}
