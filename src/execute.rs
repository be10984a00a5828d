//! Running single operations: on a lease, or on a pool with retries and a deadline.

use std::borrow::Borrow;

use crate::backend::Backend;
use crate::clock::{Clock, Ticks};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::{Operation, OutcomeKind, without_values};
use crate::pool::{Pool, PooledConnection};
use crate::record::{self, Ended, Note, Place};
use crate::recovery::may_retry;
use crate::resources;

impl<B: Backend> Pool<B> {
    /// Takes a lease, runs the operation, and tries again what is safe to try again: what
    /// was certainly not applied, or is [`idempotent`](Operation::idempotent) or a read; as
    /// often and with such pauses as the operation's [`retry`](Operation::retry) policy or
    /// else the pool's ([`retry_attempts`](crate::Builder::retry_attempts)) says. A pool that
    /// has made a hundred retries more than its operations earned, each a tenth of one, makes
    /// no more of them until they have.
    ///
    /// A server that keeps failing is left alone for a while: then this fails at once, with the
    /// kind of what went wrong last, certainly without having been executed; see
    /// [`Breaker`](crate::Breaker).
    ///
    /// The operation's [`deadline`](Operation::deadline) is total: waiting for a lease,
    /// connecting, attempts and pauses together, and it holds on a server that has
    /// stopped answering. Without one, waiting for a lease ends after
    /// [`connection_timeout`](Pool::connection_timeout), and the rest is up to the backend's
    /// own timeouts.
    ///
    /// # Errors
    /// What [`validate`](Operation::validate) finds, what [`Pool::get`] gives, what the
    /// server refused, and [`DeadlineExceeded`](ErrorKind::DeadlineExceeded). An error of
    /// which [`outcome_unknown`](Error::outcome_unknown) is true leaves open whether the
    /// operation took effect.
    #[track_caller]
    pub fn execute(&self, operation: impl Borrow<B::Operation>) -> Result<B::Reply, Error> {
        let operation = operation.borrow();
        let started = Clock::System.now();
        let took = || Clock::System.now().saturating_sub(started);
        let witness = Witness::new(operation, started, || self.place());
        let without_connection = |outcome, error: Error, attempts| {
            self.note_failed(&error, took());
            witness.tell(outcome, Some(&error), attempts);
            error
        };
        if let Err(error) = operation.validate() {
            return Err(without_connection(
                OutcomeKind::Rejected,
                self.locate(error),
                0,
            ));
        }
        if let Some(error) = resources::refuse(operation.envelope().priority()) {
            return Err(without_connection(
                OutcomeKind::NotExecuted,
                self.locate(error),
                0,
            ));
        }
        let deadline = Deadline::from(operation.envelope().deadline());
        let usual;
        let policy = match operation.envelope().retry() {
            Some(policy) => policy,
            None => {
                usual = self.retry_policy();
                &usual
            }
        };
        self.earn_retries(1);
        let mut failed = 0;
        // Once an attempt may have taken effect, no later failure makes that undone.
        let mut doubtful = false;
        loop {
            let in_vain = |error| {
                let error = in_doubt_if(doubtful, error);
                without_connection(OutcomeKind::without_connection(&error), error, failed)
            };
            let pass = self.admit().map_err(in_vain)?;
            let mut lease = self.get_until(deadline).map_err(in_vain)?;
            let (manager, conn) = PooledConnection::parts(&mut lease);
            let began = self.call_begins();
            let run = || manager.execute(conn, operation, deadline);
            let result = witness.watch(failed + 1, run);
            // Before anybody keeps the error: others are told of it too.
            let result = result.map_err(|error| without_values(operation, error));
            self.call_ends(pass, began, result.as_ref().map(|_| ()));
            let error = match result {
                Ok(reply) => {
                    PooledConnection::succeeded(&lease, took(), 1);
                    drop(lease);
                    witness.tell(OutcomeKind::Done, None, failed + 1);
                    return Ok(reply);
                }
                Err(error) => self.locate(in_doubt_if(doubtful, error)),
            };
            doubtful = error.outcome_unknown();
            failed += 1;
            let again = failed < policy.attempts()
                && may_retry(&error, operation.may_repeat())
                && !self.is_broken();
            let pause = policy.pause(failed, &error);
            let too_late = deadline.remaining().is_some_and(|left| left <= pause);
            if !again || too_late || !self.spend_retry() {
                PooledConnection::failed(&lease, took(), &error);
                drop(lease);
                witness.tell(OutcomeKind::failed(&error), Some(&error), failed);
                return Err(error);
            }
            self.note_retry(&error);
            drop(lease);
            log::debug!(
                "millpond: attempt {failed} at {} failed: {error}",
                operation.statement()
            );
            std::thread::sleep(pause);
        }
    }

    /// A lease for operations by the deadline, and within the pool's own limit.
    #[track_caller]
    pub(crate) fn get_until(&self, deadline: Deadline) -> Result<PooledConnection<B>, Error> {
        let limit = self.connection_timeout();
        let left = deadline.remaining_within(limit);
        if !left.is_zero() {
            let error = match self.get_for_operation(left) {
                Ok(lease) => return Ok(lease),
                Err(error) => error,
            };
            if left == limit || !deadline.is_over() {
                return Err(error);
            }
            let message = format!("no connection by the operation's deadline: {error}");
            return Err(self.locate(
                Error::new(ErrorKind::DeadlineExceeded, Phase::Queue, message)
                    .with_source(std::sync::Arc::new(error)),
            ));
        }
        let message = "the operation's deadline was over before a connection was taken";
        let error = Error::new(ErrorKind::DeadlineExceeded, Phase::Queue, message);
        Err(self.locate(error))
    }
}

/// Tells the logs of an operation when it is over, if they want to know.
pub(crate) struct Witness<'a, O: Operation> {
    operation: &'a O,
    started: Ticks,
    /// None if nobody wants to know.
    place: Option<Place>,
}

impl<'a, O: Operation> Witness<'a, O> {
    pub(crate) fn new(operation: &'a O, started: Ticks, place: impl FnOnce() -> Place) -> Self {
        Self {
            operation,
            started,
            place: record::is_wanted().then(place),
        }
    }

    /// It goes on elsewhere.
    pub(crate) fn move_to(&mut self, place: impl FnOnce() -> Place) {
        if self.place.is_some() {
            self.place = Some(place());
        }
    }

    pub(crate) fn tell(&self, outcome: OutcomeKind, error: Option<&Error>, attempts: u32) {
        if let Some(place) = &self.place {
            let note = Note::new(self.operation, self.started);
            Ended::now(place.clone(), note, outcome, error, attempts).tell(error);
        }
    }

    /// Runs an attempt. If the backend panics, it is told that nobody knows what came of it.
    pub(crate) fn watch<R>(&self, attempt: u32, run: impl FnOnce() -> R) -> R {
        let unwinding = Unwinding(|| {
            let error = Error::new(ErrorKind::Other, Phase::Operation, "the backend panicked");
            let error = error.with_outcome_unknown();
            self.tell(OutcomeKind::Unknown, Some(&error), attempt);
        });
        let result = run();
        std::mem::forget(unwinding);
        result
    }
}

/// What is done unless it is forgotten.
struct Unwinding<F: Fn()>(F);

impl<F: Fn()> Drop for Unwinding<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

pub(crate) fn in_doubt_if(doubtful: bool, error: Error) -> Error {
    if doubtful {
        error.with_outcome_unknown()
    } else {
        error
    }
}

impl<B: Backend> PooledConnection<B> {
    /// Runs an operation on this lease, once, by the operation's own deadline.
    ///
    /// This is an associated function, not a method, so that it is not in the way of an
    /// `execute` of the driver's: `PooledConnection::execute(&mut lease, &operation)`.
    ///
    /// # Errors
    /// What [`validate`](Operation::validate) finds, what the server refused, and what
    /// befell the connection.
    pub fn execute(
        lease: &mut Self,
        operation: impl Borrow<B::Operation>,
    ) -> Result<B::Reply, Error> {
        let operation = operation.borrow();
        let started = Clock::System.now();
        let witness = Witness::new(operation, started, || PooledConnection::place(lease));
        if let Err(error) = operation.validate() {
            let error = PooledConnection::locate(lease, error);
            witness.tell(OutcomeKind::Rejected, Some(&error), 0);
            return Err(error);
        }
        let deadline = Deadline::from(operation.envelope().deadline());
        let (manager, conn) = PooledConnection::parts(lease);
        let result = witness.watch(1, || manager.execute(conn, operation, deadline));
        let result = result.map_err(|error| {
            let error = without_values(operation, error);
            PooledConnection::locate(lease, error)
        });
        let took = Clock::System.now().saturating_sub(started);
        let error = result.as_ref().err();
        match error {
            None => PooledConnection::succeeded(lease, took, 1),
            Some(error) => PooledConnection::failed(lease, took, error),
        }
        let outcome = error.map_or(OutcomeKind::Done, OutcomeKind::failed);
        witness.tell(outcome, error, 1);
        result
    }
}
