//! Operations on a fleet: what may be tried again is tried elsewhere.

use std::borrow::Borrow;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::Fleet;
use super::attempt::is_endpoints_fault;
use super::endpoint::Endpoint;
use super::fleet::Inner;
use super::lend::Lent;
use super::roles::Wanted;
use crate::backend::Backend;
use crate::clock::Clock;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind};
use crate::execute::{Witness, in_doubt_if};
use crate::operation::{Operation, OutcomeKind, without_values};
use crate::pool::PooledConnection;
use crate::record::Place;
use crate::recovery::{RetryPolicy, may_retry};
use crate::resources;

impl<B: Backend> Fleet<B> {
    /// Runs an operation on one of the endpoints. As [`Pool::execute`](crate::Pool::execute)
    /// does, this tries again what is safe to try again, and by the operation's deadline it is
    /// over; but each further attempt is made on another endpoint, as long as there is one, and
    /// without a pause where the endpoint was at fault.
    ///
    /// # Errors
    /// Those of [`Pool::execute`](crate::Pool::execute). An operation without a deadline on a
    /// server that freezes is held up to the backend's own timeouts.
    #[track_caller]
    pub fn execute(&self, operation: impl Borrow<B::Operation>) -> Result<B::Reply, Error> {
        let location = Location::caller();
        self.0
            .execute(Wanted::Anything, operation.borrow(), location)
    }
}

/// What an attempt came to, and what follows.
enum Next {
    Give(Error),
    TryAgain(Error, Duration),
}

impl<B: Backend> Inner<B> {
    pub(super) fn execute(
        &self,
        wanted: Wanted,
        operation: &B::Operation,
        location: &'static Location<'static>,
    ) -> Result<B::Reply, Error> {
        let started = Clock::System.now();
        let mut witness = Witness::new(operation, started, || self.place());
        let own = |error: Error| error.with_pool(Arc::clone(&self.name));
        if let Err(error) = operation.validate().map_err(own) {
            witness.tell(OutcomeKind::Rejected, Some(&error), 0);
            return Err(error);
        }
        if let Some(error) = resources::refuse(operation.envelope().priority()).map(own) {
            witness.tell(OutcomeKind::NotExecuted, Some(&error), 0);
            return Err(error);
        }
        let deadline = Deadline::from(operation.envelope().deadline());
        self.budget.earn(1);
        let mut tried: Vec<Arc<Endpoint<B>>> = Vec::new();
        let mut failed = 0;
        // Once an attempt may have taken effect, no later failure makes that undone.
        let mut doubtful = false;
        loop {
            let in_vain = |error| {
                let error = in_doubt_if(doubtful, error);
                let outcome = OutcomeKind::without_connection(&error);
                witness.tell(outcome, Some(&error), failed);
                error
            };
            let Lent {
                mut lease,
                endpoint,
                pass,
            } = self
                .seek_for_operation(wanted, &tried, deadline, location)
                .map_err(|none| in_vain(none.error))?;
            witness.move_to(|| endpoint.pool.place());
            let began = Clock::System.now();
            let (manager, conn) = PooledConnection::parts(&mut lease);
            let limit = self.attempt_limit(wanted, || {
                let attempts = self.policy_of(operation).attempts();
                operation.may_repeat().then_some((attempts, failed))
            });
            let by = limit.map_or(deadline, |limit| deadline.min(Deadline::within(limit)));
            let run = || manager.execute(conn, operation, by);
            let result = witness.watch(failed + 1, run);
            // Before anybody keeps the error: others are told of it too.
            let result = result.map_err(|error| without_values(operation, error));
            let ended = Clock::System.now();
            let in_all = ended.saturating_sub(started);
            self.attempt_ended(
                wanted,
                &endpoint,
                pass,
                (began, ended),
                result.as_ref().map(|_| ()),
            );
            failed += 1;
            let error = match result {
                Ok(reply) => {
                    PooledConnection::succeeded(&lease, in_all, 1);
                    drop(lease);
                    witness.tell(OutcomeKind::Done, None, failed);
                    return Ok(reply);
                }
                Err(error) => endpoint.pool.locate(in_doubt_if(doubtful, error)),
            };
            doubtful = error.outcome_unknown();
            match self.next(wanted, operation, error, failed, deadline) {
                Next::Give(error) => {
                    PooledConnection::failed(&lease, in_all, &error);
                    drop(lease);
                    witness.tell(OutcomeKind::failed(&error), Some(&error), failed);
                    return Err(error);
                }
                Next::TryAgain(error, pause) => {
                    // While it counts as in use.
                    endpoint.pool.note_retry(&error);
                    drop(lease);
                    log::debug!(
                        "millpond: attempt {failed} at {} failed: {error}",
                        operation.statement()
                    );
                    tried.push(endpoint);
                    std::thread::sleep(pause);
                }
            }
        }
    }

    /// Where an operation is that has no endpoint yet.
    pub(super) fn place(&self) -> Place {
        Place {
            pool: Arc::clone(&self.name),
            endpoint: "".into(),
            backend: B::NAME,
        }
    }

    /// How often and when this operation is tried.
    fn policy_of<'a>(&'a self, operation: &'a B::Operation) -> &'a RetryPolicy {
        operation.envelope().retry().unwrap_or(&self.retry)
    }

    /// What follows after so many attempts failed, the last one like this.
    fn next(
        &self,
        wanted: Wanted,
        operation: &B::Operation,
        error: Error,
        failed: u32,
        deadline: Deadline,
    ) -> Next {
        let policy = self.policy_of(operation);
        // An attempt's own time was over, not the operation's.
        let was_cut = error.kind() == ErrorKind::DeadlineExceeded
            && self.attempt_timeout.is_some()
            && operation.may_repeat()
            && !deadline.is_over();
        let again = was_cut || may_retry(&error, operation.may_repeat());
        let at_fault = was_cut || is_endpoints_fault(&error);
        let pause = self.pause(wanted, policy, &error, failed, at_fault);
        let too_late = deadline.remaining().is_some_and(|left| left <= pause);
        if again && failed < policy.attempts() && !too_late && self.budget.spend() {
            Next::TryAgain(error, pause)
        } else {
            Next::Give(error)
        }
    }
}
