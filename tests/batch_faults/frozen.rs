//! A server that stops answering, and goes on later.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{Batch, ErrorKind, Operation, Outcome};
use testbed::Pace;

use super::{Reply, Subject, alone, on_each_server, pool_on, threads, until, wait};

const LIMIT: Duration = Duration::from_millis(200);
/// How much later an outcome may come.
const SLACK: Duration = Duration::from_millis(100);
/// For so long operations are submitted to the frozen server.
const FROZEN: Duration = Duration::from_millis(800);

on_each_server! {
    deadlines_hold_and_all_is_as_before_afterwards
    what_has_time_is_done_when_the_server_goes_on
}

/// Of each operation, whether it was submitted to a frozen server, when, and when it had which
/// outcome.
type Log<R> = Arc<Mutex<Vec<(bool, Instant, Instant, Outcome<R>)>>>;

fn submit_limited<S: Subject>(batch: &Batch<S::Backend>, frozen: bool, log: &Log<Reply<S>>) {
    let log = Arc::clone(log);
    let start = Instant::now();
    let ticket = batch.submit(S::good().deadline(LIMIT)).expect("room");
    ticket.on_outcome(move |outcome| {
        let end = Instant::now();
        let mut log = log.lock().expect("no poison");
        log.push((frozen, start, end, outcome));
    });
}

/// Freezes the server while operations are under way, submits more of them, with
/// company of those that have time, and checks that all have their outcome in time.
fn freeze_under_load<S: Subject>(
    server: &S,
    batch: &Batch<S::Backend>,
    mut accompany: impl FnMut(),
) {
    let (log, pace) = (Log::<Reply<S>>::default(), Pace::start());
    for _ in 0..200 {
        submit_limited::<S>(batch, false, &log);
    }
    accompany();
    server.freeze();
    let (start, mut submitted) = (Instant::now(), 200);
    while start.elapsed() < FROZEN {
        for _ in 0..5 {
            submit_limited::<S>(batch, true, &log);
        }
        accompany();
        submitted += 5;
        thread::sleep(Duration::from_millis(20));
    }
    until("all have their outcome", || {
        log.lock().expect("no poison").len() == submitted
    });
    let log = log.lock().expect("no poison");
    let slowest = log.iter().map(|(_, start, end, _)| *end - *start).max();
    println!("{submitted} operations, the slowest took {slowest:?}");
    for (frozen, start, end, outcome) in log.iter() {
        let took = pace.between(*start, *end);
        assert!(took < LIMIT + SLACK, "took {took:?}");
        let Some(error) = outcome.error() else {
            assert!(!frozen, "nobody can have done it");
            continue;
        };
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
        assert!(*end - *start >= LIMIT, "given up after {:?}", *end - *start);
    }
}

fn works_within_its_limit<S: Subject>(batch: &Batch<S::Backend>) {
    until("the batch works again", || {
        let ticket = batch.submit(S::good().deadline(LIMIT)).expect("room");
        ticket.wait().is_done()
    });
}

fn deadlines_hold_and_all_is_as_before_afterwards<S: Subject>() {
    let _alone = alone();
    let server = S::start();
    let pool = pool_on(&server);
    let batch = Batch::builder(pool.clone()).build().expect("starts");
    let all = batch.submit_all((0..500).map(|_| S::good()));
    let all = all.into_iter().collect::<Result<_, _>>().expect("room");
    assert!(wait(all).iter().all(Outcome::is_done));
    let standing = || {
        let state = pool.state();
        let under_way = state.leased as usize + batch.metrics().running;
        (threads("millpond"), state.connections, under_way)
    };
    // Threads that connect and check end when they have had nothing to do for a while.
    until("nothing is under way", || {
        standing().2 == 0 && threads("millpond-crew") == 0
    });
    let before = standing();
    for _ in 0..2 {
        freeze_under_load(&server, &batch, || ());
        server.thaw();
        works_within_its_limit::<S>(&batch);
        until("as before", || standing() == before);
    }
    let metrics = batch.metrics();
    assert_eq!(metrics.queued, 0, "{metrics}");
}

fn what_has_time_is_done_when_the_server_goes_on<S: Subject>() {
    let _alone = alone();
    let server = S::start();
    let batch = Batch::new(pool_on(&server)).expect("starts");
    works_within_its_limit::<S>(&batch);
    // They share groups with those that have a limit, and keep all workers busy.
    let mut patient = Vec::new();
    freeze_under_load(&server, &batch, || {
        let tickets = (0..5).map(|_| batch.submit(S::good()).expect("room"));
        patient.extend(tickets);
    });
    server.thaw();
    for outcome in wait(patient) {
        assert!(outcome.is_done(), "{:?}", outcome.error());
    }
    works_within_its_limit::<S>(&batch);
}
