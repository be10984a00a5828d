//! How many operations, and how many bytes of them, may be queued; and how submitters wait
//! until there is room.
//!
//! Both numbers share one atomic word (operations in the upper 24 bits, bytes in the
//! lower 40), so that letting one in is a single addition, taken back if it was too much.
//!
//! Nobody waits for room that is there. A waiter counts itself in `waiting` and then tries
//! once more, holding the lock; a releaser gives room back and then looks at `waiting`. In
//! the single order of sequentially consistent operations one of the two is first: either
//! the try finds the room, or the releaser finds the waiter, and then takes the lock before
//! it rings, so that the waiter is asleep or has not tried yet.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

const BYTES: u32 = 40;

/// The most that the word can count.
pub(super) const MOST_OPERATIONS: usize = (1 << 23) - 1;
pub(super) const MOST_BYTES: usize = (1 << 39) - 1;

pub(super) struct Gate {
    used: AtomicU64,
    max_operations: usize,
    max_bytes: usize,
    waiting: AtomicUsize,
    lock: Mutex<()>,
    room: Condvar,
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
            lock: Mutex::new(()),
            room: Condvar::new(),
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
        let mut guard = self.lock.lock();
        let entered = loop {
            // Not `enter`: it rings when it takes its addition back.
            if self.try_enter(bytes) {
                break true;
            }
            if give_up() {
                break false;
            }
            let timed_out = match deadline {
                Some(deadline) => self.room.wait_until(&mut guard, deadline).timed_out(),
                None => {
                    self.room.wait(&mut guard);
                    false
                }
            };
            if timed_out {
                break self.try_enter(bytes);
            }
        };
        drop(guard);
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
        self.used.fetch_sub(word(operations, bytes), SeqCst);
        self.ring();
    }

    /// Wakes those who wait, to look again.
    pub(super) fn ring(&self) {
        if self.waiting.load(SeqCst) > 0 {
            drop(self.lock.lock());
            self.room.notify_all();
        }
    }
}
