//! A server of a fleet says that it has too much to do: it gets fewer operations at once.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use millpond::endpoints::RoundRobin;
use millpond::{Batch, Breaker, Operation, RetryPolicy};

use testbed::bears_mark;

use crate::load::alone;
use crate::station::{Errand, builder, stations, warm};

#[test]
fn what_is_refused_counts_as_in_use() {
    let _alone = alone();
    let stations = stations(1);
    let fleet = builder(&stations)
        .balance(RoundRobin::new())
        .pool(|pool| pool.max_size(10))
        .build()
        .expect("connects");
    warm(&fleet);
    // A thread that waits while it holds them would be given room for one more.
    let take = || (0..9).map(|_| fleet.get().expect("a lease")).collect();
    let others: Vec<_> = thread::scope(|scope| scope.spawn(take).join().expect("no panic"));
    stations[0].overloaded.store(true, SeqCst);
    // The second attempt finds no connection any more.
    let errand = Errand::default().deadline(Duration::from_millis(200));
    let refused = fleet.execute(errand.retry(RetryPolicy::new(2)));
    assert!(refused.is_err());
    // Of ten, not of the nine that are left once it is over.
    assert_eq!(fleet.pools()[0].state().limit, 7);
    drop(others);
}

#[test]
fn no_value_that_it_repeats_is_kept() {
    let _alone = alone();
    for in_batches in [false, true] {
        let stations = stations(1);
        let breaker = Breaker::new().failures(1).lasting(Duration::ZERO);
        let fleet = builder(&stations)
            .pool(move |pool| pool.max_size(4).breaker(breaker.clone()))
            .build()
            .expect("connects");
        warm(&fleet);
        stations[0].overloaded.store(true, SeqCst);
        let errand = || Errand::default().retry(RetryPolicy::never());
        if in_batches {
            let batch = Batch::new(fleet.clone()).expect("starts");
            let tickets = batch.submit_all([errand(), errand()]);
            for ticket in tickets {
                let outcome = ticket.expect("room").wait();
                assert!(!bears_mark(&format!("{outcome:?}")), "{outcome:?}");
            }
        } else {
            let error = fleet.execute(errand()).expect_err("overloaded");
            assert!(!bears_mark(&format!("{error:?}")), "{error:?}");
        }
        let refused = fleet.execute(errand()).expect_err("the breaker is open");
        let health = fleet.pools()[0].health();
        for told in [format!("{refused:?} {refused}"), format!("{health:?}")] {
            assert!(told.contains("too much to do"), "{told}");
            assert!(!bears_mark(&told), "{told}");
        }
    }
}
