//! The circuit breaker of one endpoint: a state machine on the clock. See [`Breaker`].
//!
//! Whoever begins a call asks for a [`Pass`], and says later what came of it. While the circuit
//! is closed, which is nearly always, a pass is a look at one atomic, and a success a look at
//! another: nothing is written that other threads read. Everything else happens under a lock,
//! on paths where something has failed or is refused.
//!
//! Invariants: a probe that is given is taken back whatever becomes of its call ([`Probe`] is a
//! guard), so that a half-open circuit is never stuck; what comes of calls that were begun in
//! another turn (before it opened, or before it opened again) decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::breaker::Breaker;
use super::window::{Entry, Sums, Window};
use crate::clock::{Ticks, after, between, ticks};
use crate::error::{ConnectFailure, Error, ErrorKind, Phase};

/// What a circuit breaker does; see [`Breaker`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BreakerState {
    /// It lets everything through.
    #[default]
    Closed,
    /// It lets nothing through.
    Open,
    /// It lets a few operations through, to see what becomes of them.
    HalfOpen,
}

/// What an error says of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It works.
    Well,
    /// It is in trouble.
    Ill,
    /// Nothing.
    Neither,
}

impl Verdict {
    pub(crate) fn of(error: &Error) -> Self {
        match (error.kind(), error.phase()) {
            (ErrorKind::DeadlineExceeded, Phase::Operation) => Self::Ill,
            (kind, _) if is_away(kind) => Self::Ill,
            // In the queue it is the pool that is full.
            (ErrorKind::Overloaded, phase) if phase != Phase::Queue => Self::Ill,
            (
                ErrorKind::Conflict
                | ErrorKind::Constraint
                | ErrorKind::InvalidOperation
                | ErrorKind::NotFound
                | ErrorKind::Permission,
                Phase::Operation,
            ) => Self::Well,
            _ => Self::Neither,
        }
    }
}

/// Whether the endpoint cannot be reached, or not any more.
fn is_away(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionLost
            | ErrorKind::Connect(ConnectFailure::Refused | ConnectFailure::Timeout)
    )
}

/// Leave to make a call.
#[must_use = "what came of the call has to be told"]
pub(crate) struct Pass(Option<Probe>);

impl Pass {
    /// For what no circuit breaker is asked about.
    pub(crate) fn unasked() -> Self {
        Self(None)
    }

    /// Whether what comes of the call decides what becomes of the circuit.
    pub(crate) fn is_probe(&self) -> bool {
        self.0.is_some()
    }
}

/// One of the few that a half-open circuit lets through; taken back when dropped.
struct Probe {
    circuit: Arc<Circuit>,
    turn: u64,
}

impl Drop for Probe {
    fn drop(&mut self) {
        let mut inner = self.circuit.inner.lock();
        if inner.turn == self.turn {
            inner.probes_out = inner.probes_out.saturating_sub(1);
        }
    }
}

/// Why no call can be made now.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// The last failure that is to blame.
    pub(crate) cause: Error,
    pub(crate) why: Why,
    pub(crate) open_for: Duration,
    /// When the next is let through; `None` if it is half-open.
    pub(crate) next_in: Option<Duration>,
}

/// Which rule opened it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Why {
    InARow(u32),
    Share(f64, u64),
    Slow(f64, u64),
}

/// What has changed, for the log.
#[derive(Debug)]
pub(crate) enum Change {
    Opened(Refusal),
    Closed { after: Duration },
}

pub(crate) struct Circuit {
    /// `None`: it is always closed.
    rules: Option<Breaker>,
    state: AtomicU8,
    /// Failures since the last success.
    streak: AtomicU32,
    opened: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    window: Window,
    streak_since: Ticks,
    /// Why it is not closed.
    cause: Option<(Error, Why)>,
    opened_at: Ticks,
    /// When it is half-open at the latest, or more probes are let through.
    until: Ticks,
    /// How often it has opened without having closed.
    tries: u32,
    /// The server could not be reached since it opened.
    unreachable: bool,
    /// Grows whenever it opens or becomes half-open.
    turn: u64,
    probes_out: u32,
    successes: u32,
}

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const HALF_OPEN: u8 = 2;

impl Circuit {
    pub(crate) fn new(rules: Option<Breaker>) -> Self {
        let window = rules.as_ref().map_or(Duration::ZERO, |rules| rules.window);
        Self {
            rules,
            state: AtomicU8::new(CLOSED),
            streak: AtomicU32::new(0),
            opened: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                window: Window::new(window),
                streak_since: 0,
                cause: None,
                opened_at: 0,
                until: 0,
                tries: 0,
                unreachable: false,
                turn: 0,
                probes_out: 0,
                successes: 0,
            }),
        }
    }

    pub(crate) fn state(&self) -> BreakerState {
        match self.state.load(Relaxed) {
            OPEN => BreakerState::Open,
            HALF_OPEN => BreakerState::HalfOpen,
            _ => BreakerState::Closed,
        }
    }

    /// How often it has opened.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    /// Leave to make a call, if one may be made.
    #[inline]
    pub(crate) fn admit(self: &Arc<Self>, now: impl FnOnce() -> Ticks) -> Result<Pass, Refusal> {
        if self.state.load(Relaxed) == CLOSED {
            return Ok(Pass(None));
        }
        self.admit_probe(now())
    }

    #[cold]
    fn admit_probe(self: &Arc<Self>, now: Ticks) -> Result<Pass, Refusal> {
        let Some(rules) = &self.rules else {
            return Ok(Pass(None));
        };
        let mut inner = self.inner.lock();
        match self.state.load(Relaxed) {
            CLOSED => return Ok(Pass(None)),
            // Half-open too: probes that hang do not keep others from trying.
            _ if now >= inner.until => self.half_open(&mut inner, rules, now),
            _ => {}
        }
        if self.state.load(Relaxed) == HALF_OPEN && inner.probes_out < rules.probes {
            inner.probes_out += 1;
            let turn = inner.turn;
            drop(inner);
            let circuit = Arc::clone(self);
            return Ok(Pass(Some(Probe { circuit, turn })));
        }
        // There is a cause whenever it is not closed.
        inner
            .refusal(self.state.load(Relaxed) == OPEN, now)
            .map_or(Ok(Pass(None)), Err)
    }

    /// Why calls are refused, if it is open.
    pub(crate) fn refusal(&self, now: Ticks) -> Option<Refusal> {
        if self.state.load(Relaxed) != OPEN {
            return None;
        }
        self.inner.lock().refusal(true, now)
    }

    /// What those are told that are refused, or would be if they were too many: if it is not
    /// closed.
    pub(crate) fn trouble(&self, now: Ticks) -> Option<Refusal> {
        if self.state.load(Relaxed) == CLOSED {
            return None;
        }
        let inner = self.inner.lock();
        match self.state.load(Relaxed) {
            CLOSED => None,
            state => inner.refusal(state == OPEN, now),
        }
    }

    fn half_open(&self, inner: &mut Inner, rules: &Breaker, now: Ticks) {
        inner.turn += 1;
        inner.probes_out = 0;
        inner.successes = 0;
        inner.unreachable = false;
        inner.until = after(now, rules.longest_pause);
        self.state.store(HALF_OPEN, Relaxed);
    }

    /// A call is over. `took` is how long the server needed; `calls` is how many there have been
    /// in all.
    #[inline]
    #[allow(clippy::needless_pass_by_value, reason = "a pass is used up")]
    pub(crate) fn settle(
        &self,
        pass: Pass,
        result: Result<(), &Error>,
        took: Ticks,
        now: impl FnOnce() -> Ticks,
        calls: impl FnOnce() -> u64,
    ) -> Option<Change> {
        if result.is_ok() && !pass.is_probe() {
            self.end_streak();
            if !self.is_slow(took) {
                return None;
            }
        }
        self.settle_slowly(&pass, result, took, now(), calls)
    }

    #[inline]
    fn end_streak(&self) {
        if self.streak.load(Relaxed) != 0 {
            self.streak.store(0, Relaxed);
        }
    }

    #[cold]
    fn settle_slowly(
        &self,
        pass: &Pass,
        result: Result<(), &Error>,
        took: Ticks,
        now: Ticks,
        calls: impl FnOnce() -> u64,
    ) -> Option<Change> {
        let rules = self.rules.as_ref()?;
        let slow = self.is_slow(took);
        let (entry, error) = match (result, result.map_or_else(Verdict::of, |()| Verdict::Well)) {
            (Err(error), Verdict::Ill) => (Entry::Failed, error.clone()),
            (_, Verdict::Well) if slow => {
                let message = format!("a call took {:.3} s", between(0, took).as_secs_f64());
                let kind = ErrorKind::DeadlineExceeded;
                (Entry::Slow, Error::new(kind, Phase::Operation, message))
            }
            (_, Verdict::Well) if pass.is_probe() => {
                return self.probe_succeeded(pass, rules, now);
            }
            (_, Verdict::Well) => {
                self.end_streak();
                return None;
            }
            _ => return None,
        };
        match &pass.0 {
            Some(probe) => self.probe_failed(probe.turn, rules, error, now),
            None => return self.note(entry, rules, error, now, calls()),
        }
        None
    }

    fn is_slow(&self, took: Ticks) -> bool {
        let slow = self.rules.as_ref().and_then(|rules| rules.slow);
        slow.is_some_and(|(threshold, _)| took > ticks(threshold))
    }

    fn probe_succeeded(&self, pass: &Pass, rules: &Breaker, now: Ticks) -> Option<Change> {
        let turn = pass.0.as_ref()?.turn;
        let mut inner = self.inner.lock();
        if inner.turn != turn {
            return None;
        }
        inner.successes += 1;
        if inner.successes < rules.successes {
            return None;
        }
        inner.turn += 1;
        inner.tries = 0;
        inner.cause = None;
        inner.window.clear();
        self.streak.store(0, Relaxed);
        self.state.store(CLOSED, Relaxed);
        let after = between(inner.opened_at, now);
        Some(Change::Closed { after })
    }

    fn probe_failed(&self, turn: u64, rules: &Breaker, error: Error, now: Ticks) {
        let mut inner = self.inner.lock();
        if inner.turn == turn && self.state.load(Relaxed) == HALF_OPEN {
            let why = inner.cause.as_ref().map_or(Why::InARow(1), |(_, why)| *why);
            self.open(&mut inner, rules, error, why, now);
        }
    }

    /// An attempt to connect failed like this; there have been so many calls.
    pub(crate) fn connect_failed(
        &self,
        error: &Error,
        now: Ticks,
        calls: impl FnOnce() -> u64,
    ) -> Option<Change> {
        let rules = self.rules.as_ref()?;
        if Verdict::of(error) != Verdict::Ill {
            return None;
        }
        let error = error.clone();
        let mut change = None;
        match self.state.load(Relaxed) {
            CLOSED => change = self.note(Entry::FailedBesides, rules, error, now, calls()),
            HALF_OPEN => {
                let turn = self.inner.lock().turn;
                self.probe_failed(turn, rules, error, now);
            }
            _ => {}
        }
        self.cannot_be_reached();
        change
    }

    /// The server did not answer a connect or a check.
    pub(crate) fn cannot_be_reached(&self) {
        if self.state.load(Relaxed) == OPEN {
            self.inner.lock().unreachable = true;
        }
    }

    /// Whether calls are kept back, or it is waited for what becomes of a few. Not so once the time
    /// for that is over and nobody has asked since: a program may make no calls any more, but take
    /// leases.
    pub(crate) fn keeps_back(&self, now: Ticks) -> bool {
        self.state.load(Relaxed) != CLOSED && now < self.inner.lock().until
    }

    /// Whether there were failures since the last success.
    pub(crate) fn is_troubled(&self) -> bool {
        self.streak.load(Relaxed) > 0
    }

    /// Whether it ever opens.
    pub(crate) fn is_on(&self) -> bool {
        self.rules.is_some()
    }

    /// Whether it has to know how long calls take.
    #[inline]
    pub(crate) fn times_calls(&self) -> bool {
        self.rules
            .as_ref()
            .is_some_and(|rules| rules.slow.is_some())
    }

    /// The server has passed a check. If it could not be reached before, that ends the pause.
    pub(crate) fn server_is_well(&self, now: Ticks) {
        let Some(rules) = &self.rules else { return };
        if self.state.load(Relaxed) != OPEN {
            return;
        }
        let mut inner = self.inner.lock();
        if inner.unreachable && self.state.load(Relaxed) == OPEN {
            self.half_open(&mut inner, rules, now);
        }
    }

    /// Counts a failure while it is closed, and opens if that was one too many.
    fn note(
        &self,
        entry: Entry,
        rules: &Breaker,
        error: Error,
        now: Ticks,
        calls: u64,
    ) -> Option<Change> {
        let mut inner = self.inner.lock();
        if self.state.load(Relaxed) != CLOSED {
            return None;
        }
        let streak = match entry {
            Entry::Slow => 0,
            _ => self.streak.fetch_add(1, Relaxed) + 1,
        };
        if streak == 1 {
            inner.streak_since = now;
        }
        let sums = inner.window.note(entry, now, calls);
        let lasting = between(inner.streak_since, now);
        let why = too_many(rules, streak, lasting, &sums, now)?;
        self.opened.fetch_add(1, Relaxed);
        inner.opened_at = now;
        self.open(&mut inner, rules, error, why, now);
        inner.refusal(true, now).map(Change::Opened)
    }

    fn open(&self, inner: &mut Inner, rules: &Breaker, error: Error, why: Why, now: Ticks) {
        let doubled = rules.first_pause.saturating_mul(1 << inner.tries.min(16));
        let ceiling = doubled.min(rules.longest_pause);
        let asked = error.retry_after().unwrap_or_default();
        let pause = ceiling
            .mul_f64(0.5 + 0.5 * fastrand::f64())
            .max(asked.min(rules.longest_pause));
        inner.until = after(now, pause);
        inner.tries = inner.tries.saturating_add(1);
        inner.unreachable = false;
        inner.turn += 1;
        inner.cause = Some((error, why));
        self.state.store(OPEN, Relaxed);
    }
}

impl Inner {
    fn refusal(&self, open: bool, now: Ticks) -> Option<Refusal> {
        let (cause, why) = self.cause.clone()?;
        Some(Refusal {
            cause,
            why,
            open_for: between(self.opened_at, now),
            next_in: open.then(|| between(now, self.until)),
        })
    }
}

/// Which rule says that there were too many failures, if one does.
fn too_many(
    rules: &Breaker,
    streak: u32,
    streak_lasts: Duration,
    sums: &Sums,
    now: Ticks,
) -> Option<Why> {
    if rules.failures > 0 && streak >= rules.failures && streak_lasts >= rules.lasting {
        return Some(Why::InARow(streak));
    }
    if sums.calls < rules.requests || between(sums.since, now) < rules.lasting {
        return None;
    }
    let share = |count: u64| count as f64 / sums.calls as f64;
    if sums.failed > 0 && share(sums.failed) >= rules.rate {
        return Some(Why::Share(share(sums.failed), sums.calls));
    }
    let (_, limit) = rules.slow?;
    (sums.slow > 0 && share(sums.slow) >= limit).then(|| Why::Slow(share(sums.slow), sums.calls))
}

#[cfg(test)]
mod tests;
