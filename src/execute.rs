//! Running single operations: on a lease, or on a pool with retries and a deadline.

use std::borrow::Borrow;

use crate::backend::Backend;
use crate::clock::{Clock, Ticks};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Phase};
use crate::logging;
use crate::operation::Operation;
use crate::pool::{Pool, PooledConnection};
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
        let without_connection = |error: Error| {
            self.note_failed(&error, took());
            error
        };
        let valid = operation.validate();
        valid.map_err(|error| without_connection(self.locate(error)))?;
        if let Some(error) = resources::refuse(operation.envelope().priority()) {
            return Err(without_connection(self.locate(error)));
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
            let pass = self.admit().map_err(|error| in_doubt_if(doubtful, error));
            let pass = pass.map_err(without_connection)?;
            let lease = self
                .get_until(deadline)
                .map_err(|error| in_doubt_if(doubtful, error));
            let mut lease = lease.map_err(without_connection)?;
            let (manager, conn) = PooledConnection::parts(&mut lease);
            let began = self.call_begins();
            let result = manager.execute(conn, operation, deadline);
            self.call_ends(pass, began, result.as_ref().map(|_| ()));
            let error = match result {
                Ok(reply) => {
                    let took = took();
                    PooledConnection::succeeded(&lease, took, 1);
                    drop(lease);
                    self.log(operation, failed, None, took);
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
                let took = took();
                PooledConnection::failed(&lease, took, &error);
                drop(lease);
                self.log(operation, failed, Some(&error), took);
                return Err(error);
            }
            drop(lease);
            self.note_retry(&error);
            log::debug!(
                "millpond: attempt {failed} at {} failed: {error}",
                operation.statement()
            );
            std::thread::sleep(pause);
        }
    }

    /// Records an operation in the log, if that is wanted.
    pub(crate) fn log(
        &self,
        operation: &B::Operation,
        failed: u32,
        error: Option<&Error>,
        took: Ticks,
    ) {
        logging::operation(self.name(), self.endpoint(), operation, failed, error, took);
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

fn in_doubt_if(doubtful: bool, error: Error) -> Error {
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
        let valid = operation.validate();
        valid.map_err(|error| PooledConnection::locate(lease, error))?;
        let deadline = Deadline::from(operation.envelope().deadline());
        let started = Clock::System.now();
        let (manager, conn) = PooledConnection::parts(lease);
        let result = manager.execute(conn, operation, deadline);
        let result = result.map_err(|error| PooledConnection::locate(lease, error));
        let took = Clock::System.now().saturating_sub(started);
        let error = result.as_ref().err();
        match error {
            None => PooledConnection::succeeded(lease, took, 1),
            Some(error) => PooledConnection::failed(lease, took, error),
        }
        let (pool, endpoint) = PooledConnection::home(lease);
        logging::operation(
            pool,
            endpoint,
            operation,
            u32::from(error.is_some()),
            error,
            took,
        );
        result
    }
}
