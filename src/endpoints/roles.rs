//! Primaries and replicas: writes go to the one that takes them, reads to its copies.
//!
//! What an endpoint is, the fleet asks the server itself ([`Backend::check`]): each second, and
//! as often as answers come while nobody is known to take writes or the one that did is in
//! doubt. That an endpoint answers proves nothing: a primary that was demoted answers too.
//!
//! Invariants:
//! 1. Where endpoints are primaries, writes go to one of them only. The one that was *seen* to be
//!    promoted last wins, and who was superseded never gets the writes back by claiming to be a
//!    primary again, as one does that was restarted and not told: only by being promoted anew.
//! 2. Reads always have somewhere to go, while an endpoint is in service: at once, or where replicas
//!    may be behind and nobody is known to be fit yet, once all have been asked, or after
//!    [`FIRST_ANSWERS`].

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::fleet::Inner;
use super::roster::{Control, Listed};
use crate::backend::{Backend, Role, Service};
use crate::clock::{Clock, Ticks, ticks};
use crate::keeper::crew;
use crate::pool::PooledConnection;

/// How often an endpoint is asked what it is.
const USUAL: Duration = Duration::from_secs(1);
/// How soon again while a primary is searched for.
const SEARCH: Duration = Duration::from_millis(25);
/// How long a question waits for a connection.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a read waits at most until all have been asked what they are for the first time.
pub(super) const FIRST_ANSWERS: Duration = Duration::from_secs(1);

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Anything,
    Write,
    Read,
}

/// Where reads may go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReadRules {
    pub(super) max_lag: Option<Duration>,
    pub(super) from_primary: bool,
}

/// What is known of an endpoint's part.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What it said last; `None` while it says nothing.
    pub(super) service: Option<Service>,
    /// It has said something, or did not answer, or was too busy to be asked.
    was_asked: bool,
    was_replica: bool,
    /// When it was seen to have become a primary after it had been a replica.
    promoted_at: Ticks,
}

impl Known {
    pub(super) fn learn(&mut self, service: Option<Service>, now: Ticks) {
        match service.as_ref().map(|service| service.role) {
            Some(Role::Replica) => self.was_replica = true,
            Some(Role::Primary) if self.was_replica => {
                self.was_replica = false;
                self.promoted_at = now;
            }
            _ => {}
        }
        self.service = service;
        self.was_asked = true;
    }

    fn is_primary(&self) -> bool {
        self.takes_writes() && self.role() == Role::Primary
    }

    fn takes_writes(&self) -> bool {
        let service = self.service.as_ref();
        service
            .is_some_and(|service| service.writable != Some(false) && service.role != Role::Replica)
    }

    fn role(&self) -> Role {
        let service = self.service.as_ref();
        service.map_or(Role::Unknown, |service| service.role)
    }

    fn is_replica_within(&self, max_lag: Option<Duration>) -> bool {
        let lag = self.service.as_ref().and_then(|service| service.lag);
        let near = max_lag.is_none_or(|most| lag.is_some_and(|lag| lag <= most));
        self.role() == Role::Replica && near
    }
}

/// The endpoints that claimed to be primaries beside each other, as far as that was told.
#[derive(Debug, Default)]
pub(super) struct Rivals(Vec<Arc<str>>);

impl Rivals {
    /// Whether it is news that these claim it. Who `is_silent` takes nothing back.
    fn are_new(&mut self, claims: &[Arc<str>], is_silent: impl Fn(&str) -> bool) -> bool {
        self.0
            .retain(|name| claims.contains(name) || is_silent(name));
        let news = claims.len() > 1 && claims.iter().any(|name| !self.0.contains(name));
        if news {
            self.0 = claims.to_vec();
        }
        news
    }
}

impl<B: Backend> Control<B> {
    /// Those that claim to be primaries, if there are several and nobody was told so yet.
    fn new_rivals(&mut self) -> Option<Vec<Arc<str>>> {
        let members = &self.members;
        let claims = members.iter().filter(|listed| listed.known.is_primary());
        let claims: Vec<_> = claims
            .map(|listed| Arc::clone(&listed.endpoint.name))
            .collect();
        let is_silent = |name: &str| {
            let mut silent = members
                .iter()
                .filter(|listed| listed.known.service.is_none());
            silent.any(|listed| &*listed.endpoint.name == name)
        };
        self.rivals.are_new(&claims, is_silent).then_some(claims)
    }

    /// Who takes the writes.
    pub(super) fn writers(&mut self) -> Vec<Arc<Endpoint<B>>> {
        // Backwards, since of equal ones the last is taken, and it is to be the first.
        let primaries = self.members.iter().rev();
        let primaries = primaries.filter(|listed| listed.known.is_primary());
        let newest = primaries.max_by_key(|listed| {
            let current = self.writer.as_ref() == Some(&listed.endpoint.name);
            (listed.known.promoted_at, current)
        });
        let Some(newest) = newest else {
            let others = self
                .members
                .iter()
                .filter(|listed| listed.known.takes_writes());
            return others.map(|listed| Arc::clone(&listed.endpoint)).collect();
        };
        let current = self
            .members
            .iter()
            .find(|listed| self.writer.as_ref() == Some(&listed.endpoint.name));
        if current.is_some_and(|current| current.known.promoted_at > newest.known.promoted_at) {
            // Superseded: it only claims to be one.
            return Vec::new();
        }
        let endpoint = Arc::clone(&newest.endpoint);
        self.writer = Some(Arc::clone(&endpoint.name));
        vec![endpoint]
    }

    /// Who may be read from; nobody while none is known to be fit and some have not been asked.
    pub(super) fn readers(&self) -> Vec<Arc<Endpoint<B>>> {
        let serving = || {
            self.members
                .iter()
                .filter(|listed| !listed.standing.is_ejected())
        };
        let pick = |fit: &dyn Fn(&Listed<B>) -> bool| -> Vec<_> {
            let fit = serving().filter(|listed| fit(listed));
            fit.map(|listed| Arc::clone(&listed.endpoint)).collect()
        };
        let rules = self.reads;
        let replicas = pick(&|listed| listed.known.is_replica_within(rules.max_lag));
        let with_primary = rules.from_primary || replicas.is_empty();
        if !with_primary {
            return replicas;
        }
        let near = pick(&|listed| {
            listed.known.takes_writes() || listed.known.is_replica_within(rules.max_lag)
        });
        let awaits = || rules.max_lag.is_some() && serving().any(|listed| !listed.known.was_asked);
        if near.is_empty() && !awaits() {
            pick(&|_| true)
        } else {
            near
        }
    }
}

impl<B: Backend> Inner<B> {
    /// From now on it matters who is what.
    pub(super) fn use_roles(&self) {
        if !self.uses_roles.swap(true, Relaxed) {
            self.alarm();
        }
    }

    /// Asks those that are due what they are.
    pub(super) fn ask_around(self: &Arc<Self>, now: Ticks) {
        if !self.uses_roles.load(Relaxed) {
            return;
        }
        let roster = self.roster.load();
        let sure = |endpoint: &Arc<Endpoint<B>>| {
            !endpoint.pool.is_in_doubt() && !endpoint.pool.is_cut_off()
        };
        let searching = roster.writers.is_empty() || !roster.writers.iter().all(sure);
        let pause = ticks(if searching { SEARCH } else { USUAL });
        for endpoint in roster.all.iter() {
            if !endpoint.may_be_asked(now, pause) {
                continue;
            }
            let (fleet, endpoint) = (Arc::downgrade(self), Arc::clone(endpoint));
            crew::submit(Box::new(move || {
                let asked = Asked(&endpoint);
                let answer = ask(&endpoint);
                drop(asked);
                if let Some(fleet) = fleet.upgrade() {
                    match answer {
                        Answer::Said(service) => fleet.learn(&endpoint, Some(service)),
                        Answer::Silent => fleet.learn(&endpoint, None),
                        Answer::Busy => fleet.was_busy(&endpoint),
                    }
                }
            }));
        }
    }

    /// An endpoint said what it is, or did not answer.
    pub(super) fn learn(&self, endpoint: &Endpoint<B>, service: Option<Service>) {
        let now = Clock::System.now();
        let mut control = self.control.lock();
        let Some(place) = control.find(&endpoint.name) else {
            return;
        };
        let known = &mut control.members[place].known;
        if known.service == service && known.was_asked {
            return;
        }
        let before = (known.role(), known.takes_writes());
        known.learn(service, now);
        let after = (known.role(), known.takes_writes());
        let rivals = control.new_rivals();
        self.publish(control);
        if before != after {
            log::info!(
                fleet = &*self.name, endpoint = &*endpoint.name;
                "millpond: fleet {}: {} is {:?}{}",
                self.name,
                endpoint.name,
                after.0,
                if after.1 { " and takes writes" } else { "" }
            );
        }
        if let Some(rivals) = rivals {
            self.warn_of(&rivals);
        }
    }

    /// An endpoint was too busy to be asked: what is known of it stays, but nobody waits for its
    /// first answer any more.
    fn was_busy(&self, endpoint: &Endpoint<B>) {
        let mut control = self.control.lock();
        let Some(place) = control.find(&endpoint.name) else {
            return;
        };
        let known = &mut control.members[place].known;
        if !std::mem::replace(&mut known.was_asked, true) {
            self.publish(control);
        }
    }

    /// Whoever decides about failovers has let two be primaries.
    fn warn_of(&self, rivals: &[Arc<str>]) {
        let roster = self.roster.load();
        let writer = roster.writers.first();
        let writer = writer.map_or("none of them", |writer| &*writer.name);
        log::warn!(
            fleet = &*self.name;
            "millpond: fleet {}: {} claim to be primaries at the same time; writes go to {writer}. \
             Stop the one that was superseded, and keep it from coming back as a primary (fencing)",
            self.name,
            rivals.join(" and ")
        );
    }
}

impl<B: Backend> Inner<B> {
    /// An endpoint that should take writes does not.
    #[cold]
    pub(super) fn forget(&self, endpoint: &Endpoint<B>) {
        self.learn(endpoint, None);
        self.alarm();
    }
}

/// Being asked, until dropped.
struct Asked<'a, B: Backend>(&'a Endpoint<B>);

impl<B: Backend> Drop for Asked<'_, B> {
    fn drop(&mut self) {
        self.0.was_asked(Clock::System.now());
    }
}

/// What an endpoint said when it was asked what it is.
enum Answer {
    Said(Service),
    /// It does not answer.
    Silent,
    /// It was too busy to be asked: what was known is as good as before.
    Busy,
}

fn ask<B: Backend>(endpoint: &Endpoint<B>) -> Answer {
    let pool = &endpoint.pool;
    let place = Location::caller();
    let lease = match pool.try_get_at(place, Clock::System.coarse()) {
        Some(lease) => Some(lease),
        None if pool.is_cut_off() => return Answer::Silent,
        None => pool.queue(PATIENCE, place, false).ok().flatten(),
    };
    let Some(mut lease) = lease else {
        return if pool.state().connections > 0 {
            Answer::Busy
        } else {
            Answer::Silent
        };
    };
    let (manager, conn) = PooledConnection::parts(&mut lease);
    match manager.check(conn) {
        Ok(mut service) => {
            // It differs each time, and is no news.
            service.latency = Duration::ZERO;
            Answer::Said(service)
        }
        Err(_) => {
            lease.discard();
            Answer::Silent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: Role) -> Service {
        Service::new(role, Duration::ZERO)
    }

    #[test]
    fn a_promotion_is_seen_once_and_a_mere_claim_is_none() {
        let mut known = Known::default();
        known.learn(Some(said(Role::Primary)), 5);
        assert_eq!((known.is_primary(), known.promoted_at), (true, 0));
        known.learn(None, 6);
        assert!(!known.is_primary());
        known.learn(Some(said(Role::Primary)), 7);
        assert_eq!(known.promoted_at, 0);
        known.learn(Some(said(Role::Replica)), 8);
        assert!(!known.takes_writes());
        known.learn(None, 9);
        known.learn(Some(said(Role::Primary)), 10);
        known.learn(Some(said(Role::Primary)), 11);
        assert_eq!((known.is_primary(), known.promoted_at), (true, 10));
    }

    #[test]
    fn rivals_are_told_of_once_and_again_after_one_was_something_else() {
        let mut rivals = Rivals::default();
        let names = |names: &str| -> Vec<Arc<str>> { names.split(' ').map(Arc::from).collect() };
        let nobody = |_: &str| false;
        assert!(!rivals.are_new(&names("a"), nobody));
        assert!(rivals.are_new(&names("a b"), nobody));
        assert!(!rivals.are_new(&names("b a"), nobody));
        // One is silent for a while, and says the same again.
        assert!(!rivals.are_new(&names("a"), |name| name == "b"));
        assert!(!rivals.are_new(&names("a b"), nobody));
        assert!(rivals.are_new(&names("a b c"), nobody));
        // One became a replica, and claims it anew.
        assert!(!rivals.are_new(&names("a c"), nobody));
        assert!(rivals.are_new(&names("a b c"), nobody));
    }

    #[test]
    fn a_replica_of_unknown_lag_is_not_within_any() {
        let mut known = Known::default();
        known.learn(Some(said(Role::Replica)), 1);
        assert!(known.is_replica_within(None));
        assert!(!known.is_replica_within(Some(Duration::MAX)));
    }
}
