//! The pool's circuit breaker: who asks it, what it counts, and what it says to those whom it
//! refuses. See [`Breaker`](crate::Breaker) and [`Circuit`].
//!
//! Operations go through it, singly or in groups; leases do not. What the pool itself finds out
//! about the server counts as well: attempts to connect that fail, and checks.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use r2d2::ManageConnection;

use super::Pool;
use super::exchange::Gate;
use super::lease::PooledConnection;
use super::shared::Shared;
use crate::clock::{NEVER, Ticks, after};
use crate::error::{Error, ErrorKind, Phase};
use crate::health::{Concern, Health, Reason};
use crate::recovery::circuit::{Change, Refusal, Why};
use crate::recovery::{BreakerState, Pass};

/// How often whoever waits for a connection on behalf of an operation looks whether the circuit
/// breaker has opened, once something has failed.
const LOOK_IN_TROUBLE: Duration = Duration::from_millis(50);
/// The same while nothing has.
const LOOK: Duration = Duration::from_millis(500);

impl<M: ManageConnection> Pool<M> {
    /// Leave to send an operation or a group of them. Behind a circuit breaker of a pool that is
    /// closed there is nothing to wait for, and the error says so.
    #[inline]
    pub(crate) fn admit(&self) -> Result<Pass, Error> {
        let shared = &self.0.shared;
        let pass = shared.circuit.admit(|| shared.clock.now());
        pass.map_err(|refusal| match shared.exchange.gate() {
            Gate::Closed => shared.closed(),
            _ => shared.broken_circuit(&refusal),
        })
    }

    /// Whether the circuit breaker is open.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.shared.circuit.state() == BreakerState::Open
    }

    /// Whether it is the circuit breaker that keeps back an operation that was refused a
    /// connection like this.
    pub(crate) fn keeps_back(&self, error: &Error) -> bool {
        self.is_broken() && error.kind() != ErrorKind::Closed
    }

    /// When a call begins, if that matters.
    #[inline]
    pub(crate) fn call_begins(&self) -> Option<Ticks> {
        let shared = &self.0.shared;
        shared.circuit.times_calls().then(|| shared.clock.now())
    }

    /// What came of a call.
    #[inline]
    pub(crate) fn call_ends(&self, pass: Pass, began: Option<Ticks>, result: Result<(), &Error>) {
        let shared = &self.0.shared;
        let now = || shared.clock.now();
        let took = began.map_or(0, |began| now().saturating_sub(began));
        let circuit = &shared.circuit;
        if let Some(change) = circuit.settle(pass, result, took, now, || shared.calls()) {
            shared.tell(&change);
        }
    }

    /// Like [`get_timeout`](Self::get_timeout), but gives up when the circuit breaker opens.
    #[track_caller]
    #[inline]
    pub(crate) fn get_for_operation(
        &self,
        timeout: Duration,
    ) -> Result<PooledConnection<M>, Error> {
        let shared = &self.0.shared;
        let location = Location::caller();
        let now = shared.lease_time();
        match shared.take(now) {
            Some(entry) => shared.lease(entry, location, now, now),
            None => shared.wait(timeout, location, true),
        }
    }
}

impl<M: ManageConnection> Shared<M> {
    /// Leases that ended: each attempt at an operation is one, each group of a batch.
    pub(super) fn calls(&self) -> u64 {
        self.exchange.desks().map(|desk| desk.totals().0).sum()
    }

    /// Refuses a waiter if the circuit breaker is open; says when to look again.
    pub(super) fn refuse_if_open(&self, now: Ticks) -> Result<Ticks, Error> {
        if !self.circuit.is_on() {
            return Ok(NEVER);
        }
        match self.circuit.refusal(now) {
            Some(refusal) => Err(self.broken_circuit(&refusal)),
            None if self.circuit.is_troubled() => Ok(after(now, LOOK_IN_TROUBLE)),
            None => Ok(after(now, LOOK)),
        }
    }

    /// An attempt to connect failed.
    pub(super) fn connect_failed_for_circuit(&self, error: &Error, now: Ticks) {
        let change = self.circuit.connect_failed(error, now, || self.calls());
        if let Some(change) = change {
            self.tell(&change);
        }
    }

    /// What whoever is refused is told.
    #[cold]
    fn broken_circuit(&self, refusal: &Refusal) -> Error {
        let message = format!(
            "the circuit breaker is {}; see Builder::breaker (POOL_BREAKER_FAILURES, \
             POOL_BREAKER_RATE)",
            describe(refusal)
        );
        let cause = refusal.cause.clone();
        let error = Error::new(cause.kind(), Phase::Queue, message).with_source(Arc::new(cause));
        let error = match refusal.next_in {
            Some(pause) if !pause.is_zero() => error.with_retry_after(pause),
            _ => error,
        };
        self.at_home(error)
    }

    /// Records in the log that the circuit breaker has opened or closed.
    fn tell(&self, change: &Change) {
        match change {
            Change::Opened(refusal) => log::warn!(
                pool = &*self.name;
                "millpond: pool {}: no more operations are sent to {}: the circuit breaker is {}",
                self.name,
                self.endpoint,
                describe(refusal)
            ),
            Change::Closed { after } => log::info!(
                pool = &*self.name;
                "millpond: pool {}: operations are sent to {} again: the circuit breaker is \
                 closed, after {:.3} s",
                self.name,
                self.endpoint,
                after.as_secs_f64()
            ),
        }
    }

    pub(super) fn look_at_circuit(&self, now: Ticks, reasons: &mut Vec<Reason>) {
        let Some(trouble) = self.circuit.trouble(now) else {
            return;
        };
        // Some get through, or would: whoever decides by this who gets operations has to let it
        // show that the server is well again.
        let worst = match trouble.next_in {
            Some(pause) if !pause.is_zero() => Health::Down,
            _ => Health::Degraded,
        };
        let text = format!("the circuit breaker is {}", describe(&trouble));
        let reason = Reason::new(worst, Concern::Breaker, text);
        reasons.push(reason.with_error(trouble.cause.kind()));
    }
}

/// Open since when, why, and until when.
fn describe(refusal: &Refusal) -> String {
    let percent = |share: f64| share * 100.0;
    let why = match refusal.why {
        Why::InARow(count) => format!("{count} failures in a row"),
        Why::Share(share, calls) => {
            format!("{:.0} % of {calls} calls failed", percent(share))
        }
        Why::Slow(share, calls) => {
            format!("{:.0} % of {calls} calls were slow", percent(share))
        }
    };
    let next = match refusal.next_in {
        Some(Duration::ZERO) => "open, and lets the next through".to_owned(),
        Some(pause) => format!(
            "open, and lets the next through in {:.1} s",
            pause.as_secs_f64()
        ),
        None => "half-open, and waits for what becomes of those that it lets through".to_owned(),
    };
    format!(
        "{next}; it opened {:.1} s ago, after {why}, the last: {}: {}",
        refusal.open_for.as_secs_f64(),
        refusal.cause.kind(),
        refusal.cause.message(),
    )
}
