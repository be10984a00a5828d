//! What happened in a pool so far, counted off the hot path.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::state::State;
use crate::error::ErrorKind;
use crate::health::{Certificate, Health};
use crate::metrics::histogram::Histogram;
use crate::metrics::{Distribution, OperationMetrics};
use crate::recovery::{BreakerState, seconds};

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

impl Serialize for CloseReason {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

const KINDS: usize = ErrorKind::ALL.len();

/// Connections that came and went are counted under the ledger's lock, together with the
/// statuses of their slots: so the difference is what is open.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) created: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
    /// By the place in [`ErrorKind::ALL`].
    connect_failures: [AtomicU64; KINDS],
    /// Of those that waited.
    pub(super) wait_time: Histogram,
    pub(super) create_time: Histogram,
    pub(super) timeouts: AtomicU64,
    pub(super) leaks: AtomicU64,
    pub(super) deadlocks: AtomicU64,
}

impl Counters {
    pub(super) fn count_closed(&self, reason: CloseReason) {
        self.closed[reason as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn count_connect_failure(&self, kind: ErrorKind) {
        if let Some(place) = ErrorKind::ALL.iter().position(|other| *other == kind) {
            self.connect_failures[place].fetch_add(1, Relaxed);
        }
    }

    pub(super) fn closed(&self) -> Vec<(CloseReason, u64)> {
        let closed = CloseReason::ALL.into_iter().zip(&self.closed);
        closed
            .map(|(reason, count)| (reason, count.load(Relaxed)))
            .collect()
    }

    pub(super) fn connect_failures(&self) -> Vec<(ErrorKind, u64)> {
        let failures = ErrorKind::ALL.into_iter().zip(&self.connect_failures);
        failures
            .map(|(kind, count)| (kind, count.load(Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// A pool's numbers: what it is, and what happened in it since it was built; see
/// [`Pool::metrics`](super::Pool::metrics).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolMetrics {
    /// The pool's name.
    pub name: Arc<str>,
    /// The backend's name.
    pub backend: &'static str,
    /// The server's address.
    pub endpoint: Arc<str>,
    /// How it is; [`Pool::health`](super::Pool::health) says why.
    pub health: Health,
    /// When the certificates expire on which it depends, as far as that is known.
    pub certificates: Vec<Certificate>,
    /// The connections at this moment.
    pub state: State,
    /// Idle connections that are kept ready.
    pub min_idle: u32,
    /// Leases that came back.
    pub leases: u64,
    /// The time that these were held, in all.
    #[serde(rename = "held_seconds", with = "seconds")]
    pub held: Duration,
    /// Callers that had to wait and were served.
    pub waits: u64,
    /// The time that these waited, in all.
    #[serde(rename = "waited_seconds", with = "seconds")]
    pub waited: Duration,
    /// Callers that got nothing in time.
    pub timeouts: u64,
    /// Connections established; those that were not closed are the
    /// [`state`](Self::state)'s.
    pub created: u64,
    /// Attempts to connect that failed.
    pub create_failed: u64,
    /// The same by the kind of their error; kinds that did not occur are left out.
    pub connect_failures: Vec<(ErrorKind, u64)>,
    /// Connections closed, by reason.
    pub closed: Vec<(CloseReason, u64)>,
    /// Leases reported as leaked.
    pub leaks: u64,
    /// Deadlocks found.
    pub deadlocks: u64,
    /// What the circuit breaker does.
    pub breaker: BreakerState,
    /// How often it opened.
    pub breaker_opened: u64,
    /// How long callers waited for their leases, those that waited for nothing among them.
    pub wait_time: Distribution,
    /// How long leases were held. When leases last for less than a few microseconds, this is
    /// of a sample; empty when [`metrics`](super::Builder::metrics) are off.
    pub use_time: Distribution,
    /// How long it took to establish a connection.
    pub create_time: Distribution,
    /// What the operations came to; empty when [`metrics`](super::Builder::metrics) are off.
    pub operations: OperationMetrics,
}

impl PoolMetrics {
    /// Connections closed for this reason.
    pub fn closed_by(&self, reason: CloseReason) -> u64 {
        self.closed
            .iter()
            .find(|(other, _)| *other == reason)
            .map_or(0, |(_, count)| *count)
    }

    /// The share of the connections that may exist that is leased, from 0 to 1.
    pub fn utilization(&self) -> f64 {
        f64::from(self.state.leased) / f64::from(self.state.max_size.max(1))
    }
}
