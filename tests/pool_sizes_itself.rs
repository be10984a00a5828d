//! How many connections a pool has: no more than it needs, than it may have, or than
//! it may open at once; as many as it should keep; none that is too old. And it can
//! be resized, cleared, drained and closed while it is in use.

mod scripted;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use millpond::{Builder, CloseReason, ErrorKind, Pool, PooledConnection};
use scripted::{Manager, Script, until};

const MS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(20);

fn builder(size: u32) -> Builder<Manager> {
    Pool::builder()
        .max_size(size)
        .connection_timeout(PATIENCE)
        .deadlock_detection(None)
}

fn open(builder: Builder<Manager>) -> (Pool<Manager>, Arc<Script>) {
    let manager = Manager::new();
    let script = manager.script();
    (builder.build(manager).expect("opens"), script)
}

fn lease_all(pool: &Pool<Manager>) -> Vec<PooledConnection<Manager>> {
    (0..pool.max_size())
        .map(|_| pool.get().expect("a connection"))
        .collect()
}

/// What 50 callers need for 2 ms each, five connections have done before a sixth
/// could be opened.
#[test]
fn a_burst_of_short_operations_opens_hardly_anything() {
    const CONNECT: Duration = Duration::from_millis(150);
    let mut runs = 0;
    for _ in 0..100 {
        let manager = Manager::new();
        let script = manager.script();
        script.connect_takes(CONNECT);
        let pool = builder(50).min_idle(Some(5)).build(manager).expect("opens");
        let start = Instant::now();
        let longest = thread::scope(|scope| {
            let callers: Vec<_> = (0..50)
                .map(|_| {
                    scope.spawn(|| {
                        let _lease = pool.get().expect("a connection");
                        let start = Instant::now();
                        thread::sleep(2 * MS);
                        start.elapsed()
                    })
                })
                .collect();
            let holds = callers
                .into_iter()
                .map(|caller| caller.join().expect("no panic"));
            holds.max().expect("there were callers")
        });
        let took = start.elapsed();
        // A machine that lets them sleep for longer has another load than this.
        if took >= CONNECT || longest >= 10 * MS {
            continue;
        }
        // Whatever the burst had begun to open is open by then.
        thread::sleep(2 * CONNECT);
        let connects = script.connects();
        println!("{connects} connections, served in {took:?}");
        assert!(connects <= 6, "{connects} connections");
        runs += 1;
        if runs == 5 {
            return;
        }
    }
    panic!("the machine is too busy for a burst of short operations");
}

#[test]
fn a_lasting_load_grows_the_pool_and_rest_shrinks_it() {
    let (pool, script) = open(
        builder(8)
            .min_idle(Some(2))
            .max_connecting(2)
            .idle_timeout(Some(300 * MS)),
    );
    assert_eq!(script.connects(), 2);
    let stop = AtomicBool::new(false);
    script.connect_takes(20 * MS);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    let _lease = pool.get().expect("a connection");
                    thread::sleep(10 * MS);
                }
            });
        }
        until("it grows to its bound", || pool.state().connections == 8);
        stop.store(true, SeqCst);
    });
    assert_eq!(script.peak.load(SeqCst), 8);
    assert!(script.peak_connecting.load(SeqCst) <= 2);
    // Two are replaced when they expire, so there may be a moment with fewer.
    until("it shrinks", || script.live() == 2);
    assert!(pool.metrics().closed_by(CloseReason::Idle) >= 6);
    until("it keeps two", || pool.state().idle_connections == 2);
}

#[test]
fn no_more_than_max_connecting_are_opened_at_once() {
    let manager = Manager::new();
    let script = manager.script();
    script.connect_takes(15 * MS);
    let pool = builder(20).max_connecting(3).build(manager).expect("opens");
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                for _ in 0..5 {
                    pool.get().expect("a connection").discard();
                }
            });
        }
    });
    assert!(script.connects() > 50);
    assert_eq!(script.peak_connecting.load(SeqCst), 3);
    assert!(script.peak.load(SeqCst) <= 20);
}

#[test]
fn idle_connections_are_refilled_to_min_idle() {
    let (pool, script) = open(builder(6).min_idle(Some(3)));
    for _ in 0..3 {
        pool.get().expect("a connection").discard();
    }
    until("replaced", || pool.state().idle_connections == 3);
    // The pool has nothing left to do, and nobody will have to wait.
    thread::sleep(50 * MS);
    let leases: Vec<_> = (0..3).map(|_| pool.get().expect("one")).collect();
    until("refilled", || pool.state().idle_connections == 3);
    drop(leases);
    assert_eq!(script.live(), 6);
    assert_eq!(script.peak.load(SeqCst), 6);
}

#[test]
fn max_size_can_be_raised_and_lowered_while_in_use() {
    let (pool, script) = open(builder(4).min_idle(Some(0)));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    let _lease = pool.get().expect("a connection");
                    thread::sleep(3 * MS);
                }
            });
        }
        for size in [4_u32, 9, 2, 12, 1, 6, 3] {
            pool.set_max_size(size);
            assert_eq!(pool.max_size(), size);
            until("it has that size", || pool.state().connections == size);
            // From here on never more; `max_size` was lowered long enough ago.
            until("the surplus is gone", || script.live() <= u64::from(size));
            script.peak.store(0, SeqCst);
            let before = pool.metrics().leases;
            until("it works on", || pool.metrics().leases > before + 100);
            assert!(script.peak.load(SeqCst) <= u64::from(size));
        }
        stop.store(true, SeqCst);
    });
    assert_eq!(pool.state().leased, 0);
}

/// Lowering `max_size` closes the surplus, not more, even if all leases come back
/// while the first ones are being closed.
#[test]
fn only_the_surplus_is_closed() {
    let (pool, script) = open(builder(10).min_idle(Some(0)));
    let leases = lease_all(&pool);
    script.drop_takes(50 * MS);
    pool.set_max_size(6);
    assert_eq!(script.live(), 10, "what is leased stays open");
    drop(leases);
    until("the surplus is closed", || script.live() <= 6);
    let metrics = pool.metrics();
    assert_eq!(metrics.closed_by(CloseReason::Surplus), 4);
    assert_eq!(pool.state().idle_connections, 6);
    assert_eq!(script.connects(), 10, "nothing had to be opened again");
}

#[test]
fn clear_replaces_every_connection() {
    let (pool, script) = open(builder(6));
    let old: HashSet<_> = lease_all(&pool).iter().map(|one| one.number).collect();
    let leased: Vec<_> = (0..3).map(|_| pool.get().expect("one")).collect();
    pool.clear();
    until("the idle ones are replaced", || {
        pool.metrics().closed_by(CloseReason::Cleared) == 3 && pool.state().connections == 6
    });
    assert!(leased.iter().all(|lease| old.contains(&lease.number)));
    drop(leased);
    until("the leased ones too", || {
        pool.metrics().closed_by(CloseReason::Cleared) == 6 && pool.state().idle_connections == 6
    });
    let new: HashSet<_> = lease_all(&pool).iter().map(|one| one.number).collect();
    assert!(new.is_disjoint(&old), "{new:?}");
    assert_eq!(script.peak.load(SeqCst), 6);
}

#[test]
fn a_discarded_lease_is_closed_and_replaced() {
    let (pool, _) = open(builder(1));
    let lease = pool.get().expect("a connection");
    let number = lease.number;
    lease.discard();
    assert_ne!(pool.get().expect("another one").number, number);
    assert_eq!(pool.metrics().closed_by(CloseReason::Discarded), 1);
}

/// A thread that holds a lease until told to give it back.
fn holder(pool: &Pool<Manager>, name: &str) -> (mpsc::Sender<()>, thread::JoinHandle<()>) {
    let (give_back, told) = mpsc::channel();
    let (holds, holding) = mpsc::channel();
    let pool = pool.clone();
    let body = move || {
        let _lease = pool.get().expect("a connection");
        holds.send(()).expect("the test waits");
        told.recv().expect("the test says when");
    };
    let thread = thread::Builder::new().name(name.into()).spawn(body);
    holding.recv().expect("it holds one");
    (give_back, thread.expect("starts"))
}

#[test]
fn drain_and_close_wait_for_leases_or_name_their_holders() {
    // All of them are refilled at once, if anybody lets it happen.
    let (pool, script) = open(builder(5));
    let (give_back, thread) = holder(&pool, "slow-report");
    let error = pool.drain(50 * MS).expect_err("one is held");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    let text = error.to_string();
    for part in ["drain", "`slow-report`", file!(), "1 leased"] {
        assert!(text.contains(part), "no {part} in: {text}");
    }
    assert_eq!(error.holders().len(), 1);
    assert_eq!(
        script.live(),
        1,
        "the idle ones are closed, for now and for good"
    );
    give_back.send(()).expect("it waits");
    pool.drain(PATIENCE).expect("all came back");
    thread.join().expect("no panic");
    assert_eq!((script.live(), pool.state().connections), (0, 0));
    assert!(pool.get_timeout(10 * MS).is_err(), "it is still paused");
    assert_eq!(script.live(), 0, "and opens nothing");
    pool.resume();
    drop(pool.get().expect("it works again"));
    until("refilled", || pool.state().idle_connections == 5);

    let (give_back, thread) = holder(&pool, "slower-report");
    let error = pool.close(50 * MS).expect_err("one is held");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    let text = error.to_string();
    assert!(text.contains("close") && text.contains("`slower-report`"));
    assert_eq!(script.live(), 1);
    give_back.send(()).expect("it waits");
    pool.close(PATIENCE).expect("all came back");
    thread.join().expect("no panic");
    assert_eq!(script.live(), 0);
    assert_eq!(script.peak.load(SeqCst), 5);
}

/// Connects that are under way while a pool is drained count as well.
#[test]
fn draining_waits_for_connects_under_way() {
    for pause in 0..20 {
        let manager = Manager::new();
        let script = manager.script();
        script.connect_takes(5 * MS);
        let pool = builder(4).max_connecting(2).build_unchecked(manager);
        thread::sleep(pause * MS);
        pool.drain(PATIENCE).expect("nothing is leased");
        assert_eq!(script.live(), 0);
        assert_eq!(script.connecting.load(SeqCst), 0);
        drop(pool.get_timeout(MS));
        assert_eq!(script.attempts(), script.connects());
        assert_eq!(script.live(), 0);
    }
}

#[test]
fn max_lifetime_holds_under_constant_load() {
    const LIFETIME: Duration = Duration::from_millis(300);
    let (pool, script) = open(builder(4).max_lifetime(Some(LIFETIME)));
    let start = Instant::now();
    let oldest = thread::scope(|scope| {
        let users: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut oldest = Duration::ZERO;
                    while start.elapsed() < 5 * LIFETIME {
                        let lease = pool.get().expect("a connection");
                        oldest = oldest.max(PooledConnection::info(&lease).age);
                        thread::sleep(MS);
                    }
                    oldest
                })
            })
            .collect();
        let ages = users.into_iter().map(|user| user.join().expect("no panic"));
        ages.max().expect("there were users")
    });
    let expired = pool.metrics().closed_by(CloseReason::Expired);
    println!("{expired} expired, leased up to an age of {oldest:?}");
    assert!(expired >= 12, "{expired}");
    assert!(oldest < LIFETIME + 100 * MS, "{oldest:?}");
    assert!(script.peak.load(SeqCst) <= 4);
}

/// Callers that join an empty pool at the same moment must not leave the look at the
/// demand to each other.
#[test]
fn callers_that_come_together_are_not_overlooked() {
    for _ in 0..200 {
        let pool = builder(4)
            .min_idle(Some(0))
            .build_unchecked(scripted::Manager::new());
        let together = std::sync::Barrier::new(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    together.wait();
                    let lease = pool.get_timeout(Duration::from_secs(5));
                    lease.expect("connecting takes no time");
                });
            }
        });
    }
}

#[test]
fn the_longest_durations_do_not_stop_the_upkeep() {
    let builder = builder(2)
        .idle_timeout(Some(Duration::MAX))
        .max_lifetime(Some(Duration::MAX))
        .connection_timeout(Duration::MAX)
        .keepalive_interval(Some(20 * MS));
    let (pool, script) = open(builder);
    drop(lease_all(&pool));
    until("pings", || script.checks.load(SeqCst) >= 4);
}

#[test]
fn idle_connections_are_pinged_at_the_interval() {
    const INTERVAL: Duration = Duration::from_millis(100);
    let (pool, script) = open(builder(3).keepalive_interval(Some(INTERVAL)));
    let start = Instant::now();
    until("pings", || script.checks() >= 15);
    let took = start.elapsed();
    println!("15 pings of 3 connections in {took:?}");
    // Five rounds; none comes early.
    assert!(took + 10 * MS >= 5 * INTERVAL, "{took:?}");
    assert!(took < 12 * INTERVAL, "{took:?}");
    assert_eq!(pool.metrics().closed_by(CloseReason::Invalid), 0);
    // A dead one is found and replaced though nobody asks for it.
    script.kill_all();
    until("found", || {
        pool.metrics().closed_by(CloseReason::Invalid) == 3 && pool.state().idle_connections == 3
    });
    assert_eq!(script.connects(), 6);
}
