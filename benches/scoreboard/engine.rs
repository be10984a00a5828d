//! The batch engine alone: operations that do nothing, from four threads, each with an
//! outcome of its own.
//!
//! The peer is what one writes without an engine: a bounded channel of the same length, a
//! reply channel for each operation, and as many threads that take up to a group's worth of
//! what is there and answer it. It has no priorities, deadlines, retries, ordering,
//! cancelling or counting. Both sides submit a window of operations and then collect its
//! outcomes, over and over.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::hint::black_box;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use millpond::backend::{self, Backend};
use millpond::{Batch, Deadline, Envelope, ErrorKind, ManageConnection, Operation, Outcome, Pool};
use serde::{Deserialize, Serialize};

use super::options::Options;
use super::rounds::{Turn, take_turns};
use super::table::{Goal, Row, Table, Unit};

const SUBMITTERS: u64 = 4;
const WORKERS: usize = 4;
const QUEUE: usize = 10_000;
/// Operations of one thread that are under way at once.
const WINDOW: u64 = 1000;

#[derive(Serialize, Deserialize)]
pub(super) struct Nothing {
    pub(super) number: u64,
    pub(super) envelope: Envelope,
}

impl Operation for Nothing {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn statement(&self) -> Cow<'_, str> {
        "NOTHING".into()
    }
}

pub(super) struct Nowhere;

impl ManageConnection for Nowhere {
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

impl Backend for Nowhere {
    const NAME: &'static str = "nowhere";

    const NATIVE_BATCH: bool = true;

    type Operation = Nothing;

    type Reply = u64;

    fn endpoint(&self) -> String {
        "nowhere".into()
    }

    fn classify(_: &io::Error) -> ErrorKind {
        ErrorKind::Other
    }

    fn execute(
        &self,
        (): &mut (),
        operation: &Nothing,
        _: Deadline,
    ) -> Result<u64, millpond::Error> {
        Ok(black_box(operation.number))
    }

    fn execute_batch(
        &self,
        (): &mut (),
        operations: &[&Nothing],
        _: Deadline,
    ) -> Vec<Outcome<u64>> {
        let answers = operations
            .iter()
            .map(|operation| Outcome::Done(black_box(operation.number)));
        answers.collect()
    }
}

pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<(), Box<dyn Error>> {
    for group in [100, 1000] {
        let what = format!(
            "batch engine alone, do-nothing backend, {SUBMITTERS} threads submit, {WORKERS} \
             workers, groups of {group}: operations per second"
        );
        if !options.wants(&what) {
            continue;
        }
        backend::adopt::<Nowhere>();
        let batch = Batch::builder(Pool::builder().max_size(4).build(Nowhere)?)
            .size(group)
            .workers(WORKERS)
            .max_operations(QUEUE)
            .build()?;
        let by_hand = ByHand::start(group);
        let (rounds, span) = options.rounds(31, 100);
        let mut sides: [Turn<'_, f64>; 2] = [
            Box::new(|| per_second(span, |first| through(&batch, first))),
            Box::new(|| per_second(span, |first| by_hand.through(first))),
        ];
        let results = take_turns(rounds, &mut sides);
        let peer = "a bounded channel, a reply channel per operation";
        let goal = Some(Goal::AtLeast(1.5));
        let (ours, theirs) = (&results[0], &results[1]);
        table.add(Row::compared(
            &what,
            Unit::PerSecond,
            ours,
            peer,
            theirs,
            goal,
        ));
    }
    Ok(())
}

/// Operations per second of all submitters together, each of which sends windows until
/// the time is over.
fn per_second(span: Duration, window: impl Fn(u64) + Sync) -> f64 {
    let start = Instant::now();
    let submitter = || {
        let mut sent = 0;
        while start.elapsed() < span {
            window(sent);
            sent += WINDOW;
        }
        sent
    };
    let sent: u64 = thread::scope(|scope| {
        let submitters: Vec<_> = (0..SUBMITTERS).map(|_| scope.spawn(submitter)).collect();
        submitters
            .into_iter()
            .map(|one| one.join().expect("no panic"))
            .sum()
    });
    sent as f64 / start.elapsed().as_secs_f64()
}

fn through(batch: &Batch<Nowhere>, first: u64) {
    let submit = |number| {
        let operation = Nothing {
            number,
            envelope: Envelope::default(),
        };
        batch.submit(operation).expect("room in time")
    };
    let tickets: Vec<_> = (first..first + WINDOW).map(submit).collect();
    for (number, ticket) in (first..).zip(tickets) {
        let reply = ticket.wait().into_result().expect("nothing can fail");
        assert_eq!(reply, number);
    }
}

type Asked = (Nothing, Sender<Result<u64, Infallible>>);

struct ByHand(Sender<Asked>);

impl ByHand {
    /// Its threads end when it is dropped.
    fn start(group: usize) -> Self {
        let (sender, receiver) = bounded::<Asked>(QUEUE);
        for _ in 0..WORKERS {
            let receiver = receiver.clone();
            thread::spawn(move || {
                let mut asked = Vec::with_capacity(group);
                while let Ok(first) = receiver.recv() {
                    asked.push(first);
                    asked.extend(receiver.try_iter().take(group - 1));
                    for (operation, reply) in asked.drain(..) {
                        // Nobody may be listening any more.
                        let _ = reply.send(Ok(black_box(operation.number)));
                    }
                }
            });
        }
        Self(sender)
    }

    fn through(&self, first: u64) {
        let submit = |number| {
            let (sender, receiver) = bounded(1);
            let operation = Nothing {
                number,
                envelope: Envelope::default(),
            };
            self.0
                .send((operation, sender))
                .expect("the workers are there");
            receiver
        };
        let replies: Vec<_> = (first..first + WINDOW).map(submit).collect();
        for (number, reply) in (first..).zip(replies) {
            let Ok(reply) = reply.recv().expect("answered");
            assert_eq!(reply, number);
        }
    }
}
