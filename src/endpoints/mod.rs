//! One pool over several servers: a [`Fleet`].
//!
//! # How it stands
//!
//! A fleet has an ordinary [`Pool`](crate::Pool) for each endpoint, named `FLEET@ENDPOINT`, so each
//! has its own metrics, health, limits and pace of connecting. A [strategy](Balance) picks the
//! endpoint that a caller asks first; leases are ordinary
//! [`PooledConnection`](crate::PooledConnection)s of that endpoint's pool.
//!
#![cfg_attr(feature = "redis", doc = "```no_run")]
#![cfg_attr(not(feature = "redis"), doc = "```text")]
//! # fn main() -> Result<(), millpond::Error> {
//! use millpond::endpoints::PeakEwma;
//! use millpond::{Fleet, Redis, RedisCommand, RedisConfig};
//!
//! let mut builder = Fleet::builder().name("cache").balance(PeakEwma);
//! for url in ["redis://cache1", "redis://cache2", "redis://cache3"] {
//!     builder = builder.endpoint(Redis::new(RedisConfig::from_url(url)?)?);
//! }
//! let fleet = builder.build()?;
//! let reply = fleet.execute(RedisCommand::new("GET").arg("greeting"))?;
//! # Ok(()) }
//! ```
//!
//! # When endpoints fail
//!
//! * A caller whose pick has no idle connection looks for one elsewhere; only where there is none
//!   does it wait, at one endpoint after the other, up to its deadline. So a server that is
//!   dead costs nobody anything but the operations that it had. The price: among callers of
//!   different endpoints, and of those that have moved on, first come is not first served.
//! * An endpoint on which several operations in succession fail, or whose pool is down, is
//!   [ejected](Ejection) for a growing time, but never all of them, and comes back slowly.
//! * [`Fleet::execute`] tries again on another endpoint what is safe to try again, and so does a
//!   batch over a fleet (`Batch::builder(fleet)`).
//! * An endpoint whose circuit breaker is open gets no operations while another one may: who has
//!   to wait does so there.
//! * A server that is *frozen* answers nothing and refuses nothing. What holds its callers is
//!   bounded by their operations' deadlines; strategies that count callers
//!   ([`PowerOfTwo`], [`LeastConnections`], [`PeakEwma`]) soon avoid it, and after a few missed
//!   deadlines it is ejected. With [`attempt_timeout`](FleetBuilder::attempt_timeout) what may
//!   run twice goes on elsewhere within its deadline. **Callers without a deadline** are held up
//!   to the backend's own timeouts, at most as many as the pool of that endpoint has connections;
//!   and program code that uses a lease by itself is held as long as the driver lets it.
//!
//! # Primaries and replicas
//!
//! [`Fleet::write`] and [`Fleet::read`] are views of the fleet by role. Who is what, the servers say
//! themselves, by what each backend's [`check`](crate::backend::Backend::check) asks; so
//! PostgreSQL's primary and standbys work as Redis's master and replicas do. Once a view was
//! asked for, each endpoint is asked each second, by one query on one connection of its pool.
//! Who decides about a failover is not this library: it follows what it sees. Keep a primary
//! that was superseded from coming back as one (fencing, as every tool for failover does): a
//! program that starts while two claim to be primaries cannot tell who is right, takes the
//! first, and warns.
//!
//! # From a configuration
//!
//! A pool of a [configuration](crate::Config) with a `POOL_BALANCE` is a fleet, with an endpoint for
//! each of its servers, be it one or many; [`Hub::fleet`](crate::Hub::fleet) gives it. The
//! servers are those in `DB_HOST`, `REDIS_HOST` (`a.internal,b.internal:5433`) or `HTTP_BASE_URL`
//! (`https://a,https://b`), or the hosts of `DATABASE_URL`; `DB_PORT` and `REDIS_PORT` have one
//! port for all or one for each. The other `POOL_` variables, its sizes too, count for the pool of
//! each server.
//!
//! | variable | default | |
//! |---|---|---|
//! | `POOL_BALANCE` | none | `round-robin`, `random`, `weighted`, `least-connections`, `power-of-two` or `peak-ewma`; `none` for a single pool |
//! | `POOL_WEIGHTS` | none | with `weighted`: a number (1e-9 to 1e9) for each server, in their order, such as `2,1` |
//! | `POOL_ATTEMPT_TIMEOUT` | none | [how long](FleetBuilder::attempt_timeout) an attempt at what may run twice may take |
//! | `POOL_REPLICA_LAG_LIMIT` | none | [how far](FleetBuilder::max_lag) a replica may be behind that is read from |
//! | `POOL_EJECTION_FAILURES` | 5 | failures in succession after which a server is left out |
//! | `POOL_EJECTION_TIME` `POOL_EJECTION_MAX_TIME` | 1, 60 | for how long at first, and at most |
//! | `POOL_SLOW_START` | 10 | over which time it comes back to its full share; 0 for at once |
//! | `POOL_RESOLVE_INTERVAL` | none | for PostgreSQL and Redis: [each address](FleetBuilder::resolve) of a host name is an endpoint, and names are looked up again so often |
//!
//! Times are seconds. Leave `DB_TARGET_SESSION_ATTRS` as it is: the views tell primary and replicas
//! apart. Where TLS is to check the name of a server that is looked up, its certificate must be
//! good for the address. MongoDB, and Redis with Sentinel or Cluster, balance themselves and take
//! none of this.
//!
//! # Invariants
//!
//! 1. A lease where the pick has an idle connection takes no lock and allocates nothing.
//! 2. While there are endpoints, at least one is in service.
//! 3. Whoever changes the fleet does so under one lock, over which nothing blocks, and shows a
//!    new roster as a whole; callers work on the one they read.
//! 4. The keeper's visit blocks nowhere.

mod attempt;
mod balance;
#[cfg(feature = "batch")]
mod batches;
mod builder;
mod ejection;
mod endpoint;
mod execute;
mod fleet;
mod latency;
mod lend;
mod roles;
mod roster;
#[cfg(feature = "_net")]
mod settings;
mod source;
mod view;
mod watch;

pub use self::balance::{
    Balance, Candidate, Candidates, LeastConnections, PeakEwma, PowerOfTwo, Random, RoundRobin,
    Weighted,
};
pub use self::builder::FleetBuilder;
pub use self::ejection::Ejection;
#[cfg(feature = "batch")]
pub(crate) use self::endpoint::Endpoint;
pub use self::fleet::{EndpointState, Fleet};
#[cfg(feature = "batch")]
pub(crate) use self::lend::{InVain, Lent};
#[cfg(feature = "_net")]
pub(crate) use self::settings::{FleetSettings, OF_FLEETS, is_wanted};
pub use self::view::View;
