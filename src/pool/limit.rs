//! How many connections there may be while the server says that it has too much to do.
//!
//! A server that answers "too many" ([`Overloaded`](ErrorKind::Overloaded)) is not helped by
//! callers that pause and come back as many as before. So the pool looks for the number of
//! connections in use at once that the server bears, as TCP looks for what a path bears: one more
//! after a while without a refusal, a fraction of them after one (additive increase,
//! multiplicative decrease: Jacobson, "Congestion Avoidance and Control", 1988). Programs that
//! share a server and do this come to equal shares of it (Chiu and Jain, 1989); Netflix's
//! concurrency-limits does it for services.
//!
//! * **An operation is refused**: the limit becomes seven tenths of the connections in use, once
//!   for all refusals of one overload: not again before as much time has passed as a lease lasts.
//! * **A connect is refused**: the server bears what is open now, and this is the limit.
//! * **Nothing is refused for a while**: one more. A while is over after ten leases for each
//!   connection; without that traffic, or if it would be as many as were too many the last time,
//!   after the time of ten leases, from one second to ten. So the limit is soon where it was, and
//!   stays there for most of the time.
//!   Whatever else goes wrong with the server begins the while anew, and so does what it would say
//!   [however few](Error::asks_for_less) there were, as Redis does while it reads its data from disk.
//! * **As many as `max_size` for a while**: there is no limit any more.
//!
//! # Where it bites
//!
//! The limit takes the place of `max_size`: no more is opened, and what is open beyond it is
//! closed, the idle ones at once and the others as they come back, just as when `max_size` is
//! lowered. So where the limit is reached all connections are in use, and whoever comes waits in
//! line as in any such pool. The exchange and the ways of a lease know nothing of the limit: it
//! costs a lease nothing, in force or not, and there is no wake-up that could be lost. Its price
//! is a connect for each step up, and the server has its memory and its places meanwhile.
//!
//! # Invariants
//!
//! 1. The limit is at least 1, and `Rules::limit` is the least of it and `max_size` whenever the
//!    ledger is not locked.
//! 2. While nothing goes wrong it grows at least once in ten seconds, whatever the leases do: so nobody
//!    waits for ever because of a refusal long ago.
//! 3. It makes no deadlock of threads that take two connections at once: when all that there are
//!    are held by threads that wait for more, it grows, and remembers how many they need. (This
//!    is found by `deadlock_detection`.)

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use r2d2::ManageConnection;

use super::counters::CloseReason;
use super::desk::Status;
use super::ledger::Ledger;
use super::shared::Shared;
use crate::clock::{NEVER, Ticks, after, between};
use crate::error::{Error, ErrorKind};
use crate::health::{Concern, Health, Reason};
use crate::recovery::Verdict;

/// The least time between two cuts.
const BURST: Duration = Duration::from_millis(25);
/// The least time before one more is allowed.
const PAUSE: Duration = Duration::from_millis(100);
/// So many leases for each connection without a refusal are worth one connection more.
const LEASES: u64 = 10;
/// So many times the time that a lease lasts are, within these bounds.
const HOLDS: u32 = 10;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);
/// For how long the limit has to have been as high as `max_size` before it is forgotten.
const CALM: Duration = Duration::from_secs(5);

/// The rule, for one pool.
#[derive(Debug, Default)]
pub(super) struct Limit {
    /// `None` while none is in force.
    low: Option<Low>,
    /// Threads that take several connections at once have been seen to need so many.
    least: u32,
}

#[derive(Debug)]
struct Low {
    most: u32,
    since: Ticks,
    lowered_at: Ticks,
    /// Since when nothing was refused and nothing changed.
    quiet_since: Ticks,
    /// Leases that had ended then; `None` until somebody looks.
    leases: Option<u64>,
    /// So many were too many the last time.
    refused: u32,
    cause: String,
}

/// What the pool sees at one moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    max_size: u32,
    in_use: u32,
    /// How long a lease lasts.
    hold: Duration,
    /// Leases that ended so far.
    leases: u64,
}

/// What became of the limit.
#[derive(Debug, PartialEq)]
enum Change {
    /// It is in force from now on.
    Begun,
    /// It was, and is lower now.
    Lowered,
    Raised,
    /// It was in force for so long, and is no more.
    Lifted(Duration),
}

impl Limit {
    /// The most connections that there may be, as far as the server is concerned.
    pub(super) fn most(&self) -> u32 {
        self.low.as_ref().map_or(u32::MAX, |low| low.most)
    }

    /// An operation was refused for overload.
    fn operation_refused(
        &mut self,
        now: Ticks,
        cause: &str,
        look: impl FnOnce() -> Look,
    ) -> Option<Change> {
        if self.goes_on(now) {
            return None;
        }
        let look = look();
        if let Some(low) = &self.low
            && now < after(low.lowered_at, look.hold.clamp(BURST, LONGEST))
        {
            return None;
        }
        let in_use = look.in_use.min(look.max_size).min(self.most());
        let most = (u64::from(in_use) * 7 / 10) as u32;
        let bounds = (in_use, look.max_size);
        self.lower_to(most.max(self.least), bounds, now, cause)
    }

    /// A connect was refused for overload, while so many others were open or on their way.
    fn connect_refused(
        &mut self,
        others: u32,
        max_size: u32,
        now: Ticks,
        cause: &str,
    ) -> Option<Change> {
        self.goes_on(now);
        let change = self.lower_to(others, (others + 1, max_size), now, cause);
        if let Some(low) = &mut self.low {
            low.refused = others + 1;
        }
        change
    }

    /// Something was refused; whether that says no more than what was refused just before.
    fn goes_on(&mut self, now: Ticks) -> bool {
        let Some(low) = &mut self.low else {
            return false;
        };
        low.quiet_since = now;
        low.leases = None;
        now < after(low.lowered_at, BURST)
    }

    /// `refused` were too many.
    fn lower_to(
        &mut self,
        most: u32,
        (refused, max_size): (u32, u32),
        now: Ticks,
        cause: &str,
    ) -> Option<Change> {
        let most = most.max(1);
        if most >= self.most().min(max_size) {
            return None;
        }
        let since = self.low.as_ref().map(|low| low.since);
        self.low = Some(Low {
            most,
            since: since.unwrap_or(now),
            lowered_at: now,
            quiet_since: now,
            leases: None,
            refused,
            cause: cause.to_owned(),
        });
        Some(since.map_or(Change::Begun, |_| Change::Lowered))
    }

    /// Time has passed: what has changed, and when to look again.
    fn step(&mut self, now: Ticks, look: &Look) -> (Option<Change>, Ticks) {
        let Some(low) = &mut self.low else {
            return (None, NEVER);
        };
        let quiet = between(low.quiet_since, now);
        if low.most >= look.max_size {
            if quiet < CALM {
                return (None, after(low.quiet_since, CALM));
            }
            let lasted = between(low.since, now);
            self.low = None;
            return (Some(Change::Lifted(lasted)), NEVER);
        }
        let leases = *low.leases.get_or_insert(look.leases);
        let enough = look.leases.saturating_sub(leases) >= u64::from(low.most) * LEASES;
        let risky = low.most + 1 == low.refused;
        let long = look.hold.saturating_mul(HOLDS).clamp(SHORTEST, LONGEST);
        let again = after(now, PAUSE);
        if quiet < long && (risky || !enough || quiet < PAUSE) {
            return (None, again);
        }
        low.most += 1;
        low.quiet_since = now;
        low.leases = Some(look.leases);
        (Some(Change::Raised), again)
    }

    /// Threads need so many connections at once.
    fn make_room(&mut self, needed: u32) {
        self.least = self.least.max(needed);
        if let Some(low) = &mut self.low {
            low.most = low.most.max(needed);
        }
    }
}

impl<M: ManageConnection> Shared<M> {
    /// An operation failed like this: if for overload, fewer are done at once from here on.
    pub(super) fn heed(self: &Arc<Self>, error: &Error) {
        let overloaded = error.asks_for_less();
        if !self.settings.adaptive || !(overloaded || self.is_limited()) {
            return;
        }
        let now = self.clock.now();
        let mut ledger = self.ledger.lock();
        if !overloaded {
            if Verdict::of(error) == Verdict::Ill {
                // No reason for less, but none for more.
                ledger.limit.goes_on(now);
            }
            return;
        }
        let max_size = ledger.max_size;
        let look = || self.look(max_size, now);
        let change = ledger.limit.operation_refused(now, error.message(), look);
        let most = self.post_limit(&ledger);
        let too_many = ledger.reserved > most;
        drop(ledger);
        self.tell_of_limit(change.as_ref(), most, error.message(), now);
        if change.is_some() && too_many {
            self.next_epoch();
            self.close_idle(|entry| self.is_surplus(entry, now).then_some(CloseReason::Surplus));
        }
    }

    /// A connect was refused for overload like this, and its place is free again.
    pub(super) fn heed_connect(self: &Arc<Self>, why: &str, now: Ticks) {
        if !self.settings.adaptive {
            return;
        }
        let mut ledger = self.ledger.lock();
        let open = self.survey(now).open;
        if open == 0 {
            // Nothing is known of what it bears, and they are tried one at a time anyway.
            return;
        }
        // This one counts as connecting still.
        let others = open + ledger.connecting.saturating_sub(1);
        let max_size = ledger.max_size;
        let limit = &mut ledger.limit;
        let change = limit.connect_refused(others, max_size, now, why);
        let most = self.post_limit(&ledger);
        drop(ledger);
        self.tell_of_limit(change.as_ref(), most, why, now);
    }

    /// Raises the limit if it is time for that; says when to look again.
    pub(super) fn raise_limit(&self, now: Ticks) -> Ticks {
        let kept_back = self.circuit.keeps_back(now);
        let mut ledger = self.ledger.lock();
        if ledger.limit.low.is_none() {
            return NEVER;
        }
        if kept_back {
            // Nothing goes to the server from which it could be seen what it bears.
            ledger.limit.goes_on(now);
        }
        let look = self.look(ledger.max_size, now);
        let (change, next) = ledger.limit.step(now, &look);
        let most = self.post_limit(&ledger);
        drop(ledger);
        self.tell_of_limit(change.as_ref(), most, "", now);
        next
    }

    /// Threads that hold so many connections wait for one more, which the limit does not allow.
    /// Says whether there may be more now.
    pub(super) fn make_room(self: &Arc<Self>, held: u32, now: Ticks) -> bool {
        let mut ledger = self.ledger.lock();
        if held >= ledger.max_size {
            return false;
        }
        ledger.limit.make_room(held + 1);
        self.post_limit(&ledger);
        drop(ledger);
        self.stir(now);
        true
    }

    /// Makes the limit known; the most connections that there may be now.
    pub(super) fn post_limit(&self, ledger: &Ledger<M>) -> u32 {
        let most = ledger.most();
        self.rules.limit.store(most, Ordering::SeqCst);
        most
    }

    /// Whether there may be fewer than `max_size` now.
    pub(super) fn is_limited(&self) -> bool {
        let rules = &self.rules;
        rules.limit.load(Ordering::Relaxed) < rules.max_size.load(Ordering::Relaxed)
    }

    fn look(&self, max_size: u32, now: Ticks) -> Look {
        let (mut leases, mut held, mut ages) = (0, 0, Vec::new());
        for desk in self.exchange.desks() {
            let (ended, ticks) = desk.totals();
            leases += ended;
            held += ticks;
            if desk.status() == Status::Leased {
                ages.push(now.saturating_sub(desk.since()));
            }
        }
        let in_use = ages.len() as u32;
        // Of those under way the middle one, not the mean: one that is kept for hours says nothing
        // about the others.
        let middle = ages.len() / 2;
        let under_way = if ages.is_empty() {
            0
        } else {
            *ages.select_nth_unstable(middle).1
        };
        let usual: Ticks = held.checked_div(leases).unwrap_or(0);
        Look {
            max_size,
            in_use,
            hold: Duration::from_nanos(usual.max(under_way)),
            leases,
        }
    }

    fn tell_of_limit(&self, change: Option<&Change>, most: u32, cause: &str, now: Ticks) {
        let (name, endpoint) = (&*self.name, &*self.endpoint);
        if let Some(Change::Begun | Change::Lowered) = change {
            self.wake_keeper(after(now, PAUSE));
        }
        match change {
            None => {}
            Some(Change::Begun) => {
                log::warn!(
                    pool = name, limit = most;
                    "millpond: pool {name}: the server {endpoint} is overloaded; no more than \
                     {most} connections are used at once until it takes more: {cause}"
                );
            }
            Some(Change::Lowered | Change::Raised) => log::debug!(
                pool = name, limit = most;
                "millpond: pool {name}: no more than {most} connections are used at once"
            ),
            Some(Change::Lifted(lasted)) => log::info!(
                pool = name;
                "millpond: pool {name}: the server {endpoint} takes as many connections as before \
                 again, after {:.3} s",
                lasted.as_secs_f64()
            ),
        }
    }

    /// Why there may be fewer connections, or might until a moment ago, in words.
    pub(super) fn limited(&self, now: Ticks) -> Option<String> {
        let ledger = self.ledger.lock();
        let low = ledger.limit.low.as_ref()?;
        Some(format!(
            "the server said that it is overloaded, and for {:.1} s fewer connections have been \
             used at once, now no more than {} of {}: {}",
            between(low.since, now).as_secs_f64(),
            ledger.most(),
            ledger.max_size,
            low.cause,
        ))
    }

    pub(super) fn look_at_limit(&self, now: Ticks, reasons: &mut Vec<Reason>) {
        if let Some(text) = self.limited(now) {
            let reason = Reason::new(Health::Degraded, Concern::Overloaded, text);
            reasons.push(reason.with_error(ErrorKind::Overloaded));
        }
    }
}
