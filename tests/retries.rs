//! Retries never multiply the load on a server that fails all the time.

use std::thread;
use std::time::Duration;

use millpond::health::{Concern, Reason};
use millpond::{Batch, Breaker, BreakerState, Health, Operation, RetryPolicy};

use work::{Act, pool, pool_with, until, work};

mod work;

const NEVER_SUCCEEDS: Act = Act::FailFirst(u32::MAX);

#[test]
fn of_operations_that_all_fail_a_tenth_is_tried_again() {
    let (pool, script) = pool(1);
    let policy = RetryPolicy::new(3).longest_pause(Duration::from_micros(10));
    for number in 0..3000 {
        let operation = work(number).act(NEVER_SUCCEEDS).retry(policy.clone());
        pool.execute(operation).expect_err("it fails");
    }
    let attempts = script.attempts.lock().expect("no poison");
    let made: u32 = attempts.values().sum();
    // A hundred retries are there from the beginning.
    assert!((3300..=3400).contains(&made), "{made} attempts");
    let operations = pool.metrics().operations;
    assert_eq!(operations.failures(), 3000);
    assert_eq!(operations.retries, u64::from(made) - 3000);
}

#[test]
fn a_short_disturbance_is_ridden_out() {
    let (pool, _) = pool(1);
    let policy = RetryPolicy::new(3).longest_pause(Duration::from_micros(10));
    for number in 0..45 {
        let operation = work(number).act(Act::FailFirst(2)).retry(policy.clone());
        pool.execute(operation).expect("the third attempt succeeds");
    }
}

#[test]
fn a_group_of_a_batch_counts_as_one() {
    let (pool, script) = pool(1);
    let batch = Batch::builder(pool)
        .workers(1)
        .size(100)
        .retry(RetryPolicy::new(3).longest_pause(Duration::from_micros(10)))
        .build()
        .expect("starts");
    let operations = (0..500).map(|number| work(number).act(Act::FailFirst(2)));
    for ticket in batch.submit_all(operations) {
        assert!(ticket.expect("room").wait().is_done());
    }
    assert!(script.groups().len() >= 15);
}

#[test]
fn groups_of_a_batch_that_all_fail_are_tried_again_by_a_tenth() {
    let (pool, script) = pool(2);
    let batch = Batch::builder(pool)
        .workers(2)
        .size(1)
        .retry(RetryPolicy::new(3).longest_pause(Duration::from_micros(10)))
        .build()
        .expect("starts");
    let operations = (0..3000).map(|number| work(number).act(NEVER_SUCCEEDS));
    for ticket in batch.submit_all(operations) {
        assert!(!ticket.expect("room").wait().is_done());
    }
    let made: u32 = script.attempts.lock().expect("no poison").values().sum();
    assert!((3000..=3400).contains(&made), "{made} attempts");
}

/// Opens soon, and for long.
fn impatient() -> Breaker {
    Breaker::new()
        .failures(5)
        .lasting(Duration::ZERO)
        .open_for(Duration::from_secs(60), Duration::from_secs(60))
}

#[test]
fn an_open_circuit_lets_nothing_through() {
    let (pool, script) = pool_with(1, Some(impatient()));
    for number in 0..1000 {
        let error = pool.execute(work(number).act(NEVER_SUCCEEDS));
        error.expect_err("it fails");
    }
    let made: u32 = script.attempts.lock().expect("no poison").values().sum();
    assert_eq!(made, 5);
    let metrics = pool.metrics();
    assert_eq!(
        (metrics.breaker, metrics.breaker_opened),
        (BreakerState::Open, 1)
    );
    assert_eq!(metrics.operations.failures(), 1000);
    // Leases are not stopped.
    drop(pool.get().expect("a connection"));
}

#[test]
fn health_tells_of_a_circuit_that_is_not_closed() {
    let soon = Duration::from_millis(200);
    let (pool, script) = pool_with(2, Some(impatient().open_for(soon, soon)));
    let told = || {
        let health = pool.health();
        let of_breaker = |reason: &&Reason| reason.concern == Concern::Breaker;
        let reason = health.reasons.iter().find(of_breaker);
        let text = reason.map_or_else(String::new, ToString::to_string);
        (health.health, text)
    };
    for number in 0..5 {
        let error = pool.execute(work(number).act(NEVER_SUCCEEDS));
        error.expect_err("it fails");
    }
    let (health, text) = told();
    assert_eq!(health, Health::Down, "{text}");
    assert!(
        text.contains("is open, and lets the next through in 0."),
        "{text}"
    );
    // Whoever asks next is let through, but nobody does.
    until("it is no worse than that", || told().0 == Health::Degraded);
    let (_, text) = told();
    assert!(
        text.contains("is open, and lets the next through;"),
        "{text}"
    );
    assert_eq!(pool.metrics().breaker, BreakerState::Open);
    script.freeze();
    thread::scope(|scope| {
        let probe = scope.spawn(|| pool.execute(work(10)));
        until("one is under way", || {
            pool.metrics().breaker == BreakerState::HalfOpen
        });
        let (health, text) = told();
        script.thaw();
        assert!(probe.join().expect("no panic").is_ok());
        assert_eq!(health, Health::Degraded, "{text}");
        assert!(text.contains("is half-open"), "{text}");
    });
    // One more success closes it.
    assert_eq!(told().0, Health::Degraded);
    pool.execute(work(11)).expect("it is well");
    until("it is well", || told() == (Health::Up, String::new()));
}

#[test]
fn a_batch_keeps_its_operations_until_the_circuit_closes() {
    let soon = Duration::from_millis(200);
    let (pool, script) = pool_with(2, Some(impatient().open_for(soon, soon)));
    let batch = Batch::builder(pool.clone())
        .workers(2)
        .size(10)
        .retry(RetryPolicy::never())
        .build()
        .expect("starts");
    for number in 0..5 {
        let failed = batch
            .submit(work(number).act(NEVER_SUCCEEDS))
            .expect("room");
        assert!(!failed.wait().is_done());
    }
    assert_eq!(pool.metrics().breaker, BreakerState::Open);
    let before = script.groups().len();
    let tickets: Vec<_> = (10..110)
        .map(|number| batch.submit(work(number)).expect("room"))
        .collect();
    let hopeless = work(200).deadline(Duration::from_millis(40));
    let hopeless = batch.submit(hopeless).expect("room");
    assert!(!hopeless.wait().is_done(), "its deadline came first");
    assert_eq!(script.groups().len(), before, "held back");
    for ticket in tickets {
        assert!(ticket.wait().is_done());
    }
    // The probes were of one operation each.
    assert!(
        script.groups()[before..]
            .iter()
            .take(2)
            .all(|group| group.len() == 1)
    );
    until("it is closed", || {
        pool.metrics().breaker == BreakerState::Closed
    });
    assert_eq!(batch.metrics().retries, 0);
}

#[test]
fn a_batch_with_an_open_circuit_closes_in_time() {
    let (pool, _) = pool_with(1, Some(impatient()));
    let batch = Batch::builder(pool)
        .workers(1)
        .retry(RetryPolicy::never())
        .build()
        .expect("starts");
    for number in 0..5 {
        let failed = batch
            .submit(work(number).act(NEVER_SUCCEEDS))
            .expect("room");
        assert!(!failed.wait().is_done());
    }
    let ticket = batch.submit(work(10)).expect("room");
    let start = std::time::Instant::now();
    let metrics = batch.close(Duration::from_millis(100));
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert!(!ticket.wait().is_done());
    assert_eq!(metrics.not_executed, 6);
}

/// How fast a lone operation is while it is tried whether the server is well says nothing about a
/// group.
#[test]
fn probes_do_not_teach_how_large_a_group_may_be() {
    let soon = Duration::from_millis(200);
    let rules = impatient().open_for(soon, soon).probes(1).successes(7);
    let (pool, script) = pool_with(1, Some(rules));
    let batch = Batch::builder(pool.clone())
        .workers(1)
        .size(64)
        .latency_target(Duration::from_millis(10))
        .retry(RetryPolicy::never())
        .build()
        .expect("starts");
    let run = |numbers: std::ops::Range<u64>, act: &Act| {
        let works = numbers.map(|number| work(number).act(act.clone()));
        for ticket in batch.submit_all(works) {
            let _ = ticket.expect("room").wait();
        }
    };
    let pause = |time| *script.pause.lock().expect("no poison") = time;
    // It learns that a group may have one operation.
    pause(Duration::from_millis(30));
    run(0..130, &Act::Answer);
    assert_eq!(script.groups().last().map(Vec::len), Some(1));
    run(200..205, &NEVER_SUCCEEDS);
    assert_eq!(pool.metrics().breaker, BreakerState::Open);
    let before = script.groups().len();
    pause(Duration::ZERO);
    run(300..400, &Act::Answer);
    assert_eq!(pool.metrics().breaker, BreakerState::Closed);
    let sizes: Vec<_> = script.groups()[before..].iter().map(Vec::len).collect();
    let (probes, first) = sizes.split_at(7);
    assert_eq!(probes, [1; 7], "{sizes:?}");
    assert!(first[0] == 1 && first[1] <= 2, "{sizes:?}");
}
