//! The circuit breaker as a state machine on the clock: what it is, and what becomes of it by each
//! thing that happens. [`Circuit`](super::Circuit) keeps it behind a lock.
//!
//! Its life is in *turns*: another one begins whenever it opens, becomes half-open or closes.
//! What happens to a call that was begun in an earlier one decides nothing.

use std::time::Duration;

use serde::Serialize;

use crate::clock::{Ticks, after, between};
use crate::error::Error;
use crate::recovery::breaker::Breaker;
use crate::recovery::window::{Entry, Sums, Window};

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

/// Why no call can be made now, or not every one.
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

/// What failed or was slow, when there had been so many calls.
pub(super) struct Failure {
    pub(super) entry: Entry,
    pub(super) error: Error,
    pub(super) now: Ticks,
    pub(super) calls: u64,
}

pub(super) struct Machine {
    state: BreakerState,
    turn: u64,
    window: Window,
    streak_since: Ticks,
    /// Why it is not closed.
    cause: Option<(Error, Why)>,
    /// How often it has opened after it had been closed, and when the last time.
    opened: u64,
    opened_at: Ticks,
    /// When it is half-open at the latest, or more probes are let through.
    until: Ticks,
    /// How often it has opened without having closed.
    tries: u32,
    /// The server could not be reached since it opened.
    unreachable: bool,
    probes_out: u32,
    successes: u32,
}

impl Machine {
    /// A closed one that counts shares over a window of this length.
    pub(super) fn new(window: Duration) -> Self {
        Self {
            state: BreakerState::Closed,
            turn: 0,
            window: Window::new(window),
            streak_since: 0,
            cause: None,
            opened: 0,
            opened_at: 0,
            until: 0,
            tries: 0,
            unreachable: false,
            probes_out: 0,
            successes: 0,
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        self.state
    }

    pub(super) fn turn(&self) -> u64 {
        self.turn
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    /// When the pause ends, or the time for the probes.
    pub(super) fn until(&self) -> Ticks {
        self.until
    }

    fn turn_to(&mut self, state: BreakerState) {
        self.state = state;
        self.turn += 1;
        self.probes_out = 0;
        self.successes = 0;
        self.unreachable = false;
    }

    /// Somebody wants to make a call; whether it is a probe, if it may.
    pub(super) fn admit(&mut self, rules: &Breaker, now: Ticks) -> Result<bool, Refusal> {
        if self.state == BreakerState::Closed {
            return Ok(false);
        }
        // Half-open too: probes that hang do not keep others from trying.
        if now >= self.until {
            self.half_open(rules, now);
        }
        if self.state == BreakerState::HalfOpen && self.probes_out < rules.probes {
            self.probes_out += 1;
            return Ok(true);
        }
        // There is a cause whenever it is not closed.
        self.refusal(now).map_or(Ok(false), Err)
    }

    /// A probe of this turn is over, whatever became of it.
    pub(super) fn take_back(&mut self, turn: u64) {
        if self.turn == turn {
            self.probes_out = self.probes_out.saturating_sub(1);
        }
    }

    /// What who is refused is told; `None` while it is closed.
    pub(super) fn refusal(&self, now: Ticks) -> Option<Refusal> {
        let (cause, why) = self.cause.clone()?;
        let is_open = self.state == BreakerState::Open;
        Some(Refusal {
            cause,
            why,
            open_for: between(self.opened_at, now),
            next_in: is_open.then(|| between(now, self.until)),
        })
    }

    fn half_open(&mut self, rules: &Breaker, now: Ticks) {
        self.turn_to(BreakerState::HalfOpen);
        self.until = after(now, rules.longest_pause);
    }

    pub(super) fn probe_succeeded(
        &mut self,
        turn: u64,
        rules: &Breaker,
        now: Ticks,
    ) -> Option<Change> {
        if self.turn != turn {
            return None;
        }
        self.successes += 1;
        if self.successes < rules.successes {
            return None;
        }
        self.turn_to(BreakerState::Closed);
        self.tries = 0;
        self.cause = None;
        self.window.clear();
        let after = between(self.opened_at, now);
        Some(Change::Closed { after })
    }

    pub(super) fn probe_failed(&mut self, turn: u64, rules: &Breaker, error: Error, now: Ticks) {
        if self.turn == turn {
            let why = self.cause.as_ref().map_or(Why::InARow(1), |(_, why)| *why);
            self.open(rules, error, why, now);
        }
    }

    /// An attempt to connect failed.
    pub(super) fn connect_failed(
        &mut self,
        rules: &Breaker,
        failure: Failure,
        streak: impl FnOnce() -> u32,
    ) -> Option<Change> {
        let turn = self.turn;
        let change = match self.state {
            BreakerState::Closed => self.note(turn, rules, failure, streak),
            BreakerState::HalfOpen => {
                self.probe_failed(turn, rules, failure.error, failure.now);
                None
            }
            BreakerState::Open => None,
        };
        self.cannot_be_reached();
        change
    }

    /// The server did not answer a connect or a check.
    pub(super) fn cannot_be_reached(&mut self) {
        self.unreachable |= self.state == BreakerState::Open;
    }

    /// The server has passed a check. If it could not be reached before, that ends the pause.
    pub(super) fn server_is_well(&mut self, rules: &Breaker, now: Ticks) {
        if self.unreachable {
            self.half_open(rules, now);
        }
    }

    /// Counts a failure of this turn while it is closed, and opens if that was one too many. The
    /// how manieth it is without a success in between is asked if it counts.
    pub(super) fn note(
        &mut self,
        turn: u64,
        rules: &Breaker,
        failure: Failure,
        streak: impl FnOnce() -> u32,
    ) -> Option<Change> {
        let Failure {
            entry,
            error,
            now,
            calls,
        } = failure;
        if self.state != BreakerState::Closed || self.turn != turn {
            return None;
        }
        let streak = match entry {
            Entry::Slow => 0,
            _ => streak(),
        };
        if streak == 1 {
            self.streak_since = now;
        }
        let sums = self.window.note(entry, now, calls);
        let lasting = between(self.streak_since, now);
        let why = too_many(rules, streak, lasting, &sums, now)?;
        self.opened += 1;
        self.opened_at = now;
        self.open(rules, error, why, now);
        self.refusal(now).map(Change::Opened)
    }

    fn open(&mut self, rules: &Breaker, error: Error, why: Why, now: Ticks) {
        let doubled = rules.first_pause.saturating_mul(1 << self.tries.min(16));
        let ceiling = doubled.min(rules.longest_pause);
        let asked = error.retry_after().unwrap_or_default();
        let pause = ceiling
            .mul_f64(0.5 + 0.5 * fastrand::f64())
            .max(asked.min(rules.longest_pause));
        self.turn_to(BreakerState::Open);
        self.until = after(now, pause);
        self.tries = self.tries.saturating_add(1);
        self.cause = Some((error, why));
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
