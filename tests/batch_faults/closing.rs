//! Closing under load, at a server that answers and at one that does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::{Batch, BatchMetrics, ErrorKind, Outcome, Pool};

use super::{Subject, alone, on_each_server, pool_on, threads, until};

on_each_server! {
    under_load_everything_has_its_outcome
    at_a_frozen_server_everything_has_its_outcome
}

const SUBMITTERS: usize = 4;
/// The batch's threads.
const NAME: &str = "to-be-closed";
/// How long a group may be executed.
const LIMIT: Duration = Duration::from_millis(1500);

/// What the submitters counted: done, rejected, not executed, unknown.
type Counts = Arc<[AtomicU64; 4]>;

/// Submits from some threads until the batch is closed, which `close` has to do; what it
/// says, and what the tickets said.
fn load<S: Subject>(
    batch: &Batch<S::Backend>,
    close: impl FnOnce() -> BatchMetrics,
) -> (BatchMetrics, [u64; 4]) {
    let counts = Counts::default();
    let accepted = AtomicU64::new(0);
    let metrics = thread::scope(|scope| {
        for _ in 0..SUBMITTERS {
            scope.spawn(|| submit_until_closed::<S>(batch, &counts, &accepted));
        }
        close()
    });
    let read = || counts.each_ref().map(|count| count.load(SeqCst));
    // Callbacks may still be on their way; every outcome is known.
    until("the callbacks", || {
        read().iter().sum::<u64>() >= metrics.submitted
    });
    let counts = read();
    let accepted = accepted.load(SeqCst);
    assert_eq!(counts.iter().sum::<u64>(), accepted, "one outcome each");
    assert_eq!(metrics.submitted, accepted);
    let by_metrics = [
        metrics.done,
        metrics.rejected,
        metrics.not_executed,
        metrics.unknown,
    ];
    assert_eq!(by_metrics, counts);
    assert_eq!((metrics.queued, metrics.rejected), (0, 0));
    (metrics, counts)
}

fn submit_until_closed<S: Subject>(
    batch: &Batch<S::Backend>,
    counts: &Counts,
    accepted: &AtomicU64,
) {
    loop {
        let ticket = match batch.submit(S::good()) {
            Ok(ticket) => ticket,
            Err(refused) => {
                assert_eq!(refused.error().kind(), ErrorKind::Closed);
                return;
            }
        };
        accepted.fetch_add(1, SeqCst);
        let counts = Arc::clone(counts);
        ticket.on_outcome(move |outcome| {
            let kind = match outcome {
                Outcome::Done(_) => 0,
                Outcome::Rejected(_) => 1,
                Outcome::NotExecuted(_) => 2,
                Outcome::Unknown(_) => 3,
            };
            counts[kind].fetch_add(1, SeqCst);
        });
    }
}

fn batch_on<B: Backend>(pool: &Pool<B>) -> Batch<B> {
    let batch = Batch::builder(pool.clone())
        .name(NAME)
        .default_deadline(Some(LIMIT))
        .build()
        .expect("starts");
    until("its threads have their names", || threads(NAME) == 5);
    batch
}

/// The pool has everything back, and closes with as many connections as it opened.
fn nothing_is_left<B: Backend>(pool: &Pool<B>) {
    until("all leases are back", || pool.state().leased == 0);
    pool.close(Duration::from_secs(5))
        .expect("nobody holds one");
    let metrics = pool.metrics();
    let closed: u64 = metrics.closed.iter().map(|(_, count)| count).sum();
    assert_eq!(metrics.created, closed, "no connection is lost or doubled");
}

fn under_load_everything_has_its_outcome<S: Subject>() {
    let _alone = alone();
    let server = S::start();
    let pool = pool_on(&server);
    let batch = batch_on(&pool);
    let (metrics, [done, _, not_executed, unknown]) = load::<S>(&batch, || {
        until("the load runs", || batch.metrics().done > 1_000);
        batch.close(Duration::from_secs(10))
    });
    // There was time for what was queued.
    assert_eq!(metrics.submitted, done);
    assert_eq!((not_executed, unknown), (0, 0), "{metrics}");
    drop(batch);
    until("its threads have ended", || threads(NAME) == 0);
    nothing_is_left(&pool);
}

fn at_a_frozen_server_everything_has_its_outcome<S: Subject>() {
    let _alone = alone();
    let server = S::start();
    let pool = pool_on(&server);
    let batch = batch_on(&pool);
    let limit = Duration::from_millis(300);
    let (metrics, [_, _, not_executed, unknown]) = load::<S>(&batch, || {
        until("the load runs", || batch.metrics().done > 1_000);
        server.freeze();
        until("the queue is full", || batch.metrics().queued >= 900);
        let start = Instant::now();
        let metrics = batch.close(limit);
        let took = start.elapsed();
        assert!(took < limit + Duration::from_millis(100), "{took:?}");
        metrics
    });
    assert!(not_executed > 0 && unknown > 0, "{metrics}");
    drop(batch);
    // By the deadline of what they execute, although the server does not answer.
    let start = Instant::now();
    until("its threads have ended", || threads(NAME) == 0);
    let took = start.elapsed();
    assert!(took < LIMIT + Duration::from_millis(500), "{took:?}");
    server.thaw();
    nothing_is_left(&pool);
}
