//! Where connections change hands: full [`slots`], a [`line`] of waiters, and the
//! rule that joins them. Knows nothing of connections; the pool puts boxes in.
//!
//! # The rule
//!
//! * [`take`](Exchange::take): while nobody has waited too long, any thread may
//!   help itself from the slots (one swap).
//! * [`put`](Exchange::put): publish the box in its slot, look at the line, call its
//!   head to help itself. A running thread that comes by meanwhile may be faster.
//! * [`wait`](Exchange::wait): join the line, look at the slots once more, park. Once
//!   called, look for a while before parking again.
//!
//! Handing a box to a thread that sleeps leaves the connection idle until that thread
//! runs: 50 to 90 µs where the processor has to be woken up too, as long as many a
//! query. Strict hand-off therefore costs 5 to 20 % of the throughput (sqlx #2166
//! reports two thirds), and no hand-off at all costs the tail. So there are two
//! bounds on how long the head may have been overtaken:
//!
//! * *impatient*, half of `overtaking`: some waiters are kept awake, and a box that
//!   comes back is given to the first of these directly; nobody overtakes a waiter
//!   that is awake. While all are asleep, a running thread may still take the box.
//! * *overdue*, `overtaking`: the box is given to the head, asleep or not.
//!
//! Where the line is so long that the last in it will wait longer than these bounds
//! even if nobody overtakes (its length times the measured pace of returns), that wait
//! takes the place of the one and half as much again that of the other: otherwise
//! everybody would be overdue, and all hand-offs strict. `overtaking` of zero is
//! strict regardless.
//!
//! # Invariants
//!
//! 1. No lost wake-up: a giver publishes and then looks for waiters; a waiter joins
//!    and then looks for boxes; all four steps are sequentially consistent, so at
//!    least one of them sees the other. The same holds for a giver and the gate.
//! 2. A call is not lost either: a waiter that was called and leaves the line, served
//!    or not, passes the call on while boxes and waiters are left.
//! 3. A box is in exactly one place: a slot, a waiter's fate, or a thread's hands.
//! 4. No lock is held over a wake-up or a call out of this module.
//!
//! `model.rs` checks them under every interleaving that loom can reach.

mod line;
#[cfg(all(test, millpond_loom))]
mod model;
mod slots;
#[cfg(all(test, not(millpond_loom)))]
mod tests;

use std::sync::atomic::Ordering;

use crossbeam_utils::CachePadded;

use self::line::{Fate, Line, Waiter};
use self::slots::{Slot, Slots};
use crate::clock::{Clock, NEVER, Ticks, between};
use crate::sync::{AtomicU8, AtomicU64, barrier, linger, park};

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

/// How long a called waiter looks for a box before it parks again.
const VIGIL: Ticks = 100_000;

/// How the head of the line feels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Patient,
    Impatient,
    Overdue,
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

    /// Opens, pauses or closes the gate; a closed one stays closed. Who waits goes on
    /// waiting: after closing, call [`refuse_all`](Self::refuse_all).
    pub(crate) fn set_gate(&self, gate: Gate) {
        let change = |now| (now != Gate::Closed as u8).then_some(gate as u8);
        let gates = &self.rules.gate;
        // Fails when it is closed.
        let _ = gates.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change);
        self.settle();
    }

    /// Takes a box, unless the gate is shut or somebody has waited too long.
    #[inline]
    pub(crate) fn take(&self, clock: &Clock) -> Option<Box<T>> {
        if !self.is_open() || (self.line.waiting() > 0 && !self.may_overtake(clock)) {
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
        if self.line.waiting() > 0 && self.is_open() {
            return self.put_for_waiters(item, clock);
        }
        self.slots.slot(item.slot()).put(item);
        let gate = self.gate();
        if self.line.waiting() > 0 && gate == Gate::Open {
            self.line.call(false);
        }
        gate != Gate::Closed
    }

    #[cold]
    fn put_for_waiters(&self, item: Box<T>, clock: &Clock) -> bool {
        let now = clock.now();
        self.line.note_return(now);
        let mood = self.mood(now);
        let item = match mood {
            Mood::Overdue => self.line.give(item, now),
            Mood::Impatient => self.line.give_awake(item, now),
            Mood::Patient => Some(item),
        };
        if let Some(item) = item {
            self.slots.slot(item.slot()).put(item);
            let gate = self.gate();
            if self.line.waiting() > 0 && gate == Gate::Open {
                self.line.call(mood != Mood::Patient);
            }
            return gate != Gate::Closed;
        }
        if mood == Mood::Impatient {
            self.line.call(true);
        }
        true
    }

    /// Gives a box back to its slot and to nobody in particular, so that whoever takes
    /// it screens it. Says what [`put`](Self::put) says.
    pub(crate) fn publish(&self, item: Box<T>) -> bool {
        self.slots.slot(item.slot()).put(item);
        self.settle();
        self.gate() != Gate::Closed
    }

    /// Gives a box to the head of the line even if it could be overtaken: the box
    /// is fresh, and the head's screening would only repeat what was just done.
    pub(crate) fn hand_over(&self, item: Box<T>, clock: &Clock) {
        let item = if self.is_open() {
            self.line.give(item, clock.now())
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
        let waiter = Waiter::new(thread_number, since, deadline);
        if let Err(error) = self
            .line
            .join(&waiter, |waiting| may_join(self.gate(), waiting))
        {
            return Waited::Refused(error);
        }
        joined();
        self.settle();
        let waited = self.await_fate(clock, &waiter, deadline, &mut screen, &mut check);
        // Whoever leaves may have been called, or taken for awake, by somebody who then
        // called nobody else: if there is more, the next must know.
        self.settle();
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
            if waiter.is_alert()
                && let Some(waited) = self.look_around(clock, waiter, deadline, screen)
            {
                return waited;
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

    /// The waiter was called: it looks for a box, and can be given one without having
    /// to be woken, for [`VIGIL`] or until it has something.
    fn look_around(
        &self,
        clock: &Clock,
        waiter: &Waiter<T, E>,
        deadline: Ticks,
        screen: &mut impl FnMut(Box<T>) -> Option<Box<T>>,
    ) -> Option<Waited<T, E>> {
        let vigil = self.line.wake(waiter);
        let until = clock.now().saturating_add(VIGIL).min(deadline);
        let mut last = false;
        let mut vigil = Some(vigil);
        loop {
            match waiter.outcome() {
                Fate::Given(item) => return Some(Waited::Given(item)),
                Fate::Refused(error) => return Some(Waited::Refused(error)),
                Fate::Waiting | Fate::Left => {}
            }
            let taken = if self.is_open() {
                self.slots.take()
            } else {
                None
            };
            if let Some(item) = taken {
                // What the screen keeps is being looked after; there may be more.
                if let Some(item) = screen(item) {
                    return Some(self.leave_with(clock, waiter, item));
                }
                continue;
            }
            if last {
                return None;
            }
            if clock.now() < until && linger() {
                continue;
            }
            // Asleep from here on, so that whoever puts a box calls: but look once more
            // for one that came before.
            vigil.take();
            last = true;
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
            self.line.call(false);
        }
    }

    fn is_open(&self) -> bool {
        self.gate() == Gate::Open
    }

    /// How long the head of the line has been waiting, in terms of the bounds. Reads
    /// the exact clock: only for when somebody waits.
    fn mood(&self, now: Ticks) -> Mood {
        let waited = now.saturating_sub(self.line.head_since());
        let overtaking = self.rules.overtaking.load(Ordering::Relaxed);
        if waited < overtaking / 2 {
            return Mood::Patient;
        }
        if overtaking == 0 {
            return Mood::Overdue;
        }
        let unavoidable = self.line.unavoidable_wait();
        if waited >= overtaking.max(unavoidable + unavoidable / 2) {
            Mood::Overdue
        } else if waited >= unavoidable {
            Mood::Impatient
        } else {
            Mood::Patient
        }
    }

    #[cold]
    fn may_overtake(&self, clock: &Clock) -> bool {
        match self.mood(clock.now()) {
            Mood::Patient => true,
            Mood::Impatient => self.line.awake() == 0,
            Mood::Overdue => false,
        }
    }

    /// The waiter helped itself; but it may have been decided otherwise meanwhile.
    fn leave_with(&self, clock: &Clock, waiter: &Waiter<T, E>, item: Box<T>) -> Waited<T, E> {
        match self.line.leave(waiter) {
            Err(Fate::Given(given)) => {
                self.hand_over(item, clock);
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
