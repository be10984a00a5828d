//! Retries never multiply the load on a server that fails all the time.

use std::time::Duration;

use millpond::{Batch, Operation, RetryPolicy};

use work::{Act, pool, work};

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
