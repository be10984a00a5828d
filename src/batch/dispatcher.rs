//! The dispatcher: one thread that owns everything that is queued.
//!
//! It takes operations out of the channels, keeps them in order ([`Queue`]), forms a group
//! whenever a worker is free, lets those go whose deadline is over, and brings back those
//! that are tried again. It does no I/O and never waits for a worker, so it keeps deadlines
//! even while every worker is stuck at a frozen server. While the pool's circuit breaker is
//! open, operations stay in the queue, until their deadlines or until the pool is closed: they
//! would only be burnt.
//!
//! It ends when the batch is closed and nothing is left, or when the time allowed for
//! closing is over; then everything that is left gets its outcome here.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::bell::Sleeper;
use super::counters::Cause;
use super::job::{Group, Job, Report};
use super::queue::{Queue, Room};
use super::settings::{Flush, WhenFull};
use super::sizing::Sizing;
use super::threads::{self, Role};
use super::ticket::{Cell, Expiry};
use super::{Shared, closed, closed_before_begun};
use crate::backend::Backend;
use crate::clock::{NEVER, Ticks, after, between, ticks};
use crate::contain::complain;
use crate::error::{Error, ErrorKind, Phase};
use crate::resources;

/// How long an operation that is being executed at its deadline may take to come to an
/// end; the backends cut it off before.
const GRACE: Ticks = 80_000_000;
/// How many operations are taken out of a channel before groups are formed again.
const INTAKE: usize = 512;
/// How often it looks whether the circuit breaker still keeps operations back.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A group whose operation has this much left of its deadline is not held back.
const NEAR: Ticks = 20_000_000;

/// So many deadlines are kept before those of operations that are over are dropped.
const PURGE: usize = 1024;
/// So many cancelled or expired operations may lie in the queue, and this part of its bytes,
/// before they are looked for.
const LITTER: usize = 64;
const LITTER_BYTES: usize = 8;

type Timed<T> = BTreeMap<(Ticks, u64), T>;

pub(super) struct Dispatcher<B: Backend> {
    shared: Arc<Shared<B>>,
    sleeper: Sleeper,
    /// One for each priority, the most urgent first.
    arrivals: [Receiver<Job<B>>; 4],
    reports: Receiver<Report<B>>,
    groups: Sender<Group<B>>,
    queue: Queue<B>,
    sizing: Sizing,
    free_workers: usize,
    /// The cells of groups that are with the workers, or were when the dispatcher last heard of
    /// them.
    running: HashMap<u64, Vec<Weak<Cell<B::Reply>>>>,
    /// The circuit breaker keeps back what could be sent off.
    held_back: bool,
    /// A worker was refused, which leave to form a group cannot always tell before.
    held_until: Ticks,
    /// To be tried again, by the moment.
    delayed: Timed<Job<B>>,
    /// Operations with a deadline of their own.
    deadlines: Timed<Watch<B::Reply>>,
    /// With so many of them, those that are over are dropped.
    purge_at: usize,
    last_number: u64,
}

/// An operation whose deadline has to be looked after.
struct Watch<R> {
    /// Weak, so that a reply that nobody waits for is not kept until the deadline.
    cell: Weak<Cell<R>>,
    /// It was being executed at its deadline, and this is a little later.
    at_last: bool,
}

impl<R: Send + 'static> Watch<R> {
    /// Its cell, unless it has its outcome.
    fn live(&self) -> Option<Arc<Cell<R>>> {
        self.cell.upgrade().filter(|cell| !cell.is_over())
    }
}

/// The ends of the channels that the dispatcher holds.
pub(super) struct Ends<B: Backend> {
    pub(super) arrivals: [Receiver<Job<B>>; 4],
    pub(super) reports: Receiver<Report<B>>,
    pub(super) groups: Sender<Group<B>>,
}

impl<B: Backend> Dispatcher<B> {
    pub(super) fn new(shared: Arc<Shared<B>>, sleeper: Sleeper, ends: Ends<B>) -> Self {
        let settings = &shared.settings;
        let (first, target) = if B::NATIVE_BATCH {
            (settings.size, Duration::from_millis(250))
        } else {
            (1, Duration::from_millis(2))
        };
        let target = settings.latency_target.unwrap_or(target);
        Self {
            queue: Queue::new(ticks(settings.aging)),
            sizing: Sizing::new(first, settings.size, ticks(target)),
            free_workers: settings.workers,
            shared,
            sleeper,
            arrivals: ends.arrivals,
            reports: ends.reports,
            groups: ends.groups,
            running: HashMap::new(),
            held_back: false,
            held_until: 0,
            delayed: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            purge_at: PURGE,
            last_number: 0,
        }
    }

    /// Runs until the batch is closed and everything has its outcome.
    pub(super) fn run(mut self) {
        threads::enlist(Role::Dispatcher, &self.shared.home);
        // No code of the program's runs here unshielded, but whoever waits should not do so for
        // ever if that should be wrong.
        while let Ok(goes_on) = catch_unwind(AssertUnwindSafe(|| self.turn())) {
            if !goes_on {
                return self.give_up();
            }
        }
        complain(|| {
            let pool = self.shared.lender.name();
            log::error!("millpond: a panic in the dispatcher; the batch of pool {pool} is closed");
        });
        self.shared.close_at(0);
        self.give_up();
    }

    /// Does what there is to do, or sleeps; whether there will be more.
    fn turn(&mut self) -> bool {
        self.hear_reports();
        let took_in = self.take_in();
        let now = self.shared.clock.now();
        self.expire(now);
        self.bring_back(now);
        self.shed();
        let sent = self.send_off(now);
        self.note_depths();
        if self.is_finished(now) {
            return false;
        }
        if !took_in && !sent {
            self.sleep(now);
        }
        true
    }

    /// A number that was not given before.
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Takes in some of what was submitted, the most urgent first; whether there was any.
    fn take_in(&mut self) -> bool {
        let mut any = false;
        for line in 0..self.arrivals.len() {
            for _ in 0..INTAKE {
                let Ok(job) = self.arrivals[line].try_recv() else {
                    break;
                };
                any = true;
                if job.deadline != NEVER {
                    let key = (job.deadline, self.number());
                    let cell = Arc::downgrade(&job.cell);
                    self.deadlines.insert(
                        key,
                        Watch {
                            cell,
                            at_last: false,
                        },
                    );
                }
                self.queue.push(job);
            }
        }
        any
    }

    fn hear_reports(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            self.free_workers += 1;
            self.running.remove(&report.group);
            if let Some(sample) = report.sample {
                self.sizing.learn(sample);
            }
            if report.held_back {
                self.held_until = after(self.shared.clock.now(), LOOK_AGAIN);
            }
            for key in report.keys {
                self.queue.release(&key);
            }
            for (due, job) in report.again {
                let key = (due, self.number());
                self.delayed.insert(key, job);
            }
        }
    }

    fn bring_back(&mut self, now: Ticks) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now && !self.shared.is_closed() {
                return;
            }
            let job = entry.remove();
            self.queue.push_front(job);
        }
    }

    /// Lets those go whose deadline is over.
    fn expire(&mut self, now: Ticks) {
        while let Some(entry) = self.deadlines.first_entry() {
            let due = entry.key().0;
            if due > now {
                break;
            }
            let watch = entry.remove();
            let at_last = watch.at_last;
            let Some(cell) = watch.live() else {
                continue;
            };
            let why = || self.deadline_over(at_last);
            if let Expiry::Running = cell.expire(at_last, why) {
                let key = (due + GRACE, self.number());
                let cell = Arc::downgrade(&cell);
                self.deadlines.insert(
                    key,
                    Watch {
                        cell,
                        at_last: true,
                    },
                );
            }
        }
        // The next alarm is for one that needs it.
        while let Some(entry) = self.deadlines.first_entry() {
            if entry.get().live().is_some() {
                break;
            }
            entry.remove();
        }
        if self.deadlines.len() > self.purge_at {
            self.deadlines.retain(|_, watch| watch.live().is_some());
            self.purge_at = PURGE.max(2 * self.deadlines.len());
        }
    }

    fn deadline_over(&self, at_last: bool) -> Error {
        let (phase, message) = if at_last {
            (Phase::Operation, "no answer by the operation's deadline")
        } else {
            (
                Phase::Queue,
                "the operation's deadline was over before it was begun",
            )
        };
        let error = Error::new(ErrorKind::DeadlineExceeded, phase, message);
        self.shared.lender.locate(error)
    }

    /// Makes room for what was let in although the queue was full, and drops what was
    /// cancelled or has expired.
    fn shed(&mut self) {
        let gate = &self.shared.home.gate;
        let (max_operations, max_bytes) = gate.limits();
        let sheds = self.shared.settings.when_full == WhenFull::Shed;
        // By what is here: the gate counts those as well that are still on their way.
        let too_much =
            |queue: &Queue<B>| sheds && (queue.len() > max_operations || queue.bytes() > max_bytes);
        let (operations, bytes) = gate.used();
        let littered = self.queue.len() > LITTER + 2 * operations
            || self.queue.bytes() > max_bytes / LITTER_BYTES + 2 * bytes;
        if too_much(&self.queue) || littered {
            self.queue.sweep(|job| job.cell.is_over());
        }
        while too_much(&self.queue) {
            let Some(job) = self.queue.shed() else {
                return;
            };
            let message = "shed from a full queue in favour of more urgent operations; raise \
                           BATCH_MAX_OPERATIONS or BATCH_MAX_BYTES, or submit less";
            let error = Error::new(ErrorKind::Overloaded, Phase::Queue, message);
            job.cell.dismiss(self.shared.lender.locate(error));
        }
    }

    /// Sends groups to the workers that are free; whether any.
    fn send_off(&mut self, now: Ticks) -> bool {
        let mut sent = false;
        self.held_back = now < self.held_until;
        while self.free_workers > 0 && !self.held_back {
            let mut limit = self.group_limit();
            let Some(cause) = self.why_now(limit, now) else {
                break;
            };
            let Some(pass) = self.shared.lender.admit() else {
                self.held_back = true;
                break;
            };
            if pass.is_probe() {
                // As little as possible is put at risk.
                limit = 1;
            }
            let room = Room {
                operations: limit,
                bytes: self.shared.settings.group_bytes,
            };
            let jobs = self.queue.take(room, now);
            if jobs.is_empty() {
                continue;
            }
            let bytes = jobs.iter().map(|job| job.size).sum();
            let home = &self.shared.home;
            home.gate.release(jobs.len(), bytes);
            home.counters.sent_off(jobs.len(), cause);
            let full = jobs.len() >= limit;
            let number = self.number();
            let cells = jobs.iter().map(|job| Arc::downgrade(&job.cell)).collect();
            self.running.insert(number, cells);
            self.free_workers -= 1;
            sent = true;
            // Before anybody can have its outcome.
            self.note_depths();
            // There is room for a group of each worker, and a worker that is gone has
            // panicked, which none does.
            let _ = self.groups.send(Group {
                number,
                jobs,
                full,
                pass,
            });
        }
        sent
    }

    /// How many operations the next group may have.
    fn group_limit(&self) -> usize {
        let mut limit = self.sizing.limit();
        if resources::is_short() {
            limit = limit.div_ceil(2);
        }
        if B::NATIVE_BATCH {
            return limit;
        }
        // One after the other is no gain: spread them.
        let share = self.queue.ready().div_ceil(self.free_workers);
        limit.min(share.max(1))
    }

    /// Why a group should go now, if it should.
    fn why_now(&self, limit: usize, now: Ticks) -> Option<Cause> {
        let oldest = self.queue.oldest()?;
        if self.shared.is_closed() {
            return Some(Cause::Close);
        }
        if self.queue.ready() >= limit {
            return Some(Cause::Full);
        }
        if self.shared.settings.flush == Flush::WhenFree {
            return Some(Cause::Free);
        }
        if now >= self.due_at(oldest) {
            return Some(Cause::Due);
        }
        if oldest <= self.shared.flush_before.load(SeqCst) {
            return Some(Cause::Flush);
        }
        let (soonest, _) = self.next_queued_deadline()?;
        let near = soonest.saturating_sub(now) < NEAR;
        near.then_some(Cause::Deadline)
    }

    /// The first deadline of an operation that is queued. Few of those before it are not: the
    /// ones that are being executed, and the ones that are over and were not yet found to be.
    fn next_queued_deadline(&self) -> Option<(Ticks, u64)> {
        let mut deadlines = self.deadlines.iter();
        let queued = |watch: &Watch<B::Reply>| {
            let cell = watch.cell.upgrade();
            cell.is_some_and(|cell| cell.is_queued())
        };
        let (due, _) = deadlines.find(|(_, watch)| queued(watch))?;
        Some(*due)
    }

    fn due_at(&self, since: Ticks) -> Ticks {
        since.saturating_add(ticks(self.shared.settings.timeout))
    }

    fn note_depths(&self) {
        let depths = &self.shared.home.counters.depths;
        for (counter, depth) in depths.iter().zip(self.queue.depths()) {
            counter.store(depth, Relaxed);
        }
    }

    fn sleep(&self, now: Ticks) {
        // Behind a circuit breaker nothing that comes or becomes due changes anything.
        let hungry = self.free_workers > 0 && !self.held_back;
        let mut alarm = self.shared.cutoff.load(SeqCst);
        let mut due = |moment: Ticks| alarm = alarm.min(moment);
        if let Some((deadline, _)) = self.deadlines.keys().next() {
            due(*deadline);
        }
        if let Some((again, _)) = self.delayed.keys().next() {
            due(*again);
        }
        if let Some(oldest) = self.queue.oldest().filter(|_| hungry) {
            due(self.due_at(oldest));
            if let Some((deadline, _)) = self.next_queued_deadline() {
                due(deadline.saturating_sub(NEAR));
            }
        }
        if self.held_back {
            alarm = alarm.min(after(now, LOOK_AGAIN));
        }
        let limit = between(now, alarm).min(Duration::from_secs(3600));
        self.sleeper
            .sleep(&self.shared.home.bell, hungry, alarm, limit, || {
                !self.reports.is_empty() || self.arrivals.iter().any(|line| !line.is_empty())
            });
    }

    /// Whether there will be nothing to do any more, or no time.
    fn is_finished(&self, now: Ticks) -> bool {
        if !self.shared.is_closed() {
            return false;
        }
        // Whoever was let in is counted by the gate before it looks whether the batch is
        // closed, so that nobody can come after this.
        let empty = self.shared.home.gate.used().0 == 0 && self.running.is_empty();
        empty || now >= self.shared.cutoff.load(SeqCst)
    }

    /// Gives everything that is left its outcome.
    fn give_up(mut self) {
        self.shared.cut_off();
        let shared = Arc::clone(&self.shared);
        let error = || shared.lender.locate(closed_before_begun());
        loop {
            // Workers may have sent some back before the cut.
            self.hear_reports();
            let delayed = std::mem::take(&mut self.delayed).into_values();
            let arrived = self.arrivals.iter().flat_map(Receiver::try_iter);
            for job in self.queue.drain().chain(delayed).chain(arrived) {
                job.cell.dismiss(error());
            }
            if self.shared.home.gate.used().0 == 0 {
                break;
            }
            std::thread::yield_now();
        }
        let cut = || {
            shared
                .lender
                .locate(closed("the batch was closed meanwhile"))
        };
        let running = self.running.values().flatten();
        for cell in running.filter_map(Weak::upgrade) {
            cell.expire(true, cut);
        }
        self.note_depths();
        self.shared.finish();
    }
}
