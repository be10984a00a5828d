//! What a worker has taken and not settled, and whether it is to stop: what its threads share.
//!
//! Invariant: its lock is held for a look or a change only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::counters::Counters;

/// What is taken and not settled.
pub(super) struct Board {
    pub(super) stop: AtomicBool,
    pub(super) counters: Counters,
    pub(super) consumer: String,
    /// Entries were put back since the last was done: the server behind the batch is away.
    pub(super) is_failing: AtomicBool,
    taken: Mutex<HashMap<String, Taken>>,
    changed: Condvar,
}

/// An entry that a worker has.
pub(super) struct Taken {
    pub(super) operation: Vec<u8>,
    pub(super) deliveries: u64,
    pub(super) may_repeat: bool,
    /// Whether its own deadline, not the batch's, bounds it.
    pub(super) has_deadline: bool,
}

impl Board {
    pub(super) fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            counters: Counters::default(),
            is_failing: AtomicBool::new(false),
            // Numbers of processes come again, and other machines have the same.
            consumer: format!("{}-{:016x}", std::process::id(), fastrand::u64(..)),
            taken: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(super) fn put(&self, id: &str, taken: Taken) {
        self.taken.lock().insert(id.to_owned(), taken);
    }

    pub(super) fn take(&self, id: &str) -> Option<Taken> {
        let taken = self.taken.lock().remove(id);
        self.changed.notify_all();
        taken
    }

    pub(super) fn may_repeat(&self, id: &str) -> bool {
        self.taken
            .lock()
            .get(id)
            .is_some_and(|taken| taken.may_repeat)
    }

    pub(super) fn has_deadline(&self, id: &str) -> bool {
        self.taken
            .lock()
            .get(id)
            .is_some_and(|taken| taken.has_deadline)
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.taken.lock().keys().cloned().collect()
    }

    /// How many more may be taken; waits for as long as `patience` says if none.
    pub(super) fn room(&self, prefetch: usize, patience: Duration) -> usize {
        let mut taken = self.taken.lock();
        if taken.len() >= prefetch {
            self.changed.wait_for(&mut taken, patience);
        }
        prefetch.saturating_sub(taken.len())
    }

    pub(super) fn wait_until_empty(&self, deadline: Instant) {
        let mut taken = self.taken.lock();
        while !taken.is_empty() && !self.changed.wait_until(&mut taken, deadline).timed_out() {}
    }

    /// Gives everything up; whether there was anything.
    pub(super) fn give_up(&self) -> bool {
        let left = std::mem::take(&mut *self.taken.lock());
        self.changed.notify_all();
        !left.is_empty()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(SeqCst)
    }
}
