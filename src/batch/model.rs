//! The gate and the bell under loom: every interleaving of two or three threads.
//!
//! loom reports a deadlock when a thread waits for ever, so each model that waits is a check
//! against lost wake-ups. (The tickets' cells are behind a lock each.)

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::thread;

use super::bell;
use super::gate::Gate;
use crate::clock::NEVER;
use crate::sync::barrier;

fn check(body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(body);
}

fn never() -> bool {
    false
}

/// Whoever waits for room gets in once room is given back.
#[test]
fn room_given_back_is_found_by_whoever_waits() {
    check(|| {
        let gate = Arc::new(Gate::new(1, 100));
        assert!(gate.enter(10));
        let waiter = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || assert!(gate.enter_until(10, None, never)))
        };
        gate.release(1, 10);
        waiter.join().expect("no panic");
        assert_eq!(gate.used(), (1, 10));
    });
}

/// Two that wait for the same room get it one after the other, and one who only tries
/// leaves nothing behind.
#[test]
fn bounds_hold_and_the_count_comes_back() {
    check(|| {
        let gate = Arc::new(Gate::new(1, 100));
        let inside = Arc::new(AtomicUsize::new(0));
        let visit = |gate: &Gate, inside: &AtomicUsize| {
            assert_eq!(inside.fetch_add(1, SeqCst), 0, "one at a time");
            inside.fetch_sub(1, SeqCst);
            gate.release(1, 10);
        };
        let waiter = {
            let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
            thread::spawn(move || {
                assert!(gate.enter_until(10, None, never));
                visit(&gate, &inside);
            })
        };
        if gate.enter(10) {
            visit(&gate, &inside);
        }
        waiter.join().expect("no panic");
        assert_eq!(gate.used(), (0, 0));
    });
}

/// Closing reaches whoever waits.
#[test]
fn whoever_waits_gives_up_when_told_so() {
    check(|| {
        let gate = Arc::new(Gate::new(1, 100));
        assert!(gate.enter(10));
        let closed = Arc::new(AtomicBool::new(false));
        let waiter = {
            let (gate, closed) = (Arc::clone(&gate), Arc::clone(&closed));
            thread::spawn(move || gate.enter_until(10, None, || closed.load(SeqCst)))
        };
        closed.store(true, SeqCst);
        gate.ring();
        assert!(!waiter.join().expect("no panic"));
        assert_eq!(gate.used(), (1, 10));
    });
}

/// A hungry dispatcher sees what two submitters bring.
#[test]
fn nothing_submitted_is_slept_over() {
    check(|| {
        let (sleeper, bell) = bell::pair();
        let bell = Arc::new(bell);
        let arrived = Arc::new(AtomicUsize::new(0));
        let submitters: Vec<_> = (0..2)
            .map(|_| {
                let (bell, arrived) = (Arc::clone(&bell), Arc::clone(&arrived));
                thread::spawn(move || {
                    arrived.fetch_add(1, SeqCst);
                    bell.ring(NEVER);
                })
            })
            .collect();
        let mut taken = 0;
        while taken < 2 {
            let found = arrived.swap(0, SeqCst);
            taken += found;
            if found == 0 && taken < 2 {
                let anything = || arrived.load(SeqCst) > 0;
                sleeper.sleep(&bell, true, NEVER, Duration::MAX, anything);
            }
        }
        for submitter in submitters {
            submitter.join().expect("no panic");
        }
    });
}

/// A sated one sleeps through what is not urgent, but not through a report or what is due
/// before it would wake.
#[test]
fn a_sated_sleep_ends_with_what_is_urgent() {
    for due in [0, 50] {
        check(move || {
            let (sleeper, bell) = bell::pair();
            let bell = Arc::new(bell);
            let urgent = Arc::new(AtomicUsize::new(0));
            let ringer = {
                let (bell, urgent) = (Arc::clone(&bell), Arc::clone(&urgent));
                thread::spawn(move || {
                    bell.ring(NEVER);
                    urgent.fetch_add(1, SeqCst);
                    bell.ring(due);
                })
            };
            while urgent.fetch_add(0, SeqCst) == 0 {
                let anything = || urgent.load(SeqCst) > 0;
                sleeper.sleep(&bell, false, 100, Duration::MAX, anything);
            }
            ringer.join().expect("no panic");
        });
    }
}

/// A worker that is free again ends a sated sleep.
#[test]
fn a_free_worker_is_not_slept_over() {
    check(|| {
        let (sleeper, bell) = bell::pair();
        let bell = Arc::new(bell);
        let free = Arc::new(AtomicUsize::new(0));
        let worker = {
            let (bell, free) = (Arc::clone(&bell), Arc::clone(&free));
            thread::spawn(move || {
                free.fetch_add(1, SeqCst);
                bell.ring_if_sated();
            })
        };
        while free.load(SeqCst) == 0 {
            let anything = || free.load(SeqCst) > 0;
            sleeper.sleep(&bell, false, NEVER, Duration::MAX, anything);
        }
        worker.join().expect("no panic");
    });
}

/// The last report before the end reaches a hungry dispatcher, since the worker sees that the
/// batch was closed, or the dispatcher hears the report when it is woken by that.
#[test]
fn the_last_report_is_not_slept_over() {
    check(|| {
        let (sleeper, bell) = bell::pair();
        let bell = Arc::new(bell);
        let reported = Arc::new(AtomicUsize::new(0));
        let closed = Arc::new(AtomicBool::new(false));
        let worker = {
            let (bell, reported) = (Arc::clone(&bell), Arc::clone(&reported));
            let closed = Arc::clone(&closed);
            thread::spawn(move || {
                reported.fetch_add(1, SeqCst);
                bell.ring_if_sated();
                if closed.load(SeqCst) {
                    bell.ring(0);
                }
            })
        };
        let closer = {
            let (bell, closed) = (Arc::clone(&bell), Arc::clone(&closed));
            thread::spawn(move || {
                closed.store(true, SeqCst);
                barrier();
                bell.wake();
            })
        };
        let mut heard = 0;
        loop {
            heard += reported.swap(0, SeqCst);
            if heard > 0 && closed.load(SeqCst) {
                break;
            }
            let anything = || reported.load(SeqCst) > 0;
            sleeper.sleep(&bell, true, NEVER, Duration::MAX, anything);
        }
        worker.join().expect("no panic");
        closer.join().expect("no panic");
    });
}

/// What the dispatcher does not look for before it sleeps, as that the batch was closed, ends
/// its sleep all the same.
#[test]
fn a_change_that_is_not_looked_for_is_not_slept_over() {
    check(|| {
        let (sleeper, bell) = bell::pair();
        let bell = Arc::new(bell);
        let closed = Arc::new(AtomicBool::new(false));
        let closer = {
            let (bell, closed) = (Arc::clone(&bell), Arc::clone(&closed));
            thread::spawn(move || {
                closed.store(true, SeqCst);
                bell.wake();
            })
        };
        while !closed.load(SeqCst) {
            sleeper.sleep(&bell, true, NEVER, Duration::MAX, || false);
        }
        closer.join().expect("no panic");
    });
}

/// The batch's protocol of closing: whoever is let in after the batch was closed notices it,
/// or is counted before the dispatcher looks whether there is anybody. (The barriers stand
/// for what the sequentially consistent accesses of the real code amount to; loom takes
/// them for less.)
#[test]
fn nobody_is_let_in_unseen_when_it_closes() {
    check(|| {
        let gate = Arc::new(Gate::new(2, 100));
        let closed = Arc::new(AtomicBool::new(false));
        let submitter = {
            let (gate, closed) = (Arc::clone(&gate), Arc::clone(&closed));
            thread::spawn(move || {
                assert!(gate.enter(10));
                barrier();
                let refused = closed.load(SeqCst);
                if refused {
                    gate.release(1, 10);
                }
                !refused
            })
        };
        closed.store(true, SeqCst);
        barrier();
        let finished = gate.used().0 == 0;
        let accepted = submitter.join().expect("no panic");
        assert!(!(finished && accepted), "accepted, and nobody is there");
    });
}
