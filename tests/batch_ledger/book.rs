//! What became of each key, by the tickets.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};

use millpond::Outcome;

pub(crate) const OPEN: u8 = 0;
pub(crate) const DONE: u8 = 1;
pub(crate) const REJECTED: u8 = 2;
pub(crate) const NOT_EXECUTED: u8 = 3;
pub(crate) const UNKNOWN: u8 = 4;

pub(crate) struct Book {
    outcomes: Vec<AtomicU8>,
    settled: AtomicUsize,
    twice: AtomicUsize,
    /// How many of each kind of error.
    errors: Mutex<BTreeMap<String, usize>>,
}

impl Book {
    /// An empty one, for so many keys.
    pub(crate) fn new(keys: usize) -> Self {
        Self {
            outcomes: (0..keys).map(|_| AtomicU8::new(OPEN)).collect(),
            settled: AtomicUsize::new(0),
            twice: AtomicUsize::new(0),
            errors: Mutex::default(),
        }
    }

    pub(crate) fn enter<R>(&self, key: usize, outcome: &Outcome<R>) {
        let (kind, name) = match outcome {
            Outcome::Done(_) => (DONE, "done"),
            Outcome::Rejected(_) => (REJECTED, "rejected"),
            Outcome::NotExecuted(_) => (NOT_EXECUTED, "not executed"),
            Outcome::Unknown(_) => (UNKNOWN, "unknown"),
        };
        if let Some(error) = outcome.error() {
            let what = format!("{name}: {error}");
            let mut errors = self.errors.lock().expect("no poison");
            *errors.entry(what).or_default() += 1;
        }
        if self.outcomes[key].swap(kind, SeqCst) == OPEN {
            self.settled.fetch_add(1, SeqCst);
        } else {
            self.twice.fetch_add(1, SeqCst);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// How many keys have their outcome.
    pub(crate) fn settled(&self) -> usize {
        self.settled.load(SeqCst)
    }

    /// How many outcomes came for keys that had theirs.
    pub(crate) fn twice(&self) -> usize {
        self.twice.load(SeqCst)
    }

    pub(crate) fn outcome(&self, key: usize) -> u8 {
        self.outcomes[key].load(SeqCst)
    }

    pub(crate) fn count(&self, kind: u8) -> usize {
        let kinds = (0..self.len()).map(|key| self.outcome(key));
        kinds.filter(|other| *other == kind).count()
    }

    pub(crate) fn errors(&self) -> String {
        let errors = self.errors.lock().expect("no poison");
        let parts: Vec<_> = errors
            .iter()
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        parts.join(", ")
    }
}
