//! The circuit under loom: every interleaving of two or three threads.
//!
//! What goes by the lock alone is the machine's, which knows no threads; here it is about what is
//! seen or counted beside the lock, and about passes that outlive a turn.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use super::{BreakerState, Change, Circuit, Pass};
use crate::clock::Ticks;
use crate::error::{Error, ErrorKind, Phase};
use crate::recovery::Breaker;

/// Later than any pause that is drawn, so that a model is the same each time.
const LATER: Ticks = 1_000_000_000;

fn check(body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(body);
}

/// Opens after so many failures in a row; closes after one success of a single probe.
fn circuit(failures: u32) -> Arc<Circuit> {
    let (short, at_once) = (Duration::from_millis(1), Duration::ZERO);
    let rules = Breaker::new().failures(failures).lasting(at_once);
    let rules = rules.probes(1).successes(1).open_for(short, short);
    Arc::new(Circuit::new(Some(rules)))
}

fn admit(circuit: &Arc<Circuit>, now: Ticks) -> Option<Pass> {
    circuit.admit(|| now).ok()
}

fn settle(circuit: &Circuit, pass: Pass, well: bool, now: Ticks) -> Option<Change> {
    let error = Error::new(ErrorKind::ConnectionLost, Phase::Operation, "test");
    let result = if well { Ok(()) } else { Err(&error) };
    circuit.settle(pass, result, 0, || now, || 0)
}

/// A call from beginning to end; what it changed.
fn call(circuit: &Arc<Circuit>, well: bool, now: Ticks) -> Option<Change> {
    let pass = admit(circuit, now)?;
    settle(circuit, pass, well, now)
}

/// Failures at the same time are counted one by one, and the one that was too many says so.
#[test]
fn no_failure_is_lost_and_one_tells_that_it_opened() {
    check(|| {
        let circuit = circuit(2);
        let other = {
            let circuit = Arc::clone(&circuit);
            thread::spawn(move || call(&circuit, false, 1).is_some())
        };
        let here = call(&circuit, false, 1).is_some();
        let there = other.join().expect("no panic");
        assert!(here ^ there, "told once");
        assert_eq!(circuit.state(), BreakerState::Open);
        assert_eq!(circuit.opened(), 1);
    });
}

/// A success beside two failures, which may end the streak or come too late to.
#[test]
fn a_success_ends_a_streak_and_opens_or_closes_nothing() {
    check(|| {
        let circuit = circuit(2);
        let other = {
            let circuit = Arc::clone(&circuit);
            thread::spawn(move || call(&circuit, true, 1).is_some())
        };
        let opened = [false, false].map(|well| call(&circuit, well, 1).is_some());
        assert!(!other.join().expect("no panic"));
        let is_open = circuit.state() == BreakerState::Open;
        assert_eq!(opened, [false, is_open]);
        // If the streak had ended after the first, the second was the first of another one.
        if !is_open {
            assert!(call(&circuit, false, 1).is_some(), "one too many");
        }
    });
}

/// Of several that ask at once one gets the probe, and it is another's when it was dropped, as
/// by a panic.
#[test]
fn there_is_never_more_than_one_probe_and_it_comes_back() {
    check(|| {
        let circuit = circuit(1);
        assert!(call(&circuit, false, 1).is_some(), "it opens");
        // It holds the place of the probe while it has one.
        let place = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let ask = |circuit: &Arc<Circuit>, place: &loom::sync::atomic::AtomicBool| {
            let Some(pass) = admit(circuit, LATER) else {
                return false;
            };
            assert!(pass.is_probe());
            let order = std::sync::atomic::Ordering::SeqCst;
            assert!(!place.swap(true, order), "one at a time");
            place.store(false, order);
            drop(pass);
            true
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (circuit, place) = (Arc::clone(&circuit), Arc::clone(&place));
                thread::spawn(move || ask(&circuit, &place))
            })
            .collect();
        let mut any = false;
        for other in others {
            any |= other.join().expect("no panic");
        }
        assert!(any, "nobody got it");
        assert_eq!(circuit.state(), BreakerState::HalfOpen);
        assert!(ask(&circuit, &place), "it is there again");
    });
}

/// Whatever order the ends of a probe and of a failed connect come in, the circuit is where one
/// of them left it, and no probe is missing.
#[test]
fn a_probe_and_a_failed_connect_decide_one_after_the_other() {
    check(|| {
        let circuit = circuit(2);
        for _ in 0..2 {
            call(&circuit, false, 1);
        }
        let probe = admit(&circuit, LATER).expect("half-open");
        let other = {
            let circuit = Arc::clone(&circuit);
            thread::spawn(move || {
                let error = Error::new(ErrorKind::ConnectionLost, Phase::Connect, "test");
                circuit.connect_failed(&error, LATER, || 0).is_some()
            })
        };
        let closed = settle(&circuit, probe, true, LATER).is_some();
        assert!(!other.join().expect("no panic"), "one failure of two");
        let state = circuit.state();
        let expected = [BreakerState::Open, BreakerState::Closed];
        assert_eq!(state, expected[usize::from(closed)]);
        let next = admit(&circuit, 2 * LATER).expect("it goes on");
        assert_eq!(next.is_probe(), !closed);
    });
}

/// A call that was begun before it opened fails while it becomes half-open and closes: that
/// opens it the first time or not at all.
#[test]
fn what_began_in_an_earlier_turn_decides_nothing() {
    check(|| {
        let circuit = circuit(1);
        let old = admit(&circuit, 1).expect("it is closed");
        let other = {
            let circuit = Arc::clone(&circuit);
            thread::spawn(move || settle(&circuit, old, false, 1).is_some())
        };
        let opened = call(&circuit, false, 1).is_some();
        let closed = call(&circuit, true, LATER).is_some();
        let opened_there = other.join().expect("no panic");
        assert!(opened ^ opened_there, "it opened once");
        assert!(closed);
        assert_eq!(circuit.state(), BreakerState::Closed);
    });
}
