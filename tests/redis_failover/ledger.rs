//! The ledger: each operation enters a key of its own by `INCR`, once more at each execution,
//! and afterwards the servers have to agree with what the callers were told.
//!
//! What is asked of them: no key is there more than once; what was refused or not executed is
//! absent; what is unknown is there or not; what was done is there.
//!
//! The last has one exception, which is Redis' own: it acknowledges a write before a replica
//! has it, so a primary that dies can take acknowledged writes with it. The tests bound this
//! by `min-replicas-to-write 1` and `min-replicas-max-lag 1` on the primary that they hurt: a
//! primary that has not heard of its replica for a second takes no more writes. So what was
//! done and is missing has to have been acknowledged at most [`MOST_LAG`] before the fault, and
//! not after it, and how many these are is printed: mostly none, once in a while one or two.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{Batch, Operation, Outcome, Pool, Redis, RedisCommand};
use testbed::Pace;

/// The most operations of a test.
const MOST: usize = 400_000;
/// `min-replicas-max-lag` and the second within which a replica reports, in microseconds.
const MOST_LAG: u64 = 2_000_000;
/// How much later than the fault a caller may hear of what was done before, in microseconds.
const SLACK: u64 = 200_000;
/// So many threads execute.
const EXECUTORS: usize = 4;
/// What a single operation may take.
const DEADLINE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    /// When, in microseconds after the start.
    Done(u64),
    Rejected,
    NotExecuted,
    Unknown,
}

/// How a key is named by its number.
pub(crate) type Name<'a> = &'a (dyn Fn(usize) -> String + Sync);

/// What became of each key, by the callers.
pub(crate) struct Ledger {
    start: Instant,
    pace: Pace,
    fates: Mutex<Vec<Fate>>,
    twice: AtomicUsize,
    errors: Mutex<BTreeMap<String, usize>>,
    stop: AtomicBool,
    /// When the fault came, in microseconds after the start. What began before does not count
    /// as a recovery.
    fault: AtomicU64,
    executed_again: AtomicU64,
    batched_again: AtomicU64,
}

/// How often each fate.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) done: usize,
    pub(crate) rejected: usize,
    pub(crate) not_executed: usize,
    pub(crate) unknown: usize,
    /// Of the unknown ones, those that are there.
    pub(crate) unknown_there: usize,
    /// Acknowledged by Redis, and lost by it.
    pub(crate) lost_by_redis: usize,
}

impl Ledger {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            pace: Pace::start(),
            fates: Mutex::default(),
            twice: AtomicUsize::new(0),
            errors: Mutex::default(),
            stop: AtomicBool::new(false),
            fault: AtomicU64::new(u64::MAX),
            executed_again: AtomicU64::new(u64::MAX),
            batched_again: AtomicU64::new(u64::MAX),
        })
    }

    /// Loads pool and batch while this runs, and waits until everything has its outcome.
    pub(crate) fn load<R>(
        self: &Arc<Self>,
        batch: &Batch<Redis>,
        executed: Name<'_>,
        batched: Name<'_>,
        meanwhile: impl FnOnce() -> R,
    ) -> R {
        let pools = batch.pools();
        let result = thread::scope(|scope| {
            for _ in 0..EXECUTORS {
                scope.spawn(|| self.execute(&pools[0], executed));
            }
            scope.spawn(|| self.feed(batch, batched));
            let _stop = Stop(&self.stop);
            meanwhile()
        });
        let limit = Instant::now() + Duration::from_secs(20);
        while self.fates().contains(&Fate::Open) {
            assert!(Instant::now() < limit, "everything has its outcome");
            thread::sleep(Duration::from_millis(10));
        }
        result
    }

    fn execute(&self, pool: &Pool<Redis>, name: Name<'_>) {
        while let Some(key) = self.another() {
            let began = self.now();
            let result = pool.execute(entry(name(key)).deadline(DEADLINE));
            self.enter(key, began, &result.into(), &self.executed_again);
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn feed(self: &Arc<Self>, batch: &Batch<Redis>, name: Name<'_>) {
        while let Some(key) = self.another() {
            let began = self.now();
            let book = Arc::clone(self);
            let ticket = batch.submit(entry(name(key)).deadline(2 * DEADLINE));
            ticket.expect("there is room").on_outcome(move |outcome| {
                book.enter(key, began, &outcome, &book.batched_again);
            });
            if key % 10 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }

    fn another(&self) -> Option<usize> {
        if self.stop.load(SeqCst) {
            return None;
        }
        let mut fates = self.fates();
        let key = fates.len();
        (key < MOST).then(|| {
            fates.push(Fate::Open);
            key
        })
    }

    fn enter<R>(&self, key: usize, began: u64, outcome: &Outcome<R>, again: &AtomicU64) {
        let now = self.now();
        let (fate, name) = match outcome {
            Outcome::Done(_) => (Fate::Done(now), "done"),
            Outcome::Rejected(_) => (Fate::Rejected, "rejected"),
            Outcome::NotExecuted(_) => (Fate::NotExecuted, "not executed"),
            Outcome::Unknown(_) => (Fate::Unknown, "unknown"),
        };
        if let Some(error) = outcome.error() {
            // Without what differs from one to the next.
            let text = error.to_string();
            let text = text.split(|c: char| c == ';' || c == '[' || c.is_ascii_digit());
            let what = format!("{name}: {}", text.take(1).collect::<String>());
            *self.errors.lock().unwrap().entry(what).or_default() += 1;
        } else if began >= self.fault.load(SeqCst) {
            again.fetch_min(now, SeqCst);
        }
        if std::mem::replace(&mut self.fates()[key], fate) != Fate::Open {
            self.twice.fetch_add(1, SeqCst);
        }
    }

    /// From now on a write that is done is one after the fault.
    pub(crate) fn fault(&self) {
        self.fault.store(self.now(), SeqCst);
    }

    /// Waits until a write that began after the fault was done, by an executor and in the
    /// batch; and how long after this moment the first of each was, as a busy machine has it.
    pub(crate) fn gaps_after(&self, moment: Instant) -> (Duration, Duration) {
        let limit = Instant::now() + Duration::from_secs(15);
        let gap = |again: &AtomicU64| {
            while again.load(SeqCst) == u64::MAX {
                assert!(Instant::now() < limit, "writes go again: {}", self.errors());
                thread::sleep(Duration::from_millis(1));
            }
            let again = self.start + Duration::from_micros(again.load(SeqCst));
            self.pace.between(moment, again)
        };
        (gap(&self.executed_again), gap(&self.batched_again))
    }

    /// Compares what callers were told with what is there, key by key.
    pub(crate) fn agrees_with(&self, there: &HashMap<usize, u64>) -> Counts {
        assert_eq!(self.twice.load(SeqCst), 0, "one outcome each");
        let fates = self.fates();
        let mut counts = Counts::default();
        let fault = self.fault.load(SeqCst);
        let may_be_lost = fault.saturating_sub(MOST_LAG)..fault.saturating_add(SLACK);
        for (key, fate) in fates.iter().enumerate() {
            let times = there.get(&key).copied().unwrap_or_default();
            assert!(times <= 1, "key {key} is there {times} times: {fate:?}");
            let right = match fate {
                Fate::Done(at) if times == 0 => {
                    counts.lost_by_redis += 1;
                    may_be_lost.contains(at)
                }
                Fate::Rejected | Fate::NotExecuted => times == 0,
                Fate::Done(_) | Fate::Unknown => true,
                Fate::Open => false,
            };
            assert!(right, "key {key} is there {times} times: {fate:?}");
            match fate {
                Fate::Done(_) => counts.done += 1,
                Fate::Rejected => counts.rejected += 1,
                Fate::NotExecuted => counts.not_executed += 1,
                _ => {
                    counts.unknown += 1;
                    counts.unknown_there += usize::from(times == 1);
                }
            }
        }
        let strange = there.keys().find(|key| **key >= fates.len());
        assert_eq!(strange, None, "nobody entered it");
        counts
    }

    /// How many of each error.
    pub(crate) fn errors(&self) -> String {
        let errors = self.errors.lock().unwrap();
        let parts = errors.iter().map(|(what, count)| format!("{count} {what}"));
        parts.collect::<Vec<_>>().join("\n  ")
    }

    fn fates(&self) -> std::sync::MutexGuard<'_, Vec<Fate>> {
        self.fates.lock().unwrap()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap()
    }
}

/// Ends the load, however it comes to that.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn entry(name: String) -> RedisCommand {
    RedisCommand::new("INCR").arg(name)
}

/// How often each key was entered at these servers; the number ends a key's name.
pub(crate) fn read<'a>(
    servers: impl IntoIterator<Item = &'a testbed::Redis>,
) -> HashMap<usize, u64> {
    let mut there = HashMap::new();
    for server in servers {
        let client = redis::Client::open(server.url()).unwrap();
        let mut conn = client.get_connection().unwrap();
        let names: Vec<String> = redis::cmd("KEYS").arg("*:*").query(&mut conn).unwrap();
        for names in names.chunks(1000) {
            let mut pipe = redis::pipe();
            for name in names {
                pipe.get(name);
            }
            let counts: Vec<u64> = pipe.query(&mut conn).unwrap();
            for (name, count) in names.iter().zip(counts) {
                let key = name.rsplit_once(':').unwrap().1.parse().unwrap();
                *there.entry(key).or_default() += count;
            }
        }
    }
    there
}
