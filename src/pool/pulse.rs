//! How the pool's server is: checked by the clock, and at once when it is in doubt.
//!
//! A check takes an idle connection, as a ping does, and asks the server what it is. When a
//! check or a connect fails, or an operation fails in a way that may be the server's fault, the
//! server is *in doubt* until a check passes. While it is, checks are due each second, and the
//! pool wants at least one connection to make them with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use r2d2::ManageConnection;

use super::desk::Status;
use super::entry::Entry;
use super::exchange::Gate;
use super::ledger::Care;
use super::shared::Shared;
use crate::backend::Service;
use crate::clock::{NEVER, Ticks, after, between};
use crate::error::{Error, ErrorKind, Phase};
use crate::health::{Concern, ConnectionHealth, Health, PoolHealth, Reason};

/// How long after it was built a pool's server is asked for the first time.
const FIRST_CHECK: Duration = Duration::from_secs(1);
/// How often it is asked while it is in doubt.
const DOUBT_CHECK: Duration = Duration::from_secs(1);
/// How soon again when no connection was idle.
const NEXT_TRY: Duration = Duration::from_millis(100);
/// For how long callers may have been waiting without a break before the pool counts as
/// saturated.
const LONG_QUEUE: Duration = Duration::from_secs(1);

pub(super) struct Pulse {
    in_doubt: AtomicBool,
    facts: Mutex<Facts>,
}

struct Facts {
    /// When the next check is due.
    due: Ticks,
    /// When the check under way began.
    began: Option<Ticks>,
    /// When the last one ended.
    ended: Option<Ticks>,
    /// What the server said at the last one that passed.
    service: Option<Service>,
    /// Checks that failed since, and why the last one did.
    failures: u32,
    error: Option<Error>,
    /// The operation that put the server in doubt.
    doubt: Option<(ErrorKind, String)>,
    /// Since when it is in doubt.
    since: Ticks,
}

impl Pulse {
    pub(super) fn new(interval: Option<Duration>, now: Ticks) -> Self {
        let first = interval.map(|interval| after(now, interval.min(FIRST_CHECK)));
        Self {
            in_doubt: AtomicBool::new(false),
            facts: Mutex::new(Facts {
                due: first.unwrap_or(NEVER),
                began: None,
                ended: None,
                service: None,
                failures: 0,
                error: None,
                doubt: None,
                since: NEVER,
            }),
        }
    }

    /// Whether the server has yet to show that it is well.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Relaxed)
    }
}

/// Whether an error of this kind may be the server's fault and not the operation's.
fn puts_in_doubt(kind: ErrorKind, phase: Phase) -> bool {
    match kind {
        ErrorKind::Connect(_)
        | ErrorKind::ConnectionLost
        | ErrorKind::Authentication
        | ErrorKind::WrongRole => true,
        ErrorKind::DeadlineExceeded => phase == Phase::Operation,
        _ => false,
    }
}

impl<M: ManageConnection> Shared<M> {
    /// An operation failed like this.
    pub(super) fn doubt(self: &Arc<Self>, error: &Error) {
        self.heed(error);
        if puts_in_doubt(error.kind(), error.phase()) {
            self.put_in_doubt(error.kind(), error.message());
        }
    }

    /// The server may not be well.
    pub(super) fn put_in_doubt(&self, kind: ErrorKind, why: &str) {
        // In doubt already: then a check is due.
        if self.pulse.in_doubt.swap(true, Relaxed) {
            return;
        }
        let now = self.clock.now();
        let mut facts = self.pulse.facts.lock();
        facts.doubt = Some((kind, why.to_owned()));
        facts.since = now;
        if facts.due != NEVER {
            facts.due = now;
        }
        drop(facts);
        self.wake_keeper(now);
    }

    /// Has the server checked if that is due; says when to come again.
    pub(super) fn take_pulse(self: &Arc<Self>, now: Ticks) -> Ticks {
        let mut facts = self.pulse.facts.lock();
        if facts.began.is_some() || facts.due == NEVER {
            return NEVER;
        }
        if self.knowledge.check.is_none() && !self.pulse.is_in_doubt() {
            // Pings tell as much.
            return NEVER;
        }
        if now < facts.due {
            return facts.due;
        }
        facts.began = Some(now);
        drop(facts);
        let idle = |number: &u32| self.exchange.slot(*number).desk.status() == Status::Idle;
        let mut slots = (0..self.exchange.slots()).filter(idle);
        if let Some(entry) = slots.find_map(|number| self.exchange.take_from(number)) {
            self.care_for(Care::Examine(entry));
            return NEVER;
        }
        let mut facts = self.pulse.facts.lock();
        facts.began = None;
        if self.survey(now).open > 0 {
            return after(now, NEXT_TRY);
        }
        if self.pulse.is_in_doubt() {
            // The next connect that succeeds wakes the keeper.
            return after(now, DOUBT_CHECK);
        }
        // Nobody needs it, and nothing speaks against it.
        facts.due = after(
            now,
            self.settings.health_check_interval.unwrap_or(DOUBT_CHECK),
        );
        facts.due
    }

    /// Asks the server how it is, on the crew. The connection, if it is still good.
    pub(super) fn examine(self: &Arc<Self>, entry: Box<Entry<M>>) -> Option<Box<Entry<M>>> {
        let mut said = None;
        let entry = match self.knowledge.check {
            None => self.check(entry),
            Some(check) => self.check_by(entry, |manager, conn| {
                said = Some(check(manager, conn)?);
                Ok(())
            }),
        };
        let now = self.clock.now();
        let interval = self.settings.health_check_interval;
        let mut facts = self.pulse.facts.lock();
        facts.began = None;
        facts.ended = Some(now);
        if entry.is_some() {
            facts.service = said;
            facts.due = interval.map_or(NEVER, |interval| after(now, interval));
        }
        let due = facts.due;
        drop(facts);
        if entry.is_some() {
            self.note_well(now);
        }
        self.wake_keeper(due);
        entry
    }

    /// The server showed that it is well.
    fn note_well(&self, now: Ticks) {
        if !self.pulse.in_doubt.swap(false, Relaxed) {
            return;
        }
        let mut facts = self.pulse.facts.lock();
        facts.failures = 0;
        facts.error = None;
        facts.doubt = None;
        let since = std::mem::replace(&mut facts.since, NEVER);
        drop(facts);
        self.circuit.server_is_well(now);
        log::info!(
            pool = &*self.name;
            "millpond: pool {}: the server {} is well again, after {:.3} s",
            self.name,
            self.endpoint,
            between(since, now).as_secs_f64()
        );
    }

    /// A connection passed a check, of whatever kind.
    pub(super) fn note_check_passed(&self, now: Ticks) {
        // Where the server can be asked how it is, that it answers is not enough.
        if self.knowledge.check.is_none() {
            self.note_well(now);
        }
    }

    /// A connection failed a check.
    pub(super) fn note_check_failed(&self, error: Error, now: Ticks) {
        self.circuit.cannot_be_reached();
        let mut facts = self.pulse.facts.lock();
        facts.failures = facts.failures.saturating_add(1);
        facts.error = Some(error);
        if !self.pulse.in_doubt.swap(true, Relaxed) {
            facts.since = now;
        }
        if facts.due != NEVER {
            // The first time it may have been that connection alone.
            let pause = if facts.failures == 1 {
                Duration::ZERO
            } else {
                DOUBT_CHECK
            };
            facts.due = after(now, pause);
        }
        let due = facts.due;
        drop(facts);
        self.wake_keeper(due);
    }

    /// How the pool and its server are, and why.
    pub(super) fn health(&self) -> PoolHealth {
        let now = self.clock.now();
        let open = self.survey(now).open;
        let mut reasons = Vec::new();
        match self.exchange.gate() {
            Gate::Open => {}
            Gate::Paused => reasons.push(Reason::new(
                Health::Down,
                Concern::Stopped,
                "the pool is paused, by `pause` or `drain`, until `resume`",
            )),
            Gate::Closed => reasons.push(Reason::new(
                Health::Down,
                Concern::Stopped,
                "the pool was closed",
            )),
        }
        self.look_at_connecting(open, now, &mut reasons);
        self.look_at_circuit(now, &mut reasons);
        self.look_at_limit(now, &mut reasons);
        let facts = self.pulse.facts.lock();
        self.look_at_checks(&facts, open, now, &mut reasons);
        let service = facts.service.clone();
        let checked = facts.ended.map(|ended| between(ended, now));
        drop(facts);
        PoolHealth {
            pool: Arc::clone(&self.name),
            backend: self.knowledge.backend,
            endpoint: Arc::clone(&self.endpoint),
            health: reasons
                .iter()
                .map(|reason| reason.health)
                .max()
                .unwrap_or_default(),
            reasons,
            service,
            checked,
        }
    }

    fn look_at_connecting(&self, open: u32, now: Ticks, reasons: &mut Vec<Reason>) {
        let worst = if open == 0 {
            Health::Down
        } else {
            Health::Degraded
        };
        let ledger = self.ledger.lock();
        if let Some(error) = &ledger.last_error {
            let text = format!("connecting fails: {}", error.message());
            reasons.push(Reason::new(worst, Concern::Connecting, text).with_error(error.kind()));
        }
        let queue_age = between(ledger.queue_since, now);
        drop(ledger);
        let waiting = self.exchange.waiting();
        if open > 0 && waiting > 0 && queue_age > LONG_QUEUE {
            let text = format!(
                "{waiting} callers wait for a connection, and some have for {:.1} s without a \
                 break: hold connections for a shorter time, or raise max_size \
                 (POOL_MAX_CONNECTIONS)",
                queue_age.as_secs_f64()
            );
            reasons.push(Reason::new(Health::Degraded, Concern::Saturated, text));
        }
    }

    fn look_at_checks(&self, facts: &Facts, open: u32, now: Ticks, reasons: &mut Vec<Reason>) {
        let slow = facts.began.map(|began| between(began, now));
        let slow = slow.filter(|slow| *slow > self.settings.validation_timeout);
        if let Some(error) = &facts.error {
            // A few connections that died with a server that is back are not its end.
            let lasts = facts.failures > 1 && between(facts.since, now) > DOUBT_CHECK;
            let worst = if lasts || open == 0 {
                Health::Down
            } else {
                Health::Degraded
            };
            let text = format!("the last check failed: {}", error.message());
            reasons.push(Reason::new(worst, Concern::Check, text).with_error(error.kind()));
        } else if let Some(slow) = slow {
            let text = format!(
                "the server has not answered a check for {:.1} s",
                slow.as_secs_f64()
            );
            let kind = ErrorKind::DeadlineExceeded;
            reasons.push(Reason::new(Health::Down, Concern::Check, text).with_error(kind));
        } else if let Some((kind, why)) = &facts.doubt {
            let text = format!("an operation failed, and the server is being checked: {why}");
            let reason = Reason::new(Health::Degraded, Concern::Operation, text);
            reasons.push(reason.with_error(*kind));
        }
        let service = facts.service.as_ref();
        if let Some(service) = service {
            let today = SystemTime::now();
            let certificates = service.certificates.iter();
            reasons.extend(certificates.filter_map(|certificate| certificate.reason(today)));
        }
        if !self.settings.read_only
            && service.is_some_and(|service| service.writable == Some(false))
        {
            reasons.push(Reason::read_only());
        }
    }

    /// How each connection is.
    pub(super) fn connections(&self) -> Vec<ConnectionHealth> {
        let now = self.clock.now();
        let leak = self.settings.leak_threshold;
        let suspect_before = self
            .rules
            .suspect_before
            .load(std::sync::atomic::Ordering::Relaxed);
        let look = |desk: &super::desk::Desk| {
            let since = between(desk.since(), now);
            let (health, doing) = match desk.status() {
                Status::Vacant | Status::Connecting => return None,
                Status::Idle if desk.fresh_at() < suspect_before => (Health::Degraded, "idle"),
                Status::Idle => (Health::Up, "idle"),
                Status::Leased if leak.is_some_and(|leak| since > leak) => {
                    (Health::Degraded, "leased")
                }
                Status::Leased => (Health::Up, "leased"),
                Status::InCare => (Health::Up, "in care"),
                Status::Closing => (Health::Down, "closing"),
            };
            Some(ConnectionHealth {
                id: desk.connection(),
                health,
                doing,
                since,
            })
        };
        self.exchange.desks().filter_map(look).collect()
    }
}
