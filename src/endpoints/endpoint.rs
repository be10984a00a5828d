//! One server of a fleet: its pool, and what the fleet knows of it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::balance::Figures;
use crate::backend::Backend;
use crate::clock::{NEVER, Ticks, after};
use crate::error::{Error, ErrorKind, Phase};
use crate::pool::{Pool, Tally};

/// The share of its traffic that an endpoint gets at the beginning of its slow start.
const FIRST_SHARE: f64 = 0.1;

pub(crate) struct Endpoint<B: Backend> {
    pub(super) name: Arc<str>,
    pub(crate) pool: Pool<B>,
    /// What strategies see of it.
    pub(super) figures: Arc<Figures>,
    /// Its slow start: from when until when; both 0 when there is none.
    warming: [AtomicU64; 2],
    /// Operations that failed without a success in between.
    failures: CachePadded<AtomicU32>,
    /// When it was last asked what it is; [`NEVER`] while it is being asked.
    asked_at: AtomicU64,
}

/// The endpoints that some traffic may go to.
pub(super) struct Group<B: Backend> {
    endpoints: Vec<Arc<Endpoint<B>>>,
    /// Of each, by place: strategies get at them by fewer steps than through the endpoints.
    pub(super) figures: Vec<Arc<Figures>>,
}

impl<B: Backend> Group<B> {
    pub(super) fn of(endpoints: Vec<Arc<Endpoint<B>>>) -> Self {
        let figures = endpoints.iter();
        let figures = figures.map(|endpoint| Arc::clone(&endpoint.figures));
        Self {
            figures: figures.collect(),
            endpoints,
        }
    }
}

impl<B: Backend> Deref for Group<B> {
    type Target = [Arc<Endpoint<B>>];

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.endpoints
    }
}

/// Whether such an error speaks against the server and not against the operation.
fn speaks_against_server(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Connect(_)
        | ErrorKind::ConnectionLost
        | ErrorKind::Authentication
        | ErrorKind::Overloaded => true,
        ErrorKind::DeadlineExceeded => error.phase() == Phase::Operation,
        _ => false,
    }
}

impl<B: Backend> Endpoint<B> {
    /// An endpoint whose pool counts its callers in this tally.
    pub(super) fn new(name: Arc<str>, pool: Pool<B>, callers: Arc<Tally>, weight: f64) -> Self {
        let figures = Arc::new(Figures {
            name: Arc::clone(&name),
            weight,
            callers,
            latency: CachePadded::default(),
        });
        Self {
            name,
            pool,
            figures,
            warming: [const { AtomicU64::new(0) }; 2],
            failures: CachePadded::default(),
            asked_at: AtomicU64::new(0),
        }
    }

    /// Whether it is to be asked what it is, again after such a pause; then it is being asked.
    pub(super) fn may_be_asked(&self, now: Ticks, pause: Ticks) -> bool {
        let asked_at = self.asked_at.load(Relaxed);
        let due = asked_at != NEVER && now.saturating_sub(asked_at) >= pause;
        let begin = || {
            let asked = &self.asked_at;
            asked.compare_exchange(asked_at, NEVER, Relaxed, Relaxed)
        };
        due && begin().is_ok()
    }

    /// It was asked.
    pub(super) fn was_asked(&self, now: Ticks) {
        self.asked_at.store(now, Relaxed);
    }

    /// From now on its share of the traffic grows over this time.
    pub(super) fn start_slowly(&self, over: Duration, now: Ticks) {
        self.failures.store(0, Relaxed);
        self.warming[0].store(now, Relaxed);
        let until = if over.is_zero() { 0 } else { after(now, over) };
        self.warming[1].store(until, Relaxed);
    }

    /// Whether it takes its full share.
    #[inline]
    pub(super) fn is_warm(&self) -> bool {
        self.warming[1].load(Relaxed) == 0
    }

    /// The part of its share that it takes.
    pub(super) fn share(&self, now: Ticks) -> f64 {
        let [from, until] = [0, 1].map(|end: usize| self.warming[end].load(Relaxed));
        if until == 0 {
            return 1.0;
        }
        if now >= until {
            self.warming[1].store(0, Relaxed);
            return 1.0;
        }
        let passed = now.saturating_sub(from) as f64 / until.saturating_sub(from).max(1) as f64;
        passed.max(FIRST_SHARE)
    }

    /// An operation that ended now was answered after so long.
    pub(super) fn answered(&self, took: Ticks, now: Ticks) {
        self.figures.latency.observe(took, now);
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// An operation that ended now failed like this after so long. How often that was in
    /// succession, if it speaks against the server.
    pub(super) fn failed(&self, error: &Error, took: Ticks, now: Ticks) -> Option<u32> {
        if !speaks_against_server(error) {
            self.answered(took, now);
            return None;
        }
        // What fails at once must not look fast.
        if error.kind() == ErrorKind::DeadlineExceeded {
            self.figures.latency.observe(took, now);
        }
        Some(self.failures.fetch_add(1, Relaxed) + 1)
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }
}
