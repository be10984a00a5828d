//! What strategies are told of an endpoint's callers is true, whoever they are.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use millpond::endpoints::{Balance, Candidates, LeastConnections, PowerOfTwo};
use millpond::{Fleet, PooledConnection};

use crate::load::{End, alone};
use crate::station::{Way, fleet, stations, until};

/// Power of two choices, which notes the callers that it sees.
#[derive(Debug, Default)]
struct Counting(Arc<Mutex<Vec<u32>>>);

impl Balance for Counting {
    fn pick(&self, candidates: &Candidates<'_>) -> usize {
        let callers = candidates.iter().map(|one| one.callers()).collect();
        *self.0.lock().expect("no poison") = callers;
        PowerOfTwo.pick(candidates)
    }
}

/// A fleet of two, and what its next caller is told of those before.
fn counted() -> (Fleet<Way>, impl Fn() -> Vec<u32>) {
    let seen = Arc::<Mutex<Vec<u32>>>::default();
    let fleet = fleet(&stations(2), Counting(Arc::clone(&seen)));
    let next = {
        let fleet = fleet.clone();
        move || {
            drop(fleet.get().expect("a connection"));
            seen.lock().expect("no poison").clone()
        }
    };
    (fleet, next)
}

/// What others did is seen with the next tick at the latest.
fn soon(seen: &impl Fn() -> Vec<u32>, callers: [u32; 2]) {
    until(&format!("{callers:?} callers"), || seen() == callers);
}

#[test]
fn those_that_hold_and_those_that_wait_are_counted() {
    let (fleet, seen) = counted();
    let pools = fleet.pools();
    let held: Vec<_> = (0..5).map(|_| pools[0].get().expect("one")).collect();
    assert_eq!(seen(), [5, 0]);
    let all: Vec<_> = (0..8).map(|_| pools[1].get().expect("one")).collect();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| pools[1].get().expect("one comes back"));
        }
        until("three wait", || pools[1].state().waiters == 3);
        soon(&seen, [5, 11]);
        drop(all);
    });
    soon(&seen, [5, 0]);
    // Also if they come back elsewhere.
    thread::scope(|scope| drop(scope.spawn(move || drop(held))));
    soon(&seen, [0, 0]);
    // Who waits in vain is not counted any more.
    let all: Vec<_> = (0..8).map(|_| pools[0].get().expect("one")).collect();
    let in_vain = pools[0].get_timeout(Duration::from_millis(5));
    drop(in_vain.expect_err("all are taken"));
    assert_eq!(seen(), [8, 0]);
    drop(all);
}

thread_local! {
    static KEPT: RefCell<Vec<PooledConnection<Way>>> = const { RefCell::new(Vec::new()) };
}

/// Sixty threads, a few at a time, which pass leases on, panic with one, discard one, and end with
/// one in a thread-local.
#[test]
fn callers_are_not_forgotten_whatever_becomes_of_them() {
    let (fleet, seen) = counted();
    let table = Mutex::new(None);
    let live = |turn: u32| {
        for _ in 0..200 {
            let lease = fleet.get().expect("one");
            assert!(seen().iter().all(|callers| *callers <= 16));
            match turn % 4 {
                0 => {
                    let other = table.lock().expect("no poison").replace(lease);
                    drop(other);
                }
                1 => lease.discard(),
                2 => KEPT.with_borrow_mut(|kept| *kept = vec![lease]),
                _ => drop(table.lock().expect("no poison").take()),
            }
        }
        let _held = fleet.get().expect("one");
        assert!(!turn.is_multiple_of(3), "on purpose");
    };
    let table = &table;
    for turn in (0..60).step_by(4) {
        thread::scope(|scope| {
            let four: Vec<_> = (turn..turn + 4)
                .map(|turn| scope.spawn(move || live(turn)))
                .collect();
            for (turn, one) in (turn..).zip(four) {
                assert_eq!(one.join().is_err(), turn.is_multiple_of(3));
            }
        });
    }
    drop(table.lock().expect("no poison").take());
    until("all ended", || {
        fleet.pools().iter().all(|pool| pool.state().leased == 0)
    });
    soon(&seen, [0, 0]);
}

/// A thread that takes leases as fast as it can sees soon that another one holds one for long.
#[test]
fn who_is_in_a_hurry_sees_soon_where_others_are() {
    let _alone = alone();
    let fleet = fleet(&stations(3), LeastConnections);
    let over = AtomicBool::new(false);
    let began = Barrier::new(2);
    thread::scope(|scope| {
        let hurry = scope.spawn(|| {
            began.wait();
            let mut last_there = Instant::now();
            while !over.load(SeqCst) {
                if fleet.get().expect("one").name == "a" {
                    last_there = Instant::now();
                }
            }
            last_there
        });
        let end = End(&over);
        began.wait();
        thread::sleep(Duration::from_millis(50));
        let held = fleet.pools()[0].get().expect("one");
        let since = Instant::now();
        thread::sleep(Duration::from_millis(100));
        drop(end);
        let last_there = hurry.join().expect("no panic");
        let late = last_there.saturating_duration_since(since);
        assert!(late < Duration::from_millis(30), "{late:?}");
        drop(held);
    });
}
