//! Operations from any thread, grouped by themselves and run in parallel.
//!
#![cfg_attr(feature = "postgres", doc = "```no_run")]
#![cfg_attr(not(feature = "postgres"), doc = "```text")]
//! # fn main() -> Result<(), millpond::Error> {
//! use millpond::batch::{Batch, wait_all};
//! use millpond::{Operation, Outcome, Pool, Postgres, PostgresConfig, Priority, Sql};
//!
//! let config = PostgresConfig::from_url("postgres://app:secret@localhost/shop")?;
//! let pool = Pool::new(Postgres::new(config)?)?;
//! let batch = Batch::builder(pool).size(500).max_operations(10_000).build()?;
//!
//! let insert = Sql::new("INSERT INTO visits (page, ms) VALUES ($1, $2)");
//! let mut tickets = Vec::new();
//! for (page, ms) in [("/", 12), ("/about", 7), ("/", 9)] {
//!     let visit = insert.clone().bind(page).bind(ms).priority(Priority::Low);
//!     tickets.push(batch.submit(visit)?);
//! }
//! for outcome in wait_all(tickets, |_| ()) {
//!     if let Outcome::Rejected(error) = outcome {
//!         println!("{error}");
//!     }
//! }
//! batch.close(std::time::Duration::from_secs(5));
//! # Ok(()) }
//! ```
//!
//! # The path of an operation
//!
//! `submit` validates it, has the `gate` let it in, and puts it into the channel of its
//! priority. The `dispatcher` thread takes it into its `queue` and, once a worker is
//! free, into a group. A `worker` of the batch's own rayon pool takes a lease of the `lender`
//! and has the backend execute the group. The outcome comes to the `ticket`.
//!
//! # What is promised
//!
//! 1. Every operation that is accepted gets exactly one [`Outcome`](crate::Outcome), by
//!    its deadline and some 100 milliseconds, whatever the server does; also when the batch
//!    is closed, a callback, a backend or the drop of an operation or of a reply panics.
//! 2. One that fails does not make its neighbours fail.
//! 3. What may have taken effect is not tried again, unless it may run twice.
//! 4. The queue never holds more than its bounds, but for operations that are between two
//!    attempts.
//! 5. Less urgent operations wait for at most about
//!    [`aging`](BatchBuilder::aging) longer than if they had been alone at their priority
//!    and had half of the throughput.
//!
//! # Over several servers
//!
//! A batch works on a pool, on a [`Fleet`](crate::Fleet), or on a view of one by role: over
//! `fleet.write()` its groups go to the primary and follow a failover. Each group is executed on
//! one endpoint. What was certainly not applied there, or may run twice, is tried again on another
//! one; what may have been applied is [`Unknown`](crate::Outcome::Unknown), as on a pool. Nothing
//! waits for an endpoint whose circuit breaker is open while another one is well. Operations with
//! the same ordering key keep their order on whichever endpoints they run. Give operations
//! deadlines: a server that freezes holds the groups that it has until then, and as long the
//! workers that wait for it.
//!
//! # What it costs
//!
//! Two allocations and about two hundred bytes for each queued operation beside the
//! operation itself ([`BatchMetrics::queued_bytes`] counts them), and a copy of its statement
//! while the audit log or the [log](crate::logging) wants one; one thread for the
//! dispatcher and one for each worker; a hand-over from thread to thread at submission, one to
//! the worker and one back, so that a lone operation takes some tens of microseconds longer
//! than by [`Pool::execute`].
//!
//! Locks are held for a few instructions only, never across I/O, callbacks or wake-ups.

mod bell;
mod counters;
mod dispatcher;
mod gate;
mod job;
mod lender;
#[cfg(all(test, millpond_loom))]
mod model;
mod quarantine;
mod queue;
mod refused;
mod settings;
mod shield;
mod sizing;
mod submit;
mod threads;
mod ticket;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use parking_lot::{Condvar, Mutex};

pub use self::counters::{BatchMetrics, Flushes};
pub use self::lender::Lender;
pub use self::quarantine::{Quarantine, Quarantined, read_json_lines};
pub use self::refused::Refused;
#[cfg(feature = "_net")]
pub(crate) use self::settings::check;
pub use self::settings::{BatchBuilder, Flush, WhenFull};
pub use self::ticket::{Progress, Ticket, wait_all};

use self::counters::Counters;
use self::dispatcher::{Dispatcher, Ends};
use self::gate::Gate;
use self::job::{Job, Report};
use self::settings::Settings;
use self::ticket::{Cell, Home};
use crate::backend::Backend;
use crate::clock::{Clock, NEVER, Ticks, after};
use crate::error::{Error, ErrorKind, Phase};
use crate::pool::Pool;
use crate::recovery::RetryPolicy;

/// The most operations that a channel holds before the dispatcher takes them.
const CHANNEL: usize = 4096;

/// For how long the last handle waits for what is queued when it is dropped.
const CLOSE_ON_DROP: Duration = Duration::from_secs(30);

/// What [`Batch::submit`] gives: where the outcome will come, or the operation again.
pub type Submitted<B> = Result<Ticket<<B as Backend>::Reply>, Refused<<B as Backend>::Operation>>;

/// Groups operations from any thread and runs them in parallel. Handles are cheap to
/// clone. See the [module](self).
///
/// When the last handle is dropped without [`close`](Self::close), it waits for up to 30
/// seconds until everything has its outcome; not so in a callback of one of its operations.
pub struct Batch<B: Backend>(Arc<Root<B>>);

/// What the handles share; when it goes, the batch closes.
struct Root<B: Backend> {
    shared: Arc<Shared<B>>,
    /// The workers' threads; they end when the dispatcher has gone.
    _workers: rayon::ThreadPool,
}

/// What the handles, the dispatcher and the workers share.
struct Shared<B: Backend> {
    name: Arc<str>,
    lender: Lender<B>,
    settings: Settings,
    retry: RetryPolicy,
    clock: Clock,
    home: Arc<Home>,
    quarantine: Quarantine<B::Operation>,
    /// One for each priority, the most urgent first.
    arrivals: [Sender<Job<B>>; 4],
    reports: Sender<Report<B>>,
    closed: AtomicBool,
    /// When everything that is left gets its outcome, once closed.
    cutoff: AtomicU64,
    is_cut_off: AtomicBool,
    /// What was submitted until then is not held back.
    flush_before: AtomicU64,
    finished: Mutex<bool>,
    at_finish: Condvar,
}

impl<B: Backend> Shared<B> {
    /// What a queued operation takes beside its own size: the rest of its job, its cell
    /// and the cell's two counts.
    const OVERHEAD: usize = size_of::<Job<B>>() - size_of::<B::Operation>()
        + size_of::<Cell<B::Reply>>()
        + 2 * size_of::<usize>();

    fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    /// Nothing is tried again from now on.
    fn cut_off(&self) {
        self.is_cut_off.store(true, SeqCst);
    }

    fn is_cut_off(&self) -> bool {
        self.is_cut_off.load(SeqCst)
    }

    /// How often and when this operation is tried.
    fn policy_of<'a>(&'a self, job: &'a Job<B>) -> &'a RetryPolicy {
        job.retry.as_deref().unwrap_or(&self.retry)
    }

    /// The dispatcher has gone, and everything has its outcome.
    fn finish(&self) {
        *self.finished.lock() = true;
        self.at_finish.notify_all();
    }

    fn close_at(&self, cutoff: Ticks) {
        self.cutoff.fetch_min(cutoff, SeqCst);
        self.closed.store(true, SeqCst);
        self.home.gate.ring();
        self.home.bell.wake();
    }

    fn wait_until_finished(&self) {
        let mut finished = self.finished.lock();
        while !*finished {
            self.at_finish.wait(&mut finished);
        }
    }
}

/// Why an operation is not accepted, or not begun.
fn closed(message: &str) -> Error {
    Error::new(ErrorKind::Closed, Phase::Queue, message)
}

/// What an operation is told that was still queued when the time for closing was over.
fn closed_before_begun() -> Error {
    closed("the batch was closed before it was begun")
}

impl<B: Backend> Clone for Batch<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Backend> Drop for Root<B> {
    fn drop(&mut self) {
        let shared = &self.shared;
        let already = shared.is_closed();
        shared.close_at(after(shared.clock.now(), CLOSE_ON_DROP));
        if threads::is_own(&shared.home) {
            return;
        }
        shared.wait_until_finished();
        if already {
            return;
        }
        let metrics = shared.metrics();
        if metrics.not_executed + metrics.unknown > 0 {
            log::info!(
                "millpond: batch of pool {} ended: {metrics}",
                shared.lender.name()
            );
        }
    }
}

impl<B: Backend> fmt::Debug for Batch<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("pool", self.0.shared.lender.name())
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}

impl<B: Backend> Shared<B> {
    fn metrics(&self) -> BatchMetrics {
        let home = &self.home;
        let names = [&self.name, self.lender.name()];
        let used = home.gate.used();
        let mut metrics = home.counters.read(names, used, self.quarantine.len());
        let depths = metrics.queued_by_priority.iter_mut();
        for (depth, arrivals) in depths.zip(&self.arrivals) {
            *depth += arrivals.len();
        }
        metrics
    }
}

impl<B: Backend> Batch<B> {
    /// A batch with the default settings over this pool, fleet, or view of a fleet.
    ///
    /// # Errors
    /// Those of [`BatchBuilder::build`].
    pub fn new(lender: impl Into<Lender<B>>) -> Result<Self, Error> {
        Self::builder(lender).build()
    }

    /// Settings for a batch over this pool, fleet, or view of a fleet, to begin with the default
    /// ones; see [`Lender`].
    pub fn builder(lender: impl Into<Lender<B>>) -> BatchBuilder<B> {
        BatchBuilder::new(lender.into())
    }

    fn start(settings: Settings, lender: Lender<B>) -> Result<Self, Error> {
        let cannot = |what: &str, why: &dyn fmt::Display| {
            let message = format!("the batch's {what} cannot be started: {why}");
            Error::new(ErrorKind::ResourceLimit, Phase::Configure, message)
        };
        let name = settings.name.clone();
        let workers = rayon::ThreadPoolBuilder::new()
            .num_threads(settings.workers)
            .thread_name(move |number| format!("{name}-{number}"))
            .build()
            .map_err(|error| cannot("workers", &error))?;
        let room = settings.max_operations.min(CHANNEL);
        let arrivals: [_; 4] = std::array::from_fn(|_| bounded(room));
        let (reports, reported) = bounded(settings.workers);
        let (send_group, groups) = bounded(settings.workers);
        let (sleeper, bell) = bell::pair();
        let home = Home {
            gate: Gate::new(settings.max_operations, settings.max_bytes),
            counters: Counters::default(),
            bell,
            place: lender.place(),
        };
        let shared = Arc::new(Shared {
            name: settings.name.as_str().into(),
            retry: settings
                .retry
                .clone()
                .unwrap_or_else(|| lender.retry_policy()),
            quarantine: Quarantine::new(settings.quarantine, settings.quarantine_bytes),
            home: Arc::new(home),
            arrivals: arrivals.each_ref().map(|(sender, _)| sender.clone()),
            reports,
            lender,
            settings,
            clock: Clock::System,
            closed: AtomicBool::new(false),
            cutoff: AtomicU64::new(NEVER),
            is_cut_off: AtomicBool::new(false),
            flush_before: AtomicU64::new(0),
            finished: Mutex::new(false),
            at_finish: Condvar::new(),
        });
        for _ in 0..shared.settings.workers {
            let (shared, groups) = (Arc::clone(&shared), groups.clone());
            workers.spawn(move || worker::drain(&shared, &groups));
        }
        let ends = Ends {
            arrivals: arrivals.map(|(_, receiver)| receiver),
            reports: reported,
            groups: send_group,
        };
        let name = shared.settings.name.clone();
        let dispatcher = Dispatcher::new(Arc::clone(&shared), sleeper, ends);
        thread::Builder::new()
            .name(name)
            .spawn(move || dispatcher.run())
            .map_err(|error| cannot("dispatcher", &error))?;
        Ok(Self(Arc::new(Root {
            shared,
            _workers: workers,
        })))
    }

    /// Has everything that was submitted so far sent off as soon as workers are free, even
    /// if its groups are not full. Does not wait.
    pub fn flush(&self) {
        let shared = &self.0.shared;
        let now = shared.clock.now();
        shared.flush_before.fetch_max(now, SeqCst);
        shared.home.bell.wake();
    }

    /// Accepts nothing any more, and waits until everything that was accepted has its
    /// outcome: what is not over within `limit` is then
    /// [`NotExecuted`](crate::Outcome::NotExecuted) or, if it was begun,
    /// [`Unknown`](crate::Outcome::Unknown). Returns what happened over the batch's whole life.
    ///
    /// In a callback of one of its own operations it does not wait, since that would be for
    /// the callback itself.
    pub fn close(&self, limit: Duration) -> BatchMetrics {
        let shared = &self.0.shared;
        shared.close_at(after(shared.clock.now(), limit));
        if !threads::is_own(&shared.home) {
            shared.wait_until_finished();
        }
        shared.metrics()
    }

    /// What happened so far, and what is queued and running now.
    pub fn metrics(&self) -> BatchMetrics {
        self.0.shared.metrics()
    }

    /// The operations that the server refused.
    pub fn quarantine(&self) -> &Quarantine<B::Operation> {
        &self.0.shared.quarantine
    }

    /// The pools that it works on: one, or those of all endpoints of its fleet.
    pub fn pools(&self) -> Vec<Pool<B>> {
        self.0.shared.lender.pools()
    }
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use super::*;
    use crate::backend::postgres::Postgres;

    #[test]
    fn a_queued_operation_takes_little_beside_itself() {
        let overhead = Shared::<Postgres>::OVERHEAD;
        assert!(overhead <= 208, "{overhead}");
    }
}
