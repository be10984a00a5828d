//! A server that says "too many" gets fewer at once, and as many as it bears later.
#![allow(clippy::unwrap_used, missing_docs)]

mod http;
mod postgres;
mod redis;
#[path = "../scripted/mod.rs"]
mod scripted;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use millpond::health::{Concern, Reason};
use millpond::{Error, ErrorKind, Health, Phase, Pool, PooledConnection};
use scripted::{Manager, until};

const MS: Duration = Duration::from_millis(1);

fn busy() -> Error {
    Error::new(ErrorKind::Overloaded, Phase::Operation, "too much to do")
}

/// A server that bears so many operations at once and refuses the others.
struct Server {
    bears: AtomicU32,
    inside: AtomicU32,
    /// The most that were there at once since somebody looked.
    peak: AtomicU32,
    served: AtomicU64,
    refused: AtomicU64,
    over: AtomicBool,
}

impl Server {
    fn bearing(bears: u32) -> Self {
        Self {
            bears: bears.into(),
            inside: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            served: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// Operations one after the other until it is over; the longest wait for a connection.
    fn call(&self, pool: &Pool<Manager>) -> Duration {
        let mut longest = Duration::ZERO;
        while !self.over.load(SeqCst) {
            let begun = Instant::now();
            let lease = pool.get_timeout(10_000 * MS).unwrap();
            longest = longest.max(begun.elapsed());
            let inside = self.inside.fetch_add(1, SeqCst) + 1;
            self.peak.fetch_max(inside, SeqCst);
            if inside > self.bears.load(SeqCst) {
                self.refused.fetch_add(1, SeqCst);
                PooledConnection::record(&lease, MS, Err(&busy()));
            } else {
                std::thread::sleep(2 * MS);
                self.served.fetch_add(1, SeqCst);
                PooledConnection::record(&lease, 2 * MS, Ok(()));
            }
            self.inside.fetch_sub(1, SeqCst);
        }
        longest
    }
}

/// Whether the pool's health names the overload.
fn is_limited(pool: &Pool<Manager>) -> bool {
    let health = pool.health();
    let of_this = |reason: &&Reason| reason.concern == Concern::Overloaded;
    match health.reasons.iter().find(of_this) {
        None => false,
        Some(reason) => {
            assert_eq!(reason.error, Some(ErrorKind::Overloaded));
            assert!(reason.text.contains("of 8: too much to do"), "{reason}");
            true
        }
    }
}

#[test]
fn fewer_are_used_at_once_until_the_server_takes_more() {
    let pool = Pool::builder().max_size(8).build(Manager::new()).unwrap();
    let server = Server::bearing(3);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| server.call(&pool))).collect();
        until("the limit", || pool.state().limit <= 3);
        assert!(is_limited(&pool));
        assert_eq!(pool.health().health, Health::Degraded);
        // What had been taken before comes back.
        std::thread::sleep(50 * MS);
        for counter in [&server.served, &server.refused] {
            counter.store(0, SeqCst);
        }
        server.peak.store(0, SeqCst);
        std::thread::sleep(2_500 * MS);
        let (served, refused) = (server.served.load(SeqCst), server.refused.load(SeqCst));
        let peak = server.peak.load(SeqCst);
        println!("of {served} operations {refused} were refused; {peak} at once at most");
        assert!(peak <= 5, "little more than it bears: {peak}");
        assert!(served > 200, "{served}");
        assert!(refused < served / 20, "{refused} of {served}");

        server.bears.store(100, SeqCst);
        until("all of them", || pool.state().leased == 8);
        until("no limit", || !is_limited(&pool));
        assert_eq!(pool.state().limit, 8);
        server.over.store(true, SeqCst);
        for caller in callers {
            let longest = caller.join().unwrap();
            assert!(longest < 2_000 * MS, "one waited for {longest:?}");
        }
    });
    until("up", || pool.health().health == Health::Up);
}

#[test]
fn nobody_is_forgotten_while_the_limit_falls_and_rises() {
    let pool = Pool::builder().max_size(8).build(Manager::new()).unwrap();
    let server = Server::bearing(8);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| server.call(&pool))).collect();
        let begun = Instant::now();
        let mut least = 8;
        while begun.elapsed() < 4_000 * MS {
            for bears in [0, 9, 2, 9, 5, 0, 9, 1] {
                server.bears.store(bears, SeqCst);
                std::thread::sleep(130 * MS);
                least = least.min(pool.state().limit);
            }
        }
        assert_eq!(least, 1);
        server.over.store(true, SeqCst);
        for caller in callers {
            let longest = caller.join().unwrap();
            assert!(longest < 3_000 * MS, "one waited for {longest:?}");
        }
    });
    assert!(server.served.load(SeqCst) > 1000, "{:?}", server.served);
}

#[test]
fn threads_that_take_two_each_are_not_locked_up() {
    let pool = Pool::builder()
        .max_size(4)
        .deadlock_detection(Some(20 * MS))
        .build(Manager::new())
        .unwrap();
    let (taken, told) = (Barrier::new(2), Barrier::new(2));
    let two = |is_refused: bool| {
        let first = pool.get().unwrap();
        taken.wait();
        if is_refused {
            PooledConnection::record(&first, MS, Err(&busy()));
            assert_eq!(pool.state().limit, 1);
        }
        told.wait();
        pool.get_timeout(9_000 * MS).map(drop).unwrap();
        drop(first);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| two(true));
        scope.spawn(|| two(false));
    });
    assert_eq!(pool.metrics().deadlocks, 0);
    // What they need is remembered.
    let limit = pool.state().limit;
    assert!(limit >= 3, "{limit}");
}

#[test]
fn a_pool_that_is_not_adaptive_stays_as_it_is() {
    let pool = Pool::builder()
        .max_size(4)
        .adaptive(false)
        .build(Manager::new())
        .unwrap();
    let lease = pool.get().unwrap();
    PooledConnection::record(&lease, MS, Err(&busy()));
    assert_eq!(pool.state().limit, 4);
    assert_eq!(pool.health().health, Health::Up);
}

#[test]
fn what_is_refused_in_the_pools_own_line_is_no_sign() {
    let pool = Pool::builder()
        .max_size(4)
        .max_waiters(Some(0))
        .build(Manager::new())
        .unwrap();
    // The last one may be on its way still, and nobody may wait for it.
    let take = || std::iter::repeat_with(|| pool.try_get()).find_map(|lease| lease);
    let held: Vec<_> = (0..4).map(|_| take().unwrap()).collect();
    let error = pool.get().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    PooledConnection::record(&held[0], MS, Err(&error));
    assert_eq!(pool.state().limit, 4);
}

#[test]
fn who_waits_in_vain_is_told_of_the_limit() {
    let pool = Pool::builder().max_size(4).build(Manager::new()).unwrap();
    let held = pool.get().unwrap();
    PooledConnection::record(&held, MS, Err(&busy()));
    let error = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| pool.get_timeout(50 * MS).map(drop).unwrap_err());
        waiter.join().unwrap()
    });
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    for part in ["no more than 1 for now", "overloaded", "too much to do"] {
        assert!(error.message().contains(part), "{error}");
    }
}
