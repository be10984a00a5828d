//! What the handles of a fleet share, and what can be done with it.

use std::any::Any;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use super::balance::{Balance, WEIGHTS};
use super::builder::FleetBuilder;
use super::ejection::Ejection;
use super::endpoint::Endpoint;
use super::roles::Rivals;
use super::roster::{Control, Roster};
use super::source::Source;
use crate::backend::{Backend, Role, Service};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::health::Health;
use crate::keeper::{Membership, crew};
use crate::pool::{Builder, Pool, State, Tally};
use crate::recovery::{Budget, RetryPolicy, seconds};

/// Configures the pool of each endpoint.
pub(super) type PoolSettings<B> = Box<dyn Fn(Builder<B>) -> Builder<B> + Send + Sync>;

type Tell<B> = Box<dyn Fn(&Fleet<B>, &Pool<B>) + Send + Sync>;

/// Is told of each endpoint that belongs to a fleet from now on, and is forgotten once it is gone.
struct Observer<B: Backend> {
    who: Weak<dyn Any + Send + Sync>,
    tell: Tell<B>,
}

/// One pool over several servers; see the [module](super). Handles are cheap to clone.
///
/// ```
/// # #[derive(Debug)] struct Nothing(&'static str);
/// # impl millpond::ManageConnection for Nothing {
/// #     type Connection = &'static str;
/// #     type Error = std::io::Error;
/// #     fn connect(&self) -> std::io::Result<&'static str> { Ok(self.0) }
/// #     fn is_valid(&self, _: &mut &'static str) -> std::io::Result<()> { Ok(()) }
/// #     fn has_broken(&self, _: &mut &'static str) -> bool { false }
/// # }
/// # impl millpond::backend::Backend for Nothing {
/// #     const NAME: &'static str = "nothing";
/// #     type Operation = millpond::NoOperation;
/// #     type Reply = ();
/// #     fn endpoint(&self) -> String { self.0.into() }
/// #     fn classify(_: &std::io::Error) -> millpond::ErrorKind { millpond::ErrorKind::Other }
/// #     fn execute(&self, _: &mut &'static str, operation: &millpond::NoOperation, _: millpond::Deadline)
/// #         -> Result<(), millpond::Error> { match *operation {} }
/// # }
/// # fn main() -> Result<(), millpond::Error> {
/// # let (first, second) = (Nothing("cache1"), Nothing("cache2"));
/// use millpond::Fleet;
/// use millpond::endpoints::RoundRobin;
///
/// let fleet = Fleet::builder()
///     .name("caches")
///     .balance(RoundRobin::new())
///     .pool(|pool| pool.max_size(4))
///     .endpoint(first)
///     .endpoint(second)
///     .build()?;
/// let lease = fleet.get()?;
/// assert!(["cache1", "cache2"].contains(&*lease));
/// # Ok(()) }
/// ```
pub struct Fleet<B: Backend>(pub(super) Arc<Inner<B>>);

pub(super) struct Inner<B: Backend> {
    pub(super) name: Arc<str>,
    pub(super) roster: ArcSwap<Roster<B>>,
    pub(super) balance: Box<dyn Balance>,
    pub(super) settings: PoolSettings<B>,
    /// How long callers wait who do not say.
    pub(super) patience: Duration,
    /// How often and when operations are tried that say nothing about it.
    pub(super) retry: RetryPolicy,
    pub(super) ejection: Ejection,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) control: Mutex<Control<B>>,
    /// Rung when there is a new roster.
    pub(super) changed: Condvar,
    /// Somebody asked for a view by role.
    pub(super) uses_roles: AtomicBool,
    pub(super) budget: Budget,
    pub(super) sources: Vec<Arc<Source<B>>>,
    pub(super) membership: OnceLock<Membership>,
    /// The keeper was asked to come by at once.
    pub(super) alarmed: AtomicBool,
    observers: Mutex<Vec<Observer<B>>>,
}

/// How one endpoint of a fleet is.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EndpointState {
    /// Its address.
    pub endpoint: Arc<str>,
    /// The name of its pool, as metrics and health call it.
    pub pool: Arc<str>,
    /// Its weight.
    pub weight: f64,
    /// The part of its share of the traffic that it takes: 1, less in its slow start, and 0
    /// while it is ejected.
    pub share: f64,
    /// How long it stays ejected at least, if it is.
    #[serde(rename = "ejected_seconds", with = "seconds::optional")]
    pub ejected: Option<Duration>,
    /// How often it was ejected in succession.
    pub ejections: u32,
    /// How many operations in succession failed on it.
    pub failures: u32,
    /// What its operations take: see [`Candidate::latency`](super::Candidate::latency).
    #[serde(rename = "latency_seconds", with = "seconds::optional")]
    pub latency: Option<Duration>,
    /// What part it plays, as it said when it was last asked for [a view](Fleet::read).
    pub role: Role,
    /// Whether it takes writes, where it could tell.
    pub writable: Option<bool>,
    /// How far it is behind, if it is a replica that could tell.
    #[serde(rename = "lag_seconds", with = "seconds::optional")]
    pub lag: Option<Duration>,
    /// How its pool is.
    pub health: Health,
    /// Its pool's numbers.
    pub state: State,
}

fn forget_those_gone<B: Backend>(observers: &mut Vec<Observer<B>>) {
    observers.retain(|observer| observer.who.strong_count() > 0);
}

impl<B: Backend> Clone for Fleet<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Backend> fmt::Debug for Fleet<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("name", &self.0.name)
            .field("balance", &self.0.balance)
            .field("endpoints", &self.endpoints())
            .finish_non_exhaustive()
    }
}

impl<B: Backend> Inner<B> {
    pub(super) fn new(builder: FleetBuilder<B>) -> Self {
        let usual = (builder.settings)(Builder::new());
        Self {
            patience: usual.patience(),
            retry: usual.retry_policy(),
            name: builder.name.unwrap_or_else(|| B::NAME.into()),
            roster: ArcSwap::from_pointee(Roster::empty()),
            balance: builder.balance,
            settings: builder.settings,
            ejection: builder.ejection,
            attempt_timeout: builder.attempt_timeout,
            control: Mutex::new(Control {
                members: Vec::new(),
                writer: None,
                rivals: Rivals::default(),
                reads: builder.reads,
                closed: false,
            }),
            changed: Condvar::new(),
            uses_roles: AtomicBool::new(false),
            budget: Budget::default(),
            sources: builder.sources.into_iter().map(Arc::new).collect(),
            membership: OnceLock::new(),
            alarmed: AtomicBool::new(false),
            observers: Mutex::default(),
        }
    }

    /// An endpoint with a pool of its own, which connects in the background.
    pub(super) fn endpoint(&self, manager: B, weight: f64) -> Endpoint<B> {
        let name: Arc<str> = manager.endpoint().into();
        let callers = Arc::new(Tally::new());
        let pool = (self.settings)(Builder::new()).tallied(Arc::clone(&callers));
        let pool = pool.name(format!("{}@{name}", self.name));
        Endpoint::new(name, pool.build_unchecked(manager), callers, weight)
    }
}

impl<B: Backend> Fleet<B> {
    /// A builder with the default settings.
    pub fn builder() -> FleetBuilder<B> {
        FleetBuilder::default()
    }

    /// The fleet's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How each endpoint is now, in the order in which they were added.
    pub fn endpoints(&self) -> Vec<EndpointState> {
        let now = Clock::System.now();
        let control = self.0.control.lock();
        let members = control.members.iter();
        let known: Vec<_> = members
            .map(|listed| {
                let standing = &listed.standing;
                let endpoint = Arc::clone(&listed.endpoint);
                let service = listed.known.service.clone().unwrap_or_default();
                (endpoint, service, standing.left(now), standing.times)
            })
            .collect();
        drop(control);
        let describe = |known: (Arc<Endpoint<B>>, Service, Option<Duration>, u32)| {
            let (endpoint, service, ejected, ejections) = known;
            let health = endpoint.pool.health();
            EndpointState {
                role: service.role,
                writable: service.writable,
                lag: service.lag,
                endpoint: Arc::clone(&endpoint.name),
                pool: health.pool,
                weight: endpoint.figures.weight,
                share: if ejected.is_some() {
                    0.0
                } else {
                    endpoint.share(now)
                },
                ejected,
                ejections,
                failures: endpoint.failures(),
                latency: endpoint.figures.latency.read(now),
                health: health.health,
                state: endpoint.pool.state(),
            }
        };
        known.into_iter().map(describe).collect()
    }

    /// The pool of each endpoint, for its metrics, its health, or to [pause](Pool::pause) it.
    pub fn pools(&self) -> Vec<Pool<B>> {
        let roster = self.0.roster.load();
        let pools = roster.all.iter().map(|endpoint| endpoint.pool.clone());
        pools.collect()
    }

    /// Adds an endpoint of weight 1. It connects in the background, and starts slowly.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if there is one of this address already,
    /// [`Closed`](ErrorKind::Closed) after [`close`](Self::close).
    pub fn add(&self, manager: B) -> Result<(), Error> {
        self.add_weighted(manager, 1.0)
    }

    /// Adds an endpoint of this weight.
    ///
    /// # Errors
    /// Those of [`add`](Self::add), and [`Configuration`](ErrorKind::Configuration) if the weight
    /// is not from 1e-9 to 1e9.
    pub fn add_weighted(&self, manager: B, weight: f64) -> Result<(), Error> {
        self.join(manager, weight, true)
    }

    pub(super) fn join(&self, manager: B, weight: f64, slowly: bool) -> Result<(), Error> {
        if !WEIGHTS.contains(&weight) {
            let message = format!(
                "the weight of {} is {weight:e}, accepted: {:e} to {:e} (FleetBuilder::weighted, \
                 Fleet::add_weighted)",
                manager.endpoint(),
                WEIGHTS.start(),
                WEIGHTS.end()
            );
            return Err(self.0.error(ErrorKind::Configuration, message));
        }
        let endpoint = self.0.endpoint(manager, weight);
        let pool = endpoint.pool.clone();
        // Together: whoever begins to observe meanwhile is told of it, and so is everybody before
        // the fleet counts as retired.
        let mut observers = self.0.observers.lock();
        self.0.admit(endpoint, slowly)?;
        forget_those_gone(&mut observers);
        for observer in &*observers {
            (observer.tell)(self, &pool);
        }
        Ok(())
    }

    /// Takes the endpoint of this address out and closes its pool: nobody is sent there any more,
    /// who waits there goes on to another one, and what is leased stays usable until it comes
    /// back, for which this waits at most so long.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none of this address, and those of
    /// [`Pool::close`].
    pub fn remove(&self, endpoint: &str, timeout: Duration) -> Result<(), Error> {
        let Some(removed) = self.0.dismiss(endpoint) else {
            let message = format!("there is no endpoint {endpoint}");
            return Err(self.0.error(ErrorKind::NotFound, message));
        };
        removed.pool.close(timeout)
    }

    /// Closes all pools for good. Waits for at most `timeout` until all connections have come
    /// back.
    ///
    /// # Errors
    /// [`DeadlineExceeded`](ErrorKind::DeadlineExceeded), naming who still holds a connection
    /// of one of them.
    pub fn close(&self, timeout: Duration) -> Result<(), Error> {
        let end = Instant::now() + timeout;
        self.retire();
        let pools = self.pools();
        // None of them waits for another one to begin.
        let begun: Vec<_> = pools
            .iter()
            .map(|pool| pool.close(Duration::ZERO))
            .collect();
        let left = || end.saturating_duration_since(Instant::now());
        let mut result = Ok(());
        for (pool, begun) in pools.iter().zip(begun) {
            // Each of them is closed, whatever became of the others.
            let closed = begun.or_else(|_| pool.close(left()));
            result = result.and(closed);
        }
        result
    }

    /// From now on no endpoint is added, ejected or brought back.
    pub(crate) fn retire(&self) {
        self.0.control.lock().closed = true;
        // Those that were just being added have been told of after this.
        drop(self.0.observers.lock());
    }

    /// Tells this observer, for as long as somebody else keeps it, of each endpoint that there is
    /// and of each that will be.
    pub(crate) fn observe<T: Send + Sync + 'static>(
        &self,
        observer: &Arc<T>,
        tell: impl Fn(&Arc<T>, &Self, &Pool<B>) + Send + Sync + 'static,
    ) {
        let mut observers = self.0.observers.lock();
        forget_those_gone(&mut observers);
        for pool in self.pools() {
            tell(observer, self, &pool);
        }
        let weak = Arc::downgrade(observer);
        observers.push(Observer {
            who: weak.clone(),
            tell: Box::new(move |fleet, pool| {
                let Some(observer) = weak.upgrade() else {
                    return;
                };
                tell(&observer, fleet, pool);
                // Should this be the last handle now, what it holds does not end under the lock.
                if let Some(observer) = Arc::into_inner(observer) {
                    crew::submit(Box::new(move || drop(observer)));
                }
            }),
        });
    }

    /// Whether some endpoint said at its last check that it takes writes.
    pub(crate) fn has_writer(&self) -> bool {
        self.pools().iter().any(|pool| {
            let service = pool.health().service;
            service.is_some_and(|service| service.writable == Some(true))
        })
    }

    /// Whether some other endpoint than this pool's is not down; `None` if this is no pool of
    /// the fleet's any more.
    pub(crate) fn has_another(&self, pool: &Pool<B>) -> Option<bool> {
        let pools = self.pools();
        let (own, others): (Vec<_>, Vec<_>) =
            pools.iter().partition(|other| other.name() == pool.name());
        own.first()?;
        let mut others = others.iter();
        Some(others.any(|other| other.health().health != Health::Down))
    }
}

#[cfg(test)]
mod tests;
