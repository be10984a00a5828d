//! The circuit breaker of one endpoint, as threads meet it. See [`Breaker`].
//!
//! Whoever begins a call asks for a [`Pass`], and says later what came of it. While the circuit
//! is closed, which is nearly always, a pass is a look at one atomic, and a success a look at
//! another: nothing is written that other threads read. Everything else happens under a lock,
//! on paths where something has failed or is refused, and is decided by the [`Machine`] there.
//!
//! Invariants, which `model.rs` checks:
//! 1. A probe that is given is taken back whatever becomes of its call ([`Pass`] is a guard), so
//!    that a half-open circuit is never stuck, and there are never more of them than there may be.
//! 2. What fails of calls that were begun in another turn (before it opened, or before it opened
//!    or closed again) decides nothing. So it does no harm that a look without the lock may be
//!    an old one: whoever is let through by it has a pass of the turn that it saw.
//! 3. Of failures at the same time each is counted, and one of them tells that it opened.

mod machine;
#[cfg(all(test, millpond_loom))]
mod model;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use self::machine::{Failure, Machine};
use super::breaker::Breaker;
use super::verdict::Verdict;
use super::window::Entry;
use crate::clock::{Ticks, between, ticks};
use crate::error::{Error, ErrorKind, Phase};
use crate::sync::{AtomicU32, AtomicU64, Mutex};

pub use self::machine::BreakerState;
pub(crate) use self::machine::{Change, Refusal, Why};

/// Leave to make a call. A probe is taken back when it is dropped.
#[must_use = "what came of the call has to be told"]
pub(crate) struct Pass {
    turn: u64,
    /// Of a probe: whose it is.
    probe: Option<Arc<Circuit>>,
}

impl Pass {
    /// For what no circuit breaker is asked about, and what decides nothing.
    pub(crate) fn unasked() -> Self {
        Self {
            turn: u64::MAX,
            probe: None,
        }
    }

    /// Whether what comes of the call decides what becomes of the circuit.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

impl Drop for Pass {
    #[inline]
    fn drop(&mut self) {
        if let Some(circuit) = self.probe.take() {
            circuit.take_back(self.turn);
        }
    }
}

pub(crate) struct Circuit {
    /// `None`: it is always closed.
    rules: Option<Breaker>,
    /// The machine's turn and state, as [`Look`] has them; written under its lock.
    look: AtomicU64,
    /// Failures since the last success; counted under the lock.
    streak: AtomicU32,
    machine: Mutex<Machine>,
}

/// The machine's state and turn in a word.
#[derive(Clone, Copy, PartialEq)]
struct Look(u64);

impl Look {
    fn at(machine: &Machine) -> Self {
        let state = match machine.state() {
            BreakerState::Closed => 0,
            BreakerState::Open => 1,
            BreakerState::HalfOpen => 2,
        };
        Self(machine.turn() << 2 | state)
    }

    #[inline]
    fn state(self) -> BreakerState {
        match self.0 & 3 {
            0 => BreakerState::Closed,
            1 => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    #[inline]
    fn is_closed(self) -> bool {
        self.state() == BreakerState::Closed
    }

    #[inline]
    fn turn(self) -> u64 {
        self.0 >> 2
    }
}

impl Circuit {
    pub(crate) fn new(rules: Option<Breaker>) -> Self {
        let window = rules.as_ref().map_or(Duration::ZERO, |rules| rules.window);
        Self {
            rules,
            look: AtomicU64::new(0),
            streak: AtomicU32::new(0),
            machine: Mutex::new(Machine::new(window)),
        }
    }

    #[inline]
    fn look(&self) -> Look {
        Look(self.look.load(Relaxed))
    }

    /// Has the machine do something, and shows what became of it.
    fn locked<R>(&self, act: impl FnOnce(&mut Machine) -> R) -> R {
        let mut machine = self.machine.lock();
        let before = Look::at(&machine);
        let result = act(&mut machine);
        let after = Look::at(&machine);
        if after != before {
            self.look.store(after.0, Relaxed);
        }
        result
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.look().state()
    }

    /// How often it has opened.
    pub(crate) fn opened(&self) -> u64 {
        self.machine.lock().opened()
    }

    /// Leave to make a call, if one may be made.
    #[inline]
    pub(crate) fn admit(self: &Arc<Self>, now: impl FnOnce() -> Ticks) -> Result<Pass, Refusal> {
        let look = self.look();
        if look.is_closed() {
            return Ok(Pass {
                turn: look.turn(),
                probe: None,
            });
        }
        self.admit_probe(now())
    }

    #[cold]
    fn admit_probe(self: &Arc<Self>, now: Ticks) -> Result<Pass, Refusal> {
        let Some(rules) = &self.rules else {
            return Ok(Pass::unasked());
        };
        self.locked(|machine| {
            let is_probe = machine.admit(rules, now)?;
            Ok(Pass {
                turn: machine.turn(),
                probe: is_probe.then(|| Arc::clone(self)),
            })
        })
    }

    #[cold]
    fn take_back(&self, turn: u64) {
        self.machine.lock().take_back(turn);
    }

    /// Why calls are refused, if it is open.
    pub(crate) fn refusal(&self, now: Ticks) -> Option<Refusal> {
        if self.state() != BreakerState::Open {
            return None;
        }
        self.trouble(now).filter(|why| why.next_in.is_some())
    }

    /// Why calls are refused, or all but a few: if it is not closed.
    pub(crate) fn trouble(&self, now: Ticks) -> Option<Refusal> {
        if self.look().is_closed() {
            return None;
        }
        self.machine.lock().refusal(now)
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
        let turn = pass.turn;
        let slow = self.is_slow(took);
        let (entry, error) = match (result, result.map_or_else(Verdict::of, |()| Verdict::Well)) {
            (Err(error), Verdict::Ill) => (Entry::Failed, error.clone()),
            (_, Verdict::Well) if slow => {
                let message = format!("a call took {:.3} s", between(0, took).as_secs_f64());
                let kind = ErrorKind::DeadlineExceeded;
                (Entry::Slow, Error::new(kind, Phase::Operation, message))
            }
            (_, Verdict::Well) if pass.is_probe() => {
                return self.locked(|machine| {
                    let change = machine.probe_succeeded(turn, rules, now);
                    if change.is_some() {
                        self.streak.store(0, Relaxed);
                    }
                    change
                });
            }
            (_, Verdict::Well) => {
                self.end_streak();
                return None;
            }
            _ => return None,
        };
        if pass.is_probe() {
            self.locked(|machine| machine.probe_failed(turn, rules, error, now));
            return None;
        }
        let calls = calls();
        let failure = Failure {
            entry,
            error,
            now,
            calls,
        };
        self.locked(|machine| machine.note(turn, rules, failure, || self.count_failure()))
    }

    fn count_failure(&self) -> u32 {
        self.streak.fetch_add(1, Relaxed) + 1
    }

    fn is_slow(&self, took: Ticks) -> bool {
        let slow = self.rules.as_ref().and_then(|rules| rules.slow);
        slow.is_some_and(|(threshold, _)| took > ticks(threshold))
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
        let failure = Failure {
            entry: Entry::FailedBesides,
            error: error.clone(),
            now,
            calls: calls(),
        };
        self.locked(|machine| machine.connect_failed(rules, failure, || self.count_failure()))
    }

    /// The server did not answer a check.
    pub(crate) fn cannot_be_reached(&self) {
        if self.state() == BreakerState::Open {
            self.locked(Machine::cannot_be_reached);
        }
    }

    /// The server has passed a check. If it could not be reached before, that ends the pause.
    pub(crate) fn server_is_well(&self, now: Ticks) {
        let Some(rules) = &self.rules else { return };
        if self.state() == BreakerState::Open {
            self.locked(|machine| machine.server_is_well(rules, now));
        }
    }

    /// Whether calls are kept back, or it is waited for what becomes of a few. Not so once the time
    /// for that is over and nobody has asked since: a program may make no calls any more, but take
    /// leases.
    pub(crate) fn keeps_back(&self, now: Ticks) -> bool {
        !self.look().is_closed() && now < self.machine.lock().until()
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
}
