//! The line of waiting threads: first come, first served.
//!
//! A [`Waiter`] is decided exactly once, under its own little lock: it is *given* a
//! box, *refused* with an error, or it *leaves* (gave up, or helped itself). A giver
//! that comes too late gets its box back and serves the next in line; a waiter that
//! wants to leave too late finds what it was given. So nothing handed over is lost
//! and nobody who gave up is served.
//!
//! A waiter that leaves takes no other lock than its own: ten thousand of them may
//! time out at once without a returning thread waiting for any. Its place in the
//! line is cleared by whoever comes by later.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use crossbeam_utils::CachePadded;

use super::sync::{Arc, AtomicU8, AtomicU64, AtomicUsize, Mutex, Thread, current};
use crate::clock::{NEVER, Ticks};

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
    fate: Mutex<Fate<T, E>>,
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
            fate: Mutex::new(Fate::Waiting),
        })
    }

    /// Decides the waiter, unless somebody did before: then the fate comes back.
    fn decide(&self, fate: Fate<T, E>) -> Result<(), Fate<T, E>> {
        let mut current = self.fate.lock();
        if matches!(*current, Fate::Waiting) {
            *current = fate;
            Ok(())
        } else {
            Err(fate)
        }
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
        matches!(*self.fate.lock(), Fate::Waiting)
    }

    /// Whether it was called, or is awake.
    pub(super) fn is_alert(&self) -> bool {
        self.alert.load(Ordering::SeqCst) != ASLEEP
    }
}

type Queue<T, E> = VecDeque<Arc<Waiter<T, E>>>;

pub(crate) struct Line<T, E> {
    queue: Mutex<Queue<T, E>>,
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
    pace: Pace,
}

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
        self.line.front.awake.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<T, E> Line<T, E> {
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::new(VecDeque::new()),
            front: CachePadded::new(Front {
                waiting: AtomicUsize::new(0),
                head_since: AtomicU64::new(NEVER),
                awake: AtomicUsize::new(0),
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
        let mut queue = self.queue.lock();
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

    /// Gives the box to the first that still waits; gives it back if nobody does.
    pub(crate) fn give(&self, mut item: Box<T>, now: Ticks) -> Option<Box<T>> {
        while let Some(waiter) = self.pop(now) {
            item = self.serve(&waiter, item)?;
        }
        Some(item)
    }

    /// Refuses everybody who waits now.
    pub(crate) fn refuse_all(&self, error: impl Fn() -> E) {
        let everybody = {
            let mut queue = self.queue.lock();
            self.front.head_since.store(NEVER, Ordering::Relaxed);
            std::mem::take(&mut *queue)
        };
        for waiter in everybody {
            if waiter.decide(Fate::Refused(error())).is_ok() {
                self.front.waiting.fetch_sub(1, Ordering::SeqCst);
                waiter.thread.unpark();
            }
        }
    }

    /// Gives the box to the first that is awake, of those near the front; gives it
    /// back if none is. A connection given to a sleeper lies idle until that wakes up.
    pub(crate) fn give_awake(&self, mut item: Box<T>, now: Ticks) -> Option<Box<T>> {
        loop {
            let _dead;
            let awake = {
                let mut queue = self.queue.lock();
                _dead = self.clear_dead(&mut queue, 0);
                let is_awake = |waiter: &Arc<Waiter<T, E>>| {
                    waiter.alert.load(Ordering::SeqCst) == AWAKE
                        && waiter.deadline > now
                        && waiter.is_waiting()
                };
                let place = queue.iter().take(2 * AWAKE_AT_ONCE).position(is_awake);
                let awake = place.and_then(|place| queue.remove(place));
                self.note_head(&queue);
                awake
            };
            let Some(waiter) = awake else {
                return Some(item);
            };
            match self.serve(&waiter, item) {
                None => return None,
                Some(back) => item = back,
            }
        }
    }

    /// Wakes the head of the line so that it looks for a box itself; when the head is
    /// impatient, also those behind it, one at each call, so that some are awake.
    pub(crate) fn call(&self, impatient: bool) {
        let most = if impatient { AWAKE_AT_ONCE } else { 1 };
        loop {
            let _dead;
            let sleeper = {
                let mut queue = self.queue.lock();
                _dead = self.clear_dead(&mut queue, 0);
                let first = queue.iter().filter(|waiter| waiter.is_waiting()).take(most);
                let mut asleep = first.filter(|waiter| !waiter.is_alert());
                asleep.next().map(Arc::clone)
            };
            let Some(waiter) = sleeper else { return };
            let before = waiter.alert.swap(CALLED, Ordering::SeqCst);
            if before == AWAKE {
                // It went to sleep and woke up in between, and is looking now.
                waiter.alert.store(AWAKE, Ordering::SeqCst);
            }
            if waiter.is_waiting() {
                waiter.thread.unpark();
                return;
            }
            // It was decided just before, perhaps too early to notice the call.
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

    /// Gives the box to this waiter, which was taken out of the line.
    fn serve(&self, waiter: &Waiter<T, E>, item: Box<T>) -> Option<Box<T>> {
        match waiter.decide(Fate::Given(item)) {
            Ok(()) => {
                self.front.waiting.fetch_sub(1, Ordering::SeqCst);
                waiter.thread.unpark();
                None
            }
            Err(Fate::Given(back)) => Some(back),
            Err(_) => unreachable!("decide returns what it was handed"),
        }
    }

    /// Brings the head's time up to date after the head left by itself.
    pub(crate) fn refresh_head(&self) {
        let _dead = self.clear_dead(&mut self.queue.lock(), 0);
    }

    /// The numbers of the threads that wait, the first in line first.
    pub(crate) fn thread_numbers(&self) -> Vec<u64> {
        let queue = self.queue.lock();
        queue
            .iter()
            .filter(|waiter| waiter.is_waiting())
            .map(|waiter| waiter.thread_number)
            .collect()
    }

    /// Takes out the first that waits and whose deadline has not passed.
    fn pop(&self, now: Ticks) -> Option<Arc<Waiter<T, E>>> {
        let _dead;
        let mut queue = self.queue.lock();
        _dead = self.clear_dead(&mut queue, now);
        let first = queue.pop_front();
        self.note_head(&queue);
        first
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
