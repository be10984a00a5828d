//! Deadlocks: threads that hold every connection and wait for one more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use r2d2::ManageConnection;

use super::desk::Status;
use super::shared::Shared;
use crate::clock::{NEVER, Ticks, after};
use crate::error::{Error, ErrorKind, Phase};

/// How often a waiter that holds a connection itself looks for a deadlock.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks whether every connection is held by threads that wait here themselves.
///
/// A lease can be sent to another thread, which no pool can see until that thread
/// uses it. So what looks like a deadlock must stay just the same for the grace of
/// `deadlock_detection` before the newest waiter is told.
pub(super) struct DeadlockWatch<'a, M: ManageConnection> {
    shared: &'a Arc<Shared<M>>,
    me: u64,
    /// The leases that looked deadlocked at the last look.
    suspected: Vec<Held>,
}

/// A lease at one moment.
#[derive(PartialEq)]
struct Held {
    connection: u64,
    since: Ticks,
    /// The number of the thread that holds it.
    by: u64,
}

impl<'a, M: ManageConnection> DeadlockWatch<'a, M> {
    pub(super) fn new(shared: &'a Arc<Shared<M>>, me: u64) -> Self {
        Self {
            shared,
            me,
            suspected: Vec::new(),
        }
    }

    pub(super) fn look(&mut self, now: Ticks) -> Result<Ticks, Error> {
        let Some(grace) = self.shared.settings.deadlock_detection else {
            return Ok(NEVER);
        };
        let mut desks = self.shared.exchange.desks();
        if !desks.any(|desk| desk.status() == Status::Leased && desk.thread() == self.me) {
            return Ok(NEVER);
        }
        let Some((held, newest)) = self.held_by_waiters() else {
            self.suspected.clear();
            return Ok(after(now, LOOK_EVERY));
        };
        // The older ones may look at the same moment; one has to give way, not all.
        if held != self.suspected || newest != self.me {
            self.suspected = held;
            return Ok(after(now, grace));
        }
        if self.shared.make_room(self.suspected.len() as u32, now) {
            self.suspected.clear();
            return Ok(after(now, grace));
        }
        self.shared
            .counters
            .deadlocks
            .fetch_add(1, Ordering::Relaxed);
        let mut message = "deadlock: every connection is held by a thread that waits here for \
                           another one"
            .to_owned();
        self.shared.name_holders(&mut message);
        message.push_str(
            "; take one connection per thread at a time, or raise max_size \
             (POOL_MAX_CONNECTIONS) above the number of threads that take two",
        );
        Err(self
            .shared
            .error(ErrorKind::Exhausted, Phase::Queue, message))
    }

    /// Every lease, if all slots are leased to threads that wait, and which of these
    /// threads came last.
    fn held_by_waiters(&self) -> Option<(Vec<Held>, u64)> {
        let waiting = self.shared.exchange.waiting_threads();
        let mut held = Vec::new();
        for desk in self.shared.exchange.desks() {
            match desk.status() {
                Status::Vacant => {}
                Status::Leased if waiting.contains(&desk.thread()) => {
                    held.push(Held {
                        connection: desk.connection(),
                        since: desk.since(),
                        by: desk.thread(),
                    });
                }
                _ => return None,
            }
        }
        let full = held.len() >= self.shared.rules.limit.load(Ordering::Relaxed) as usize;
        let mut from_newest = waiting.into_iter().rev();
        let newest = from_newest.find(|thread| held.iter().any(|held| held.by == *thread))?;
        full.then_some((held, newest))
    }
}
