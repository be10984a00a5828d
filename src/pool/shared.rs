//! What all handles, leases and jobs of one pool share, and the way of a connection out of it.

use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use parking_lot::{Condvar, Mutex};
use r2d2::ManageConnection;

use super::care::Care as Knowledge;
use super::counters::{CloseReason, Counters};
use super::deadlock::DeadlockWatch;
use super::desk::{Desk, Status};
use super::entry::Entry;
use super::exchange::{Exchange, Gate, Waited};
use super::lease::PooledConnection;
use super::ledger::{Care, Ledger};
use super::pulse::Pulse;
use super::requests::Requests;
use super::settings::Settings;
use super::tally::Tally;
use crate::clock::{Clock, Ticks, after, between, ticks};
use crate::error::Error;
use crate::event::{CheckoutEvent, TimeoutEvent};
use crate::keeper::Membership;
use crate::recovery::{Budget, Circuit};
use crate::threads;

/// For how long a check counts for the lease that it was made for, which another
/// thread may have to be woken up for.
const CHECK_HOLDS: Ticks = 20_000_000;

pub(super) struct Shared<M: ManageConnection> {
    pub(super) manager: M,
    pub(super) settings: Settings<M>,
    pub(super) knowledge: Knowledge<M>,
    pub(super) name: Arc<str>,
    pub(super) endpoint: Arc<str>,
    pub(super) clock: Clock,
    pub(super) exchange: Exchange<Entry<M>, Desk, Error>,
    pub(super) rules: CachePadded<Rules>,
    pub(super) ledger: Mutex<Ledger<M>>,
    /// Rung when the ledger changes in a way that somebody may wait for.
    pub(super) changed: Condvar,
    pub(super) counters: Counters,
    /// `None` when metrics are off.
    pub(super) requests: Option<Requests>,
    pub(super) pulse: Pulse,
    pub(super) budget: Budget,
    pub(super) circuit: Arc<Circuit>,
    pub(super) membership: OnceLock<Membership>,
}

/// Read on every lease, written almost never.
pub(super) struct Rules {
    /// Grows whenever every connection must be looked at closely once.
    pub(super) epoch: AtomicU64,
    /// Grows with each `clear`.
    pub(super) generation: AtomicU64,
    /// Connections that were last fresh before this moment are suspect.
    pub(super) suspect_before: AtomicU64,
    /// How long a connection stays fresh.
    pub(super) bypass: Ticks,
    pub(super) max_size: AtomicU32,
    /// The same, or less while the server is overloaded: the most that there may be now.
    pub(super) limit: AtomicU32,
    pub(super) reserved: AtomicU32,
    /// The last connect failed in a way that cannot heal by itself.
    pub(super) hopeless: AtomicBool,
    /// Connections turned out dead, and none was established since: whatever ended them may be
    /// in the way of all, so one is tried first.
    pub(super) one_first: AtomicBool,
    pub(super) stir_again_at: AtomicU64,
}

impl<M: ManageConnection> Shared<M> {
    pub(super) fn new(settings: Settings<M>, manager: M, clock: Clock) -> Arc<Self> {
        let knowledge = super::care::of::<M>();
        let endpoint: Arc<str> = (knowledge.endpoint)(&manager).into();
        let name = settings
            .name
            .clone()
            .unwrap_or_else(|| knowledge.backend.into());
        let max_size = settings.max_size;
        Arc::new(Self {
            knowledge,
            name,
            endpoint,
            exchange: Exchange::new(max_size, ticks(settings.overtaking)),
            rules: CachePadded::new(Rules {
                epoch: AtomicU64::new(0),
                generation: AtomicU64::new(0),
                suspect_before: AtomicU64::new(0),
                bypass: ticks(settings.bypass()),
                max_size: AtomicU32::new(max_size),
                limit: AtomicU32::new(max_size),
                reserved: AtomicU32::new(0),
                hopeless: AtomicBool::new(false),
                one_first: AtomicBool::new(false),
                stir_again_at: AtomicU64::new(0),
            }),
            ledger: Mutex::new(Ledger::new(max_size, settings.min_idle())),
            changed: Condvar::new(),
            counters: Counters::default(),
            requests: settings.metrics.then(|| {
                Requests::new(
                    settings.response_time_window,
                    settings.error_rate_window,
                    max_size,
                )
            }),
            budget: Budget::default(),
            circuit: Arc::new(Circuit::new(settings.breaker.clone())),
            pulse: Pulse::new(settings.health_check_interval, clock.now()),
            membership: OnceLock::new(),
            manager,
            settings,
            clock,
        })
    }

    /// A connection that can be used as it is, if one is idle.
    #[inline]
    pub(super) fn take(self: &Arc<Self>, now: Ticks) -> Option<Box<Entry<M>>> {
        loop {
            let entry = self.exchange.take(&self.clock)?;
            if self.is_fresh(&entry, now) {
                return Some(entry);
            }
            if let Some(entry) = self.screen(entry, now) {
                return Some(entry);
            }
        }
    }

    #[inline]
    fn is_fresh(&self, entry: &Entry<M>, now: Ticks) -> bool {
        entry.epoch == self.rules.epoch.load(Ordering::Relaxed)
            && now < entry.expires_at
            && now.saturating_sub(entry.fresh_at) < self.rules.bypass
    }

    /// A close look at a connection that somebody wants: lets it pass, or takes it
    /// into care.
    #[cold]
    fn screen(self: &Arc<Self>, mut entry: Box<Entry<M>>, now: Ticks) -> Option<Box<Entry<M>>> {
        if let Some(reason) = self.unwanted(&mut entry, now) {
            self.care_for(Care::Close(entry, reason));
            return None;
        }
        let suspect = self.rules.suspect_before.load(Ordering::Relaxed);
        let never_test = self.settings.test_on_check_out == Some(false);
        let age = now.saturating_sub(entry.fresh_at);
        let just_checked = entry.fresh_at > entry.used_at && age < CHECK_HOLDS;
        let fresh = age < self.rules.bypass || just_checked;
        if never_test || (fresh && entry.fresh_at >= suspect) {
            return Some(entry);
        }
        self.care_for(Care::Validate(entry));
        None
    }

    /// Why the pool does not want this connection any more, if so; else brings its
    /// epoch up to date.
    pub(super) fn unwanted(&self, entry: &mut Entry<M>, now: Ticks) -> Option<CloseReason> {
        if now >= entry.expires_at {
            return Some(CloseReason::Expired);
        }
        let epoch = self.rules.epoch.load(Ordering::SeqCst);
        if entry.epoch == epoch {
            return None;
        }
        if self.exchange.gate() == Gate::Closed {
            return Some(CloseReason::PoolClosed);
        }
        if entry.generation != self.rules.generation.load(Ordering::SeqCst) {
            return Some(CloseReason::Cleared);
        }
        if self.is_surplus(entry, now) {
            return Some(CloseReason::Surplus);
        }
        // A suspect stays one until it has been checked.
        if entry.fresh_at >= self.rules.suspect_before.load(Ordering::SeqCst) {
            entry.epoch = epoch;
        }
        None
    }

    /// Whether there are more connections than there may be, apart from those that are
    /// being closed; then this one counts as such from here on. One at a time, so that
    /// of many that come back together only the surplus is closed.
    pub(super) fn is_surplus(&self, entry: &Entry<M>, now: Ticks) -> bool {
        let rules = &self.rules;
        if rules.reserved.load(Ordering::SeqCst) <= rules.limit.load(Ordering::SeqCst) {
            return false;
        }
        let ledger = self.ledger.lock();
        let desks = self.exchange.desks();
        let closing = desks.filter(|desk| desk.status() == Status::Closing);
        let surplus = ledger.reserved > ledger.most() + closing.count() as u32;
        if surplus {
            self.begin_closing(entry.place.desk(), CloseReason::Surplus, now);
        }
        surplus
    }

    /// From now on every connection is looked at closely once.
    pub(super) fn next_epoch(&self) {
        self.rules.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// One connection turned out dead: the others that were idle as long are suspect.
    pub(super) fn suspect_all(&self, now: Ticks) {
        self.rules.one_first.store(true, Ordering::SeqCst);
        self.rules.suspect_before.fetch_max(now, Ordering::SeqCst);
        self.next_epoch();
    }

    /// Hands a connection to a caller.
    #[inline]
    pub(super) fn lease(
        &self,
        mut entry: Box<Entry<M>>,
        location: &'static Location<'static>,
        started: Ticks,
        now: Ticks,
    ) -> Result<PooledConnection<M>, Error> {
        let thread = threads::current();
        let now = if entry.sampling.begin() {
            self.exact_time()
        } else {
            now
        };
        entry.place.desk().lease(thread, location, now);
        entry.leased_at = now;
        entry.uses += 1;
        *entry.user.get_mut() = thread;
        let id = entry.id;
        if let Some(tally) = &self.settings.tally {
            tally.add();
        }
        let mut lease = PooledConnection::new(entry);
        if let Some(hook) = &self.settings.before_lease {
            self.run_before_lease(hook, &mut lease)?;
        }
        if let Some(handler) = &self.settings.event_handler {
            let event = CheckoutEvent {
                id,
                duration: between(started, now),
            };
            self.guarded("checkout handler", || handler.handle_checkout(event));
        }
        Ok(lease)
    }

    /// Waits for a connection; if it is for an operation, only while the circuit breaker lets
    /// those through.
    #[cold]
    pub(super) fn wait(
        self: &Arc<Self>,
        timeout: Duration,
        location: &'static Location<'static>,
        for_operation: bool,
    ) -> Result<PooledConnection<M>, Error> {
        if let Some(lease) = self.queue(timeout, location, for_operation)? {
            return Ok(lease);
        }
        self.counters.timeouts.fetch_add(1, Ordering::Relaxed);
        if let Some(handler) = &self.settings.event_handler {
            self.guarded("timeout handler", || {
                handler.handle_timeout(TimeoutEvent { timeout });
            });
        }
        Err(self.timed_out(timeout))
    }

    /// Waits in line; `None` when the time is over.
    pub(super) fn queue(
        self: &Arc<Self>,
        timeout: Duration,
        location: &'static Location<'static>,
        for_operation: bool,
    ) -> Result<Option<PooledConnection<M>>, Error> {
        let _counted = self.settings.tally.as_deref().map(Tally::count_in);
        let started = self.clock.now();
        let deadline = after(started, timeout);
        let me = threads::current();
        let mut watch = DeadlockWatch::new(self, me);
        let waited = self.exchange.wait(
            &self.clock,
            (me, started, deadline),
            |gate, waiting| self.may_join(gate, waiting),
            || self.stir_for_newcomer(started),
            |entry| {
                let now = self.clock.now();
                if self.is_fresh(&entry, now) {
                    Some(entry)
                } else {
                    self.screen(entry, now)
                }
            },
            |now| {
                self.refuse_if_hopeless(now)?;
                let next = watch.look(now)?;
                if for_operation {
                    return Ok(next.min(self.refuse_if_open(now)?));
                }
                Ok(next)
            },
        );
        let now = self.clock.now();
        match waited {
            Waited::Given(entry) | Waited::Taken(entry) => {
                let waited = now.saturating_sub(started);
                self.counters.wait_time.record(waited);
                self.lease(entry, location, started, now).map(Some)
            }
            Waited::Refused(error) => Err(error),
            Waited::TimedOut => Ok(None),
        }
    }

    fn may_join(&self, gate: Gate, waiting: usize) -> Result<(), Error> {
        if gate == Gate::Closed {
            return Err(self.closed());
        }
        match self.settings.max_waiters {
            Some(most) if waiting >= most as usize => Err(self.too_many_waiters(most)),
            _ => Ok(()),
        }
    }

    /// Nothing is open, and nothing will be before somebody mends a setting.
    fn refuse_if_hopeless(&self, now: Ticks) -> Result<(), Error> {
        if !self.rules.hopeless.load(Ordering::SeqCst) || self.survey(now).open > 0 {
            return Ok(());
        }
        match self.ledger.lock().verdict(now) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// The last connection is gone, or the first did not come: so for those in line too.
    pub(super) fn refuse_waiters_if_hopeless(&self, now: Ticks) {
        if let Err(error) = self.refuse_if_hopeless(now) {
            self.exchange.refuse_all(|| error.clone());
        }
    }

    /// The exact time, for a lease that is timed. Out of the way of those that are not.
    #[cold]
    #[inline(never)]
    fn exact_time(&self) -> Ticks {
        self.clock.now()
    }

    /// The time for a lease that begins or ends: coarse, unless an event handler wants
    /// to know exactly.
    #[inline]
    pub(super) fn lease_time(&self) -> Ticks {
        self.lease_time_at(self.clock.coarse())
    }

    /// The same at this moment on the coarse clock.
    #[inline]
    pub(super) fn lease_time_at(&self, coarse: Ticks) -> Ticks {
        if self.settings.event_handler.is_none() {
            coarse
        } else {
            self.clock.now()
        }
    }

    /// Has the keeper come by at this moment.
    pub(super) fn wake_keeper(&self, at: Ticks) {
        if let Some(membership) = self.membership.get() {
            membership.wake(at);
        }
    }

    /// Runs what the program installed; a panic in it stays here.
    pub(super) fn guarded(&self, what: &str, run: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            log::error!("millpond: pool {}: a panic in the {what}", self.name);
        }
    }
}
