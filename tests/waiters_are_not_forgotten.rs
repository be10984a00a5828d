//! Whoever waits is served in turn, refused with a reason, or told at the deadline
//! why there was nothing: nobody is overtaken for ever, left in a deadlock, or left
//! waiting for a pool that is closed or a server that hangs.

mod scripted;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{Builder, Error, ErrorKind, Phase, Pool};
use scripted::{Manager, until};

fn pool_of(size: u32) -> Builder<Manager> {
    Pool::builder()
        .max_size(size)
        .connection_timeout(Duration::from_secs(20))
}

fn open(builder: Builder<Manager>) -> Pool<Manager> {
    builder.build(Manager::new()).expect("opens")
}

#[test]
fn strictly_first_come_first_served() {
    let pool = open(pool_of(1).overtaking(Duration::ZERO));
    for _ in 0..5 {
        let served = Mutex::new(Vec::new());
        thread::scope(|scope| {
            let held = pool.get().expect("a connection");
            for number in 0..20 {
                scope.spawn({
                    let (pool, served) = (&pool, &served);
                    move || {
                        let _lease = pool.get().expect("served in turn");
                        served.lock().expect("no poison").push(number);
                    }
                });
                until("it waits", || pool.state().waiters == number + 1);
            }
            drop(held);
        });
        let served = served.into_inner().expect("no poison");
        assert_eq!(served, (0..20).collect::<Vec<_>>());
    }
}

/// A connection that goes from hand to hand is checked like any other.
#[test]
fn every_lease_is_checked_also_under_contention() {
    let manager = Manager::new();
    let script = manager.script();
    let builder = pool_of(1)
        .test_on_check_out(true)
        .overtaking(Duration::ZERO);
    let pool = builder.build(manager).expect("opens");
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..50 {
                    drop(pool.get().expect("a connection"));
                }
            });
        }
    });
    let checks = script.checks.load(SeqCst);
    assert!(checks >= 300, "{checks} checks for 300 leases");
}

/// Threads that take and return without a pause do not starve one that waits.
#[test]
fn a_waiter_is_not_overtaken_for_ever() {
    let pool = open(pool_of(1));
    let stop = AtomicBool::new(false);
    let mut longest = Duration::ZERO;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                drop(pool.get().expect("a connection"));
            }
        });
        for _ in 0..200 {
            let start = Instant::now();
            drop(pool.get().expect("served"));
            longest = longest.max(start.elapsed());
        }
        stop.store(true, SeqCst);
    });
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[test]
fn too_many_waiters_are_refused_at_once() {
    let pool = open(pool_of(1).max_waiters(Some(2)).name("small"));
    let held = pool.get().expect("a connection");
    thread::scope(|scope| {
        let waiters: Vec<_> = (1..=2)
            .map(|number| {
                let waiter = scope.spawn(|| pool.get().map(drop));
                until("it waits", || pool.state().waiters == number);
                waiter
            })
            .collect();
        let start = Instant::now();
        let error = pool.get().expect_err("two wait already");
        assert!(start.elapsed() < Duration::from_secs(1));
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert_eq!(error.phase(), Phase::Queue);
        assert_eq!(error.pool(), Some("small"));
        assert!(error.to_string().contains("max_waiters"), "{error}");
        drop(held);
        for waiter in waiters {
            waiter.join().expect("no panic").expect("served");
        }
    });
    pool.get().expect("nobody waits any more");
}

#[test]
fn a_timeout_names_who_holds_the_connections() {
    let pool = open(pool_of(2).name("orders"));
    let (send, receive) = mpsc::channel();
    let (done, wait) = mpsc::channel::<()>();
    let holder = {
        let pool = pool.clone();
        let body = move || {
            let lease = pool.get().expect("a connection");
            send.send(line!() - 1).expect("the test waits");
            // Fails when the test is done with it.
            let _ = wait.recv();
            drop(lease);
        };
        thread::Builder::new().name("report-7".into()).spawn(body)
    };
    let line = receive.recv().expect("it holds one");
    let _mine = pool.get().expect("the other");
    let start = Instant::now();
    let error = pool
        .get_timeout(Duration::from_millis(80))
        .expect_err("both are held");
    let late = start.elapsed().saturating_sub(Duration::from_millis(80));
    assert!(late < Duration::from_millis(50), "{late:?} late");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(error.phase(), Phase::Queue);
    let text = error.to_string();
    let place = format!("{}:{line}:", file!());
    for part in [&*place, "`report-7`", "orders", "max_size", "2 leased"] {
        assert!(text.contains(part), "no {part} in: {text}");
    }
    assert_eq!(error.holders().len(), 2);
    let state = error.state().expect("the pool's state");
    assert_eq!((state.leased, state.idle_connections), (2, 0));
    drop(done);
    holder.expect("starts").join().expect("no panic");
}

/// A thread that holds a connection, and takes a second one when it is told.
fn greedy<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    pool: &'scope Pool<Manager>,
    name: &str,
) -> (mpsc::Sender<()>, mpsc::Receiver<Result<(), Error>>) {
    let (go, told) = mpsc::channel::<()>();
    let (report, result) = mpsc::channel();
    let body = move || {
        let first = pool.get().expect("the first");
        report.send(Ok(())).expect("the test waits");
        told.recv().expect("the test says when");
        let second = pool.get().map(drop);
        drop(first);
        report.send(second).expect("the test waits");
    };
    thread::Builder::new()
        .name(name.into())
        .spawn_scoped(scope, body)
        .expect("starts");
    result
        .recv()
        .expect("no panic")
        .expect("it holds its first");
    (go, result)
}

#[test]
fn the_newest_waiter_of_a_deadlock_is_told() {
    let pool = open(pool_of(2));
    thread::scope(|scope| {
        let (go_old, old) = greedy(scope, &pool, "older");
        let (go_new, new) = greedy(scope, &pool, "newer");
        go_old.send(()).expect("it waits");
        until("the older waits", || pool.state().waiters == 1);
        let start = Instant::now();
        go_new.send(()).expect("it waits");
        let error = new
            .recv()
            .expect("no panic")
            .expect_err("the newest is told");
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        let text = error.to_string();
        for part in ["deadlock", "`older`", "`newer`", file!(), "max_size"] {
            assert!(text.contains(part), "no {part} in: {text}");
        }
        // It gave up its first, so the other goes on.
        old.recv().expect("no panic").expect("the older is served");
        assert_eq!(pool.metrics().deadlocks, 1);
        assert_eq!(pool.metrics().timeouts, 0);
    });
}

/// The older waiter looks at the line again now and then, perhaps at the same moment
/// as the newest one joins: still one is told, the newest.
#[test]
fn only_the_newest_waiter_of_a_deadlock_is_told() {
    const OLDER_LOOKS_AGAIN: u64 = 1000;
    let pools: Vec<_> = (0..40).map(|_| open(pool_of(2))).collect();
    let victims = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (number, pool) in (0..).zip(&pools) {
            let victims = &victims;
            scope.spawn(move || {
                thread::scope(|scope| {
                    let (go_old, old) = greedy(scope, pool, "older");
                    let (go_new, new) = greedy(scope, pool, "newer");
                    go_old.send(()).expect("it waits");
                    until("the older waits", || pool.state().waiters == 1);
                    // Around the older one's next look: the hazard itself is the time.
                    let pause = OLDER_LOOKS_AGAIN - 30 + number;
                    thread::sleep(Duration::from_millis(pause));
                    go_new.send(()).expect("it waits");
                    let old = old.recv().expect("no panic");
                    let new = new.recv().expect("no panic");
                    victims
                        .lock()
                        .expect("no poison")
                        .push((old.is_err(), new.is_err()));
                });
            });
        }
    });
    let victims = victims.into_inner().expect("no poison");
    assert!(
        victims.iter().all(|both| *both == (false, true)),
        "{victims:?}"
    );
}

/// A lease that was sent to a thread which works with it: neither the sender, who
/// waits, nor anybody else is in a deadlock.
#[test]
fn a_lease_that_was_sent_away_accuses_nobody() {
    let pool = open(pool_of(2));
    thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let (used, in_use) = mpsc::channel();
        scope.spawn(move || {
            let lease: millpond::PooledConnection<Manager> = receive.recv().expect("it is sent");
            // Using it makes this thread its holder.
            assert!(!lease.broken);
            used.send(()).expect("the test waits");
            let _ = released.recv();
        });
        let sender = scope.spawn({
            let pool = &pool;
            move || {
                let moved = pool.get().expect("the first");
                send.send(moved).expect("the worker waits");
                in_use.recv().expect("the worker uses it");
                let _second = pool.get().expect("the second");
                pool.get_timeout(Duration::from_millis(600)).map(drop)
            }
        });
        // The sender holds one and waits; the other is with a thread that works.
        let error = sender.join().expect("no panic").expect_err("both are held");
        assert!(!error.to_string().contains("deadlock"), "{error}");
        assert_eq!(pool.metrics().deadlocks, 0);
        assert_eq!(pool.metrics().timeouts, 1);
        drop(release);
    });
}

/// A waiter that sent away all it had is not accused, though those that hold
/// connections are in a deadlock.
#[test]
fn a_waiter_that_holds_nothing_is_not_accused() {
    let pool = open(pool_of(2));
    thread::scope(|scope| {
        let (go_old, old) = greedy(scope, &pool, "older");
        let (go_new, new) = greedy(scope, &pool, "newer");
        go_old.send(()).expect("it waits");
        until("the older waits", || pool.state().waiters == 1);
        go_new.send(()).expect("it waits");
        until("the newer waits", || pool.state().waiters == 2);
        let innocent = scope.spawn(|| pool.get().map(drop));
        assert!(new.recv().expect("no panic").is_err());
        old.recv().expect("no panic").expect("served");
        innocent.join().expect("no panic").expect("served");
        assert_eq!(pool.metrics().deadlocks, 1);
    });
}

#[test]
fn a_paused_pool_leases_nothing_until_it_is_resumed() {
    let pool = open(pool_of(2));
    pool.pause();
    assert!(pool.try_get().is_none());
    let error = pool
        .get_timeout(Duration::from_millis(20))
        .expect_err("it is paused");
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(error.to_string().contains("paused"), "{error}");
    thread::scope(|scope| {
        let waiters: Vec<_> = (1..=6)
            .map(|number| {
                let waiter = scope.spawn(|| pool.get().map(drop));
                until("it waits", || pool.state().waiters == number);
                waiter
            })
            .collect();
        assert_eq!(pool.state().idle_connections, 2);
        pool.resume();
        for waiter in waiters {
            waiter.join().expect("no panic").expect("served");
        }
    });
}

#[test]
fn closing_refuses_those_who_wait_and_those_who_come() {
    let pool = open(pool_of(1));
    let held = pool.get().expect("a connection");
    thread::scope(|scope| {
        let waiters: Vec<_> = (1..=4)
            .map(|number| {
                let waiter = scope.spawn(|| pool.get().map(drop));
                until("it waits", || pool.state().waiters == number);
                waiter
            })
            .collect();
        let start = Instant::now();
        let error = pool
            .close(Duration::from_millis(20))
            .expect_err("one is held");
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        for waiter in waiters {
            let error = waiter.join().expect("no panic").expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Closed);
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    });
    let error = pool.get().expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
    drop(held);
    pool.close(Duration::from_secs(10)).expect("all came back");
    assert_eq!(pool.manager().0.live(), 0);
}

/// A server that hangs in connecting or in a check holds up no caller beyond the
/// deadline.
#[test]
fn a_hanging_server_does_not_move_the_deadline() {
    const TIMEOUT: Duration = Duration::from_millis(200);
    let manager = Manager::new();
    let script = manager.script();
    let pool = pool_of(4)
        .min_idle(Some(1))
        .test_on_check_out(true)
        .build(manager)
        .expect("opens");
    script.frozen.store(true, SeqCst);
    let late = Arc::new(Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let start = Instant::now();
                let error = pool.get_timeout(TIMEOUT).expect_err("nothing can be had");
                let over = start.elapsed().saturating_sub(TIMEOUT);
                assert_eq!(error.kind(), ErrorKind::Exhausted);
                late.lock().expect("no poison").push(over);
            });
        }
    });
    let late = late.lock().expect("no poison");
    let worst = late.iter().max().expect("eight waited");
    println!("the deadline was overshot by {worst:?} at most");
    assert!(*worst < Duration::from_millis(50), "{late:?}");
    script.frozen.store(false, SeqCst);
    pool.get().expect("the server is back");
}
