//! Endpoints that are looked up: the addresses of a name, or whatever tells them.
//!
//! Looked up on the keeper's crew, since it may block. A look-up that fails, or finds nothing,
//! changes nothing: servers do not go away because a name server does. One address that is
//! missing is taken out the second time in succession, since some name servers give a part of the
//! addresses only.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Fleet;
use super::fleet::Inner;
use crate::backend::Backend;
use crate::clock::{Clock, NEVER, Ticks, after};
use crate::error::{ConnectFailure, Error, ErrorKind, Phase};
use crate::keeper::crew;

/// How soon a look-up that failed is made again, unless it is due earlier anyway.
const NEXT_TRY: Duration = Duration::from_secs(1);
/// In how many answers in succession an address is missing that is taken out.
const MISSING: u32 = 2;

type LookUp = Box<dyn Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync>;
type Make<B> = Box<dyn Fn(SocketAddr) -> Result<B, Error> + Send + Sync>;

pub(super) struct Source<B: Backend> {
    /// What is looked up, in words.
    what: String,
    every: Duration,
    look_up: LookUp,
    make: Make<B>,
    found: Mutex<Found>,
}

struct Found {
    /// When to look next; [`NEVER`] while somebody does.
    due: Ticks,
    endpoints: Vec<Address>,
    /// Why the last look-up came to nothing.
    error: Option<Error>,
}

struct Address {
    at: SocketAddr,
    endpoint: String,
    /// In how many answers it was missing since it was last there.
    missing: u32,
}

impl<B: Backend> Source<B> {
    pub(super) fn new(
        what: String,
        every: Duration,
        look_up: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
        make: impl Fn(SocketAddr) -> Result<B, Error> + Send + Sync + 'static,
    ) -> Self {
        Self {
            what,
            every,
            look_up: Box::new(look_up),
            make: Box::new(make),
            found: Mutex::new(Found {
                due: 0,
                endpoints: Vec::new(),
                error: None,
            }),
        }
    }

    /// Why the last look-up came to nothing.
    pub(super) fn error(&self) -> Option<Error> {
        self.found.lock().error.clone()
    }

    /// Whether it is time to look; then it is being done.
    fn begins(&self, now: Ticks) -> bool {
        let mut found = self.found.lock();
        let due = found.due <= now;
        if due {
            found.due = NEVER;
        }
        due
    }

    fn asked(&self) -> Result<Vec<SocketAddr>, Error> {
        let failed = |message: String| {
            let kind = ErrorKind::Connect(ConnectFailure::Dns);
            Error::new(kind, Phase::Connect, message)
        };
        match (self.look_up)() {
            Ok(addresses) if addresses.is_empty() => {
                Err(failed(format!("{} has no address", self.what)))
            }
            Ok(mut addresses) => {
                addresses.sort_unstable();
                addresses.dedup();
                Ok(addresses)
            }
            Err(error) => {
                let message = format!("{} cannot be looked up: {error}", self.what);
                Err(failed(message).with_source(Arc::new(error)))
            }
        }
    }

    /// Changes the fleet by what was found.
    fn apply(&self, addresses: &[SocketAddr], fleet: &Fleet<B>) -> Result<(), Error> {
        let mut found = self.found.lock();
        let first = found.endpoints.is_empty();
        let mut gone = Vec::new();
        found.endpoints.retain_mut(|address| {
            if addresses.contains(&address.at) {
                address.missing = 0;
                return true;
            }
            address.missing += 1;
            let stays = address.missing < MISSING;
            if !stays {
                gone.push(std::mem::take(&mut address.endpoint));
            }
            stays
        });
        let known: Vec<_> = found.endpoints.iter().map(|address| address.at).collect();
        drop(found);
        for endpoint in gone {
            log::info!("millpond: {} is no more at {endpoint}", self.what);
            // What is leased comes back later; then it is closed.
            let _ = fleet.remove(&endpoint, Duration::ZERO);
        }
        let mut result = Ok(());
        for at in addresses.iter().filter(|at| !known.contains(at)) {
            // What is wrong with one address is not the others' fault.
            let added = self.add(*at, fleet, !first);
            result = result.and(added);
        }
        result
    }

    fn add(&self, at: SocketAddr, fleet: &Fleet<B>, slowly: bool) -> Result<(), Error> {
        let manager = (self.make)(at)?;
        let endpoint = manager.endpoint();
        fleet.join(manager, 1.0, slowly)?;
        self.found.lock().endpoints.push(Address {
            at,
            endpoint,
            missing: 0,
        });
        Ok(())
    }
}

/// A look-up under way, until dropped; so a panic in it does not end the looking.
struct UnderWay<'a, B: Backend>(&'a Source<B>, Result<(), Error>);

impl<B: Backend> Drop for UnderWay<'_, B> {
    fn drop(&mut self) {
        let Self(source, result) = self;
        let error = result.as_ref().err();
        if let Some(error) = error {
            log::warn!("millpond: {error}");
        }
        let pause = match error {
            Some(_) => source.every.min(NEXT_TRY),
            None => source.every,
        };
        let mut found = source.found.lock();
        found.error = error.cloned();
        found.due = after(Clock::System.now(), pause);
    }
}

impl<B: Backend> Inner<B> {
    /// Has looked up what is due; says when to come again.
    pub(super) fn look_up(self: &Arc<Self>, now: Ticks) -> Ticks {
        for source in &self.sources {
            if !source.begins(now) {
                continue;
            }
            let fleet = Arc::downgrade(self);
            let source = Arc::clone(source);
            crew::submit(Box::new(move || {
                let failed = Error::new(ErrorKind::Other, Phase::Connect, "the look-up panicked");
                let mut under_way = UnderWay(&source, Err(failed));
                let addresses = source.asked();
                // Not before: a look-up that hangs keeps no fleet alive.
                let Some(inner) = fleet.upgrade() else {
                    return;
                };
                let fleet = Fleet(inner);
                under_way.1 = addresses.and_then(|all| source.apply(&all, &fleet));
                drop(under_way);
                fleet.0.rouse();
            }));
        }
        let due = self.sources.iter().map(|source| source.found.lock().due);
        due.min().unwrap_or(NEVER)
    }
}
