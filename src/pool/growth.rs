//! How many connections to open now: a pure function of what the pool sees, and the
//! pool's look at itself that feeds it.
//!
//! Opening one is worth it when the callers that wait would otherwise wait longer
//! than a connect takes. That is estimated in two ways: by what is known (the
//! queue's length, the mean hold, the connections that serve it), and, since holds
//! can change, by how long the queue has existed: once that is longer than a
//! connect takes, a connect would have paid off, so the estimate was wrong (the
//! ski-rental argument: at worst twice the wait of a clairvoyant pool). So a burst
//! of short operations passes without a new connection, and a lasting load grows the
//! pool.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use r2d2::ManageConnection;

use super::desk::Status;
use super::entry::Place;
use super::exchange::Gate;
use super::ledger::Ledger;
use super::shared::Shared;
use crate::clock::{NEVER, Ticks, after, between, ticks};
use crate::keeper::crew;
use crate::recovery::BreakerState;
use crate::resources;

/// How long the idle connections may be fewer than `min_idle` before the pool
/// opens more, as long as `min_idle` connections exist at all; and how often the
/// keeper looks whether they are.
const REFILL_DELAY: Duration = Duration::from_millis(500);

/// How long after a look at the demand the next caller that joins the line does
/// not look again.
const STIR_PAUSE: Ticks = 1_000_000;
/// How often the keeper looks at the demand while callers wait.
const STIR_EVERY: Duration = Duration::from_millis(10);

/// What the pool sees.
#[derive(Clone, Copy, Debug, Default)]
struct Demand {
    /// `max_size`, or less while the server is overloaded.
    most: u32,
    max_connecting: u32,
    /// Slots in use: open, connecting or closing.
    reserved: u32,
    connecting: u32,
    /// Open connections, whoever has them.
    open: u32,
    idle: u32,
    min_idle: u32,
    /// For how long the idle connections have been too few.
    short_for: Duration,
    waiting: u32,
    /// For how long somebody has been waiting without a break.
    queue_age: Duration,
    /// How long a lease lasts, as far as one knows.
    hold: Duration,
    /// How long a connect takes.
    connect: Duration,
    /// The last attempts to connect failed, or connections turned out dead: one at a time until
    /// one succeeds.
    failing: bool,
}

impl Demand {
    /// How many connects to start now.
    fn wanted(&self) -> u32 {
        let at_once = if self.failing { 1 } else { self.max_connecting };
        let limit = self
            .most
            .saturating_sub(self.reserved)
            .min(at_once.saturating_sub(self.connecting));
        let coming = self.open + self.connecting;
        let floor = self.min_idle.min(self.most).saturating_sub(coming);
        let refill = if self.short_for >= REFILL_DELAY {
            self.min_idle.saturating_sub(self.idle + self.connecting)
        } else {
            0
        };
        floor.max(refill).max(self.for_waiters()).min(limit)
    }

    fn for_waiters(&self) -> u32 {
        let unserved = self.waiting.saturating_sub(self.connecting);
        if unserved == 0 || self.idle >= self.waiting {
            return 0;
        }
        if self.open == 0 {
            return unserved;
        }
        let drain = self.hold.saturating_mul(unserved) / self.open;
        if drain > self.connect || self.queue_age > self.connect {
            unserved
        } else {
            0
        }
    }
}

impl<M: ManageConnection> Shared<M> {
    /// Somebody joined the line.
    pub(super) fn stir_for_newcomer(self: &Arc<Self>, now: Ticks) {
        let rules = &self.rules;
        let can_grow = rules.reserved.load(Ordering::Relaxed) < rules.limit.load(Ordering::Relaxed);
        if can_grow
            && (self.exchange.waiting() <= 1 || now >= rules.stir_again_at.load(Ordering::Relaxed))
        {
            self.stir(now);
        }
    }

    /// Opens what is worth opening, and has the keeper look again in time.
    pub(super) fn stir(self: &Arc<Self>, now: Ticks) {
        let next = self.meet_demand(now);
        if next != NEVER {
            self.wake_keeper(next);
        }
    }

    /// Opens what is worth opening, unless the gate is shut; says when to look again.
    pub(super) fn meet_demand(self: &Arc<Self>, now: Ticks) -> Ticks {
        // Read before the gate: whoever still sees the gate open that `drain` shuts opens
        // what the `clear` that follows has closed again.
        let generation = self.rules.generation.load(Ordering::SeqCst);
        if self.exchange.gate() != Gate::Open {
            return NEVER;
        }
        let mut ledger = self.ledger.lock();
        // Under the lock: so every connection is seen open or counted as connecting.
        let survey = self.survey(now);
        let waiting = self.exchange.waiting() as u32;
        if waiting == 0 {
            ledger.queue_since = NEVER;
        } else if ledger.queue_since == NEVER {
            ledger.queue_since = self.exchange.head_since().min(now);
        }
        // A server in doubt is checked, for which it takes a connection.
        let for_check = u32::from(self.pulse.is_in_doubt());
        let wanted_idle = ledger.min_idle.max(for_check);
        if survey.idle + ledger.connecting >= wanted_idle {
            ledger.short_since = NEVER;
        } else if ledger.short_since == NEVER {
            ledger.short_since = now;
        }
        let may_retry = now >= ledger.retry_at;
        // Operations do not wait in line while the circuit breaker keeps them out: then the pool
        // looks for the server as often as if they did.
        let background_retry_at = if self.circuit.state() == BreakerState::Closed {
            ledger.background_retry_at
        } else {
            ledger.retry_at
        };
        let background = now >= background_retry_at;
        let demand = Demand {
            most: ledger.most(),
            // While resources are short, one connection has to do.
            max_connecting: if may_retry && (survey.open == 0 || !resources::is_short()) {
                self.settings.max_connecting
            } else {
                0
            },
            reserved: ledger.reserved,
            connecting: ledger.connecting,
            open: survey.open,
            idle: survey.idle,
            min_idle: if background { wanted_idle } else { 0 },
            short_for: between(ledger.short_since, now),
            waiting,
            queue_age: between(ledger.queue_since, now),
            hold: survey.hold,
            connect: ledger.connect_time.unwrap_or_default(),
            failing: may_retry
                && (ledger.failures > 0 || self.rules.one_first.load(Ordering::SeqCst)),
        };
        let wanted = demand.wanted();
        let mut places = Vec::new();
        for _ in 0..wanted {
            let Some(slot) = ledger.vacant.pop() else {
                break;
            };
            ledger.reserved += 1;
            ledger.connecting += 1;
            places.push(Place::new(self, slot));
        }
        self.rules.reserved.store(ledger.reserved, Ordering::SeqCst);
        // Only a look that saw somebody waiting has planned the next.
        let again_at = if waiting > 0 { now + STIR_PAUSE } else { 0 };
        self.rules.stir_again_at.store(again_at, Ordering::Relaxed);
        let next = Self::look_again_at(&ledger, &demand, now);
        drop(ledger);
        for place in places {
            place.desk().set(Status::Connecting, now);
            crew::submit(Box::new(move || super::work::connect(place, generation)));
        }
        next
    }

    fn look_again_at(ledger: &Ledger<M>, demand: &Demand, now: Ticks) -> Ticks {
        let mut next = NEVER;
        if ledger.reserved >= ledger.most() {
            return next;
        }
        if demand.waiting > 0 {
            let pause = demand.connect / 2;
            let pause = pause.clamp(Duration::from_millis(1), STIR_EVERY);
            next = after(now, pause).max(ledger.retry_at);
        }
        // What is due already was limited by connects under way, whose end looks again.
        let mut at = |moment: Ticks| {
            if moment > now {
                next = next.min(moment);
            }
        };
        if ledger.short_since != NEVER {
            at(after(ledger.short_since, REFILL_DELAY).max(ledger.background_retry_at));
        }
        if ledger.failures > 0 {
            at(ledger.retry_at);
            at(ledger.background_retry_at);
        }
        // A lease of an idle connection tells nobody that there is one less. The same moment
        // for all pools, so that many idle ones wake the keeper once.
        if ledger.min_idle > 0 {
            let period = ticks(REFILL_DELAY);
            at((now / period + 1).saturating_mul(period));
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn burst() -> Demand {
        Demand {
            most: 50,
            max_connecting: 4,
            reserved: 5,
            open: 5,
            min_idle: 5,
            waiting: 45,
            hold: 2 * MS,
            connect: 150 * MS,
            ..Demand::default()
        }
    }

    #[test]
    fn a_burst_of_short_operations_opens_nothing() {
        assert_eq!(burst().wanted(), 0);
    }

    #[test]
    fn a_burst_of_long_ones_does_within_bounds() {
        assert_eq!(
            Demand {
                hold: 200 * MS,
                ..burst()
            }
            .wanted(),
            4
        );
        assert_eq!(
            Demand {
                hold: 200 * MS,
                most: 6,
                ..burst()
            }
            .wanted(),
            1
        );
    }

    #[test]
    fn a_lasting_queue_does() {
        assert_eq!(
            Demand {
                queue_age: 151 * MS,
                ..burst()
            }
            .wanted(),
            4
        );
    }

    #[test]
    fn an_empty_pool_opens_one_for_each_waiter() {
        let empty = Demand {
            reserved: 0,
            open: 0,
            min_idle: 0,
            waiting: 2,
            ..burst()
        };
        assert_eq!(empty.wanted(), 2);
        assert_eq!(
            Demand {
                failing: true,
                ..empty
            }
            .wanted(),
            1
        );
        assert_eq!(
            Demand {
                failing: true,
                connecting: 1,
                ..empty
            }
            .wanted(),
            0
        );
    }

    #[test]
    fn too_few_open_are_replaced_at_once_and_too_few_idle_later() {
        let calm = Demand {
            waiting: 0,
            ..burst()
        };
        assert_eq!(
            Demand {
                open: 3,
                reserved: 3,
                ..calm
            }
            .wanted(),
            2
        );
        assert_eq!(Demand { idle: 2, ..calm }.wanted(), 0);
        assert_eq!(
            Demand {
                idle: 2,
                short_for: REFILL_DELAY,
                ..calm
            }
            .wanted(),
            3
        );
    }
}
