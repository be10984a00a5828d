//! A strategy of the program's own that panics: whoever asked gets an error, and nothing else
//! ends because of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use millpond::endpoints::{Balance, Candidates};
use millpond::{Batch, ErrorKind, Outcome};

use crate::load::alone;
use crate::station::{Errand, builder, stations, warm};

#[derive(Clone, Debug, Default)]
struct Moody(Arc<AtomicBool>);

impl Balance for Moody {
    fn pick(&self, _: &Candidates<'_>) -> usize {
        assert!(!self.0.load(SeqCst), "the strategy panics");
        0
    }
}

#[test]
fn a_batch_goes_on() {
    let _alone = alone();
    let stations = stations(2);
    let strategy = Moody::default();
    let fleet = builder(&stations)
        .balance(strategy.clone())
        .build()
        .expect("connects");
    warm(&fleet);
    let batch = Batch::builder(fleet.clone())
        .workers(2)
        .build()
        .expect("starts");
    let run = || {
        let ticket = batch.submit(Errand::default()).expect("room");
        ticket
            .wait_timeout(Duration::from_secs(5))
            .expect("in time")
    };
    assert!(run().is_done());
    strategy.0.store(true, SeqCst);
    // More often than there are workers.
    for _ in 0..5 {
        match run() {
            Outcome::NotExecuted(error) => assert_eq!(error.kind(), ErrorKind::Other),
            other => panic!("{other:?}"),
        }
    }
    strategy.0.store(false, SeqCst);
    assert!(run().is_done());
}
