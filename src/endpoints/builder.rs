//! Settings for a fleet.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Fleet;
use super::balance::{Balance, PowerOfTwo};
use super::ejection::Ejection;
use super::fleet::{Inner, PoolSettings};
use super::roles::ReadRules;
use super::source::Source;
use crate::backend::Backend;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Phase};
use crate::keeper::{self, Tended};
use crate::pool::Builder;

/// Configures and builds a [`Fleet`].
#[must_use = "a builder does nothing until it builds"]
pub struct FleetBuilder<B: Backend> {
    pub(super) name: Option<Arc<str>>,
    pub(super) endpoints: Vec<(B, f64)>,
    pub(super) balance: Box<dyn Balance>,
    pub(super) settings: PoolSettings<B>,
    pub(super) ejection: Ejection,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) reads: ReadRules,
    pub(super) sources: Vec<Source<B>>,
}

impl<B: Backend> Default for FleetBuilder<B> {
    fn default() -> Self {
        Self {
            name: None,
            endpoints: Vec::new(),
            balance: Box::new(PowerOfTwo),
            settings: Box::new(|pool| pool),
            ejection: Ejection::default(),
            attempt_timeout: None,
            reads: ReadRules::default(),
            sources: Vec::new(),
        }
    }
}

impl<B: Backend> fmt::Debug for FleetBuilder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetBuilder")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints.len())
            .field("sources", &self.sources.len())
            .field("balance", &self.balance)
            .field("ejection", &self.ejection)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}

impl<B: Backend> FleetBuilder<B> {
    /// The fleet's name in messages and logs, and the first part of its pools' names; the
    /// backend's name by default.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// One more server, of weight 1.
    pub fn endpoint(self, manager: B) -> Self {
        self.weighted(manager, 1.0)
    }

    /// One more server of this weight: beside one of weight 1, a server of weight 2 gets twice
    /// the traffic from [`Weighted`](super::Weighted), and twice the callers from the strategies
    /// that count them. A weight is a number from 1e-9 to 1e9; the fleet is not built with
    /// another one.
    pub fn weighted(mut self, manager: B, weight: f64) -> Self {
        self.endpoints.push((manager, weight));
        self
    }

    /// An endpoint for each address of this `name:port`, which is looked up again each `every`: new
    /// addresses are added, and one that is gone from two answers in succession is removed. Looking
    /// up is the operating system's business, with its own time, and is done in the background.
    ///
    /// `make` gives the manager for an address. Where TLS is to check the name of the server, its
    /// certificate must be good for the address.
    ///
    #[cfg_attr(feature = "redis", doc = "```no_run")]
    #[cfg_attr(not(feature = "redis"), doc = "```text")]
    /// # fn main() -> Result<(), millpond::Error> {
    /// use std::time::Duration;
    /// use millpond::{Fleet, Redis, RedisConfig};
    ///
    /// let config = RedisConfig::from_url("redis://:hunter2@caches.internal")?;
    /// let fleet = Fleet::builder()
    ///     .resolve("caches.internal:6379", Duration::from_secs(30), move |address| {
    ///         Redis::new(config.at(address))
    ///     })
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    /// If `every` is zero.
    pub fn resolve(
        self,
        name: impl Into<String>,
        every: Duration,
        make: impl Fn(SocketAddr) -> Result<B, Error> + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        let what = name.clone();
        let look_up = move || name.to_socket_addrs().map(Iterator::collect);
        self.look_up(what, every, look_up, make)
    }

    /// The same by any other means that tells addresses: a registry of services, a file. It is
    /// called in the background and may block; an error changes nothing.
    ///
    /// # Panics
    /// If `every` is zero.
    pub fn discover(
        self,
        every: Duration,
        look_up: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
        make: impl Fn(SocketAddr) -> Result<B, Error> + Send + Sync + 'static,
    ) -> Self {
        self.look_up("the fleet".into(), every, look_up, make)
    }

    fn look_up(
        mut self,
        what: String,
        every: Duration,
        look_up: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
        make: impl Fn(SocketAddr) -> Result<B, Error> + Send + Sync + 'static,
    ) -> Self {
        assert!(
            !every.is_zero(),
            "the time between look-ups must be positive"
        );
        self.sources.push(Source::new(what, every, look_up, make));
        self
    }

    /// Who is asked first; [`PowerOfTwo`] by default.
    pub fn balance(mut self, strategy: impl Balance) -> Self {
        self.balance = Box::new(strategy);
        self
    }

    /// The settings of each endpoint's pool, to begin with the default ones; called for each. How
    /// long a caller of the fleet waits, and how often an operation is tried, are among them.
    pub fn pool(
        mut self,
        settings: impl Fn(Builder<B>) -> Builder<B> + Send + Sync + 'static,
    ) -> Self {
        self.settings = Box::new(settings);
        self
    }

    /// When an endpoint that fails is left out, and how it comes back.
    pub fn ejection(mut self, rules: Ejection) -> Self {
        self.ejection = rules;
        self
    }

    /// How long an attempt at an operation that [may run twice](crate::Operation::idempotent) may
    /// take before it is tried on another endpoint, within the operation's deadline; no limit of
    /// its own by default. With it, reads do not notice a server that freezes. A group of a batch
    /// has this limit if all of its operations may run twice.
    ///
    /// # Panics
    /// If it is zero.
    pub fn attempt_timeout(mut self, timeout: Option<Duration>) -> Self {
        assert_ne!(
            timeout,
            Some(Duration::ZERO),
            "attempt_timeout must be positive"
        );
        self.attempt_timeout = timeout;
        self
    }

    /// How far a replica may be behind that [reads](Fleet::read) are sent to; no limit by default.
    /// With a limit, a replica that cannot tell its lag gets none. PostgreSQL's is the age of the
    /// last transaction that the replica has applied, which grows also while nothing is written;
    /// then reads go to the primary.
    pub fn max_lag(mut self, limit: Option<Duration>) -> Self {
        self.reads.max_lag = limit;
        self
    }

    /// Whether [reads](Fleet::read) go to the primary too, and not only where there is no
    /// replica for them. `false` by default.
    pub fn read_from_primary(mut self, too: bool) -> Self {
        self.reads.from_primary = too;
        self
    }

    /// Builds the fleet and waits until one endpoint has a connection; the others connect in the
    /// background.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if there are no endpoints, two of one
    /// address, or a weight that cannot be one; what a look-up came to if none found one; else
    /// what connecting came to, if none succeeds within the pools' `connection_timeout`.
    ///
    /// # Panics
    /// If a pool's `min_idle` is larger than its `max_size`.
    pub fn build(self) -> Result<Fleet<B>, Error> {
        let fleet = self.build_unchecked()?;
        drop(fleet.get()?);
        Ok(fleet)
    }

    /// Builds the fleet and lets it connect in the background.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if there are no endpoints, two of one
    /// address, or a weight that cannot be one.
    ///
    /// # Panics
    /// If a pool's `min_idle` is larger than its `max_size`.
    pub fn build_unchecked(mut self) -> Result<Fleet<B>, Error> {
        let endpoints = std::mem::take(&mut self.endpoints);
        if endpoints.is_empty() && self.sources.is_empty() {
            let message = "a fleet needs at least one endpoint";
            return Err(Error::new(
                ErrorKind::Configuration,
                Phase::Connect,
                message,
            ));
        }
        let fleet = Fleet(Arc::new(Inner::new(self)));
        for (manager, weight) in endpoints {
            fleet.join(manager, weight, false)?;
        }
        let weak: Weak<Inner<B>> = Arc::downgrade(&fleet.0);
        let tended: Weak<dyn Tended> = weak;
        let membership = fleet.0.membership.get_or_init(|| keeper::join(tended));
        membership.wake(Clock::System.now());
        Ok(fleet)
    }
}
