//! The line of waiting threads: first come, first served.
//!
//! A [`Waiter`] is decided exactly once, under its own little lock: it is *given* a
//! box, *refused* with an error, or it *leaves* (gave up, or helped itself). A giver
//! that comes too late gets its box back and serves the next in line; a waiter that
//! wants to leave too late finds what it was given. So nothing handed over is lost
//! and nobody who gave up is served.
//!
//! Whoever gives never waits for a lock: with ten thousand runnable threads on two
//! processors, one that is preempted while it holds a lock comes to run again after
//! more than a hundred milliseconds (measured), and so long would every return last.
//! A giver that finds the queue taken publishes its box, rings the [bell](Line::call),
//! and goes; who holds the queue answers the bell after letting it go. A waiter that
//! leaves takes no other lock than its own; its place in the line is cleared by
//! whoever comes by later.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use crossbeam_utils::CachePadded;

use crate::clock::{NEVER, Ticks};
use crate::sync::{
    Arc, AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Mutex, Thread, TriedMutex, barrier, current,
};

/// Dead places that may stand in the line before a newcomer clears them.
const DEAD_ALLOWED: usize = 32;

pub(crate) struct Waiter<T, E> {
    thread: Thread,
    /// Which thread it is, in the pool's numbering (for deadlock detection).
    pub(crate) thread_number: u64,
    /// When it began to wait.
    pub(crate) since: Ticks,
    /// When it gives up. Past it, it is given nothing, even if it has not left yet.
    deadline: Ticks,
    /// [`ASLEEP`], [`CALLED`] or [`AWAKE`].
    alert: AtomicU8,
    /// The fate is not `Waiting` any more; for those who only want to know that.
    decided: AtomicBool,
    fate: Mutex<Fate<T, E>>,
}

/// What became of an offer.
enum Offer<T> {
    Taken,
    /// The waiter was decided before.
    TooLate(Box<T>),
    /// Somebody is looking at its fate at this moment.
    Busy(Box<T>),
}

/// It is parked, or about to park after one more look at the slots.
const ASLEEP: u8 = 0;
/// Somebody has called it, and it has not noticed yet.
const CALLED: u8 = 1;
/// It is running, and looks for a box.
const AWAKE: u8 = 2;

/// How many waiters may be called or awake at once when the head is impatient.
const AWAKE_AT_ONCE: usize = 4;

/// What became of a waiter.
pub(crate) enum Fate<T, E> {
    Waiting,
    Given(Box<T>),
    Refused(E),
    Left,
}

impl<T, E> Waiter<T, E> {
    pub(crate) fn new(thread_number: u64, since: Ticks, deadline: Ticks) -> Arc<Self> {
        Arc::new(Self {
            thread: current(),
            thread_number,
            since,
            deadline,
            alert: AtomicU8::new(ASLEEP),
            decided: AtomicBool::new(false),
            fate: Mutex::new(Fate::Waiting),
        })
    }

    /// Decides the waiter, unless somebody did before: then the fate comes back.
    fn decide(&self, fate: Fate<T, E>) -> Result<(), Fate<T, E>> {
        let mut current = self.fate.lock();
        if matches!(*current, Fate::Waiting) {
            *current = fate;
            self.decided.store(true, Ordering::SeqCst);
            Ok(())
        } else {
            Err(fate)
        }
    }

    /// Gives the waiter a box, without waiting for anything.
    fn offer(&self, item: Box<T>) -> Offer<T> {
        let Some(mut current) = self.fate.try_lock() else {
            return Offer::Busy(item);
        };
        if !matches!(*current, Fate::Waiting) {
            return Offer::TooLate(item);
        }
        *current = Fate::Given(item);
        self.decided.store(true, Ordering::SeqCst);
        Offer::Taken
    }

    /// What was decided, if anything; the waiter has left afterwards.
    pub(super) fn outcome(&self) -> Fate<T, E> {
        let mut current = self.fate.lock();
        match &*current {
            Fate::Waiting => Fate::Waiting,
            _ => std::mem::replace(&mut *current, Fate::Left),
        }
    }

    fn is_waiting(&self) -> bool {
        !self.decided.load(Ordering::SeqCst)
    }

    /// Calls it, if it still waits.
    fn wake_up(&self) -> bool {
        let before = self.alert.swap(CALLED, Ordering::SeqCst);
        if before == AWAKE {
            // It went to sleep and woke up in between, and is looking now.
            self.alert.store(AWAKE, Ordering::SeqCst);
        }
        let waits = self.is_waiting();
        if waits {
            self.thread.unpark();
        }
        waits
    }

    /// Whether it was called, or is awake.
    pub(super) fn is_alert(&self) -> bool {
        self.alert.load(Ordering::SeqCst) != ASLEEP
    }
}

type Queue<T, E> = VecDeque<Arc<Waiter<T, E>>>;

pub(crate) struct Line<T, E> {
    queue: TriedMutex<Queue<T, E>>,
    front: CachePadded<Front>,
}

/// What returning threads and newcomers look at without a lock.
struct Front {
    /// Waiters that are not decided yet.
    waiting: AtomicUsize,
    /// Since when the first of them waits; may be too early after it left.
    head_since: AtomicU64,
    /// Waiters that are running and look for a box.
    awake: AtomicUsize,
    /// Who holds the queue is to call somebody afterwards: [`RUNG`], perhaps with
    /// [`IMPATIENTLY`].
    bell: AtomicU8,
    pace: Pace,
}

const RUNG: u8 = 1;
const IMPATIENTLY: u8 = 2;

/// How fast boxes come back while somebody waits.
struct Pace {
    returns: AtomicU64,
    /// When the last [`PACE_SPAN`] returns were complete.
    measured_at: AtomicU64,
    /// Ticks between two returns, over the last span.
    interval: AtomicU64,
}

/// How many returns make a measurement of their pace.
const PACE_SPAN: u64 = 64;

/// While it lives, the waiter is awake; afterwards it is asleep, and whoever puts a
/// box calls it again. So look at the slots once more before parking.
pub(super) struct Vigil<'a, T, E> {
    line: &'a Line<T, E>,
    waiter: &'a Waiter<T, E>,
}

impl<T, E> Drop for Vigil<'_, T, E> {
    fn drop(&mut self) {
        self.waiter.alert.swap(ASLEEP, Ordering::SeqCst);
        barrier();
        self.line.front.awake.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<T, E> Line<T, E> {
    pub(crate) fn new() -> Self {
        Self {
            queue: TriedMutex::new(VecDeque::new()),
            front: CachePadded::new(Front {
                waiting: AtomicUsize::new(0),
                head_since: AtomicU64::new(NEVER),
                awake: AtomicUsize::new(0),
                bell: AtomicU8::new(0),
                pace: Pace {
                    returns: AtomicU64::new(0),
                    measured_at: AtomicU64::new(NEVER),
                    interval: AtomicU64::new(0),
                },
            }),
        }
    }

    /// How many wait.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.front.waiting.load(Ordering::SeqCst)
    }

    /// Since when the head of the line waits.
    #[inline]
    pub(crate) fn head_since(&self) -> Ticks {
        self.front.head_since.load(Ordering::Relaxed)
    }

    /// Joins the line, if `may_join` (asked under the line's lock, with the number
    /// that wait already) does not refuse.
    pub(crate) fn join(
        &self,
        waiter: &Arc<Waiter<T, E>>,
        may_join: impl FnOnce(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        self.with_queue(|queue| {
            let waiting = self.waiting();
            may_join(waiting)?;
            if queue.len() > 2 * waiting + DEAD_ALLOWED {
                queue.retain(|waiter| waiter.is_waiting());
            }
            queue.push_back(Arc::clone(waiter));
            self.front.waiting.fetch_add(1, Ordering::SeqCst);
            if waiting == 0 {
                self.front.head_since.store(waiter.since, Ordering::Relaxed);
            }
            Ok(())
        })
    }

    /// For those who may wait for the queue, and answer the bell afterwards.
    fn with_queue<R>(&self, work: impl FnOnce(&mut Queue<T, E>) -> R) -> R {
        let result = work(&mut self.queue.lock());
        barrier();
        self.answer();
        result
    }

    /// Takes the waiter out of the line. Comes back with its fate if that was
    /// decided before.
    pub(crate) fn leave(&self, waiter: &Waiter<T, E>) -> Result<(), Fate<T, E>> {
        if waiter.decide(Fate::Left).is_err() {
            return Err(waiter.outcome());
        }
        self.front.waiting.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    /// Gives the box to the first that still waits. Gives it back if nobody does, or if
    /// that cannot be told without waiting: then publish it and [`call`](Self::call).
    pub(crate) fn give(&self, item: Box<T>, now: Ticks) -> Option<Box<T>> {
        self.give_to(item, now, |queue| (!queue.is_empty()).then_some(0))
    }

    /// Gives the box to the first that is awake, of those near the front; gives it
    /// back if none is. A connection given to a sleeper lies idle until that wakes up.
    pub(crate) fn give_awake(&self, item: Box<T>, now: Ticks) -> Option<Box<T>> {
        self.give_to(item, now, |queue| {
            let is_awake = |waiter: &Arc<Waiter<T, E>>| {
                waiter.alert.load(Ordering::SeqCst) == AWAKE
                    && waiter.deadline > now
                    && waiter.is_waiting()
            };
            queue.iter().take(2 * AWAKE_AT_ONCE).position(is_awake)
        })
    }

    /// Gives the box to the waiter whose place `choose` names.
    fn give_to(
        &self,
        mut item: Box<T>,
        now: Ticks,
        choose: impl Fn(&Queue<T, E>) -> Option<usize>,
    ) -> Option<Box<T>> {
        let Some(mut queue) = self.queue.try_lock() else {
            return Some(item);
        };
        let mut dead = Vec::new();
        let served = loop {
            dead.append(&mut self.clear_dead(&mut queue, now));
            let Some((place, waiter)) = choose(&queue).map(|place| (place, &queue[place])) else {
                break Err(item);
            };
            match waiter.offer(item) {
                Offer::Taken => break Ok(queue.remove(place)),
                Offer::TooLate(back) => {
                    item = back;
                    dead.extend(queue.remove(place));
                }
                Offer::Busy(back) => break Err(back),
            }
        };
        self.note_head(&queue);
        drop(queue);
        let back = match served {
            Ok(waiter) => {
                self.front.waiting.fetch_sub(1, Ordering::SeqCst);
                if let Some(waiter) = waiter {
                    waiter.thread.unpark();
                }
                None
            }
            Err(back) => Some(back),
        };
        barrier();
        self.answer();
        back
    }

    /// Refuses everybody who waits now.
    pub(crate) fn refuse_all(&self, error: impl Fn() -> E) {
        let everybody = self.with_queue(|queue| {
            self.front.head_since.store(NEVER, Ordering::Relaxed);
            std::mem::take(queue)
        });
        for waiter in everybody {
            if waiter.decide(Fate::Refused(error())).is_ok() {
                self.front.waiting.fetch_sub(1, Ordering::SeqCst);
                waiter.thread.unpark();
            }
        }
    }

    /// Rings the bell: the head of the line is woken so that it looks for a box itself;
    /// when the head is impatient, also those behind it, one at each call, so that some
    /// are awake.
    pub(crate) fn call(&self, impatient: bool) {
        let ring = if impatient { RUNG | IMPATIENTLY } else { RUNG };
        self.front.bell.fetch_or(ring, Ordering::SeqCst);
        // Either the queue is free then, or its holder sees the bell afterwards.
        barrier();
        self.answer();
    }

    /// Answers the bell, unless somebody holds the queue, who does it later.
    fn answer(&self) {
        while self.front.bell.load(Ordering::SeqCst) != 0 {
            let Some(mut queue) = self.queue.try_lock() else {
                return;
            };
            let ring = self.front.bell.swap(0, Ordering::SeqCst);
            let most = match ring {
                0 => 0,
                RUNG => 1,
                _ => AWAKE_AT_ONCE,
            };
            let dead = self.clear_dead(&mut queue, 0);
            let first = queue.iter().filter(|waiter| waiter.is_waiting()).take(most);
            let mut asleep = first.filter(|waiter| !waiter.is_alert());
            let sleeper = asleep.next().map(Arc::clone);
            drop(queue);
            drop(dead);
            if let Some(waiter) = sleeper
                && !waiter.wake_up()
            {
                // It was decided just before, perhaps too early to notice: the next.
                self.front.bell.fetch_or(ring, Ordering::SeqCst);
            }
            barrier();
        }
    }

    /// The waiter is running and looks for a box, until the guard is dropped.
    pub(super) fn wake<'a>(&'a self, waiter: &'a Waiter<T, E>) -> Vigil<'a, T, E> {
        waiter.alert.store(AWAKE, Ordering::SeqCst);
        self.front.awake.fetch_add(1, Ordering::SeqCst);
        Vigil { line: self, waiter }
    }

    /// A box came back while somebody waits.
    pub(crate) fn note_return(&self, now: Ticks) {
        let pace = &self.front.pace;
        let returns = pace.returns.fetch_add(1, Ordering::Relaxed);
        if returns.is_multiple_of(PACE_SPAN) {
            let since = pace.measured_at.swap(now, Ordering::Relaxed);
            pace.interval
                .store(now.saturating_sub(since) / PACE_SPAN, Ordering::Relaxed);
        }
    }

    /// How long the last in line will wait even if nobody overtakes anybody.
    pub(crate) fn unavoidable_wait(&self) -> Ticks {
        let interval = self.front.pace.interval.load(Ordering::Relaxed);
        interval.saturating_mul(self.waiting() as u64)
    }

    /// How many are running and look for a box.
    pub(crate) fn awake(&self) -> usize {
        self.front.awake.load(Ordering::Relaxed)
    }

    /// Brings the head's time up to date after the head left by itself.
    pub(crate) fn refresh_head(&self) {
        drop(self.with_queue(|queue| self.clear_dead(queue, 0)));
    }

    /// The numbers of the threads that wait, the first in line first.
    pub(crate) fn thread_numbers(&self) -> Vec<u64> {
        self.with_queue(|queue| {
            let waiting = queue.iter().filter(|waiter| waiter.is_waiting());
            waiting.map(|waiter| waiter.thread_number).collect()
        })
    }

    /// Takes those who were decided, or whose deadline has passed, from the front of the
    /// line. There may be thousands, so the caller frees them after the lock.
    fn clear_dead(&self, queue: &mut Queue<T, E>, now: Ticks) -> Vec<Arc<Waiter<T, E>>> {
        let is_dead = |waiter: &Arc<Waiter<T, E>>| waiter.deadline <= now || !waiter.is_waiting();
        let alive = queue.iter().position(|waiter| !is_dead(waiter));
        let dead = queue.drain(..alive.unwrap_or(queue.len())).collect();
        self.note_head(queue);
        dead
    }

    fn note_head(&self, queue: &Queue<T, E>) {
        let since = queue.front().map_or(NEVER, |waiter| waiter.since);
        self.front.head_since.store(since, Ordering::Relaxed);
    }
}
