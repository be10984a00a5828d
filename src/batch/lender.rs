//! Whoever lends a batch its connections: a pool, or a fleet.
//!
//! The dispatcher and the workers ask here for everything that depends on the servers: leave to
//! form a group, a lease for it, what has to be told when it is over, and the pause before the
//! next attempt. So there is one batch, whatever it works on.
//!
//! Over a fleet, or a view of it by role:
//! 1. A group is executed on one endpoint, which the fleet's strategy picks when a worker has the
//!    group. What becomes of it tells on that endpoint's circuit breaker, ejection and latency as
//!    one operation of [`Fleet::execute`](crate::Fleet::execute) would.
//! 2. What may be tried again is tried on an endpoint on which nothing of the group was tried
//!    before, while there is one, and without a pause where the endpoint was at fault. What may have been
//!    applied on the lost endpoint is [`Unknown`](crate::Outcome::Unknown), as on a pool.
//!    A group of which all may run twice is cut off by the fleet's
//!    [`attempt_timeout`](crate::endpoints::FleetBuilder::attempt_timeout) and tried elsewhere.
//! 3. Groups are formed unless the circuit breakers of *all* endpoints refuse. An endpoint that is
//!    half-open gets groups of one operation; the others of such a group go back to the queue. If
//!    it has no connection free, that one waits for it as long as on any endpoint. Where everything
//!    is closed nothing is kept back.
//! 4. A server that was to take writes and does not ([`WrongRole`](ErrorKind::WrongRole)) has the
//!    view look anew who does; what it did not apply is tried again there.
//! 5. Of one ordering key, the next operation begins when the one before has its outcome, on
//!    whichever endpoint that was. One whose outcome is unknown may still be under way there.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::clock::Ticks;
use crate::deadline::Deadline;
use crate::endpoints::{Endpoint, Fleet, InVain, Lent, View};
use crate::error::{Error, ErrorKind};
use crate::operation::Outcome;
use crate::pool::{Pool, PooledConnection};
use crate::record::Place;
use crate::recovery::{Pass, RetryPolicy, Verdict};

/// What a [`Batch`](super::Batch) works on: a [`Pool`], a [`Fleet`], or a [`View`] of one by role.
///
#[cfg_attr(feature = "postgres", doc = "```no_run")]
#[cfg_attr(not(feature = "postgres"), doc = "```text")]
/// # fn main() -> Result<(), millpond::Error> {
/// use millpond::{Batch, Fleet, Postgres, PostgresConfig, Sql};
///
/// let at = |url| PostgresConfig::from_url(url).and_then(Postgres::new);
/// let fleet = Fleet::builder()
///     .endpoint(at("postgres://app:secret@db1/shop")?)
///     .endpoint(at("postgres://app:secret@db2/shop")?)
///     .build()?;
/// // To the primary, whichever of the two that is.
/// let batch = Batch::builder(fleet.write()).size(500).build()?;
/// let visit = Sql::new("INSERT INTO visits (page) VALUES ($1)").bind("/");
/// let ticket = batch.submit(visit)?;
/// # Ok(()) }
/// ```
pub struct Lender<B: Backend>(Kind<B>);

enum Kind<B: Backend> {
    Pool(Pool<B>),
    Fleet(View<B>),
}

impl<B: Backend> From<Pool<B>> for Lender<B> {
    fn from(pool: Pool<B>) -> Self {
        Self(Kind::Pool(pool))
    }
}

impl<B: Backend> From<Fleet<B>> for Lender<B> {
    fn from(fleet: Fleet<B>) -> Self {
        Self(Kind::Fleet(fleet.everybody()))
    }
}

impl<B: Backend> From<View<B>> for Lender<B> {
    fn from(view: View<B>) -> Self {
        Self(Kind::Fleet(view))
    }
}

impl<B: Backend> fmt::Debug for Lender<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lender").field(self.name()).finish()
    }
}

/// A lease for a group, and where it is.
pub(super) struct Loan<'a, B: Backend> {
    pub(super) lease: PooledConnection<B>,
    pub(super) pass: Pass,
    pub(super) site: Site<'a, B>,
}

/// The server on which a group is executed.
pub(super) enum Site<'a, B: Backend> {
    Pool(&'a Pool<B>),
    Endpoint(&'a View<B>, Arc<Endpoint<B>>),
}

impl<B: Backend> Lender<B> {
    /// The name of the pool, or of the fleet.
    pub(super) fn name(&self) -> &Arc<str> {
        match &self.0 {
            Kind::Pool(pool) => pool.shared_name(),
            Kind::Fleet(view) => view.shared_name(),
        }
    }

    /// The pool, or those of all endpoints.
    pub(super) fn pools(&self) -> Vec<Pool<B>> {
        match &self.0 {
            Kind::Pool(pool) => vec![pool.clone()],
            Kind::Fleet(view) => view.pools(),
        }
    }

    /// Where an operation is that was not begun.
    pub(super) fn place(&self) -> Place {
        match &self.0 {
            Kind::Pool(pool) => pool.place(),
            Kind::Fleet(view) => view.place(),
        }
    }

    /// Adds to an error where it happened, before there was a lease.
    pub(super) fn locate(&self, error: Error) -> Error {
        match &self.0 {
            Kind::Pool(pool) => pool.locate(error),
            Kind::Fleet(view) => view.locate(error),
        }
    }

    /// How often and when operations are tried again that say nothing about it.
    pub(super) fn retry_policy(&self) -> RetryPolicy {
        match &self.0 {
            Kind::Pool(pool) => pool.retry_policy(),
            Kind::Fleet(view) => view.retry_policy().clone(),
        }
    }

    /// Operations are begun, which earns retries.
    pub(super) fn earn_retries(&self, operations: u32) {
        match &self.0 {
            Kind::Pool(pool) => pool.earn_retries(operations),
            Kind::Fleet(view) => view.earn_retries(operations),
        }
    }

    /// Whether a retry was earned; then it is to be made.
    pub(super) fn spend_retry(&self) -> bool {
        match &self.0 {
            Kind::Pool(pool) => pool.spend_retry(),
            Kind::Fleet(view) => view.spend_retry(),
        }
    }

    /// How long an attempt may take by itself, if that is limited, of a group that may run twice;
    /// `repeatable` says how often it is tried, and how often it failed.
    pub(super) fn attempt_limit(
        &self,
        repeatable: impl FnOnce() -> Option<(u32, u32)>,
    ) -> Option<Duration> {
        match &self.0 {
            Kind::Pool(_) => None,
            Kind::Fleet(view) => view.attempt_limit(repeatable),
        }
    }

    /// How long to wait before the next attempt, after so many failed, the last one like this or
    /// because its own time was over.
    pub(super) fn pause(
        &self,
        policy: &RetryPolicy,
        error: &Error,
        failed: u32,
        was_cut: bool,
    ) -> Duration {
        match &self.0 {
            Kind::Pool(_) => policy.pause(failed, error),
            Kind::Fleet(view) => view.pause(policy, error, failed, was_cut),
        }
    }

    /// Leave to form a group, unless it is for circuit breakers to wait.
    pub(super) fn admit(&self) -> Option<Pass> {
        match &self.0 {
            Kind::Pool(pool) => match pool.admit() {
                // Who asks there for a connection is told so.
                Err(error) if error.kind() == ErrorKind::Closed => Some(Pass::unasked()),
                leave => leave.ok(),
            },
            Kind::Fleet(view) => view.admit(),
        }
    }

    /// A lease for a group that was formed with this leave, by its deadline, if possible not of
    /// an endpoint that was `tried`.
    #[track_caller]
    pub(super) fn lend(
        &self,
        pass: Pass,
        tried: &[Arc<Endpoint<B>>],
        deadline: Deadline,
    ) -> Result<Loan<'_, B>, InVain> {
        match &self.0 {
            Kind::Pool(pool) => match pool.get_until(deadline) {
                Ok(lease) => {
                    let site = Site::Pool(pool);
                    Ok(Loan { lease, pass, site })
                }
                Err(error) => {
                    drop(pass);
                    let kept_back = pool.keeps_back(&error);
                    Err(InVain { error, kept_back })
                }
            },
            Kind::Fleet(view) => {
                // It may be needed again where the group goes.
                drop(pass);
                let Lent {
                    lease,
                    endpoint,
                    pass,
                } = view.lend_for_operations(tried, deadline)?;
                let site = Site::Endpoint(view, endpoint);
                Ok(Loan { lease, pass, site })
            }
        }
    }
}

impl<B: Backend> Site<'_, B> {
    /// Where its operations run, if the batch has several places for them.
    pub(super) fn place(&self) -> Option<Place> {
        match self {
            Self::Pool(_) => None,
            Self::Endpoint(_, endpoint) => Some(endpoint.pool.place()),
        }
    }

    /// The endpoint, which is not the first choice for another attempt.
    pub(super) fn endpoint(&self) -> Option<&Arc<Endpoint<B>>> {
        match self {
            Self::Pool(_) => None,
            Self::Endpoint(_, endpoint) => Some(endpoint),
        }
    }

    /// Adds to an error where it happened.
    pub(super) fn locate(&self, error: Error) -> Error {
        match self {
            Self::Pool(pool) => pool.locate(error),
            Self::Endpoint(_, endpoint) => endpoint.pool.locate(error),
        }
    }

    /// What came of a group that was begun then.
    pub(super) fn call_ends<R>(&self, pass: Pass, began: Ticks, outcomes: &[Outcome<R>]) {
        let result = of_group(outcomes);
        match self {
            Self::Pool(pool) => pool.call_ends(pass, Some(began), result),
            Self::Endpoint(view, endpoint) => {
                view.group_ended(endpoint, pass, began, result);
                // Others of the group may have been done: reads are, on a replica.
                let mut errors = outcomes.iter().filter_map(Outcome::error);
                if errors.any(|error| error.kind() == ErrorKind::WrongRole) {
                    view.has_wrong_role(endpoint);
                }
            }
        }
    }
}

/// What a group says of the server: it is well if it did or refused any of the operations.
fn of_group<R>(outcomes: &[Outcome<R>]) -> Result<(), &Error> {
    let mut ill = None;
    for outcome in outcomes {
        match outcome.error() {
            None => return Ok(()),
            Some(error) => match Verdict::of(error) {
                Verdict::Well => return Ok(()),
                Verdict::Ill => ill = ill.or(Some(error)),
                Verdict::Neither => {}
            },
        }
    }
    let neither = || outcomes.first().and_then(Outcome::error);
    ill.or_else(neither).map_or(Ok(()), Err)
}
