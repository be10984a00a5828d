//! Who belongs to a fleet and who is in service.
//!
//! Callers read a [`Roster`], which never changes: whoever changes the fleet, under the lock of
//! [`Control`], builds another one and puts it in its place.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::ejection::Standing;
use super::endpoint::{Endpoint, Group};
use super::fleet::Inner;
use super::roles::{Known, ReadRules, Rivals, Wanted};
use crate::backend::Backend;
use crate::clock::{Clock, Ticks};
use crate::error::{Error, ErrorKind, Phase};

/// What callers see.
pub(super) struct Roster<B: Backend> {
    pub(super) all: Group<B>,
    /// Those that are not ejected; never none, unless there are none at all.
    pub(super) serving: Group<B>,
    pub(super) writers: Group<B>,
    /// Never none while some are in service, once all of them have been asked what they are.
    pub(super) readers: Group<B>,
}

/// What is changed under the lock.
pub(super) struct Control<B: Backend> {
    pub(super) members: Vec<Listed<B>>,
    /// The primary that got the writes last.
    pub(super) writer: Option<Arc<str>>,
    pub(super) rivals: Rivals,
    pub(super) reads: ReadRules,
    pub(super) closed: bool,
}

/// An endpoint and where it stands.
pub(super) struct Listed<B: Backend> {
    pub(super) endpoint: Arc<Endpoint<B>>,
    pub(super) standing: Standing,
    pub(super) known: Known,
}

impl<B: Backend> Control<B> {
    fn roster(&mut self) -> Roster<B> {
        let (writers, readers) = (self.writers(), self.readers());
        let all = self.members.iter();
        let serving = all.clone().filter(|listed| !listed.standing.is_ejected());
        Roster {
            serving: Group::of(serving.map(|listed| Arc::clone(&listed.endpoint)).collect()),
            all: Group::of(all.map(|listed| Arc::clone(&listed.endpoint)).collect()),
            writers: Group::of(writers),
            readers: Group::of(readers),
        }
    }

    /// The place of the endpoint of this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let mut members = self.members.iter();
        members.position(|listed| &*listed.endpoint.name == name)
    }
}

impl<B: Backend> Roster<B> {
    pub(super) fn empty() -> Self {
        Self {
            all: Group::of(Vec::new()),
            serving: Group::of(Vec::new()),
            writers: Group::of(Vec::new()),
            readers: Group::of(Vec::new()),
        }
    }

    /// Those for whom this is.
    #[inline]
    pub(super) fn group(&self, wanted: Wanted) -> &Group<B> {
        match wanted {
            Wanted::Anything => &self.serving,
            Wanted::Write => &self.writers,
            Wanted::Read => &self.readers,
        }
    }
}

impl<B: Backend> Inner<B> {
    /// Shows what was changed to everybody.
    pub(super) fn publish(&self, mut control: MutexGuard<'_, Control<B>>) {
        let before = self.roster.swap(Arc::new(control.roster()));
        drop(control);
        self.changed.notify_all();
        // Perhaps with the last handle of a pool.
        drop(before);
    }

    /// Takes in an endpoint that starts slowly, or at once.
    pub(super) fn admit(&self, endpoint: Endpoint<B>, slowly: bool) -> Result<(), Error> {
        if slowly {
            endpoint.start_slowly(self.ejection.growth(), Clock::System.now());
        }
        let mut control = self.control.lock();
        if control.closed {
            return Err(self.error(ErrorKind::Closed, "the fleet was closed"));
        }
        if control.find(&endpoint.name).is_some() {
            let message = format!("the endpoint {} is there already", endpoint.name);
            return Err(self.error(ErrorKind::Configuration, message));
        }
        control.members.push(Listed {
            endpoint: Arc::new(endpoint),
            standing: Standing::default(),
            known: Known::default(),
        });
        self.publish(control);
        Ok(())
    }

    /// Takes an endpoint out.
    pub(super) fn dismiss(&self, name: &str) -> Option<Arc<Endpoint<B>>> {
        let mut control = self.control.lock();
        let place = control.find(name)?;
        let listed = control.members.remove(place);
        self.publish(control);
        Some(listed.endpoint)
    }

    /// Operations in succession failed on this endpoint.
    #[cold]
    pub(super) fn note_failures(&self, endpoint: &Endpoint<B>, failures: u32) {
        if self.ejection.is_due(failures) {
            let why = format!("{failures} failures in succession");
            self.eject(endpoint, &why, Clock::System.now());
        }
        self.alarm();
    }

    /// Leaves an endpoint out for a while, unless too many are.
    pub(super) fn eject(&self, endpoint: &Endpoint<B>, why: &str, now: Ticks) {
        let mut control = self.control.lock();
        let most = self.ejection.most_of(control.members.len());
        let members = control.members.iter();
        let ejected = members.filter(|listed| listed.standing.is_ejected());
        if ejected.count() >= most {
            return;
        }
        let Some(place) = control.find(&endpoint.name) else {
            return;
        };
        let standing = &mut control.members[place].standing;
        if standing.is_ejected() {
            return;
        }
        let time = standing.eject(&self.ejection, now);
        self.publish(control);
        log::warn!(
            fleet = &*self.name, endpoint = &*endpoint.name;
            "millpond: fleet {}: {} is left out for {:.3} s: {why}",
            self.name,
            endpoint.name,
            time.as_secs_f64()
        );
    }

    /// Takes an endpoint back into service.
    pub(super) fn reinstate(&self, endpoint: &Endpoint<B>, now: Ticks) {
        endpoint.start_slowly(self.ejection.growth(), now);
        let mut control = self.control.lock();
        let Some(place) = control.find(&endpoint.name) else {
            return;
        };
        control.members[place].standing.reinstate(now);
        self.publish(control);
        log::info!(
            fleet = &*self.name, endpoint = &*endpoint.name;
            "millpond: fleet {}: {} is back in service",
            self.name,
            endpoint.name
        );
    }

    pub(super) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, Phase::Queue, message).with_pool(Arc::clone(&self.name))
    }
}
