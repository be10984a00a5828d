//! Operations and replies whose own code panics: when it is asked what it is, when it is
//! written, when it is dropped, on every thread of a batch. Nothing hangs, is lost or ends
//! the process, and what others submitted is done.

use std::borrow::Cow;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use millpond::backend::{self, Backend};
use millpond::batch::{Batch, BatchBuilder, WhenFull};
use millpond::{
    Deadline, Envelope, Error, ErrorKind, ManageConnection, Operation, Outcome, Phase, Pool,
    RetryPolicy, Ticket,
};
use serde::{Deserialize, Serialize, Serializer};
use work::{quiet_panics, until};

mod work;

/// Where an operation, or its reply, panics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Flaw {
    #[default]
    None,
    Size,
    Validate,
    IsRead,
    Serialize,
    Drop,
    /// The reply panics when it is dropped.
    Reply,
}

/// What the backend does with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Fate {
    #[default]
    Done,
    Rejected,
    /// The backend waits until it is told to go on.
    Held,
    /// It gives one outcome too many.
    Doubled,
}

#[derive(Debug, Deserialize)]
struct Brittle {
    flaw: Flaw,
    fate: Fate,
    envelope: Envelope,
}

fn brittle(flaw: Flaw) -> Brittle {
    let envelope = Envelope::default();
    Brittle {
        flaw,
        fate: Fate::Done,
        envelope,
    }
}

impl Brittle {
    fn fate(mut self, fate: Fate) -> Self {
        self.fate = fate;
        self
    }

    fn panic_if(&self, flaw: Flaw) {
        assert!(self.flaw != flaw, "scripted");
    }
}

thread_local! {
    /// What happens on this thread while the next operation is written.
    static AT_WRITING: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

impl Drop for Brittle {
    fn drop(&mut self) {
        self.panic_if(Flaw::Drop);
    }
}

impl Serialize for Brittle {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.panic_if(Flaw::Serialize);
        if let Some(meanwhile) = AT_WRITING.take() {
            meanwhile();
        }
        to.serialize_unit()
    }
}

impl Operation for Brittle {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn size(&self) -> usize {
        self.panic_if(Flaw::Size);
        100
    }

    fn validate(&self) -> Result<(), Error> {
        self.panic_if(Flaw::Validate);
        Ok(())
    }

    fn is_read(&self) -> bool {
        self.panic_if(Flaw::IsRead);
        false
    }

    fn statement(&self) -> Cow<'_, str> {
        "BRITTLE".into()
    }
}

struct Reply(Flaw);

impl Drop for Reply {
    fn drop(&mut self) {
        assert!(self.0 != Flaw::Reply, "scripted");
    }
}

struct Shop {
    go_on: Mutex<Receiver<()>>,
}

impl ManageConnection for Shop {
    type Connection = ();
    type Error = io::Error;

    fn connect(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_valid(&self, (): &mut ()) -> io::Result<()> {
        Ok(())
    }

    fn has_broken(&self, (): &mut ()) -> bool {
        false
    }
}

impl Backend for Shop {
    const NAME: &'static str = "shop";

    const NATIVE_BATCH: bool = true;

    type Operation = Brittle;

    type Reply = Reply;

    fn endpoint(&self) -> String {
        "nowhere:0".into()
    }

    fn classify(_: &io::Error) -> ErrorKind {
        ErrorKind::Other
    }

    fn execute(&self, (): &mut (), operation: &Brittle, _: Deadline) -> Result<Reply, Error> {
        match operation.fate {
            Fate::Done | Fate::Doubled => Ok(Reply(operation.flaw)),
            Fate::Rejected => {
                let error = Error::new(ErrorKind::Constraint, Phase::Operation, "scripted");
                Err(error)
            }
            Fate::Held => {
                let go_on = self.go_on.lock().expect("no poison");
                go_on.recv().expect("it is told");
                Ok(Reply(Flaw::None))
            }
        }
    }

    fn execute_batch(
        &self,
        (): &mut (),
        group: &[&Brittle],
        deadline: Deadline,
    ) -> Vec<Outcome<Reply>> {
        let execute = |operation: &&Brittle| self.execute(&mut (), operation, deadline).into();
        let mut outcomes: Vec<_> = group.iter().map(execute).collect();
        if group
            .iter()
            .any(|operation| operation.fate == Fate::Doubled)
        {
            outcomes.push(Outcome::Done(Reply(Flaw::Reply)));
        }
        outcomes
    }
}

type Built = (Batch<Shop>, Sender<()>);

fn shop(set: impl FnOnce(BatchBuilder<Shop>) -> BatchBuilder<Shop>) -> Built {
    quiet_panics();
    backend::adopt::<Shop>();
    let (tell, go_on) = channel();
    let shop = Shop {
        go_on: Mutex::new(go_on),
    };
    let pool = Pool::builder().max_size(1).build(shop).expect("opens");
    let batch = Batch::builder(pool).workers(1).retry(RetryPolicy::never());
    (set(batch).build().expect("starts"), tell)
}

fn submit(batch: &Batch<Shop>, operation: Brittle) -> Ticket<Reply> {
    batch.submit(operation).map_err(Error::from).expect("room")
}

/// An operation with which the worker is busy until it is told to go on.
fn hold(batch: &Batch<Shop>) -> Ticket<Reply> {
    let held = submit(batch, brittle(Flaw::None).fate(Fate::Held));
    until("the worker has it", || batch.metrics().running == 1);
    held
}

/// It does what is asked of it, nothing is counted that is not there, and it closes at once.
#[track_caller]
fn still_works(batch: &Batch<Shop>) {
    let outcome = submit(batch, brittle(Flaw::None)).wait_timeout(Duration::from_secs(10));
    assert!(outcome.is_ok_and(|outcome| outcome.is_done()));
    let metrics = batch.close(Duration::from_secs(10));
    let over = metrics.done + metrics.rejected + metrics.not_executed + metrics.unknown;
    assert_eq!(metrics.submitted, over, "{metrics}");
    assert_eq!(
        (metrics.queued, metrics.queued_bytes, metrics.running),
        (0, 0, 0)
    );
}

#[test]
fn at_submission_the_submitter_has_the_panic() {
    for flaw in [Flaw::Size, Flaw::Validate, Flaw::IsRead] {
        let (batch, _) = shop(|batch| batch.max_operations(1));
        for _ in 0..3 {
            let submitted = catch_unwind(AssertUnwindSafe(|| batch.submit(brittle(flaw)).is_ok()));
            assert!(submitted.is_err(), "{flaw:?}");
        }
        assert_eq!(batch.metrics().submitted, 0);
        still_works(&batch);
    }
}

#[test]
fn when_dropped_on_a_worker() {
    for fate in [Fate::Done, Fate::Rejected, Fate::Doubled] {
        for flaw in [Flaw::Drop, Flaw::Reply] {
            let (batch, go_on) = shop(|batch| batch.quarantine(1));
            let first = hold(&batch);
            // One group, with innocents at both ends.
            let innocent = submit(&batch, brittle(Flaw::None));
            let flawed = [0; 3].map(|_| submit(&batch, brittle(flaw).fate(fate)));
            let last = submit(&batch, brittle(Flaw::None));
            // Nobody is there to take these replies.
            drop(flawed);
            go_on.send(()).expect("somebody listens");
            assert!(first.wait().is_done() && innocent.wait().is_done() && last.wait().is_done());
            still_works(&batch);
        }
    }
}

#[test]
fn when_dropped_on_the_dispatcher() {
    let (batch, go_on) = shop(|batch| batch.max_operations(2).when_full(WhenFull::Shed));
    let first = hold(&batch);
    // Cancelled, expired, or shed by the next.
    let flawed = || brittle(Flaw::Drop);
    assert!(submit(&batch, flawed()).cancel());
    let expired = submit(&batch, flawed().deadline(Duration::from_millis(20)));
    assert!(matches!(expired.wait(), Outcome::NotExecuted(_)));
    let shed = [0; 9].map(|_| submit(&batch, flawed().ordering_key("key")));
    go_on.send(()).expect("somebody listens");
    assert!(first.wait().is_done());
    let outcomes = shed.map(Ticket::wait);
    let shed = outcomes.iter().filter(|outcome| !outcome.is_done());
    assert!(shed.count() >= 6);
    still_works(&batch);

    // At the end.
    let (batch, go_on) = shop(|batch| batch);
    let first = hold(&batch);
    let queued = [0; 9].map(|_| submit(&batch, flawed()));
    batch.close(Duration::from_millis(20));
    assert!(
        queued
            .map(Ticket::wait)
            .iter()
            .all(|outcome| !outcome.is_done())
    );
    go_on.send(()).expect("somebody listens");
    assert!(matches!(first.wait(), Outcome::Unknown(_)));
}

#[test]
fn in_the_quarantine() {
    let (batch, _) = shop(|batch| batch.quarantine(2));
    let rejected = || brittle(Flaw::Serialize).fate(Fate::Rejected);
    for _ in 0..2 {
        assert!(!submit(&batch, rejected()).wait().is_done());
    }
    let written = catch_unwind(AssertUnwindSafe(|| {
        batch.quarantine().write_json_lines(io::sink()).is_ok()
    }));
    assert!(written.is_err());
    assert_eq!(batch.quarantine().drain().len(), 2, "they are still there");
    still_works(&batch);
}

/// A worker that rejects something does not wait for somebody who writes the quarantine.
#[test]
fn a_slow_reader_of_the_quarantine_holds_up_nobody() {
    let (batch, _) = shop(|batch| batch);
    let reject = |batch: &Batch<Shop>| {
        let rejected = submit(batch, brittle(Flaw::None).fate(Fate::Rejected));
        let outcome = rejected.wait_timeout(Duration::from_secs(10));
        assert!(matches!(outcome, Ok(Outcome::Rejected(_))), "held up");
    };
    reject(&batch);
    let other = batch.clone();
    AT_WRITING.set(Some(Box::new(move || reject(&other))));
    let written = batch.quarantine().write_json_lines(io::sink());
    assert_eq!(written.expect("written"), 1);
    assert_eq!(batch.quarantine().len(), 2);
    still_works(&batch);
}

#[test]
fn the_quarantine_is_bounded_by_bytes() {
    let (batch, _) = shop(|batch| batch.quarantine_bytes(2000));
    for _ in 0..50 {
        let _ = submit(&batch, brittle(Flaw::None).fate(Fate::Rejected)).wait();
    }
    let (kept, dropped) = (batch.quarantine().len(), batch.quarantine().dropped());
    assert!((2..20).contains(&kept), "{kept}");
    assert_eq!(kept as u64 + dropped, 50);
    assert_eq!(batch.quarantine().drain().len(), kept);
    let _ = submit(&batch, brittle(Flaw::None).fate(Fate::Rejected)).wait();
    assert_eq!(batch.quarantine().len(), 1, "there is room again");
    still_works(&batch);
}
