//! The circuit breakers of all endpoints are open or half-open: what is queued waits for them, and
//! for nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use millpond::batch::wait_all;
use millpond::{Batch, BreakerState, ErrorKind, Fleet, Operation, Outcome, RetryPolicy};

use crate::load::alone;
use crate::one_is_broken::{LONG, breaker, errands, fleet, fleet_with, submit};
use crate::station::{Errand, Station, Way, stations, until};

/// Has the breakers of all of them open, of servers that are well again.
fn break_all(fleet: &Fleet<Way>, stations: &[Arc<Station>]) {
    for station in stations {
        station.failing.store(true, SeqCst);
    }
    until("all are broken", || {
        let _ = fleet.execute(Errand::default().retry(RetryPolicy::never()));
        (0..stations.len()).all(|place| breaker(fleet, place) == BreakerState::Open)
    });
    for station in stations {
        station.failing.store(false, SeqCst);
        station.groups.lock().expect("no poison").clear();
    }
}

#[test]
fn a_batch_waits_while_all_are_broken_and_begins_with_one_at_a_time() {
    let _alone = alone();
    let stations = stations(2);
    let fleet = fleet(&stations, Duration::from_millis(700), 8);
    break_all(&fleet, &stations);
    let batch = Batch::builder(fleet.clone()).build().expect("starts");
    let tickets = submit(&batch, errands((0..500).map(|number| number.to_string())));
    thread::sleep(Duration::from_millis(100));
    let metrics = batch.metrics();
    assert_eq!((metrics.queued, metrics.groups), (500, 0), "{metrics}");
    for outcome in wait_all(tickets, |_| ()) {
        assert!(outcome.is_done(), "{outcome:?}");
    }
    for station in &stations {
        let groups = station.groups.lock().expect("no poison");
        println!("{}: {groups:?}", station.name);
        assert!(groups.iter().take(2).all(|size| *size == 1), "{groups:?}");
    }
    assert_eq!(batch.metrics().largest_group, 100);
}

/// Operations without a deadline, behind breakers that are half-open and pools of which every
/// connection is taken, come to an outcome as soon as on a single pool.
#[test]
fn a_batch_does_not_wait_for_ever_for_a_connection_to_try_it_with() {
    let _alone = alone();
    let limit = Duration::from_millis(300);
    let stations = stations(2);
    let fleet = fleet_with(&stations, Duration::from_millis(50), 1, limit);
    break_all(&fleet, &stations);
    // Leases are not stopped by a circuit breaker.
    let pools = fleet.pools();
    let taken: Vec<_> = pools.iter().map(|pool| pool.get().expect("free")).collect();
    let outcomes_of = |batch: &Batch<Way>| {
        let start = Instant::now();
        let tickets = submit(batch, errands((0..4).map(|number| number.to_string())));
        let outcomes: Vec<_> = tickets
            .into_iter()
            .map(|ticket| ticket.wait_timeout(20 * limit))
            .collect();
        batch.close(Duration::ZERO);
        (outcomes, start.elapsed())
    };
    let never = RetryPolicy::never();
    let on_pool = Batch::builder(pools[0].clone()).retry(never.clone());
    let on_fleet = Batch::builder(fleet.clone()).retry(never);
    for batch in [on_pool, on_fleet] {
        let batch = batch.build().expect("starts");
        let name = &batch.metrics().pool;
        let (outcomes, took) = outcomes_of(&batch);
        println!("{took:?}");
        for outcome in &outcomes {
            let Ok(Outcome::NotExecuted(error)) = outcome else {
                panic!("{outcome:?} of {name}");
            };
            assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
        }
        assert!(took < 10 * limit, "{took:?} of {name}");
    }
    drop(taken);
    assert_ne!(breaker(&fleet, 0), BreakerState::Closed);
}

/// What is closed keeps nothing back, whatever its breakers say.
#[test]
fn what_is_queued_behind_breakers_ends_with_the_pool_or_fleet() {
    let _alone = alone();
    for whole in [false, true] {
        let stations = stations(2);
        let fleet = fleet(&stations, LONG, 8);
        break_all(&fleet, &stations);
        let pool = fleet.pools()[0].clone();
        let batch = if whole {
            Batch::new(fleet.clone())
        } else {
            Batch::new(pool.clone())
        };
        let batch = batch.expect("starts");
        let tickets = submit(&batch, errands((0..300).map(|number| number.to_string())));
        thread::sleep(Duration::from_millis(50));
        assert_eq!(batch.metrics().queued, 300);
        let start = Instant::now();
        if whole {
            fleet.close(LONG).expect("nothing is taken");
        } else {
            pool.close(LONG).expect("nothing is taken");
        }
        let metrics = batch.close(LONG / 2);
        let took = start.elapsed();
        for ticket in tickets {
            let outcome = ticket.try_outcome().expect("the batch has ended");
            let Outcome::NotExecuted(error) = outcome else {
                panic!("{outcome:?}");
            };
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
            assert!(error.message().contains("pool was closed"), "{error}");
        }
        assert_eq!((metrics.not_executed, metrics.queued), (300, 0));
        assert!(took < Duration::from_secs(2), "{took:?}");
        let alone = if whole {
            fleet.execute(Errand::default())
        } else {
            pool.execute(Errand::default())
        };
        assert_eq!(alone.expect_err("closed").kind(), ErrorKind::Closed);
    }
}
