//! What a fleet asks one of its pools: a lease without waiting, a place in line for a while,
//! and how well the pool is. How busy it is, the pool tells by a [`Tally`].

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use r2d2::ManageConnection;

use super::{Builder, Pool, PooledConnection, Tally};
use crate::clock::Ticks;
use crate::error::Error;
use crate::recovery::RetryPolicy;

impl<M: ManageConnection> Builder<M> {
    /// Has the pool count its callers as they come and go; a look at all slots would cost their
    /// number.
    pub(crate) fn tallied(mut self, tally: Arc<Tally>) -> Self {
        self.settings.tally = Some(tally);
        self
    }

    /// How long callers wait who do not say.
    pub(crate) fn patience(&self) -> Duration {
        self.settings.connection_timeout
    }

    /// How often and when operations are tried again that say nothing about it.
    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        self.settings.retry_policy()
    }
}

impl<M: ManageConnection> Pool<M> {
    /// [`try_get`](Self::try_get), for a caller at this place in the program, at this moment on
    /// the coarse clock.
    #[inline]
    pub(crate) fn try_get_at(
        &self,
        location: &'static Location<'static>,
        now: Ticks,
    ) -> Option<PooledConnection<M>> {
        let shared = &self.0.shared;
        let now = shared.lease_time_at(now);
        let entry = shared.take(now)?;
        shared.lease(entry, location, now, now).ok()
    }

    /// Waits in line for this long, as a part of a longer wait; `None` if that was in vain.
    pub(crate) fn queue(
        &self,
        timeout: Duration,
        location: &'static Location<'static>,
        for_operation: bool,
    ) -> Result<Option<PooledConnection<M>>, Error> {
        self.0.shared.queue(timeout, location, for_operation)
    }

    /// Why nothing was to be had here for so long.
    pub(crate) fn why_none(&self, waited: Duration) -> Error {
        self.0.shared.timed_out(waited)
    }

    /// Whether the server has yet to show that it is well, and will be asked.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let shared = &self.0.shared;
        shared.settings.health_check_interval.is_some() && shared.pulse.is_in_doubt()
    }

    /// Whether nothing is open and the last attempt to connect failed.
    pub(crate) fn is_cut_off(&self) -> bool {
        let shared = &self.0.shared;
        shared.ledger.lock().last_error.is_some() && shared.state().connections == 0
    }
}
