//! A queue of operations that many processes share, on a Redis stream.
//!
//! Any number of processes [`submit`](SharedQueue::submit), and any number
//! [`work`](SharedQueue::work): each takes entries of the stream as a consumer of one group,
//! executes them by a [`Batch`] of its own, and settles each by its outcome. What a process that
//! dies has taken is taken over by another one.
//!
//! ```no_run
//! # #[cfg(feature = "postgres")]
//! # fn f(redis: millpond::Pool<millpond::Redis>, postgres: millpond::Pool<millpond::Postgres>) -> Result<(), millpond::Error> {
//! use std::time::Duration;
//! use millpond::shared_queue::SharedQueue;
//! use millpond::{Batch, Operation, Postgres, Sql};
//!
//! let queue = SharedQueue::<Postgres>::builder(redis, "orders").build()?;
//!
//! // Here, or in another process:
//! let order = Sql::new("INSERT INTO orders (id, item) VALUES ($1, $2) ON CONFLICT DO NOTHING")
//!     .bind(7)
//!     .bind("lamp")
//!     .id("order 7")          // submitted twice, it is queued once
//!     .idempotent(true);      // executed twice, it does the same as once
//! queue.submit(order)?.wait().into_result()?; // Redis has it
//!
//! // In each process that works:
//! let worker = queue.work(&Batch::new(postgres)?)?;
//! // ...
//! println!("{}", worker.stop(Duration::from_secs(10)));
//! # Ok(()) }
//! ```
//!
//! # What is promised
//!
//! 1. An operation whose ticket says [`Done`](crate::Outcome::Done) is in the stream. It stays
//!    there until it was executed, or refused by its server, or given up, which puts it into the
//!    *dead letters*; never is it dropped, whichever processes die when.
//! 2. *At least once*: an operation is executed again if the process that executed it died, or
//!    lost its connection, before it had settled it. One that is
//!    [`idempotent`](crate::Operation::idempotent) is none the worse for it; any other may have
//!    taken effect twice, which [`Depth::perhaps_twice`] counts. With
//!    [`Delivery::AtMostOnce`] such a one becomes a dead letter instead, for somebody to look at.
//! 3. One with an [`id`](crate::Operation::id) that was submitted already is not queued again, for
//!    as long as [`remember`](SharedQueueBuilder::remember) says.
//! 4. The stream never holds more than [`max_length`](SharedQueueBuilder::max_length) entries:
//!    submitting fails as overloaded instead.
//!
//! # What is not
//!
//! - All of this is as durable as the Redis is. Without `appendonly yes` a crash of the server
//!   loses what came after its last snapshot; a failover to a replica loses what was not
//!   replicated yet.
//! - There is no order between workers, and priorities and ordering keys count within the batch
//!   of one worker only.
//! - A worker whose process is frozen for longer than
//!   [`claim_after`](SharedQueueBuilder::claim_after) counts as dead. When it goes on, what it
//!   had taken is executed twice.
//! - An operation's deadline counts from its submission, by the clock of the Redis server. One
//!   that is over before its turn came is not executed, and becomes a dead letter.
//!
//! # The keys
//!
//! `millpond:{NAME}` is the stream, `millpond:{NAME}:dead` the stream of dead letters, and
//! `millpond:{NAME}:seen:ID` remembers ids, `millpond:{NAME}:twice` counts; in a Cluster all are in one slot. An entry is taken
//! out of the stream when it is settled, so the stream's length is what is left to do. Operations
//! stand there whole, as JSON, values included: who can read the Redis can read them.
//!
//! Each step on the stream that takes more than one command is a script, and so is done wholly or
//! not at all.

mod board;
mod counters;
mod letters;
mod settings;
mod settler;
mod stream;
mod worker;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

pub use self::counters::WorkerMetrics;
pub use self::letters::DeadLetter;
pub use self::settings::{Delivery, SharedQueueBuilder};
pub use self::worker::Worker;

use self::settings::Settings;
use self::stream::Stream;
use crate::backend::Backend;
use crate::backend::redis::{Redis, Reply};
use crate::batch::{Batch, BatchMetrics, Refused, Ticket};
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::Operation as _;
use crate::pool::Pool;

/// A queue that many processes share. Handles are cheap to clone. See the [module](self).
pub struct SharedQueue<B: Backend> {
    inner: Arc<Inner>,
    operations: PhantomData<fn(B::Operation)>,
}

struct Inner {
    settings: Settings,
    stream: Stream,
    /// Takes the appends of this process together.
    appends: Batch<Redis>,
}

/// What [`SharedQueue::submit`] gives: where to hear that the queue has the operation, or the
/// operation again.
pub type Queued<B> = Result<Ticket<Reply>, Refused<<B as Backend>::Operation>>;

/// What is in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Depth {
    /// Operations that are not settled.
    pub entries: u64,
    /// Those of them that a worker has taken.
    pub taken: u64,
    /// Dead letters.
    pub dead: u64,
    /// Operations that were begun again in the queue's life, by whichever worker, and that may
    /// have taken effect twice, since they are not idempotent.
    pub perhaps_twice: u64,
}

impl<B: Backend> Clone for SharedQueue<B> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            operations: PhantomData,
        }
    }
}

impl<B: Backend> fmt::Debug for SharedQueue<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedQueue")
            .field("stream", &self.inner.stream.key())
            .field("appends", &self.inner.appends)
            .finish_non_exhaustive()
    }
}

impl<B: Backend> SharedQueue<B> {
    /// Settings for a queue of this name on the Redis of this pool, to begin with the default
    /// ones. A process that works takes two of the pool's connections for that.
    pub fn builder(redis: Pool<Redis>, name: impl Into<String>) -> SharedQueueBuilder<B> {
        SharedQueueBuilder::new(redis, name.into())
    }

    fn open(settings: Settings, redis: Pool<Redis>) -> Result<Self, Error> {
        let stream = Stream::new(redis.clone(), &settings);
        stream.create()?;
        let appends = Batch::builder(redis)
            .name(format!("queue {}", settings.name))
            .size(1_000)
            .max_operations(10_000)
            .workers(2)
            .quarantine(0)
            .build()?;
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                stream,
                appends,
            }),
            operations: PhantomData,
        })
    }

    /// Puts an operation into the queue. The ticket tells when Redis has it, with the id of the
    /// entry as the reply; what becomes of the operation itself is seen by the worker that
    /// executes it.
    ///
    /// If the outcome of the ticket is [`Unknown`](crate::Outcome::Unknown), the operation may be
    /// queued or not. One with an [`id`](crate::Operation::id) is then tried again, and can be
    /// submitted again.
    ///
    /// # Errors
    /// The operation again, with the reason: it is invalid, or this process submits faster than
    /// Redis takes it. That the queue is full ([`Overloaded`](ErrorKind::Overloaded)) is the
    /// outcome of the ticket, after some attempts.
    pub fn submit(&self, operation: B::Operation) -> Queued<B> {
        let text = operation.validate().and_then(|()| {
            serde_json::to_string(&operation).map_err(|error| {
                let message = format!("the operation cannot be written as JSON: {error}");
                Error::new(ErrorKind::InvalidOperation, Phase::Queue, message)
            })
        });
        let text = match text {
            Ok(text) => text,
            Err(error) => return Err(Refused::new(operation, error)),
        };
        let append = self.inner.stream.append(&text, operation.envelope());
        match self.inner.appends.submit(append) {
            Ok(ticket) => Ok(ticket),
            Err(refused) => Err(Refused::new(operation, refused.into())),
        }
    }

    /// The same for many; what became of each, in the same order.
    pub fn submit_all(&self, operations: impl IntoIterator<Item = B::Operation>) -> Vec<Queued<B>> {
        let submit = |operation| self.submit(operation);
        operations.into_iter().map(submit).collect()
    }

    /// Begins to execute what is queued, by this batch, until the [`Worker`] is stopped or
    /// dropped. A batch of its own, whose settings say in what groups, how often and for how long
    /// operations are tried here.
    ///
    /// # Errors
    /// [`ResourceLimit`](ErrorKind::ResourceLimit) if its threads cannot be started, and what
    /// befell the connection to Redis.
    pub fn work(&self, batch: &Batch<B>) -> Result<Worker, Error> {
        worker::start::<B>(Arc::clone(&self.inner), batch.clone())
    }

    /// How much there is to do.
    ///
    /// # Errors
    /// What befell the connection to Redis.
    pub fn depth(&self) -> Result<Depth, Error> {
        self.inner.stream.depth()
    }

    /// The oldest dead letters, at most so many. They stay.
    ///
    /// ```no_run
    /// # fn f<B: millpond::backend::Backend>(queue: millpond::shared_queue::SharedQueue<B>) -> Result<(), millpond::Error> {
    /// for letter in queue.dead_letters(100)? {
    ///     println!("{}: {}", letter.entry, letter.why);
    ///     if let Some(operation) = letter.operation {
    ///         // ... after somebody put things right:
    ///         queue.submit(operation)?.wait().into_result()?;
    ///         queue.forget(&letter.id)?;
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What befell the connection to Redis.
    pub fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter<B::Operation>>, Error> {
        let entries = self.inner.stream.read_dead(most)?;
        Ok(entries.into_iter().map(DeadLetter::read).collect())
    }

    /// Takes this dead letter away; whether it was there.
    ///
    /// # Errors
    /// What befell the connection to Redis.
    pub fn forget(&self, id: &str) -> Result<bool, Error> {
        self.inner.stream.forget_dead(id)
    }

    /// What this process submitted so far: how often, in what groups, with what outcome.
    pub fn appended(&self) -> BatchMetrics {
        self.inner.appends.metrics()
    }
}
