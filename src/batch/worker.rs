//! A worker of the batch's rayon pool: takes groups, executes each on a lease, and gives
//! every operation its outcome.
//!
//! Each worker is one long-lived task that occupies its rayon thread until the batch ends.
//! It waits here for groups and for leases, and never for a result of the batch itself, so
//! that a thread that blocks delays nobody's task.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::Receiver;

use super::job::{Again, Group, Job, Report};
use super::lender::{Loan, Site};
use super::sizing::Sample;
use super::threads::{self, Role};
use super::ticket::Wakes;
use super::{Shared, closed_before_begun};
use crate::backend::{Backend, take_splits};
use crate::clock::{NEVER, Ticks, after, between};
use crate::contain::{complain, contain};
use crate::deadline::Deadline;
use crate::endpoints::{Endpoint, InVain};
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::{Outcome, without_values};
use crate::pool::PooledConnection;
use crate::recovery::{Pass, may_retry};

/// Executes groups until the dispatcher is gone.
pub(super) fn drain<B: Backend>(shared: &Arc<Shared<B>>, groups: &Receiver<Group<B>>) {
    threads::enlist(Role::Worker, &shared.home);
    for group in groups {
        let report = execute(shared, group);
        let brings_work = !report.again.is_empty() || !report.keys.is_empty();
        // The dispatcher may have given up already; then nothing is left to report.
        let _ = shared.reports.send(report);
        let bell = &shared.home.bell;
        bell.ring_if_sated();
        // A closed batch ends with the last report. (Looked at behind the barrier in the bell.)
        if brings_work || shared.is_closed() {
            bell.ring(0);
        }
    }
}

fn execute<B: Backend>(shared: &Shared<B>, group: Group<B>) -> Report<B> {
    let mut settler = Settler::new(shared);
    let mut report = Report {
        group: group.number,
        sample: None,
        again: Vec::new(),
        held_back: false,
        keys: Vec::new(),
    };
    let deadline = latest_deadline(shared, &group.jobs);
    // Counted down before the tickets are told, so that what their owners read adds up.
    let running = &shared.home.counters.running;
    match lend(shared, group.pass, &group.jobs, deadline) {
        Ok(Loan { lease, pass, site }) => {
            let mut jobs = group.jobs;
            let probes = pass.is_probe();
            if probes && jobs.len() > 1 {
                // As little as possible is put at risk.
                settler.hold_back(jobs.drain(1..), &closed_before_begun());
            }
            let jobs = settler.begin(jobs, &site);
            let start = shared.clock.now();
            // A group of retries earns none, or a tenth of them would earn another.
            if jobs.iter().any(|job| job.failed == 0) {
                shared.lender.earn_retries(1);
            }
            let counters = &shared.home.counters;
            for job in jobs.iter().filter(|job| job.failed == 0) {
                counters.queue_time.record(start.saturating_sub(job.since));
            }
            let limit = shared.lender.attempt_limit(|| repeatable(shared, &jobs));
            let by = limit.map_or(deadline, |limit| deadline.min(Deadline::within(limit)));
            let outcomes = run(shared, lease, pass, &site, &jobs, by);
            settler.was_cut = limit.is_some() && !deadline.is_over();
            let sample = Sample {
                executed: jobs.len(),
                took: shared.clock.now().saturating_sub(start),
                full: group.full,
            };
            counters.executed(sample.executed, sample.took);
            report.sample = (!probes).then_some(sample);
            running.fetch_sub(1, Relaxed);
            settler.site = Some(site);
            let mut outcomes = outcomes.into_iter();
            for job in jobs {
                let outcome = outcomes.next().unwrap_or_else(missing);
                settler.decide(job, outcome);
            }
            contain("the drop of a reply", || drop(outcomes));
        }
        Err(InVain { error, kept_back }) => {
            running.fetch_sub(1, Relaxed);
            // All of them fare alike.
            report.held_back = kept_back;
            if kept_back {
                settler.hold_back(group.jobs, &error);
            } else {
                for job in group.jobs {
                    settler.decide(job, Outcome::NotExecuted(error.clone()));
                }
            }
        }
    }
    (report.again, report.keys) = (settler.again, settler.keys);
    report
}

/// A lease for these. Of which endpoint, a strategy of the program's own may say.
fn lend<'a, B: Backend>(
    shared: &'a Shared<B>,
    pass: Pass,
    jobs: &[Job<B>],
    deadline: Deadline,
) -> Result<Loan<'a, B>, InVain> {
    let lend = || shared.lender.lend(pass, &tried(jobs), deadline);
    contain("the way to a lease", lend).unwrap_or_else(|| {
        let message = "the program's own code panicked on the way to a lease";
        Err(Error::new(ErrorKind::Other, Phase::Queue, message).into())
    })
}

/// The endpoints on which one of these was tried.
fn tried<B: Backend>(jobs: &[Job<B>]) -> Vec<Arc<Endpoint<B>>> {
    let mut tried: Vec<Arc<Endpoint<B>>> = Vec::new();
    for endpoint in jobs.iter().flat_map(|job| &job.tried) {
        if !tried.iter().any(|other| Arc::ptr_eq(other, endpoint)) {
            tried.push(Arc::clone(endpoint));
        }
    }
    tried
}

/// How often these are tried at least and how often they failed at most, if all may run twice.
fn repeatable<B: Backend>(shared: &Shared<B>, jobs: &[Job<B>]) -> Option<(u32, u32)> {
    if !jobs.iter().all(|job| job.may_repeat) {
        return None;
    }
    let attempts = jobs.iter().map(|job| shared.policy_of(job).attempts());
    let failed = jobs.iter().map(|job| job.failed);
    attempts.min().zip(failed.max())
}

/// When the group has to be over: when the last of its operations has.
fn latest_deadline<B: Backend>(shared: &Shared<B>, jobs: &[Job<B>]) -> Deadline {
    let now = shared.clock.now();
    let default = shared.settings.default_deadline;
    let default = default.map_or(NEVER, |limit| after(now, limit));
    let own = |job: &Job<B>| {
        if job.deadline == NEVER {
            default
        } else {
            job.deadline
        }
    };
    match jobs.iter().map(own).max().unwrap_or(default) {
        NEVER => Deadline::NEVER,
        latest => Deadline::within(between(now, latest)),
    }
}

/// Executes them on this lease, which is discarded if the backend panics.
fn run<B: Backend>(
    shared: &Shared<B>,
    mut lease: PooledConnection<B>,
    pass: Pass,
    site: &Site<'_, B>,
    jobs: &[Job<B>],
    deadline: Deadline,
) -> Vec<Outcome<B::Reply>> {
    if jobs.is_empty() {
        // Says nothing about the server.
        return Vec::new();
    }
    let started = shared.clock.now();
    let (manager, conn) = PooledConnection::parts(&mut lease);
    let run = || match jobs {
        [job] => vec![manager.execute(conn, &*job.operation, deadline).into()],
        jobs => {
            let operations: Vec<_> = jobs.iter().map(|job| &*job.operation).collect();
            manager.execute_batch(conn, &operations, deadline)
        }
    };
    let outcomes = catch_unwind(AssertUnwindSafe(run));
    // Before anybody keeps an error: others are told of it too.
    let outcomes = outcomes.map(|outcomes| masked(outcomes, jobs));
    let splits = take_splits();
    shared.home.counters.splits.fetch_add(splits, Relaxed);
    if let Ok(outcomes) = &outcomes {
        let took = shared.clock.now().saturating_sub(started);
        count_on(&lease, outcomes, took);
        site.call_ends(pass, started, outcomes);
    }
    outcomes.unwrap_or_else(|_| {
        lease.discard();
        complain(|| {
            log::error!(
                "millpond: the backend {} panicked; its connection is discarded, and {} \
                 operations are unknown",
                B::NAME,
                jobs.len()
            );
        });
        let error = Error::new(ErrorKind::Other, Phase::Operation, "the backend panicked");
        let error = site.locate(error.with_outcome_unknown());
        jobs.iter()
            .map(|_| Outcome::Unknown(error.clone()))
            .collect()
    })
}

/// The outcomes without the values of their operations, where these are masked.
fn masked<B: Backend>(outcomes: Vec<Outcome<B::Reply>>, jobs: &[Job<B>]) -> Vec<Outcome<B::Reply>> {
    let mut jobs = jobs.iter();
    let mask = |outcome: Outcome<B::Reply>| {
        let job = jobs.next();
        outcome.map_error(|mut error| {
            if let Some(job) = job {
                contain("an operation's values", || {
                    error = without_values(&*job.operation, error.clone());
                });
            }
            error
        })
    };
    outcomes.into_iter().map(mask).collect()
}

/// Counts the outcomes of a group among the pool's operations.
fn count_on<B: Backend>(lease: &PooledConnection<B>, outcomes: &[Outcome<B::Reply>], took: Ticks) {
    let mut done = 0;
    for outcome in outcomes {
        match outcome.error() {
            None => done += 1,
            Some(error) => PooledConnection::failed(lease, took, error),
        }
    }
    PooledConnection::succeeded(lease, took, done);
}

/// The backend gave fewer outcomes than there were operations.
fn missing<R>() -> Outcome<R> {
    let message = "the backend gave no outcome for it, which is a mistake in the backend";
    let error = Error::new(ErrorKind::Other, Phase::Operation, message);
    Outcome::Unknown(error.with_outcome_unknown())
}

/// Tells the tickets of a group, and sorts out what is tried again.
struct Settler<'a, B: Backend> {
    shared: &'a Shared<B>,
    /// Where they were executed, if they were.
    site: Option<Site<'a, B>>,
    /// Whether a deadline that was over was the attempt's own.
    was_cut: bool,
    again: Vec<Again<B>>,
    keys: Vec<Arc<str>>,
    wakes: Wakes,
    /// Whether the pool's budget allows this group's operations another attempt; a group counts
    /// as one.
    paid: Option<bool>,
}

impl<'a, B: Backend> Settler<'a, B> {
    fn new(shared: &'a Shared<B>) -> Self {
        Self {
            shared,
            site: None,
            was_cut: false,
            again: Vec::new(),
            keys: Vec::new(),
            wakes: Wakes::default(),
            paid: None,
        }
    }

    /// Those that are still wanted; others expired or were cancelled while the group waited
    /// for its lease.
    fn begin(&mut self, mut jobs: Vec<Job<B>>, site: &Site<'_, B>) -> Vec<Job<B>> {
        let place = site.place();
        jobs.retain_mut(|job| {
            let wanted = job.cell.begin(place.as_ref());
            if !wanted {
                self.keys.extend(job.key.take());
            }
            wanted
        });
        jobs
    }

    fn decide(&mut self, mut job: Job<B>, outcome: Outcome<B::Reply>) {
        let outcome = outcome.map_error(|error| self.locate(error));
        // Once an attempt may have taken effect, no later failure makes that undone.
        job.doubtful |= outcome.is_in_doubt();
        let outcome = if job.doubtful {
            outcome.in_doubt()
        } else {
            outcome
        };
        if let Some(error) = outcome.error() {
            job.failed += 1;
            if let Some(due) = self.again_at(&job, error) {
                let endpoint = self.site.as_ref().and_then(Site::endpoint);
                job.tried.extend(endpoint.cloned());
                self.again.push((due, job));
                return;
            }
        }
        self.keys.extend(job.key.take());
        if let Outcome::Rejected(error) = &outcome {
            let (operation, error) = (job.operation.into_inner(), error.clone());
            let quarantine = &self.shared.quarantine;
            quarantine.put(operation, job.size, error, job.failed);
        }
        job.cell.resolve(outcome, &mut self.wakes);
    }

    /// Adds to an error where it happened.
    fn locate(&self, error: Error) -> Error {
        match &self.site {
            Some(site) => site.locate(error),
            None => self.shared.lender.locate(error),
        }
    }

    /// They go back into the queue as if they had not been taken out, or get this error if the
    /// batch has ended.
    fn hold_back(
        &mut self,
        jobs: impl IntoIterator<Item = Job<B>, IntoIter: DoubleEndedIterator>,
        error: &Error,
    ) {
        // The last one that comes back is the first in the queue.
        for job in jobs.into_iter().rev() {
            if self.shared.is_cut_off() || !job.cell.again(error) {
                self.decide(job, Outcome::NotExecuted(error.clone()));
            } else {
                self.again.push((self.shared.clock.now(), job));
            }
        }
    }

    /// When the operation is tried again after this error, if it is; it is back in the
    /// queue then.
    fn again_at(&mut self, job: &Job<B>, error: &Error) -> Option<Ticks> {
        let policy = self.shared.policy_of(job);
        let was_cut = self.was_cut && error.kind() == ErrorKind::DeadlineExceeded;
        let may_retry = was_cut || may_retry(error, job.may_repeat);
        if job.failed >= policy.attempts() || !may_retry {
            return None;
        }
        let lender = &self.shared.lender;
        let pause = lender.pause(policy, error, job.failed, was_cut);
        let due = after(self.shared.clock.now(), pause);
        if due >= job.deadline || self.is_put_off(job, error) || self.shared.is_cut_off() {
            return None;
        }
        let paid = *self
            .paid
            .get_or_insert_with(|| self.shared.lender.spend_retry());
        let again = paid && job.cell.again(error);
        if again {
            self.shared.home.counters.retries.fetch_add(1, Relaxed);
        }
        again.then_some(due)
    }

    /// Whether the server asks for a longer pause than the operation, which has no deadline,
    /// should have to wait.
    fn is_put_off(&self, job: &Job<B>, error: &Error) -> bool {
        let limit = self.shared.settings.default_deadline;
        let asked = error.retry_after().filter(|_| job.deadline == NEVER);
        asked
            .zip(limit)
            .is_some_and(|(asked, limit)| asked >= limit)
    }
}
