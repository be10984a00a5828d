//! Writes one by one and by a batch, and reads, each noted with its moment.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{Batch, MongoDb, MongoOperation, Operation as _, Pool};
use mongodb::bson::doc;

use crate::book::Book;
use crate::{COUNTED, LOOSE, NAMED};

/// What an operation may take: longer than an election.
const LIMIT: Duration = Duration::from_secs(15);

/// When something succeeded.
#[derive(Default)]
pub(crate) struct Moments(Mutex<Vec<Instant>>);

impl Moments {
    fn note(&self) {
        let mut moments = self.0.lock().expect("no poison");
        moments.push(Instant::now());
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().expect("no poison").len()
    }

    pub(crate) fn first_after(&self, moment: Instant) -> Instant {
        let moments = self.0.lock().expect("no poison");
        let after = moments.iter().filter(|other| **other >= moment);
        *after.min().expect("it succeeded again")
    }

    /// The longest time without success between these moments.
    pub(crate) fn longest_pause(&self, from: Instant, to: Instant) -> Duration {
        let mut moments = self.0.lock().expect("no poison").clone();
        moments.retain(|moment| (from..=to).contains(moment));
        moments.extend([from, to]);
        moments.sort_unstable();
        let pauses = moments.windows(2).map(|pair| pair[1] - pair[0]);
        pauses.max().unwrap_or_default()
    }
}

/// Ends the load, also when a test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

pub(crate) fn batch_of(pool: &Pool<MongoDb>) -> Batch<MongoDb> {
    let batch = Batch::builder(pool.clone()).size(50).build();
    batch.expect("starts")
}

/// Works while `test` runs; when writes and reads succeeded.
pub(crate) fn while_working(
    writer: &Pool<MongoDb>,
    reader: &Pool<MongoDb>,
    book: &Book,
    test: impl FnOnce(),
) -> (Moments, Moments) {
    let batch = batch_of(writer);
    let (writes, reads) = (Moments::default(), Moments::default());
    let over = AtomicBool::new(false);
    let until_over = |work: &dyn Fn()| {
        while !over.load(SeqCst) {
            work();
            thread::sleep(Duration::from_millis(1));
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| until_over(&|| execute(writer, book, &writes)));
        }
        scope.spawn(|| until_over(&|| submit(&batch, book, &writes)));
        for _ in 0..2 {
            scope.spawn(|| until_over(&|| read(reader, &reads)));
        }
        let _end = End(&over);
        test();
    });
    let metrics = batch.close(LIMIT);
    assert_eq!((metrics.queued, metrics.running), (0, 0), "{metrics}");
    assert_eq!(metrics.rejected, 0, "nothing is to be refused: {metrics}");
    (writes, reads)
}

fn write(key: i32) -> MongoOperation {
    let once = doc! { "$inc": { "times": 1 } };
    let same = doc! { "$set": { "times": 1 } };
    let number = testbed::number(key);
    let operation = match key % 4 {
        0 => MongoOperation::insert_one(NAMED, doc! { "_id": number }),
        1 => MongoOperation::insert_one(LOOSE, doc! { "key": number }),
        2 => MongoOperation::update_one(COUNTED, doc! { "_id": number }, once).upsert(true),
        _ => MongoOperation::update_one(COUNTED, doc! { "_id": number }, same)
            .upsert(true)
            .idempotent(true),
    };
    operation.deadline(LIMIT)
}

fn execute(pool: &Pool<MongoDb>, book: &Book, writes: &Moments) {
    let key = book.open();
    let result = pool.execute(write(key));
    if result.is_ok() {
        writes.note();
    }
    book.enter(key, result.err().as_ref());
}

fn submit(batch: &Batch<MongoDb>, book: &Book, writes: &Moments) {
    let submit = |_| {
        let key = book.open();
        (key, batch.submit(write(key)).expect("there is room"))
    };
    let tickets: Vec<_> = (0..100).map(submit).collect();
    for (key, ticket) in tickets {
        let outcome = ticket.wait();
        if outcome.is_done() {
            writes.note();
        }
        book.enter(key, outcome.error());
    }
}

fn read(pool: &Pool<MongoDb>, reads: &Moments) {
    let find = MongoOperation::find_one(NAMED, doc! {}).deadline(Duration::from_secs(2));
    pool.execute(find).expect("reads go on");
    reads.note();
}
