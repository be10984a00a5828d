//! Where connections change hands: full [`slots`], a [`line`] of waiters, and the
//! rule that joins them. Knows nothing of connections; the pool puts boxes in.
//!
//! # The rule
//!
//! * [`take`](Exchange::take): while nobody has waited too long, any thread may
//!   help itself from the slots (one swap).
//! * [`put`](Exchange::put): publish the box in its slot, look at the line. If its head has waited longer than the *overtaking bound*, the box is given to it
//!   directly instead; otherwise the head is woken to help itself, and a running
//!   thread that comes by meanwhile may be faster. That is what keeps the
//!   connections busy while the head wakes up (a strict hand-off costs 5 to 15 % of
//!   the throughput, and sqlx #2166 reports two thirds), and the bound is what keeps
//!   the tail short.
//! * [`wait`](Exchange::wait): join the line, look at the slots once more, park.
//!
//! # Invariants
//!
//! 1. No lost wake-up: a giver publishes and then looks for waiters; a waiter joins
//!    and then looks for boxes; all four steps are sequentially consistent, so at
//!    least one of them sees the other. The same holds for a giver and the gate.
//! 2. A wake-up is not lost either: a waiter that was nudged and leaves the line,
//!    served or not, passes the nudge on while boxes and waiters are left.
//! 3. A box is in exactly one place: a slot, a waiter's fate, or a thread's hands.
//! 4. No lock is held over a wake-up or a call out of this module.
//!
//! `model.rs` checks them under every interleaving that loom can reach.

mod line;
#[cfg(all(test, millpond_loom))]
mod model;
mod slots;
mod sync;
#[cfg(all(test, not(millpond_loom)))]
mod tests;

use std::sync::atomic::Ordering;

use crossbeam_utils::CachePadded;

use self::line::{Fate, Line, Waiter};
use self::slots::{Slot, Slots};
use self::sync::{AtomicU8, AtomicU64, barrier, park};
use crate::clock::{Clock, NEVER, Ticks, between};

/// Who may take a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Everybody.
    Open,
    /// Nobody for now; those who come wait.
    Paused,
    /// Nobody ever again.
    Closed,
}

/// What the exchange moves: it knows the slot that it belongs to.
pub(crate) trait Slotted: Send {
    /// The number of its slot.
    fn slot(&self) -> u32;
}

/// What became of a wait.
pub(crate) enum Waited<T, E> {
    /// A box that came straight from another hand, still warm.
    Given(Box<T>),
    /// A box that the waiter helped itself to and that `screen` let pass.
    Taken(Box<T>),
    /// Somebody refused.
    Refused(E),
    /// The deadline came first.
    TimedOut,
}

pub(crate) struct Exchange<T, D, E> {
    slots: Slots<T, D>,
    line: Line<T, E>,
    rules: CachePadded<Rules>,
}

/// Read on every take, written almost never.
struct Rules {
    gate: AtomicU8,
    /// How long the head of the line may be overtaken, in ticks.
    overtaking: AtomicU64,
}

impl<T: Slotted, D: Default, E> Exchange<T, D, E> {
    pub(crate) fn new(slots: u32, overtaking: Ticks) -> Self {
        Self {
            slots: Slots::new(slots),
            line: Line::new(),
            rules: CachePadded::new(Rules {
                gate: AtomicU8::new(Gate::Open as u8),
                overtaking: AtomicU64::new(overtaking),
            }),
        }
    }

    pub(crate) fn slot(&self, number: u32) -> &Slot<T, D> {
        self.slots.slot(number)
    }

    /// What the owners of the boxes tell, slot by slot.
    pub(crate) fn desks(&self) -> impl Iterator<Item = &D> {
        self.slots.iter().map(|slot| &slot.desk)
    }

    pub(crate) fn slots(&self) -> u32 {
        self.slots.count()
    }

    pub(crate) fn grow_to(&self, slots: u32) {
        self.slots.grow_to(slots);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.line.waiting()
    }

    /// Since when the head of the line waits; [`NEVER`] when nobody does.
    pub(crate) fn head_since(&self) -> Ticks {
        if self.waiting() == 0 {
            NEVER
        } else {
            self.line.head_since()
        }
    }

    pub(crate) fn waiting_threads(&self) -> Vec<u64> {
        self.line.thread_numbers()
    }

    pub(crate) fn gate(&self) -> Gate {
        match self.rules.gate.load(Ordering::SeqCst) {
            gate if gate == Gate::Open as u8 => Gate::Open,
            gate if gate == Gate::Paused as u8 => Gate::Paused,
            _ => Gate::Closed,
        }
    }

    /// Opens, pauses or closes the gate. Who waits goes on waiting: after closing,
    /// call [`refuse_all`](Self::refuse_all).
    pub(crate) fn set_gate(&self, gate: Gate) {
        self.rules.gate.store(gate as u8, Ordering::SeqCst);
        self.settle();
    }

    /// Takes a box, unless the gate is shut or somebody has waited too long.
    #[inline]
    pub(crate) fn take(&self, clock: &Clock) -> Option<Box<T>> {
        if !self.is_open() || (self.line.waiting() > 0 && self.is_overdue(clock)) {
            return None;
        }
        self.slots.take()
    }

    /// Takes a box for the pool's own purposes, whatever the gate and the line say.
    pub(crate) fn take_from(&self, number: u32) -> Option<Box<T>> {
        self.slots.slot(number).take()
    }

    /// Gives a box back to its slot, or to the head of the line. Says whether the
    /// gate was not closed afterwards; if it was, whoever put the box must see to it.
    #[inline]
    pub(crate) fn put(&self, item: Box<T>, clock: &Clock) -> bool {
        let item = if self.line.waiting() > 0 && self.is_open() && self.is_overdue(clock) {
            match self.line.give(item) {
                None => return true,
                Some(item) => item,
            }
        } else {
            item
        };
        self.slots.slot(item.slot()).put(item);
        let gate = self.gate();
        if self.line.waiting() > 0 && gate == Gate::Open {
            self.line.nudge();
        }
        gate != Gate::Closed
    }

    /// Gives a box to the head of the line even if it could be overtaken: the box
    /// is fresh, and the head's screening would only repeat what was just done.
    pub(crate) fn hand_over(&self, item: Box<T>) {
        let item = if self.is_open() {
            self.line.give(item)
        } else {
            Some(item)
        };
        if let Some(item) = item {
            self.slots.slot(item.slot()).put(item);
            self.settle();
        }
    }

    /// Waits in line until `deadline`.
    ///
    /// `may_join` is asked under the line's lock with the gate and the number that
    /// wait already. `joined` is called once after joining, `screen` for each box
    /// that the waiter helps itself to: it keeps what is not fit for use, and the
    /// wait goes on. `check` is called when the time that it named is over, with
    /// the time now; it names the next, or refuses.
    pub(crate) fn wait(
        &self,
        clock: &Clock,
        (thread_number, since, deadline): (u64, Ticks, Ticks),
        may_join: impl FnOnce(Gate, usize) -> Result<(), E>,
        joined: impl FnOnce(),
        mut screen: impl FnMut(Box<T>) -> Option<Box<T>>,
        mut check: impl FnMut(Ticks) -> Result<Ticks, E>,
    ) -> Waited<T, E> {
        let waiter = Waiter::new(thread_number, since);
        if let Err(error) = self
            .line
            .join(&waiter, |waiting| may_join(self.gate(), waiting))
        {
            return Waited::Refused(error);
        }
        joined();
        self.settle();
        let waited = self.await_fate(clock, &waiter, deadline, &mut screen, &mut check);
        // Whoever leaves passes on the wake-up that it did not use, and whoever helped
        // itself looks whether there is more for the next.
        if waiter.take_nudge() || matches!(waited, Waited::Taken(_)) {
            self.settle();
        }
        waited
    }

    fn await_fate(
        &self,
        clock: &Clock,
        waiter: &Waiter<T, E>,
        deadline: Ticks,
        screen: &mut impl FnMut(Box<T>) -> Option<Box<T>>,
        check: &mut impl FnMut(Ticks) -> Result<Ticks, E>,
    ) -> Waited<T, E> {
        let mut next_check = 0;
        loop {
            match waiter.outcome() {
                Fate::Given(item) => return Waited::Given(item),
                Fate::Refused(error) => return Waited::Refused(error),
                Fate::Waiting | Fate::Left => {}
            }
            while waiter.take_nudge() {
                let taken = if self.is_open() {
                    self.slots.take()
                } else {
                    None
                };
                let Some(item) = taken else { break };
                match screen(item) {
                    Some(item) => return self.leave_with(waiter, item),
                    // It is being looked after; there may be more.
                    None => waiter.nudge_self(),
                }
            }
            let now = clock.now();
            if now >= deadline {
                return self.give_up(waiter, Waited::TimedOut);
            }
            if now >= next_check {
                match check(now) {
                    Ok(next) => next_check = next,
                    Err(error) => return self.give_up(waiter, Waited::Refused(error)),
                }
            }
            park(between(now, deadline.min(next_check)));
        }
    }

    /// Refuses everybody who waits now.
    pub(crate) fn refuse_all(&self, error: impl Fn() -> E) {
        self.line.refuse_all(error);
    }

    /// Whatever is idle goes to whoever waits: for everything that makes a box or a
    /// place in the line appear without [`put`](Self::put).
    pub(crate) fn settle(&self) {
        barrier();
        if self.line.waiting() > 0 && self.is_open() && self.slots.any_ready() {
            self.line.nudge();
        }
    }

    fn is_open(&self) -> bool {
        self.gate() == Gate::Open
    }

    /// Whether the head of the line has waited longer than it may be overtaken. Reads
    /// the exact clock: only for when somebody waits.
    #[cold]
    fn is_overdue(&self, clock: &Clock) -> bool {
        let waited = clock.now().saturating_sub(self.line.head_since());
        waited > self.rules.overtaking.load(Ordering::Relaxed)
    }

    /// The waiter helped itself; but it may have been decided otherwise meanwhile.
    fn leave_with(&self, waiter: &Waiter<T, E>, item: Box<T>) -> Waited<T, E> {
        match self.line.leave(waiter) {
            Err(Fate::Given(given)) => {
                self.hand_over(item);
                Waited::Given(given)
            }
            _ => {
                self.line.refresh_head();
                Waited::Taken(item)
            }
        }
    }

    /// The waiter leaves with nothing, unless it was served or refused just before.
    fn give_up(&self, waiter: &Waiter<T, E>, otherwise: Waited<T, E>) -> Waited<T, E> {
        match self.line.leave(waiter) {
            Err(Fate::Given(item)) => Waited::Given(item),
            Err(Fate::Refused(error)) => Waited::Refused(error),
            Ok(()) | Err(Fate::Left | Fate::Waiting) => otherwise,
        }
    }
}
