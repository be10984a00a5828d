//! An attempt on one of the endpoints: an operation of `execute`, or a group of a batch.
//!
//! Both come here when it is over, so that an endpoint's circuit breaker, its ejection and its
//! latency learn the same from both, and both wait as long before the next attempt.

use std::time::Duration;

use super::endpoint::Endpoint;
use super::fleet::Inner;
use super::roles::Wanted;
use crate::backend::Backend;
use crate::clock::Ticks;
use crate::error::{Error, ErrorKind};
use crate::recovery::{Pass, RetryPolicy};

/// Whether this error says that the endpoint cannot do it, and another one perhaps can.
pub(super) fn is_endpoints_fault(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Connect(_) | ErrorKind::ConnectionLost | ErrorKind::WrongRole
    )
}

impl<B: Backend> Inner<B> {
    /// Tells everybody whom it concerns what came of an attempt, and from when until when it was
    /// made.
    pub(super) fn attempt_ended(
        &self,
        wanted: Wanted,
        endpoint: &Endpoint<B>,
        pass: Pass,
        (began, ended): (Ticks, Ticks),
        result: Result<(), &Error>,
    ) {
        endpoint.pool.call_ends(pass, Some(began), result);
        let took = ended.saturating_sub(began);
        let Err(error) = result else {
            return endpoint.answered(took, ended);
        };
        if let Some(failures) = endpoint.failed(error, took, ended) {
            self.note_failures(endpoint, failures);
        }
        if error.kind() == ErrorKind::WrongRole {
            self.has_wrong_role(wanted, endpoint);
        }
    }

    /// An endpoint has refused an operation because of its role: if it was to take writes, the
    /// fleet looks anew who does.
    pub(super) fn has_wrong_role(&self, wanted: Wanted, endpoint: &Endpoint<B>) {
        if wanted == Wanted::Write {
            self.forget(endpoint);
        }
    }

    /// How long an attempt may take by itself, which is limited only if another one may follow
    /// somewhere else. `repeatable` says of what may run twice how often it is tried, and how often
    /// it failed.
    pub(super) fn attempt_limit(
        &self,
        wanted: Wanted,
        repeatable: impl FnOnce() -> Option<(u32, u32)>,
    ) -> Option<Duration> {
        let limit = self.attempt_timeout?;
        let (attempts, failed) = repeatable()?;
        let another = failed + 1 < attempts && self.has_more_than(failed + 1, wanted);
        another.then_some(limit)
    }

    /// How long to wait before the next attempt, after so many failed, the last one like this: not
    /// at all where the endpoint was at fault and there is another one.
    pub(super) fn pause(
        &self,
        wanted: Wanted,
        policy: &RetryPolicy,
        error: &Error,
        failed: u32,
        at_fault: bool,
    ) -> Duration {
        if at_fault && self.has_more_than(failed, wanted) {
            Duration::ZERO
        } else {
            policy.pause(failed, error)
        }
    }

    /// Whether more than so many endpoints are fit for it.
    pub(super) fn has_more_than(&self, count: u32, wanted: Wanted) -> bool {
        self.roster.load().group(wanted).len() > count as usize
    }
}
