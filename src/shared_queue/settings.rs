//! A queue's settings.

use std::marker::PhantomData;
use std::time::Duration;

use super::SharedQueue;
use crate::backend::Backend;
use crate::backend::redis::Redis;
use crate::error::{Error, ErrorKind, Phase};
use crate::pool::Pool;

/// The longest name of a queue.
const LONGEST_NAME: usize = 128;

/// What is done with an operation of which nobody knows whether it took effect, and that is not
/// [`idempotent`](crate::Operation::idempotent).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// It is executed again.
    #[default]
    AtLeastOnce,
    /// It becomes a dead letter.
    AtMostOnce,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) group: String,
    pub(super) max_length: u64,
    pub(super) claim_after: Duration,
    pub(super) max_deliveries: u64,
    pub(super) max_dead: u64,
    pub(super) remember: Duration,
    pub(super) prefetch: usize,
    pub(super) delivery: Delivery,
}

/// Settings for a [`SharedQueue`]. Processes that share a queue should have the same.
#[derive(Clone, Debug)]
#[must_use = "settings do nothing before `build`"]
pub struct SharedQueueBuilder<B: Backend> {
    settings: Settings,
    redis: Pool<Redis>,
    operations: PhantomData<fn(B::Operation)>,
}

impl<B: Backend> SharedQueueBuilder<B> {
    pub(super) fn new(redis: Pool<Redis>, name: String) -> Self {
        Self {
            settings: Settings {
                name,
                group: "workers".into(),
                max_length: 1_000_000,
                claim_after: Duration::from_secs(30),
                max_deliveries: 5,
                max_dead: 100_000,
                remember: Duration::from_secs(3600),
                prefetch: 2_000,
                delivery: Delivery::AtLeastOnce,
            },
            redis,
            operations: PhantomData,
        }
    }

    /// The name of the consumer group; `workers` by default.
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.settings.group = name.into();
        self
    }

    /// How many entries there may be; a million by default. With more, submitting fails as
    /// [`Overloaded`](ErrorKind::Overloaded).
    pub fn max_length(mut self, entries: u64) -> Self {
        self.settings.max_length = entries;
        self
    }

    /// How long a worker may give no sign of life before others take over what it has taken; 30
    /// seconds by default, at least 100 milliseconds. A worker that is alive says so three times
    /// as often.
    pub fn claim_after(mut self, idle: Duration) -> Self {
        self.settings.claim_after = idle.max(Duration::from_millis(100));
        self
    }

    /// How often an operation may be begun before it counts as one that kills its workers, and
    /// becomes a dead letter; 5 by default, at least one. Attempts that certainly did nothing,
    /// because the server was away, do not count.
    pub fn max_deliveries(mut self, times: u64) -> Self {
        self.settings.max_deliveries = times.max(1);
        self
    }

    /// About how many dead letters are kept; 100,000 by default. The oldest give way.
    pub fn max_dead(mut self, letters: u64) -> Self {
        self.settings.max_dead = letters;
        self
    }

    /// For how long the id of an operation is remembered, so that it is not queued twice; an hour
    /// by default, at least a second.
    pub fn remember(mut self, time: Duration) -> Self {
        self.settings.remember = time.max(Duration::from_secs(1));
        self
    }

    /// How many operations a worker has taken at most at any time; 2,000 by default, at least
    /// one. So many are executed twice at most if its process dies.
    pub fn prefetch(mut self, operations: usize) -> Self {
        self.settings.prefetch = operations.max(1);
        self
    }

    /// What is done with an operation of which nobody knows whether it took effect.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.settings.delivery = delivery;
        self
    }

    /// The queue. Makes the stream and the group, unless they are there.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) for a name that is empty, has braces or spaces,
    /// or is longer than 128 bytes, and what befell the connection to Redis.
    pub fn build(self) -> Result<SharedQueue<B>, Error> {
        for (what, name) in [
            ("queue", &self.settings.name),
            ("group", &self.settings.group),
        ] {
            let fits = |letter: char| letter.is_alphanumeric() || "._:-".contains(letter);
            if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(fits) {
                let message = format!(
                    "the name of the {what} must be 1 to {LONGEST_NAME} letters, digits or any of \
                     ._:- and is {name:?}"
                );
                let kind = ErrorKind::Configuration;
                return Err(Error::new(kind, Phase::Configure, message));
            }
        }
        SharedQueue::open(self.settings, self.redis)
    }
}
