//! The way of a connection back into the pool: from a lease, from being connected or checked; and
//! out of it for good.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use r2d2::ManageConnection;

use super::counters::CloseReason;
use super::desk::Status;
use super::entry::Entry;
use super::exchange::Gate;
use super::ledger::Care;
use super::shared::Shared;
use crate::clock::Ticks;
use crate::error::ErrorKind;
use crate::event::CheckinEvent;

impl<M: ManageConnection> Shared<M> {
    /// A lease ended: the connection goes back, into care, or out.
    pub(super) fn give_back(mut entry: Box<Entry<M>>) {
        let tether = Arc::clone(&entry.place.tether);
        let shared = &tether.shared;
        if let Some(tally) = &shared.settings.tally {
            tally.remove();
        }
        let now = if entry.sampling.is_timed() {
            shared.end_timed_lease(&mut entry)
        } else {
            shared.lease_time()
        };
        let held = now.saturating_sub(entry.leased_at);
        if entry.place.desk().end_lease(held, now) {
            shared.leak_came_back(&entry, held);
        }
        if let Some(handler) = &shared.settings.event_handler {
            let event = CheckinEvent {
                id: entry.id,
                duration: Duration::from_nanos(held),
            };
            shared.guarded("checkin handler", || handler.handle_checkin(event));
        }
        if let Some(reason) = shared.unfit(&mut entry, now) {
            if reason == CloseReason::Broken {
                shared.note_broken();
            }
            shared.care_for(Care::Close(entry, reason));
            return;
        }
        entry.fresh_at = now;
        entry.used_at = now;
        let reset = shared.settings.reset;
        let Some(is_clean) = shared.knowledge.is_clean else {
            return shared.put(entry, now);
        };
        let look = AssertUnwindSafe(|| is_clean(&shared.manager, &entry.conn, reset));
        match catch_unwind(look) {
            Ok(true) => shared.put(entry, now),
            Ok(false) => shared.care_for(Care::Reset(entry)),
            Err(_) => shared.care_for(Care::Close(entry, CloseReason::ResetFailed)),
        }
    }

    /// Records how long a timed lease was; gives the time of its end.
    #[cold]
    #[inline(never)]
    fn end_timed_lease(&self, entry: &mut Entry<M>) -> Ticks {
        let now = self.clock.now();
        entry.sampling.end(now);
        if let Some(meter) = &entry.meter {
            let held = now.saturating_sub(entry.leased_at);
            meter.use_time.record_alone(held);
        }
        now
    }

    /// A connection came back broken.
    #[cold]
    fn note_broken(&self) {
        // Not the time of the lease's end, which may be coarse and so earlier than what it is
        // about.
        self.suspect_all(self.clock.now());
        let why = "a connection broke while it was in use";
        self.put_in_doubt(ErrorKind::ConnectionLost, why);
    }

    /// Makes a connection available.
    #[inline]
    pub(super) fn put(self: &Arc<Self>, entry: Box<Entry<M>>, now: Ticks) {
        entry.place.desk().set(Status::Idle, now);
        let open = if self.rules.bypass > 0 {
            self.exchange.put(entry, &self.clock)
        } else {
            // Each lease is checked: never straight from hand to hand.
            self.exchange.publish(entry)
        };
        if !open {
            self.sweep_if_closed();
        }
    }

    /// Makes a connection available that was just connected or checked.
    pub(super) fn hand_over(self: &Arc<Self>, mut entry: Box<Entry<M>>, now: Ticks) {
        entry.fresh_at = now;
        entry.place.desk().note_fresh(now);
        if let Some(reason) = self.unwanted(&mut entry, now) {
            self.care_for(Care::Close(entry, reason));
            return;
        }
        entry.place.desk().set(Status::Idle, now);
        self.exchange.hand_over(entry, &self.clock);
        self.sweep_if_closed();
    }

    /// Why this connection cannot go back, if so.
    #[inline]
    fn unfit(&self, entry: &mut Entry<M>, now: Ticks) -> Option<CloseReason> {
        if entry.discard.is_some() {
            return entry.discard;
        }
        if std::thread::panicking() {
            return Some(CloseReason::Panicked);
        }
        let broken = AssertUnwindSafe(|| self.manager.has_broken(&mut entry.conn));
        if catch_unwind(broken).unwrap_or(true) {
            return Some(CloseReason::Broken);
        }
        if let Some(hook) = &self.settings.after_return {
            let verdict = catch_unwind(AssertUnwindSafe(|| hook(&mut entry.conn)));
            if !matches!(verdict, Ok(Ok(()))) {
                return Some(CloseReason::Hook);
            }
        }
        self.unwanted(entry, now)
    }

    /// Whoever puts a connection into a pool that was closed meanwhile takes it out
    /// again: closing swept before, or sees it now.
    #[cold]
    pub(super) fn sweep_if_closed(self: &Arc<Self>) {
        if self.exchange.gate() == Gate::Closed {
            self.close_idle(|_| Some(CloseReason::PoolClosed));
        }
    }

    /// Takes every idle connection for which `judge` names a reason out, to be closed.
    pub(super) fn close_idle(
        self: &Arc<Self>,
        mut judge: impl FnMut(&mut Entry<M>) -> Option<CloseReason>,
    ) {
        let now = self.clock.now();
        for number in 0..self.exchange.slots() {
            let Some(mut entry) = self.exchange.take_from(number) else {
                continue;
            };
            match judge(&mut entry) {
                Some(reason) => self.care_for(Care::Close(entry, reason)),
                None => {
                    // Not `put`: that would sweep again.
                    entry.place.desk().set(Status::Idle, now);
                    self.exchange.put(entry, &self.clock);
                }
            }
        }
    }

    /// Gives a slot back. Called by the place's guard.
    pub(super) fn vacate(self: &Arc<Self>, slot: u32) {
        let now = self.clock.now();
        let mut ledger = self.ledger.lock();
        // Together: `is_surplus` compares what is reserved with what is closing.
        self.exchange.slot(slot).desk.set(Status::Vacant, now);
        ledger.vacant.push(slot);
        ledger.reserved -= 1;
        self.rules.reserved.store(ledger.reserved, Ordering::SeqCst);
        drop(ledger);
        self.changed.notify_all();
    }
}
