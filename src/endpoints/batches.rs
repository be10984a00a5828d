//! What a batch asks of a fleet: what `execute` asks for one operation, for a group of them.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::Fleet;
use super::attempt::is_endpoints_fault;
use super::endpoint::Endpoint;
use super::lend::{InVain, Lent};
use super::roles::Wanted;
use super::view::View;
use crate::backend::Backend;
use crate::clock::{Clock, Ticks};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind};
use crate::pool::Pool;
use crate::record::Place;
use crate::recovery::{Pass, RetryPolicy};

impl<B: Backend> Fleet<B> {
    /// The fleet for those who do not care about roles.
    pub(crate) fn everybody(&self) -> View<B> {
        View {
            fleet: self.clone(),
            wanted: Wanted::Anything,
        }
    }
}

impl<B: Backend> View<B> {
    /// The fleet's name.
    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.fleet.0.name
    }

    /// The pools of all endpoints of the fleet.
    pub(crate) fn pools(&self) -> Vec<Pool<B>> {
        self.fleet.pools()
    }

    /// Where an operation is that has no endpoint yet.
    pub(crate) fn place(&self) -> Place {
        self.fleet.0.place()
    }

    /// Adds to an error whose it is, unless it came from an endpoint.
    pub(crate) fn locate(&self, error: Error) -> Error {
        if error.pool().is_some() {
            return error;
        }
        error.with_pool(Arc::clone(self.shared_name()))
    }

    /// How often and when operations are tried again that say nothing about it.
    pub(crate) fn retry_policy(&self) -> &RetryPolicy {
        &self.fleet.0.retry
    }

    /// Operations are begun, which earns retries.
    pub(crate) fn earn_retries(&self, operations: u32) {
        self.fleet.0.budget.earn(operations);
    }

    /// Whether a retry was earned; then it is to be made.
    pub(crate) fn spend_retry(&self) -> bool {
        self.fleet.0.budget.spend()
    }

    /// Leave to form a group: there is none while the circuit breakers of all endpoints that are
    /// fit for it refuse, and a probe only if none gives another. Who executes it is not decided by
    /// that. Where all are closed there is one, for who asks there for a connection is told so.
    pub(crate) fn admit(&self) -> Option<Pass> {
        let roster = self.fleet.0.roster.load();
        let (mut probe, mut all_closed) = (None, true);
        for endpoint in roster.group(self.wanted).iter() {
            match endpoint.pool.admit() {
                Ok(pass) if !pass.is_probe() => return Some(pass),
                Ok(pass) => probe = Some(pass),
                Err(error) => all_closed &= error.kind() == ErrorKind::Closed,
            }
        }
        probe.or_else(|| all_closed.then(Pass::unasked))
    }

    /// A lease for a group, by its deadline, if possible of an endpoint that is not among those
    /// `tried`.
    #[track_caller]
    pub(crate) fn lend_for_operations(
        &self,
        tried: &[Arc<Endpoint<B>>],
        deadline: Deadline,
    ) -> Result<Lent<B>, InVain> {
        let location = Location::caller();
        self.fleet
            .0
            .seek_for_operation(self.wanted, tried, deadline, location)
    }

    /// What a group that was begun then came to on this endpoint.
    pub(crate) fn group_ended(
        &self,
        endpoint: &Endpoint<B>,
        pass: Pass,
        began: Ticks,
        result: Result<(), &Error>,
    ) {
        let times = (began, Clock::System.now());
        self.fleet
            .0
            .attempt_ended(self.wanted, endpoint, pass, times, result);
    }

    /// An endpoint refused operations because of its role.
    pub(crate) fn has_wrong_role(&self, endpoint: &Endpoint<B>) {
        self.fleet.0.has_wrong_role(self.wanted, endpoint);
    }

    /// How long an attempt may take by itself, if that is limited, of a group that may run twice;
    /// `repeatable` says how often it is tried, and how often it failed.
    pub(crate) fn attempt_limit(
        &self,
        repeatable: impl FnOnce() -> Option<(u32, u32)>,
    ) -> Option<Duration> {
        self.fleet.0.attempt_limit(self.wanted, repeatable)
    }

    /// How long to wait before the next attempt, after so many failed, the last one like this or
    /// because its own time was over.
    pub(crate) fn pause(
        &self,
        policy: &RetryPolicy,
        error: &Error,
        failed: u32,
        was_cut: bool,
    ) -> Duration {
        let at_fault = was_cut || is_endpoints_fault(error);
        self.fleet
            .0
            .pause(self.wanted, policy, error, failed, at_fault)
    }
}
