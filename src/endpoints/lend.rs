//! A caller's way to a lease: the endpoint that the strategy picks, else the next.
//!
//! While the picked endpoint has an idle connection, that is all. Else the caller looks for an
//! idle one elsewhere; where there is none either, it waits in line at one endpoint after the
//! other, a little longer each time, so that none of them holds it.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::Fleet;
use super::balance::Candidates;
use super::endpoint::{Endpoint, Group};
use super::fleet::Inner;
use super::roles::{FIRST_ANSWERS, Wanted};
use super::roster::Roster;
use crate::backend::Backend;
use crate::clock::{Clock, Ticks};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Phase};
use crate::pool::PooledConnection;
use crate::recovery::Pass;

/// How long to wait where connections are just being checked.
const CHECK: Duration = Duration::from_millis(5);
/// How long to wait in line at one endpoint, at first and in the end.
const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_millis(160);
/// How often a caller without anywhere to go looks again.
const SEARCH: Duration = Duration::from_millis(30);
/// How often a strategy may pick again while endpoints start slowly.
const SECOND_THOUGHTS: usize = 3;

/// What a caller asks for.
pub(super) struct Ask<'a, B: Backend> {
    pub(super) wanted: Wanted,
    /// Whether circuit breakers are to be heeded.
    pub(super) for_operation: bool,
    /// Where it has been in vain.
    pub(super) tried: &'a [Arc<Endpoint<B>>],
    /// How long from the beginning, and until when.
    pub(super) limit: Duration,
    pub(super) deadline: Deadline,
    pub(super) location: &'static Location<'static>,
}

/// A lease, whose it is, and its circuit breaker's leave to use it.
pub(crate) struct Lent<B: Backend> {
    pub(crate) lease: PooledConnection<B>,
    pub(crate) endpoint: Arc<Endpoint<B>>,
    pub(crate) pass: Pass,
}

/// Why there is no lease.
pub(crate) struct InVain {
    pub(crate) error: Error,
    /// Circuit breakers refused, and there was nothing else to wait for. It is not asked later
    /// how they are: one that is half-open keeps an operation back only from what others try.
    #[cfg_attr(not(feature = "batch"), allow(dead_code, reason = "for batches"))]
    pub(crate) kept_back: bool,
}

impl From<Error> for InVain {
    fn from(error: Error) -> Self {
        Self {
            error,
            kept_back: false,
        }
    }
}

impl<B: Backend> Ask<'_, B> {
    /// The leave of this endpoint's circuit breaker, where it is to be heeded. It is asked before
    /// anything is leased there, so that whoever is refused takes nothing away and goes on to the
    /// next.
    fn leave(&self, endpoint: &Endpoint<B>) -> Result<Pass, Error> {
        if self.for_operation {
            endpoint.pool.admit()
        } else {
            Ok(Pass::unasked())
        }
    }

    fn has_tried(&self, endpoint: &Arc<Endpoint<B>>) -> bool {
        self.tried.iter().any(|other| Arc::ptr_eq(other, endpoint))
    }
}

impl<B: Backend> Fleet<B> {
    /// Takes a connection of one of the endpoints, waiting for at most the pools'
    /// `connection_timeout`.
    ///
    /// # Errors
    /// Those of [`Pool::get`](crate::Pool::get): what the endpoint said at which the caller waited
    /// last, or all of them at once.
    #[track_caller]
    #[inline]
    pub fn get(&self) -> Result<PooledConnection<B>, Error> {
        let location = Location::caller();
        match self.0.lend_idle(Wanted::Anything, location) {
            Some(lease) => Ok(lease),
            None => {
                let timeout = self.0.patience;
                self.0.lend(Wanted::Anything, timeout, location)
            }
        }
    }

    /// Takes a connection of one of the endpoints, waiting for at most `timeout`.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    #[track_caller]
    #[inline]
    pub fn get_timeout(&self, timeout: Duration) -> Result<PooledConnection<B>, Error> {
        let location = Location::caller();
        match self.0.lend_idle(Wanted::Anything, location) {
            Some(lease) => Ok(lease),
            None => self.0.lend(Wanted::Anything, timeout, location),
        }
    }
}

impl<B: Backend> Inner<B> {
    /// An idle connection where the strategy says.
    #[inline]
    pub(super) fn lend_idle(
        &self,
        wanted: Wanted,
        location: &'static Location<'static>,
    ) -> Option<PooledConnection<B>> {
        let roster = self.roster.load();
        let group = roster.group(wanted);
        let now = Clock::System.coarse();
        let place = self.choose(group, now)?;
        group[place].pool.try_get_at(location, now)
    }

    #[cold]
    pub(super) fn lend(
        &self,
        wanted: Wanted,
        timeout: Duration,
        location: &'static Location<'static>,
    ) -> Result<PooledConnection<B>, Error> {
        let ask = Ask {
            wanted,
            for_operation: false,
            tried: &[],
            limit: timeout,
            deadline: Deadline::within(timeout),
            location,
        };
        let lent = self.seek(&ask).map_err(|in_vain| in_vain.error)?;
        Ok(lent.lease)
    }

    /// The place of the one to ask first at this moment on the coarse clock.
    #[inline]
    fn choose(&self, group: &Group<B>, now: Ticks) -> Option<usize> {
        match group.len() {
            0 => None,
            1 => Some(0),
            _ => {
                let place = self.pick(group, now);
                if group[place].is_warm() {
                    Some(place)
                } else {
                    Some(self.reconsider(group, place, now))
                }
            }
        }
    }

    /// The place of the one that the strategy picks.
    #[inline]
    fn pick(&self, group: &Group<B>, now: Ticks) -> usize {
        let place = self.balance.pick(&Candidates::new(&group.figures, now));
        let count = group.len();
        // Not always: a division costs a tenth of a lease.
        if place < count { place } else { place % count }
    }

    /// The one that was picked starts slowly: often enough it is to be another one.
    #[cold]
    fn reconsider(&self, group: &Group<B>, mut place: usize, now: Ticks) -> usize {
        for _ in 0..SECOND_THOUGHTS {
            if fastrand::f64() < group[place].share(now) {
                return place;
            }
            place = self.pick(group, now);
        }
        let turn = fastrand::usize(..group.len());
        let places = (0..group.len()).map(|step| (turn + step) % group.len());
        let mut warm = places.filter(|place| group[*place].is_warm());
        warm.next().unwrap_or(place)
    }

    /// All of them in the order in which to ask: the pick first, those that were tried last.
    fn order<'a>(&self, group: &'a Group<B>, ask: &Ask<'_, B>) -> Vec<&'a Arc<Endpoint<B>>> {
        let Some(place) = self.choose(group, Clock::System.coarse()) else {
            return Vec::new();
        };
        let mut rest: Vec<usize> = (0..group.len()).filter(|other| *other != place).collect();
        fastrand::shuffle(&mut rest);
        let places = std::iter::once(place).chain(rest);
        let mut order: Vec<_> = places.map(|place| &group[place]).collect();
        order.sort_by_key(|endpoint| ask.has_tried(endpoint));
        order
    }

    /// A lease by the deadline.
    fn seek(&self, ask: &Ask<'_, B>) -> Result<Lent<B>, InVain> {
        let mut patience = SHORT;
        let answers = Deadline::within(FIRST_ANSWERS.min(ask.limit / 2));
        loop {
            let roster: Arc<Roster<B>> = self.roster.load_full();
            let mut group = roster.group(ask.wanted);
            if ask.wanted == Wanted::Read && group.is_empty() && answers.is_over() {
                group = &roster.serving;
            }
            let order = self.order(group, ask);
            if order.is_empty() {
                self.await_endpoint(&roster, ask)?;
                continue;
            }
            // By a circuit breaker, and by a pool.
            let (mut barred, mut refused, mut kept_back) = (None, None, false);
            for endpoint in &order {
                match ask.leave(endpoint) {
                    Ok(pass) => {
                        if let Some(lease) = Self::take_idle(endpoint, ask) {
                            let endpoint = Arc::clone(endpoint);
                            return Ok(Lent {
                                lease,
                                endpoint,
                                pass,
                            });
                        }
                    }
                    Err(error) => barred = Some(error),
                }
            }
            // Only where there is something to wait for, if there is such a place.
            let hopeful = order.iter().filter(|endpoint| !endpoint.pool.is_cut_off());
            let mut hopeful: Vec<_> = hopeful.copied().collect();
            if hopeful.len() < order.len() {
                self.alarm();
            }
            if hopeful.is_empty() {
                hopeful.clone_from(&order);
            }
            let mut waited = false;
            for endpoint in hopeful {
                let pass = match ask.leave(endpoint) {
                    Ok(pass) => pass,
                    Err(error) => {
                        kept_back |= error.kind() != ErrorKind::Closed;
                        barred = Some(error);
                        continue;
                    }
                };
                let slice = ask.deadline.remaining_within(patience);
                match endpoint.pool.queue(slice, ask.location, ask.for_operation) {
                    Ok(Some(lease)) => {
                        let endpoint = Arc::clone(endpoint);
                        return Ok(Lent {
                            lease,
                            endpoint,
                            pass,
                        });
                    }
                    Ok(None) => waited = true,
                    Err(error) => {
                        kept_back |= endpoint.pool.keeps_back(&error);
                        refused = Some(error);
                    }
                }
                if endpoint.pool.is_in_doubt() {
                    self.alarm();
                }
                if ask.deadline.is_over() {
                    let why = refused.unwrap_or_else(|| endpoint.pool.why_none(ask.limit));
                    return Err(InVain {
                        error: self.in_vain(&roster, why),
                        kept_back: kept_back && !waited,
                    });
                }
            }
            // Nobody lets us wait: not to be mended by waiting, unless the fleet has changed.
            if let Some(why) = refused.or(barred)
                && !waited
                && Arc::ptr_eq(&roster, &self.roster.load())
            {
                let error = self.in_vain(&roster, why);
                return Err(InVain { error, kept_back });
            }
            patience = (patience * 2).min(LONG);
        }
    }

    /// An idle connection of this endpoint, where those that are just being checked count.
    fn take_idle(endpoint: &Endpoint<B>, ask: &Ask<'_, B>) -> Option<PooledConnection<B>> {
        let pool = &endpoint.pool;
        if let Some(lease) = pool.try_get_at(ask.location, Clock::System.coarse()) {
            return Some(lease);
        }
        if pool.is_in_doubt() || pool.state().in_care == 0 {
            return None;
        }
        let slice = ask.deadline.remaining_within(CHECK);
        pool.queue(slice, ask.location, ask.for_operation)
            .ok()
            .flatten()
    }

    /// Nobody is fit: waits for a moment until somebody may be.
    fn await_endpoint(&self, roster: &Arc<Roster<B>>, ask: &Ask<'_, B>) -> Result<(), Error> {
        if roster.all.is_empty() && (self.sources.is_empty() || ask.deadline.is_over()) {
            let why = self.sources.iter().find_map(|source| source.error());
            let none = || self.error(ErrorKind::Closed, "the fleet has no endpoints");
            return Err(why.unwrap_or_else(none));
        }
        if ask.deadline.is_over() {
            let message = format!(
                "none of {} endpoints takes writes: each is a replica, or does not answer",
                roster.all.len()
            );
            return Err(self.error(ErrorKind::WrongRole, message));
        }
        self.alarm();
        let mut control = self.control.lock();
        if control.closed {
            return Err(self.error(ErrorKind::Closed, "the fleet was closed"));
        }
        if Arc::ptr_eq(roster, &self.roster.load()) {
            let slice = ask.deadline.remaining_within(SEARCH);
            self.changed.wait_for(&mut control, slice);
        }
        Ok(())
    }

    /// Why there was no lease.
    fn in_vain(&self, roster: &Roster<B>, cause: Error) -> Error {
        let message = format!(
            "none of {} endpoints had a connection ({} in service); the last one: {}",
            roster.all.len(),
            roster.serving.len(),
            cause.message()
        );
        let error = Error::new(cause.kind(), cause.phase(), message);
        let error = error.with_pool(Arc::clone(&self.name));
        let error = match cause.endpoint() {
            Some(endpoint) => error.with_endpoint(endpoint),
            None => error,
        };
        let error = match cause.retry_after() {
            Some(pause) => error.with_retry_after(pause),
            None => error,
        };
        error.with_source(Arc::new(cause))
    }

    /// A lease for operations where the circuit breaker lets them through, by their deadline, and
    /// within the fleet's own limit.
    pub(super) fn seek_for_operation(
        &self,
        wanted: Wanted,
        tried: &[Arc<Endpoint<B>>],
        deadline: Deadline,
        location: &'static Location<'static>,
    ) -> Result<Lent<B>, InVain> {
        let roster = self.roster.load();
        let group = roster.group(wanted);
        let now = Clock::System.coarse();
        if let Some(endpoint) = self.choose(group, now).map(|place| &group[place])
            && !tried.iter().any(|other| Arc::ptr_eq(other, endpoint))
            && !deadline.is_over()
            && let Ok(pass) = endpoint.pool.admit()
            && let Some(lease) = endpoint.pool.try_get_at(location, now)
        {
            let endpoint = Arc::clone(endpoint);
            return Ok(Lent {
                lease,
                endpoint,
                pass,
            });
        }
        drop(roster);
        let limit = deadline.remaining_within(self.patience);
        let ask = Ask {
            wanted,
            for_operation: true,
            tried,
            limit,
            deadline: Deadline::within(limit),
            location,
        };
        self.seek(&ask).map_err(|mut in_vain| {
            if deadline.is_over() {
                let error = in_vain.error;
                let message = format!("no connection by the operation's deadline: {error}");
                in_vain.error = Error::new(ErrorKind::DeadlineExceeded, Phase::Queue, message)
                    .with_pool(Arc::clone(&self.name))
                    .with_source(Arc::new(error));
            }
            in_vain
        })
    }
}
