//! Operations: one unit of work for a backend, as data.
//!
//! Each backend has an operation type of its own, built by chaining and serialisable, so
//! that a file or a queue can carry it. What all have in common is the [`Envelope`]:
//! who it is, how urgent, how long it may take, whether it may run twice. The chained
//! settings of the envelope are the provided methods of [`Operation`]; bring that trait
//! into scope to use them.
//!
#![cfg_attr(feature = "postgres", doc = "```no_run")]
#![cfg_attr(not(feature = "postgres"), doc = "```text")]
//! # fn main() -> Result<(), millpond::Error> {
//! use std::time::Duration;
//! use millpond::{Operation, Pool, Postgres, PostgresConfig, Priority, Sql};
//!
//! let config = PostgresConfig::from_url("postgres://app:secret@localhost/shop")?;
//! let pool = Pool::new(Postgres::new(config)?)?;
//! let order = Sql::new("INSERT INTO orders (id, item) VALUES ($1, $2) ON CONFLICT DO NOTHING")
//!     .bind(7)
//!     .bind("lamp")
//!     .priority(Priority::High)
//!     .deadline(Duration::from_millis(300))
//!     .idempotent(true);
//! let reply = pool.execute(order)?;
//! println!("{} row", reply.affected());
//! # Ok(()) }
//! ```
//!
//! What became of an operation that was queued is an [`Outcome`].

mod envelope;
mod none;
mod outcome;

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::envelope::{Envelope, Priority};
pub use self::none::NoOperation;
pub use self::outcome::Outcome;
pub(crate) use self::outcome::OutcomeKind;
use crate::error::Error;
use crate::recovery::RetryPolicy;
use crate::security::{values_are_masked, without};

/// One unit of work for a backend. The provided methods set what all operations have in
/// common, and chain.
pub trait Operation: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What it has in common with all others.
    fn envelope(&self) -> &Envelope;

    /// The same, to change it.
    fn envelope_mut(&mut self) -> &mut Envelope;

    /// Finds out, without any I/O, whether a server could accept it at all. Called before
    /// anything is sent or queued. By default it could.
    ///
    /// # Errors
    /// [`InvalidOperation`](crate::ErrorKind::InvalidOperation), saying what is wrong.
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }

    /// About how many bytes it takes in memory, for the bound of a queue; by default
    /// those of the type itself and of the envelope.
    fn size(&self) -> usize
    where
        Self: Sized,
    {
        size_of::<Self>() + self.envelope().size()
    }

    /// Whether it is by nature one that may run twice, such as a read.
    /// [`Operation::idempotent`] overrules it.
    fn is_read(&self) -> bool {
        false
    }

    /// What it does, without any value: fit for logs and errors.
    fn statement(&self) -> Cow<'_, str>;

    /// Calls `see` with each text that it carries as a value, so that an error in which the
    /// server repeats one is told without; see [`security`](crate::security).
    fn each_value(&self, see: &mut dyn FnMut(&str)) {
        let _ = see;
    }

    /// A name for it, which errors and logs then carry.
    #[must_use]
    fn id(mut self, id: impl Into<String>) -> Self
    where
        Self: Sized,
    {
        self.envelope_mut().set_id(id.into());
        self
    }

    /// How urgent it is; [`Priority::Normal`] unless told. Counts in a batch's queue.
    #[must_use]
    fn priority(mut self, priority: Priority) -> Self
    where
        Self: Sized,
    {
        self.envelope_mut().set_priority(priority);
        self
    }

    /// How long it may take in all: queueing, connecting, attempts and pauses together,
    /// from the moment when it is submitted or executed.
    #[must_use]
    fn deadline(mut self, limit: Duration) -> Self
    where
        Self: Sized,
    {
        self.envelope_mut().set_deadline(limit);
        self
    }

    /// Whether running it twice does the same as running it once, so that it is tried
    /// again even when nobody knows whether the first attempt took effect.
    #[must_use]
    fn idempotent(mut self, idempotent: bool) -> Self
    where
        Self: Sized,
    {
        self.envelope_mut().set_idempotent(idempotent);
        self
    }

    /// How often and when it is tried again, other than usual.
    #[must_use]
    fn retry(mut self, policy: RetryPolicy) -> Self
    where
        Self: Sized,
    {
        self.envelope_mut().set_retry(policy);
        self
    }

    /// Operations of one batch with the same key run one after the other, in the order
    /// of their submission.
    #[must_use]
    fn ordering_key(mut self, key: impl Into<String>) -> Self
    where
        Self: Sized,
    {
        self.envelope_mut().set_ordering_key(key.into());
        self
    }

    /// A remark for the audit log.
    #[must_use]
    fn comment(mut self, comment: impl Into<String>) -> Self
    where
        Self: Sized,
    {
        self.envelope_mut().set_comment(comment.into());
        self
    }

    /// Whether it may run twice: as told, else by its nature.
    fn may_repeat(&self) -> bool {
        self.envelope()
            .is_idempotent()
            .unwrap_or_else(|| self.is_read())
    }
}

/// The error without this operation's own values, where they are masked.
pub(crate) fn without_values(operation: &impl Operation, error: Error) -> Error {
    if !values_are_masked() {
        return error;
    }
    match without(error.message(), |see| operation.each_value(see)) {
        Some(message) => error.with_message(message),
        None => error,
    }
}
