//! The caller's handle on a submitted operation, and the cell in which its outcome comes.
//!
//! Invariants:
//! 1. A cell is resolved exactly once: whoever comes second is told so and gives up.
//! 2. The gate counts an operation while `queued` is set, and whoever clears it gives its
//!    room back, before anybody can learn of the outcome.
//! 3. Only an operation that was not begun can be cancelled, or expire as "not executed".
//!    One that was begun, or whose earlier attempt is in doubt, can only become unknown.
//! 4. Callbacks and wake-ups happen after the cell's lock is released, and so do the logs learn
//!    of the outcome.

use std::fmt;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::bell::Bell;
use super::counters::Counters;
use super::gate::Gate;
use super::shield::Shielded;
use super::threads;
use crate::contain::contain;
use crate::error::{Error, ErrorKind, Phase};
use crate::keeper::crew;
use crate::operation::Outcome;
use crate::record::{Ended, Note, Place};

type Callback<R> = Box<dyn FnOnce(Outcome<R>) + Send>;

/// Where an operation stands.
enum Stage<R> {
    /// Not begun: in the queue, or in a group that waits for a connection.
    Waiting,
    /// The same, between two attempts of which the last may have taken effect.
    Doubtful(Error),
    /// Being executed.
    Running,
    Resolved(Shielded<Outcome<R>>),
    /// The outcome was taken.
    Gone,
}

enum Listener<R> {
    Nobody,
    Waiting(Thread),
    Callback(Callback<R>),
}

struct Inner<R> {
    stage: Stage<R>,
    /// Whether the gate counts it.
    queued: bool,
    /// How often its execution was begun.
    attempts: u32,
    /// What the logs get to know of it, if they want to, and where it is.
    note: Option<Box<(Note, Place)>>,
    listener: Listener<R>,
}

/// Where the outcome of one operation comes.
pub(super) struct Cell<R> {
    inner: Mutex<Inner<R>>,
    home: Arc<Home>,
    size: usize,
}

/// Where operations are counted, those that are queued and those that are over; and whom to
/// tell.
pub(super) struct Home {
    pub(super) gate: Gate,
    pub(super) counters: Counters,
    pub(super) bell: Bell,
    /// Where an operation is until it is begun.
    pub(super) place: Place,
}

/// Threads that wait for outcomes of one group. They are woken when all of these are there:
/// a thread that waits for one after the other would else sleep and wake for each.
#[derive(Default)]
pub(super) struct Wakes(Vec<Thread>);

impl Wakes {
    fn add(&mut self, thread: Thread) {
        if self.0.iter().all(|other| other.id() != thread.id()) {
            self.0.push(thread);
        }
    }

    fn wake(&mut self) {
        for thread in self.0.drain(..) {
            thread.unpark();
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.wake();
    }
}

/// What becomes of an operation whose deadline is over.
pub(super) enum Expiry {
    /// It has its outcome.
    Settled,
    /// It is being executed: nobody knows yet.
    Running,
}

impl<R: Send + 'static> Cell<R> {
    /// A cell of a queued operation of this size, which the gate has let in.
    pub(super) fn new(home: Arc<Home>, size: usize, note: Option<Box<(Note, Place)>>) -> Self {
        let inner = Inner {
            stage: Stage::Waiting,
            queued: true,
            attempts: 0,
            note,
            listener: Listener::Nobody,
        };
        Self {
            inner: Mutex::new(inner),
            home,
            size,
        }
    }

    /// The dispatcher takes it out of the queue; whether it is still wanted. The room that
    /// it held is the dispatcher's to give back, for a whole group at once.
    pub(super) fn pick(&self) -> bool {
        let mut inner = self.inner.lock();
        let wanted = matches!(inner.stage, Stage::Waiting | Stage::Doubtful(_));
        if wanted {
            inner.queued = false;
        }
        wanted
    }

    /// Whether the gate counts it.
    pub(super) fn is_queued(&self) -> bool {
        self.inner.lock().queued
    }

    /// Whether it has its outcome.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.inner.lock().stage, Stage::Resolved(_) | Stage::Gone)
    }

    /// A worker is about to execute it, at this place if there are several; whether it is still
    /// wanted.
    pub(super) fn begin(&self, at: Option<&Place>) -> bool {
        let mut inner = self.inner.lock();
        if !matches!(inner.stage, Stage::Waiting | Stage::Doubtful(_)) {
            return false;
        }
        inner.stage = Stage::Running;
        inner.attempts += 1;
        if let (Some(at), Some(note)) = (at, &mut inner.note) {
            note.1 = at.clone();
        }
        true
    }

    /// It goes back into the queue, to be tried again after this error; whether it is
    /// still wanted.
    pub(super) fn again(&self, error: &Error) -> bool {
        let mut inner = self.inner.lock();
        match &inner.stage {
            Stage::Running if error.outcome_unknown() => {
                inner.stage = Stage::Doubtful(error.clone());
            }
            Stage::Running => inner.stage = Stage::Waiting,
            Stage::Waiting | Stage::Doubtful(_) => {}
            Stage::Resolved(_) | Stage::Gone => return false,
        }
        inner.queued = true;
        self.home.gate.force(1, self.size);
        true
    }

    /// Gives it its outcome, unless it has one.
    pub(super) fn resolve(&self, outcome: Outcome<R>, wakes: &mut Wakes) {
        // Not dropped under the lock, should it not be wanted.
        let mut outcome = Some(Shielded::new(outcome));
        let decide = |stage: &Stage<R>| match stage {
            Stage::Resolved(_) | Stage::Gone => None,
            _ => outcome.take(),
        };
        self.settle(decide, wakes);
    }

    /// It is not executed any more, for this reason. For one that is in the queue or in
    /// anybody's hands.
    pub(super) fn dismiss(&self, why: Error) {
        self.settle_now(|stage| match stage {
            Stage::Resolved(_) | Stage::Gone => None,
            Stage::Doubtful(doubt) => Some(Outcome::Unknown(doubt.clone())),
            _ => Some(Outcome::NotExecuted(why)),
        });
    }

    /// Its deadline is over. `at_last` for one that was being executed at the deadline
    /// and had some time since to come to an end.
    pub(super) fn expire(&self, at_last: bool, why: impl FnOnce() -> Error) -> Expiry {
        let mut running = false;
        self.settle_now(|stage| match stage {
            Stage::Waiting => Some(Outcome::NotExecuted(why())),
            Stage::Doubtful(doubt) => Some(Outcome::Unknown(doubt.clone())),
            Stage::Running if at_last => Some(Outcome::Unknown(why().with_outcome_unknown())),
            Stage::Running => {
                running = true;
                None
            }
            Stage::Resolved(_) | Stage::Gone => None,
        });
        if running {
            Expiry::Running
        } else {
            Expiry::Settled
        }
    }

    /// Cancels it, if it was not begun.
    fn cancel(&self) -> bool {
        let cancelled = self.settle_now(|stage| match stage {
            Stage::Waiting => Some(Outcome::NotExecuted(Error::new(
                ErrorKind::Cancelled,
                Phase::Queue,
                "cancelled by the caller before it was begun",
            ))),
            _ => None,
        });
        if cancelled {
            // The operation itself is still there, and takes memory.
            self.home.bell.wake();
        }
        cancelled
    }

    /// The same for one that is not part of a group.
    fn settle_now(&self, decide: impl FnOnce(&Stage<R>) -> Option<Outcome<R>>) -> bool {
        let decide = |stage: &Stage<R>| decide(stage).map(Shielded::new);
        self.settle(decide, &mut Wakes::default())
    }

    /// Resolves it with what `decide` says of its stage, if anything, and counts the outcome
    /// before anybody can learn of it.
    fn settle(
        &self,
        decide: impl FnOnce(&Stage<R>) -> Option<Shielded<Outcome<R>>>,
        wakes: &mut Wakes,
    ) -> bool {
        let mut inner = self.inner.lock();
        let Some(outcome) = decide(&inner.stage) else {
            return false;
        };
        let kind = outcome.kind();
        self.home.counters.count(kind);
        let note = inner.note.take();
        let attempts = inner.attempts;
        let error = note.as_ref().and_then(|_| outcome.error().cloned());
        let queued = std::mem::replace(&mut inner.queued, false);
        if queued {
            self.home.gate.forget(1, self.size);
        }
        let listener = std::mem::replace(&mut inner.listener, Listener::Nobody);
        let callback = match listener {
            Listener::Callback(callback) => {
                inner.stage = Stage::Gone;
                Some((callback, outcome))
            }
            other => {
                inner.stage = Stage::Resolved(outcome);
                if let Listener::Waiting(thread) = other {
                    wakes.add(thread);
                }
                None
            }
        };
        drop(inner);
        if queued {
            self.home.gate.ring();
        }
        if let Some(note) = note {
            let (note, place) = *note;
            let ended = Ended::now(place, note, kind, error.as_ref(), attempts);
            if threads::is_dispatcher() {
                ended.tell_in_background(error);
            } else {
                ended.tell(error.as_ref());
            }
        }
        let Some((callback, outcome)) = callback else {
            return true;
        };
        // It may take long: nobody waits for it who need not.
        wakes.wake();
        let call = move || call_back(callback, outcome.into_inner());
        if threads::is_dispatcher() {
            crew::submit(Box::new(call));
        } else {
            call();
        }
        true
    }

    /// The outcome, if it is there.
    fn take(&self) -> Option<Outcome<R>> {
        let mut inner = self.inner.lock();
        if !matches!(inner.stage, Stage::Resolved(_)) {
            return None;
        }
        match std::mem::replace(&mut inner.stage, Stage::Gone) {
            Stage::Resolved(outcome) => Some(outcome.into_inner()),
            _ => None,
        }
    }

    /// Whether it is over, or does not depend on this thread.
    fn may_be_waited_for(&self) -> bool {
        !threads::is_own(&self.home) || self.is_over()
    }

    /// The outcome, waiting for it until then.
    fn wait_until(&self, deadline: Option<Instant>) -> Option<Outcome<R>> {
        loop {
            if let Some(outcome) = self.take() {
                return Some(outcome);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let mut inner = self.inner.lock();
            if matches!(inner.stage, Stage::Resolved(_)) {
                continue;
            }
            if left.is_some_and(|left| left.is_zero()) {
                inner.listener = Listener::Nobody;
                return None;
            }
            if matches!(inner.listener, Listener::Nobody) {
                inner.listener = Listener::Waiting(thread::current());
            }
            drop(inner);
            match left {
                Some(left) => thread::park_timeout(left),
                None => thread::park(),
            }
        }
    }

    fn on_outcome(&self, callback: Callback<R>) {
        let mut inner = self.inner.lock();
        if matches!(inner.stage, Stage::Resolved(_)) {
            drop(inner);
            if let Some(outcome) = self.take() {
                call_back(callback, outcome);
            }
        } else {
            inner.listener = Listener::Callback(callback);
        }
    }
}

fn call_back<R>(callback: Callback<R>, outcome: Outcome<R>) {
    contain("the callback of an operation", || callback(outcome));
}

/// The handle on a submitted operation. Dropping it does not cancel the operation.
///
/// ```
/// # use millpond::{Outcome, Ticket};
/// # fn f(ticket: Ticket<u64>) -> Result<u64, millpond::Error> {
/// match ticket.wait() {
///     Outcome::Done(reply) => Ok(reply),
///     Outcome::Rejected(error) => Err(error),      // the server refused it
///     Outcome::NotExecuted(error) => Err(error),   // certainly not applied
///     Outcome::Unknown(error) => Err(error),       // perhaps applied
/// }
/// # }
/// ```
#[must_use = "the outcome comes here"]
pub struct Ticket<R>(Arc<Cell<R>>);

impl<R: Send + 'static> Ticket<R> {
    pub(super) fn new(cell: Arc<Cell<R>>) -> Self {
        Self(cell)
    }

    /// Waits for the outcome. It comes at the latest shortly after the operation's own
    /// deadline. One that has none waits for its turn as long as it takes; then the batch's
    /// [`default_deadline`](super::BatchBuilder::default_deadline) bounds each attempt.
    ///
    /// # Panics
    /// On a worker of the same batch, as in most callbacks, if the outcome is not there yet:
    /// that worker might have to find it out.
    pub fn wait(self) -> Outcome<R> {
        assert!(
            self.0.may_be_waited_for(),
            "a callback cannot wait for another ticket of the same batch: give that one a \
             callback too"
        );
        loop {
            if let Some(outcome) = self.0.wait_until(None) {
                return outcome;
            }
        }
    }

    /// Waits for the outcome for at most `timeout`; the ticket again if it did not come.
    ///
    /// # Errors
    /// The ticket itself.
    pub fn wait_timeout(self, timeout: Duration) -> Result<Outcome<R>, Self> {
        let deadline = Instant::now().checked_add(timeout);
        self.0.wait_until(deadline).ok_or(self)
    }

    /// The outcome if it is there already; else the ticket again.
    ///
    /// # Errors
    /// The ticket itself.
    pub fn try_outcome(self) -> Result<Outcome<R>, Self> {
        self.0.take().ok_or(self)
    }

    /// Takes the operation out of the queue, if it was not begun: then its outcome is
    /// [`NotExecuted`](Outcome::NotExecuted). Returns whether it was.
    pub fn cancel(&self) -> bool {
        self.0.cancel()
    }

    /// Has the outcome handed to this function, on a thread in the background (or on this one,
    /// if it is there already). It should be quick, since it may hold up a worker of the
    /// batch, and must not [`wait`](Self::wait) for other tickets of the same batch. It may
    /// submit, which does not wait for room there, cancel and close. A panic in it is logged
    /// and harms nobody. Work that it spawns on rayon belongs into a pool that it names, since
    /// the batch's workers have none to spare.
    pub fn on_outcome(self, callback: impl FnOnce(Outcome<R>) + Send + 'static) {
        self.0.on_outcome(Box::new(callback));
    }
}

impl<R> fmt::Debug for Ticket<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.0.inner.lock().stage {
            Stage::Waiting | Stage::Doubtful(_) => "waiting",
            Stage::Running => "running",
            Stage::Resolved(_) | Stage::Gone => "has its outcome",
        };
        f.debug_tuple("Ticket").field(&stage).finish()
    }
}

/// How far [`wait_all`] has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Operations that have their outcome.
    pub settled: usize,
    /// Those of them that were done.
    pub done: usize,
    /// All of them.
    pub total: usize,
}

/// Waits for all of these and gives their outcomes in the same order. `progress` is told
/// how far it has come, a hundred times or less and at the end.
///
/// ```
/// # fn f(tickets: Vec<millpond::Ticket<u64>>) {
/// let outcomes = millpond::batch::wait_all(tickets, |progress| {
///     println!("{} of {}", progress.settled, progress.total);
/// });
/// # }
/// ```
pub fn wait_all<R: Send + 'static>(
    tickets: impl IntoIterator<Item = Ticket<R>>,
    mut progress: impl FnMut(Progress),
) -> Vec<Outcome<R>> {
    let tickets: Vec<_> = tickets.into_iter().collect();
    let mut so_far = Progress {
        total: tickets.len(),
        ..Progress::default()
    };
    let step = tickets.len().div_ceil(100).max(1);
    let wait = |ticket: Ticket<R>| {
        let outcome = ticket.wait();
        so_far.settled += 1;
        so_far.done += usize::from(outcome.is_done());
        if so_far.settled.is_multiple_of(step) || so_far.settled == so_far.total {
            progress(so_far);
        }
        outcome
    };
    tickets.into_iter().map(wait).collect()
}
