//! The keeper's visit: endpoints that are down are left out, those that are well again come back,
//! and all are asked what they are.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::fleet::Inner;
use crate::backend::Backend;
use crate::clock::{Clock, NEVER, Ticks, after, ticks};
use crate::health::Health;
use crate::keeper::{Tended, crew};

/// How often the keeper looks at a fleet that is well: all of them at the same moments, so that
/// many wake it once.
const CALM: Duration = Duration::from_secs(1);
/// And at one of which an endpoint is not.
const TROUBLE: Duration = Duration::from_millis(50);

impl<B: Backend> Tended for Inner<B> {
    fn tend(self: Arc<Self>, now: Ticks) -> Ticks {
        let next = self.look(now);
        // The last owner drops the strategy, which may be the user's code: not here.
        if let Some(inner) = Arc::into_inner(self) {
            crew::submit(Box::new(move || drop(inner)));
        }
        next
    }
}

impl<B: Backend> Inner<B> {
    /// Something failed: the keeper is to come by at once.
    #[cold]
    pub(super) fn alarm(&self) {
        if !self.alarmed.swap(true, Relaxed) {
            self.rouse();
        }
    }

    /// Has the keeper come by, since there is something new.
    pub(super) fn rouse(&self) {
        if let Some(membership) = self.membership.get() {
            membership.wake(Clock::System.now());
        }
    }

    /// Looks how the endpoints are; says when to look again.
    fn look(self: &Arc<Self>, now: Ticks) -> Ticks {
        self.alarmed.store(false, Relaxed);
        let control = self.control.lock();
        if control.closed {
            return NEVER;
        }
        let members = control.members.iter();
        let known: Vec<_> = members
            .map(|listed| {
                let standing = &listed.standing;
                let endpoint = Arc::clone(&listed.endpoint);
                (endpoint, standing.is_ejected(), standing.may_return(now))
            })
            .collect();
        drop(control);
        self.ask_around(now);
        let look_up = self.look_up(now);
        let mut trouble = false;
        for (endpoint, ejected, may_return) in known {
            let health = endpoint.pool.health();
            let down = health.health == Health::Down;
            let in_doubt = endpoint.pool.is_in_doubt();
            if may_return && !down && !in_doubt {
                self.reinstate(&endpoint, now);
                continue;
            }
            if down && !ejected {
                let why = health.reasons.iter().max_by_key(|reason| reason.health);
                let why = why.map_or("it is down", |reason| &reason.text);
                self.eject(&endpoint, why, now);
            }
            trouble |= ejected || down || in_doubt;
        }
        if trouble {
            return after(now, TROUBLE).min(look_up);
        }
        let period = ticks(CALM);
        (now / period + 1).saturating_mul(period).min(look_up)
    }
}
