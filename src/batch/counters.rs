//! What happened in a batch so far.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;
use serde::Serialize;

use crate::clock::Ticks;
use crate::metrics::histogram::Histogram;
use crate::metrics::{Distribution, Unit};
use crate::operation::OutcomeKind;

/// Why a group was sent off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A worker was free.
    Free,
    /// The group was as large as it may be.
    Full,
    /// Its oldest operation had waited long enough.
    Due,
    /// A deadline was near.
    Deadline,
    /// Somebody asked for it.
    Flush,
    /// The batch was being closed.
    Close,
}

/// What is counted for each operation has a cache line of its own, since it is counted on
/// different threads.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) submitted: CachePadded<AtomicU64>,
    pub(super) refused: AtomicU64,
    /// By [`OutcomeKind`].
    outcomes: CachePadded<[AtomicU64; 4]>,
    pub(super) retries: AtomicU64,
    pub(super) splits: AtomicU64,
    groups: AtomicU64,
    largest_group: AtomicUsize,
    causes: [AtomicU64; 6],
    pub(super) running: AtomicUsize,
    pub(super) depths: [AtomicUsize; 4],
    /// From submission to the beginning of the first attempt.
    pub(super) queue_time: Histogram,
    /// How many operations groups had.
    group_size: Histogram,
    /// How long groups took.
    group_time: Histogram,
}

impl Counters {
    /// One more.
    pub(super) fn count(&self, kind: OutcomeKind) {
        self.outcomes[kind as usize].fetch_add(1, Relaxed);
    }

    /// A group of so many operations took so long.
    pub(super) fn executed(&self, operations: usize, took: Ticks) {
        self.group_size.record(operations as u64 * Unit::OPERATION);
        self.group_time.record(took);
    }

    pub(super) fn sent_off(&self, operations: usize, cause: Cause) {
        self.groups.fetch_add(1, Relaxed);
        self.largest_group.fetch_max(operations, Relaxed);
        self.causes[cause as usize].fetch_add(1, Relaxed);
        self.running.fetch_add(1, Relaxed);
    }

    pub(super) fn read(
        &self,
        [name, pool]: [&Arc<str>; 2],
        queued: (usize, usize),
        quarantined: usize,
    ) -> BatchMetrics {
        let cause = |cause: Cause| self.causes[cause as usize].load(Relaxed);
        // Outcomes first: an operation that gets its own meanwhile is not counted before
        // it is counted as submitted.
        let outcomes = &self.outcomes;
        let [done, rejected, not_executed, unknown] =
            std::array::from_fn(|kind| outcomes[kind].load(Relaxed));
        BatchMetrics {
            name: Arc::clone(name),
            pool: Arc::clone(pool),
            submitted: self.submitted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            done,
            rejected,
            not_executed,
            unknown,
            retries: self.retries.load(Relaxed),
            splits: self.splits.load(Relaxed),
            groups: self.groups.load(Relaxed),
            largest_group: self.largest_group.load(Relaxed),
            flushed: Flushes {
                free: cause(Cause::Free),
                full: cause(Cause::Full),
                due: cause(Cause::Due),
                deadline: cause(Cause::Deadline),
                asked: cause(Cause::Flush),
                closing: cause(Cause::Close),
            },
            running: self.running.load(Relaxed),
            queued: queued.0,
            queued_bytes: queued.1,
            queued_by_priority: std::array::from_fn(|index| self.depths[index].load(Relaxed)),
            quarantined,
            queue_time: self.queue_time.read(Unit::Seconds),
            group_size: self.group_size.read(Unit::Operations),
            group_time: self.group_time.read(Unit::Seconds),
        }
    }
}

/// What happened in a batch so far, and what is in it now; see
/// [`Batch::metrics`](super::Batch::metrics).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BatchMetrics {
    /// The batch's name.
    pub name: Arc<str>,
    /// The name of the pool or fleet that it works on.
    pub pool: Arc<str>,
    /// Operations that were accepted.
    pub submitted: u64,
    /// Operations that `submit` handed back.
    pub refused: u64,
    /// Operations that took effect.
    pub done: u64,
    /// Operations that the server refused.
    pub rejected: u64,
    /// Operations that were certainly not applied.
    pub not_executed: u64,
    /// Operations of which nobody knows.
    pub unknown: u64,
    /// Attempts that were repeated.
    pub retries: u64,
    /// Times that a group, or a part of one, was split to find what is bad in it.
    pub splits: u64,
    /// Groups that were sent off.
    pub groups: u64,
    /// The most operations that one of them had.
    pub largest_group: usize,
    /// Why they were sent off.
    pub flushed: Flushes,
    /// Groups that are being executed.
    pub running: usize,
    /// Operations in the queue.
    pub queued: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// How many of them are of each priority, the most urgent first.
    pub queued_by_priority: [usize; 4],
    /// Operations in the quarantine.
    pub quarantined: usize,
    /// How long operations were queued before their first attempt.
    pub queue_time: Distribution,
    /// How many operations the groups had.
    pub group_size: Distribution,
    /// How long the groups took, without waiting for their connection.
    pub group_time: Distribution,
}

/// How many groups were sent off for which reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Flushes {
    /// A worker was free.
    pub free: u64,
    /// The group was as large as it may be.
    pub full: u64,
    /// Its oldest operation had waited for the batch's timeout.
    pub due: u64,
    /// A deadline was near.
    pub deadline: u64,
    /// [`flush`](super::Batch::flush) was called.
    pub asked: u64,
    /// The batch was being closed.
    pub closing: u64,
}

impl fmt::Display for BatchMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} submitted: {} done, {} rejected, {} not executed, {} unknown, {} queued; \
             {} groups, the largest of {}",
            self.submitted,
            self.done,
            self.rejected,
            self.not_executed,
            self.unknown,
            self.queued,
            self.groups,
            self.largest_group
        )
    }
}
