//! What a connection's slot counts: how long its leases and operations take.
//!
//! Only the slot's owner of the moment writes it, so recording is a handful of plain loads and
//! stores, on cache lines that no other lease touches.

use super::histogram::Histogram;
use super::window::{Cursor, Window};

/// The counters of a slot.
#[derive(Default)]
pub(crate) struct Meter {
    /// How long leases are held.
    pub(crate) use_time: Histogram,
    /// How long operations take that succeed.
    pub(crate) response_time: Histogram,
    cursor: Cursor,
}

impl Meter {
    /// So many operations succeeded after so many nanoseconds.
    #[inline]
    pub(crate) fn succeeded(&self, window: &Window, took: u64, count: u64) {
        self.response_time.record_alone(took, count);
        for _ in 0..count {
            window.note(&self.cursor, took, false);
        }
    }

    /// An operation failed after so many nanoseconds; it is counted by its kind elsewhere.
    pub(crate) fn failed(&self, window: &Window, took: u64) {
        window.note(&self.cursor, took, true);
    }
}
