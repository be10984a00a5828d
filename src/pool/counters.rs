//! What happened in a pool so far, counted off the hot path.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// It was broken when its lease ended.
    Broken,
    /// It failed a check.
    Invalid,
    /// It could not be cleaned after its lease.
    ResetFailed,
    /// It reached `max_lifetime`.
    Expired,
    /// It reached `idle_timeout`.
    Idle,
    /// The caller discarded it.
    Discarded,
    /// Its lease was dropped by a panic.
    Panicked,
    /// A hook refused it.
    Hook,
    /// `clear` was called.
    Cleared,
    /// `max_size` was lowered.
    Surplus,
    /// The pool is closing or being drained.
    PoolClosed,
}

impl CloseReason {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Broken,
        Self::Invalid,
        Self::ResetFailed,
        Self::Expired,
        Self::Idle,
        Self::Discarded,
        Self::Panicked,
        Self::Hook,
        Self::Cleared,
        Self::Surplus,
        Self::PoolClosed,
    ];

    /// The reason as a word for logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Invalid => "invalid",
            Self::ResetFailed => "reset_failed",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::Discarded => "discarded",
            Self::Panicked => "panicked",
            Self::Hook => "hook",
            Self::Cleared => "cleared",
            Self::Surplus => "surplus",
            Self::PoolClosed => "pool_closed",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) created: AtomicU64,
    pub(super) create_failed: AtomicU64,
    pub(super) closed: [AtomicU64; CloseReason::ALL.len()],
    pub(super) waits: AtomicU64,
    pub(super) wait_ticks: AtomicU64,
    pub(super) timeouts: AtomicU64,
    pub(super) leaks: AtomicU64,
    pub(super) deadlocks: AtomicU64,
}

impl Counters {
    pub(super) fn count_closed(&self, reason: CloseReason) {
        self.closed[reason as usize].fetch_add(1, Relaxed);
    }
}

/// What happened in a pool since it was built; see
/// [`Pool::metrics`](super::Pool::metrics).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolMetrics {
    /// Leases that came back.
    pub leases: u64,
    /// The time that these were held, in all.
    pub held: Duration,
    /// Callers that had to wait and were served.
    pub waits: u64,
    /// The time that these waited, in all.
    pub waited: Duration,
    /// Callers that got nothing in time.
    pub timeouts: u64,
    /// Connections established.
    pub created: u64,
    /// Attempts to connect that failed.
    pub create_failed: u64,
    /// Connections closed, by reason.
    pub closed: Vec<(CloseReason, u64)>,
    /// Leases reported as leaked.
    pub leaks: u64,
    /// Deadlocks found.
    pub deadlocks: u64,
}

impl PoolMetrics {
    pub(super) fn of(counters: &Counters, (leases, held): (u64, u64)) -> Self {
        let closed = CloseReason::ALL.into_iter().zip(&counters.closed);
        Self {
            leases,
            held: Duration::from_nanos(held),
            waits: counters.waits.load(Relaxed),
            waited: Duration::from_nanos(counters.wait_ticks.load(Relaxed)),
            timeouts: counters.timeouts.load(Relaxed),
            created: counters.created.load(Relaxed),
            create_failed: counters.create_failed.load(Relaxed),
            closed: closed
                .map(|(reason, count)| (reason, count.load(Relaxed)))
                .collect(),
            leaks: counters.leaks.load(Relaxed),
            deadlocks: counters.deadlocks.load(Relaxed),
        }
    }

    /// Connections closed for this reason.
    pub fn closed_by(&self, reason: CloseReason) -> u64 {
        self.closed
            .iter()
            .find(|(other, _)| *other == reason)
            .map_or(0, |(_, count)| *count)
    }
}
