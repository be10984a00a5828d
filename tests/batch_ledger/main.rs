//! The ledger: operations with unique keys go through a batch while the server cuts all its
//! connections again and again, is killed and comes back. Afterwards the database has to
//! agree with what the tickets said.
//!
//! What a backend's server and operations are like is its [`Ledger`], in a file of its own;
//! the rest is here and the same for all.

mod book;
mod mongodb;
mod postgres;
mod redis;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::{Batch, BatchMetrics, Outcome, Pool};

use book::{Book, DONE, NOT_EXECUTED, REJECTED, UNKNOWN};

/// So many threads submit.
const SUBMITTERS: usize = 4;
/// One operation of so many is refused by the server.
const POISON: usize = 500;
/// How often all connections are cut.
const CUT_EVERY: Duration = Duration::from_millis(200);
/// How often the server is killed.
const KILLS: usize = 3;
/// What all of it may take.
const LIMIT: Duration = Duration::from_secs(90);

/// A server that can be hurt, and operations of which each enters a key into it.
trait Ledger: Sync {
    type Backend: Backend;

    /// How many operations it takes for a load of some seconds.
    const OPERATIONS: usize;

    /// Whether a group is split to find what is bad in it.
    const SPLITS: bool = false;

    fn start() -> Self;

    fn manager(&self) -> Self::Backend;

    /// Enters this key, once more at each execution; a poisoned one is refused by the
    /// server.
    fn entry(key: usize, poison: bool) -> <Self::Backend as Backend>::Operation;

    /// Closes all connections of clients.
    fn cut(&self);

    /// Kills the server with SIGKILL and starts it again, with what it wrote.
    fn kill_and_restart(&self);

    /// How often each key was entered, for those that were.
    fn read(&self) -> HashMap<usize, u64>;
}

fn is_poison(key: usize) -> bool {
    key % POISON == POISON / 2
}

fn hold<L: Ledger>() {
    // One at a time: cuts come by the clock, so a slow machine loses more groups to them.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let ledger = L::start();
    let pool = Pool::builder().max_size(4).build(ledger.manager());
    let pool = pool.expect("opens");
    let batch = Batch::builder(pool.clone())
        .size(200)
        .max_operations(20_000)
        .build()
        .expect("starts");
    let book = Arc::new(Book::new(L::OPERATIONS));
    let start = Instant::now();
    let cuts = thread::scope(|scope| {
        for first in 0..SUBMITTERS {
            let (batch, book) = (&batch, &book);
            scope.spawn(move || submit::<L>(batch, book, first));
        }
        let torment = scope.spawn(|| torment(&ledger, &book, start));
        torment.join().expect("all have their outcome in time")
    });
    let took = start.elapsed();
    let metrics = batch.close(Duration::from_secs(5));
    let there = ledger.read();

    let summary = format!(
        "{}: {} operations in {:.1} s, {cuts} times all connections cut, {KILLS} times killed: {} \
         of them there ({metrics}; {} retries; errors: {})",
        L::Backend::NAME,
        L::OPERATIONS,
        took.as_secs_f64(),
        there.len(),
        metrics.retries,
        book.errors(),
    );
    println!("{summary}");
    agrees_with_the_metrics(&book, &metrics);
    assert!(metrics.splits > 0 || !L::SPLITS, "{summary}");
    agrees_with_the_database(&book, &there);
    let done = book.count(DONE);
    assert!(done > L::OPERATIONS / 2, "the batch got on: {summary}");
    works_again(&pool, start);
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
}

/// Submits every fourth key, and leaves the outcomes to the book.
fn submit<L: Ledger>(batch: &Batch<L::Backend>, book: &Arc<Book>, first: usize) {
    for key in (first..L::OPERATIONS).step_by(SUBMITTERS) {
        let ticket = batch.submit(L::entry(key, is_poison(key)));
        let book = Arc::clone(book);
        let note = move |outcome: Outcome<_>| book.enter(key, &outcome);
        ticket.expect("there will be room").on_outcome(note);
    }
}

/// Cuts connections until everything has its outcome, and kills the server meanwhile; how
/// often it cut.
fn torment<L: Ledger>(ledger: &L, book: &Book, start: Instant) -> usize {
    let mut cuts = 0;
    let mut cut_until = |settled: usize| {
        while book.settled() < settled {
            assert!(
                start.elapsed() < LIMIT,
                "{} of {} have their outcome",
                book.settled(),
                L::OPERATIONS
            );
            thread::sleep(CUT_EVERY);
            ledger.cut();
            cuts += 1;
        }
    };
    for kill in 1..=KILLS {
        cut_until(L::OPERATIONS * kill / (KILLS + 1));
        ledger.kill_and_restart();
    }
    cut_until(L::OPERATIONS);
    cuts
}

fn agrees_with_the_metrics(book: &Book, metrics: &BatchMetrics) {
    assert_eq!(book.settled(), book.len());
    assert_eq!(book.twice(), 0, "one outcome each");
    assert_eq!(metrics.submitted, book.len() as u64);
    for (said, kind) in [
        (metrics.done, DONE),
        (metrics.rejected, REJECTED),
        (metrics.not_executed, NOT_EXECUTED),
        (metrics.unknown, UNKNOWN),
    ] {
        assert_eq!(said, book.count(kind) as u64, "{metrics}");
    }
    assert_eq!(metrics.refused, 0);
    assert_eq!((metrics.queued, metrics.running), (0, 0));
    assert_eq!(metrics.quarantined as u64, metrics.rejected);
}

fn agrees_with_the_database(book: &Book, there: &HashMap<usize, u64>) {
    for key in 0..book.len() {
        let times = there.get(&key).copied().unwrap_or_default();
        let outcome = book.outcome(key);
        let right = match outcome {
            DONE => times == 1 && !is_poison(key),
            REJECTED => times == 0 && is_poison(key),
            NOT_EXECUTED => times == 0,
            UNKNOWN => times <= u64::from(!is_poison(key)),
            _ => false,
        };
        assert!(
            right,
            "key {key} has outcome {outcome} and is there {times} times"
        );
    }
    let strange = there.keys().find(|key| **key >= book.len());
    assert_eq!(strange, None, "nobody entered it");
}

/// All of the pool's connections at once, each of them alive.
fn works_again<B: Backend>(pool: &Pool<B>, start: Instant) {
    let all_live = || {
        let leases = (0..pool.max_size()).map(|_| pool.get());
        let Ok(mut leases) = leases.collect::<Result<Vec<_>, _>>() else {
            return false;
        };
        let check = |lease: &mut _| pool.manager().is_valid(lease).is_ok();
        leases.iter_mut().all(|lease| check(&mut **lease))
    };
    while !all_live() {
        assert!(start.elapsed() < LIMIT, "the pool works again");
    }
    let state = pool.state();
    assert!(state.connections <= pool.max_size(), "{state}");
}
