//! What a pool says to those who wait in vain, and who holds what: holders, leaks, and
//! the errors that name them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use r2d2::ManageConnection;

use super::desk::Status;
use super::entry::Entry;
use super::exchange::Gate;
use super::shared::Shared;
use super::state::{Holder, State};
use crate::clock::{NEVER, Ticks, after, between};
use crate::error::{Error, ErrorKind, Phase};
use crate::record::Place;
use crate::threads;

/// How many holders a message names.
const NAMED_HOLDERS: usize = 5;

/// The slots at one moment.
pub(super) struct Survey {
    pub(super) open: u32,
    pub(super) idle: u32,
    /// How long a lease lasts: the mean of those that ended, or of those under way
    /// if they last longer already.
    pub(super) hold: Duration,
}

impl<M: ManageConnection> Shared<M> {
    pub(super) fn survey(&self, now: Ticks) -> Survey {
        let (mut open, mut idle, mut under_way, mut ages) = (0, 0, 0_u64, 0);
        let (mut leases, mut held) = (0, 0);
        for desk in self.exchange.desks() {
            let (ended, ticks) = desk.totals();
            leases += ended;
            held += ticks;
            match desk.status() {
                Status::Idle => {
                    open += 1;
                    idle += 1;
                }
                Status::Leased | Status::InCare => {
                    open += 1;
                    under_way += 1;
                    ages += now.saturating_sub(desk.since());
                }
                Status::Vacant | Status::Connecting | Status::Closing => {}
            }
        }
        let mean = |total: u64, count: u64| total.checked_div(count).unwrap_or(0);
        let hold = mean(held, leases).max(mean(ages, under_way));
        Survey {
            open,
            idle,
            hold: Duration::from_nanos(hold),
        }
    }

    pub(super) fn state(&self) -> State {
        let mut state = State {
            connections: 0,
            idle_connections: 0,
            leased: 0,
            in_care: 0,
            connecting: 0,
            closing: 0,
            waiters: self.exchange.waiting() as u32,
            max_size: self.rules.max_size.load(Ordering::Relaxed),
            limit: self.rules.limit.load(Ordering::Relaxed),
        };
        for desk in self.exchange.desks() {
            match desk.status() {
                Status::Vacant => {}
                Status::Connecting => state.connecting += 1,
                Status::Idle => state.idle_connections += 1,
                Status::Leased => state.leased += 1,
                Status::InCare => state.in_care += 1,
                Status::Closing => state.closing += 1,
            }
        }
        state.connections = state.idle_connections + state.leased + state.in_care;
        state
    }

    /// Who holds connections, the longest first.
    pub(super) fn holders(&self, now: Ticks) -> Vec<Holder> {
        let leased = self
            .exchange
            .desks()
            .filter(|desk| desk.status() == Status::Leased);
        let mut holders: Vec<_> = leased
            .map(|desk| Holder {
                connection_id: desk.connection(),
                location: desk.location(),
                thread: threads::name(desk.thread()),
                held: between(desk.since(), now),
            })
            .collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.held));
        holders
    }

    pub(super) fn error(&self, kind: ErrorKind, phase: Phase, message: String) -> Error {
        let state = self.state();
        let holders: Arc<[Holder]> = self.holders(self.clock.now()).into();
        self.at_home(Error::new(kind, phase, message))
            .with_state(state, holders)
    }

    /// Where its operations run.
    pub(super) fn place(&self) -> Place {
        Place {
            pool: Arc::clone(&self.name),
            endpoint: Arc::clone(&self.endpoint),
            backend: self.knowledge.backend,
        }
    }

    /// Adds the pool's name and endpoint.
    pub(super) fn at_home(&self, error: Error) -> Error {
        let error = error.with_pool(Arc::clone(&self.name));
        if error.endpoint().is_some() || self.endpoint.is_empty() {
            return error;
        }
        error.with_endpoint(Arc::clone(&self.endpoint))
    }

    /// The deadline of a waiter came first.
    pub(super) fn timed_out(&self, timeout: Duration) -> Error {
        let last_error = self.ledger.lock().last_error.clone();
        let state = self.state();
        let limited = self
            .limited(self.clock.now())
            .filter(|_| state.limit < state.max_size);
        let mut message = format!(
            "timed out waiting for connection after {:.3} s",
            timeout.as_secs_f64()
        );
        if self.exchange.gate() == Gate::Paused {
            message.push_str("; the pool is paused, by `pause` or `drain`, until `resume`");
            return self.error(ErrorKind::Closed, Phase::Queue, message);
        }
        let (kind, phase) = match &last_error {
            Some(cause) if state.connections == 0 => {
                let _ = write!(message, ", because connecting fails: {}", cause.message());
                (cause.kind(), cause.phase())
            }
            last_error => {
                let _ = write!(message, "; {state}");
                self.name_holders(&mut message);
                match (last_error, limited) {
                    (Some(cause), _) => {
                        let cause = cause.message();
                        let _ = write!(message, "; opening another one fails: {cause}");
                    }
                    (None, Some(why)) => {
                        let _ = write!(message, "; {why}");
                    }
                    (None, None) => message.push_str(
                        "; hold connections for a shorter time, raise max_size \
                         (POOL_MAX_CONNECTIONS) or connection_timeout (POOL_CONNECTION_TIMEOUT)",
                    ),
                }
                (ErrorKind::Exhausted, Phase::Queue)
            }
        };
        let error = self.error(kind, phase, message);
        let Some(cause) = last_error else {
            return error;
        };
        error.because_of(cause)
    }

    pub(super) fn name_holders(&self, message: &mut String) {
        let holders = self.holders(self.clock.now());
        for holder in holders.iter().take(NAMED_HOLDERS) {
            let _ = write!(message, "; {holder}");
        }
        if holders.len() > NAMED_HOLDERS {
            let _ = write!(message, "; and {} more", holders.len() - NAMED_HOLDERS);
        }
    }

    pub(super) fn closed(&self) -> Error {
        let message = "the pool was closed, or its last handle dropped".to_owned();
        self.error(ErrorKind::Closed, Phase::Queue, message)
    }

    pub(super) fn too_many_waiters(&self, most: u32) -> Error {
        let message = format!("{most} callers wait already (max_waiters)");
        self.error(ErrorKind::Overloaded, Phase::Queue, message)
    }

    /// Somebody still holds a connection of a pool that was asked to give up all.
    pub(super) fn still_held(&self, what: &str, timeout: Duration) -> Error {
        let mut message = format!(
            "{what}: not all connections came back in {:.3} s",
            timeout.as_secs_f64()
        );
        let _ = write!(message, "; {}", self.state());
        self.name_holders(&mut message);
        self.error(ErrorKind::DeadlineExceeded, Phase::Queue, message)
    }

    pub(super) fn report_leaks(&self, now: Ticks) -> Ticks {
        let Some(threshold) = self.settings.leak_threshold else {
            return NEVER;
        };
        let mut next = after(now, threshold);
        for desk in self
            .exchange
            .desks()
            .filter(|desk| desk.status() == Status::Leased)
        {
            let due = after(desk.since(), threshold);
            if now < due {
                next = next.min(due);
            } else if desk.report_leak() {
                self.counters.leaks.fetch_add(1, Ordering::Relaxed);
                log::warn!(
                    pool = &*self.name, connection = desk.connection();
                    "millpond: pool {}: possible leak: connection {} has been held for {:.3} s \
                     by thread `{}`, taken at {}",
                    self.name,
                    desk.connection(),
                    between(desk.since(), now).as_secs_f64(),
                    threads::name(desk.thread()),
                    desk.location(),
                );
            }
        }
        next
    }

    #[cold]
    pub(super) fn leak_came_back(&self, entry: &Entry<M>, held: Ticks) {
        log::warn!(
            pool = &*self.name, connection = entry.id;
            "millpond: pool {}: connection {}, reported as a possible leak, came back after \
             {:.3} s; it was taken at {}",
            self.name,
            entry.id,
            Duration::from_nanos(held).as_secs_f64(),
            entry.place.desk().location(),
        );
    }
}
