//! What cannot be executed is refused at once where that can be known, else for itself alone.

use std::time::Duration;

use millpond::backend::Backend;
use millpond::batch::{Flush, WhenFull};
use millpond::{Batch, ErrorKind, Operation, Outcome};

use super::{Op, Subject, alone, named, on_each_server, pool_on, until, wait};

on_each_server! {
    each_one_fails_for_itself_alone
    a_full_and_a_closed_batch_hand_operations_back
}

/// So many good ones for each that is refused.
const GOOD: usize = 50;

/// Hands in this operation in vain; the error's kind.
fn in_vain<S: Subject>(batch: &Batch<S::Backend>, operation: Op<S>) -> ErrorKind {
    let id = operation.envelope().id().map(str::to_owned);
    let (operation, error) = batch.submit(operation).expect_err("refused").into_parts();
    assert_eq!(operation.envelope().id(), id.as_deref(), "the same one");
    assert!(error.pool().is_some(), "{error}");
    error.kind()
}

fn each_one_fails_for_itself_alone<S: Subject>() {
    let _alone = alone();
    let server = S::start();
    let batch = Batch::builder(pool_on(&server))
        .size(1_000)
        .workers(1)
        // All of them in one group, where the backend has groups.
        .flush(Flush::WhenDue)
        .timeout(Duration::from_millis(300))
        .build()
        .expect("starts");
    let senseless = S::senseless();
    let refused = senseless.len();
    let mut tickets = Vec::new();
    for operation in senseless.into_iter().enumerate().map(named) {
        let kind = in_vain::<S>(&batch, operation);
        assert_eq!(kind, ErrorKind::InvalidOperation);
        tickets.push((None, batch.submit(S::good()).expect("room")));
    }
    for operation in S::refused().into_iter().enumerate().map(named) {
        let good = (0..GOOD).map(|_| (None, batch.submit(S::good()).expect("room")));
        tickets.extend(good);
        let id = operation.envelope().id().map(str::to_owned);
        tickets.push((id, batch.submit(operation).expect("room")));
    }
    let submitted = tickets.len();
    let (bad, outcomes): (Vec<_>, Vec<_>) = tickets.into_iter().unzip();
    let mut rejected = Vec::new();
    for (bad, outcome) in bad.into_iter().zip(wait(outcomes)) {
        match (bad, outcome) {
            (None, outcome) => assert!(outcome.is_done(), "{:?}", outcome.error()),
            (Some(id), Outcome::Rejected(error)) => {
                assert!(!error.outcome_unknown(), "{error}");
                rejected.push(id);
            }
            (Some(id), other) => panic!("{id}: {:?}", other.error()),
        }
    }
    let metrics = batch.metrics();
    assert_eq!(metrics.refused, refused as u64);
    assert_eq!(metrics.submitted, submitted as u64);
    assert_eq!(metrics.rejected, rejected.len() as u64);
    assert_eq!(metrics.done, (submitted - rejected.len()) as u64);
    if S::Backend::NATIVE_BATCH {
        assert_eq!(metrics.largest_group, submitted, "they were together");
    }
    assert_eq!(batch.quarantine().len(), rejected.len());
}

fn a_full_and_a_closed_batch_hand_operations_back<S: Subject>() {
    let _alone = alone();
    let server = S::start();
    let batch = Batch::builder(pool_on(&server))
        .workers(1)
        .max_operations(20)
        .when_full(WhenFull::Refuse)
        .build()
        .expect("starts");
    let submit = || batch.submit(S::good()).expect("room");
    assert!(submit().wait().is_done());
    server.freeze();
    let mut tickets = vec![submit()];
    until("it was begun", || batch.metrics().queued == 0);
    tickets.extend((0..20).map(|_| submit()));
    let one_more = || named((7, S::good()));
    assert_eq!(in_vain::<S>(&batch, one_more()), ErrorKind::Overloaded);
    server.thaw();
    for outcome in wait(tickets) {
        assert!(outcome.is_done(), "{:?}", outcome.error());
    }
    let metrics = batch.close(Duration::from_secs(1));
    assert_eq!(in_vain::<S>(&batch, one_more()), ErrorKind::Closed);
    assert_eq!(
        (metrics.submitted, metrics.done, metrics.refused),
        (22, 22, 1)
    );
}
