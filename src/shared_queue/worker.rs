//! A process's part in the work: one thread takes entries and hands them to the batch, another
//! settles what has its outcome and says that this worker is alive.
//!
//! Invariants: whatever is taken is on the board until it is settled or put back; the board is
//! never larger than `prefetch`; no lock is held while Redis or the batch is spoken to. An entry
//! that this worker loses in any way, a panic included, is still pending in Redis, where another
//! worker takes it over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Sender, unbounded};

use super::Inner;
use super::board::{Board, Taken};
use super::counters::{Counters, WorkerMetrics};
use super::settings::Delivery;
use super::settler::{self, Settled, Verdict};
use super::stream::Entry;
use crate::backend::Backend;
use crate::batch::Batch;
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::{Operation as _, Outcome};

/// How long a read waits for the first entry, and so how late a stop may be noticed.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long to pause after Redis or the batch refused something, doubled each time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long the drop of a worker waits for what is being executed.
const STOP_ON_DROP: Duration = Duration::from_secs(5);
/// Consumers without entries that have been silent for so many times `claim_after` are forgotten.
const FORGET_AFTER: u32 = 20;

/// Executes what is queued, until it is stopped or dropped; see
/// [`SharedQueue::work`](super::SharedQueue::work). Dropping it waits for up to five seconds for
/// what is being executed.
#[must_use = "it stops when it is dropped"]
pub struct Worker {
    inner: Arc<Inner>,
    board: Arc<Board>,
    reader: Option<JoinHandle<()>>,
    settler: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("consumer", &self.board.consumer)
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}

pub(super) fn start<B: Backend>(inner: Arc<Inner>, batch: Batch<B>) -> Result<Worker, Error> {
    inner
        .stream
        .retire_idle(inner.settings.claim_after * FORGET_AFTER)?;
    let board = Arc::new(Board::new());
    let (send, settled) = unbounded();
    let name = format!("queue {}", inner.settings.name);
    let spawn = |what: &str, run: Box<dyn FnOnce() + Send>| {
        let what = format!("{name} {what}");
        thread::Builder::new()
            .name(what.clone())
            .spawn(move || {
                if catch_unwind(AssertUnwindSafe(run)).is_err() {
                    log::error!("millpond: {what}: a panic ended it; others take its work over");
                }
            })
            .map_err(|error| {
                let message = format!("the threads of {name} cannot be started: {error}");
                Error::new(ErrorKind::ResourceLimit, Phase::Configure, message)
            })
    };
    let mut worker = Worker {
        inner: Arc::clone(&inner),
        board: Arc::clone(&board),
        reader: None,
        settler: None,
    };
    let (for_settler, its_board) = (Arc::clone(&inner), Arc::clone(&board));
    let settle = move || settler::run(&for_settler, &its_board, &settled);
    worker.settler = Some(spawn("settler", Box::new(settle))?);
    let reader = Reader {
        inner,
        board,
        batch,
        settled: send,
        clock_offset: 0,
    };
    worker.reader = Some(spawn("reader", Box::new(move || reader.run()))?);
    Ok(worker)
}

impl Worker {
    /// Takes nothing more, waits for up to `limit` until everything that was taken is settled, and
    /// leaves the rest to others. While Redis does not answer, it takes as long as its read timeout
    /// (`REDIS_READ_TIMEOUT`) in addition.
    pub fn stop(mut self, limit: Duration) -> WorkerMetrics {
        self.end(limit);
        self.metrics()
    }

    /// What it did so far.
    pub fn metrics(&self) -> WorkerMetrics {
        self.board.counters.read()
    }

    fn end(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.board.stop.store(true, SeqCst);
        if let Some(reader) = self.reader.take() {
            // Its panic was caught, and told.
            let _ = reader.join();
            self.board.wait_until_empty(deadline);
        }
        // With the callbacks' and the reader's ends of the channel gone, or the board given up,
        // it ends.
        let left = self.board.give_up();
        if let Some(settler) = self.settler.take() {
            let _ = settler.join();
        }
        if !left && let Err(error) = self.inner.stream.retire(&self.board.consumer) {
            log::debug!("millpond: a worker could not say that it is leaving: {error}");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.settler.is_some() {
            self.end(STOP_ON_DROP);
        }
    }
}

/// Why an entry is given up.
type Why = (ErrorKind, String);

/// An entry that can be begun.
struct Ready<B: Backend> {
    id: String,
    operation: B::Operation,
    perhaps_twice: bool,
}

/// The thread that takes entries.
struct Reader<B: Backend> {
    inner: Arc<Inner>,
    board: Arc<Board>,
    batch: Batch<B>,
    settled: Sender<Settled>,
    /// How far the server's clock is ahead of ours, in milliseconds.
    clock_offset: i64,
}

impl<B: Backend> Reader<B> {
    fn run(mut self) {
        let settings = &self.inner.settings;
        let (claim_after, prefetch) = (settings.claim_after, settings.prefetch);
        let mut look_again = Instant::now();
        let (mut pause, mut failing) = (PAUSES.0, PAUSES.0);
        while !self.board.is_stopped() {
            // Else the whole stream would be taken and put back again and again.
            if self.board.is_failing.load(SeqCst) {
                self.pause(&mut failing);
            } else {
                failing = PAUSES.0;
            }
            let room = self.board.room(prefetch, PATIENCE);
            if room == 0 {
                continue;
            }
            let taken = if Instant::now() >= look_again {
                look_again = Instant::now() + claim_after / 2;
                self.look_around(room)
            } else {
                let patience = PATIENCE.min(claim_after / 2);
                self.inner.stream.read(&self.board.consumer, room, patience)
            };
            match taken {
                Ok(entries) => {
                    pause = PAUSES.0;
                    // As many again may be waiting to be taken over.
                    if entries.iter().any(|entry| entry.deliveries > 1) {
                        look_again = Instant::now();
                    }
                    self.begin(entries);
                }
                Err(error) => {
                    log::warn!(
                        "millpond: the queue {} cannot be read: {error}",
                        self.inner.settings.name
                    );
                    if error.kind() == ErrorKind::NotFound {
                        // The server lost the group, and the stream with it.
                        let _ = self.inner.stream.create();
                    }
                    self.pause(&mut pause);
                }
            }
        }
    }

    /// Looks for entries of workers that died, and at the server's clock.
    fn look_around(&mut self, room: usize) -> Result<Vec<Entry>, Error> {
        let stream = &self.inner.stream;
        self.clock_offset = stream.clock_offset()?;
        let idle = self.inner.settings.claim_after;
        let entries = stream.take_over(&self.board.consumer, idle, room)?;
        Counters::add(&self.board.counters.taken_over, entries.len());
        Ok(entries)
    }

    fn pause(&self, pause: &mut Duration) {
        let end = Instant::now() + *pause;
        while !self.board.is_stopped() && Instant::now() < end {
            thread::sleep(PAUSES.0.min(*pause));
        }
        *pause = (*pause * 2).min(PAUSES.1);
    }

    /// Hands entries to the batch.
    fn begin(&self, entries: Vec<Entry>) {
        let counters = &self.board.counters;
        Counters::add(&counters.taken, entries.len());
        let prepare = |entry| self.prepare(entry);
        let prepared: Vec<_> = entries.into_iter().filter_map(prepare).collect();
        let twice = prepared.iter().filter(|ready| ready.perhaps_twice).count();
        if twice > 0 {
            // Before they are begun: this process may die any time.
            if let Err(error) = self.inner.stream.note_twice(twice) {
                log::warn!("millpond: {twice} operations begun again are not counted: {error}");
            }
            Counters::add(&counters.perhaps_twice, twice);
        }
        for ready in prepared {
            self.submit(&ready.id, ready.operation);
        }
    }

    /// Reads an entry and puts it on the board, unless it is given up.
    fn prepare(&self, entry: Entry) -> Option<Ready<B>> {
        let appended = entry.appended();
        let mut taken = Taken {
            operation: entry.operation,
            deliveries: entry.deliveries,
            may_repeat: false,
            has_deadline: false,
        };
        let read = serde_json::from_slice::<B::Operation>(&taken.operation);
        let ready = read
            .map_err(|error| {
                // The error's text may have a value in it.
                let why = format!(
                    "it is no operation of {}: line {}, column {} of it cannot be read",
                    B::NAME,
                    error.line(),
                    error.column()
                );
                (ErrorKind::InvalidOperation, why)
            })
            .and_then(|operation| {
                taken.may_repeat = operation.may_repeat();
                self.may_begin(&taken)?;
                taken.has_deadline = operation.envelope().deadline().is_some();
                self.in_time(operation, appended)
            });
        let perhaps_twice = taken.deliveries > 1 && !taken.may_repeat;
        self.board.put(&entry.id, taken);
        match ready {
            Ok(operation) => Some(Ready {
                id: entry.id,
                operation,
                perhaps_twice,
            }),
            Err((kind, why)) => {
                self.send(&entry.id, Verdict::Dead(kind, why));
                None
            }
        }
    }

    /// The operation with what is left of its deadline.
    fn in_time(&self, operation: B::Operation, appended: Duration) -> Result<B::Operation, Why> {
        let Some(limit) = operation.envelope().deadline() else {
            return Ok(operation);
        };
        let left = limit.saturating_sub(self.age(appended));
        if left.is_zero() {
            let why = "its deadline was over before its turn came";
            return Err((ErrorKind::DeadlineExceeded, why.to_owned()));
        }
        Ok(operation.deadline(left))
    }

    /// Whether an entry that may have been taken before is begun again.
    fn may_begin(&self, taken: &Taken) -> Result<(), Why> {
        let settings = &self.inner.settings;
        if taken.deliveries > settings.max_deliveries {
            let why = format!(
                "it was begun {} times and never settled: it may be what ends its workers \
                 (max_deliveries)",
                taken.deliveries - 1
            );
            return Err((ErrorKind::Other, why));
        }
        let once = settings.delivery == Delivery::AtMostOnce;
        if once && taken.deliveries > 1 && !taken.may_repeat {
            let why = "the worker that had begun it died, so it may have taken effect; it is not \
                       idempotent, and the queue delivers at most once";
            return Err((ErrorKind::ConnectionLost, why.to_owned()));
        }
        Ok(())
    }

    /// How old an entry is, by the server's clock.
    fn age(&self, appended: Duration) -> Duration {
        let ours = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let offset = Duration::from_millis(self.clock_offset.unsigned_abs());
        let servers = if self.clock_offset < 0 {
            ours.saturating_sub(offset)
        } else {
            ours + offset
        };
        servers.saturating_sub(appended)
    }

    fn submit(&self, id: &str, mut operation: B::Operation) {
        let mut pause = PAUSES.0;
        loop {
            let refused = match self.batch.submit(operation) {
                Ok(ticket) => {
                    let (id, settled) = (id.to_owned(), self.settled.clone());
                    ticket.on_outcome(move |outcome| {
                        // The settler may be gone: then others execute it.
                        let _ = settled.send((id, Verdict::of(&outcome)));
                    });
                    return;
                }
                Err(refused) => refused,
            };
            let (again, error) = refused.into_parts();
            if error.kind() == ErrorKind::Closed {
                log::warn!("millpond: a worker ends, as its batch is closed");
                self.board.stop.store(true, SeqCst);
            }
            let may_wait = matches!(
                error.kind(),
                ErrorKind::Overloaded | ErrorKind::ResourceLimit
            );
            if !may_wait || self.board.is_stopped() {
                let outcome = Outcome::<B::Reply>::failed(error);
                return self.send(id, Verdict::of(&outcome));
            }
            operation = again;
            self.pause(&mut pause);
        }
    }

    fn send(&self, id: &str, verdict: Verdict) {
        let _ = self.settled.send((id.to_owned(), verdict));
    }
}
