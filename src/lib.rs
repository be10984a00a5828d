//! A connection pool for programs that do not use async: PostgreSQL, Redis, MongoDB
//! and HTTP services, and every other manager written for [`r2d2`].
//!
//! # Leases
//!
//! A **manager** makes connections, a [`Pool`] keeps them, and [`Pool::get`] lends one:
//! a [`PooledConnection`], which derefs to the connection and goes back when it is
//! dropped.
//!
#![cfg_attr(feature = "postgres", doc = "```no_run")]
#![cfg_attr(not(feature = "postgres"), doc = "```text")]
//! # fn main() -> Result<(), millpond::Error> {
//! use millpond::{Pool, Postgres, PostgresConfig};
//!
//! let config = PostgresConfig::from_url("postgres://app:secret@localhost/shop")?;
//! let pool = Pool::builder().name("shop").max_size(10).build(Postgres::new(config)?)?;
//!
//! let mut connection = pool.get()?;
//! let row = connection.query_one("SELECT count(*) FROM orders WHERE paid = $1", &[&true])?;
//! println!("{} paid orders", row.get::<_, i64>(0));
//! # Ok(()) }
//! ```
//!
//! A pool is shared as `&Pool` with scoped threads ([`std::thread::scope`]), or cloned
//! into others: a clone is one more handle to the same pool. When the last handle is
//! dropped, the pool closes; leases that are still out stay usable until they come back.
//!
//! # Waiting
//!
//! While a connection is idle, taking it costs a few atomic operations and no lock.
//! Otherwise callers wait in line and are served in turn, up to
//! [`connection_timeout`](Builder::connection_timeout). A thread that happens to be
//! running may overtake those that sleep, but for no longer than
//! [`overtaking`](Builder::overtaking): this keeps the throughput *and* the longest wait.
//!
//! Callers only wait. Connecting, checking, cleaning, pinging and closing are done by one
//! background thread of the process and its small crew, so `get` returns by its deadline
//! even when the server is frozen.
//!
//! # Errors
//!
//! An [`Error`] says what went wrong ([`ErrorKind`]), in which [`Phase`], in which pool,
//! at which endpoint, what the driver said (its source), and what to do about it. If all
//! connections were in use, it names who holds them. What cannot heal by itself, such as
//! a wrong password, is reported after one attempt; the rest is retried until the
//! deadline.
//!
//! ```
//! # #[derive(Debug)] struct Nothing;
//! # impl millpond::ManageConnection for Nothing {
//! #     type Connection = ();
//! #     type Error = std::io::Error;
//! #     fn connect(&self) -> std::io::Result<()> { Ok(()) }
//! #     fn is_valid(&self, _: &mut ()) -> std::io::Result<()> { Ok(()) }
//! #     fn has_broken(&self, _: &mut ()) -> bool { false }
//! # }
//! # fn main() -> Result<(), millpond::Error> {
//! # let manager = Nothing;
//! use std::time::Duration;
//! use millpond::{ErrorKind, Pool};
//!
//! let pool = Pool::builder().max_size(1).build(manager)?;
//! let held = pool.get()?;
//! let error = pool.get_timeout(Duration::from_millis(10)).unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Exhausted);
//! assert!(error.to_string().contains(file!()), "where `held` was taken: {error}");
//! # drop(held); Ok(()) }
//! ```
//!
//! # Clean connections
//!
//! With the four backends, what a lease leaves behind does not reach the next one: an
//! open transaction, a setting, a subscription. By default ([`Reset::Fast`]) a connection
//! on which nothing of that kind was noticed goes back at once, and any other is cleaned
//! in the background first. A lease that is dropped by a panic is closed;
//! [`PooledConnection::discard`] closes one on purpose.
//!
//! # The pool's size
//!
//! A pool opens [`min_idle`](Builder::min_idle) connections at first, up to
//! [`max_size`](Builder::max_size) when that shortens the wait of those in line (so a
//! burst of short operations opens none), and closes those that are idle for
//! [`idle_timeout`](Builder::idle_timeout) or older than
//! [`max_lifetime`](Builder::max_lifetime). To find a size, start with twice the number
//! of the server's cores and look at [`Pool::metrics`]: as long as `waited` is small
//! beside `held`, more connections buy nothing. While the server says that it is overloaded there
//! are fewer: see [`adaptive`](Builder::adaptive).
//!
//! # Steering a running pool
//!
//! [`Pool::pause`] and [`resume`](Pool::resume), [`clear`](Pool::clear) (everything that
//! exists now is replaced), [`set_max_size`](Pool::set_max_size),
//! [`drain`](Pool::drain) and [`close`](Pool::close), which wait until every connection
//! has come back or say who still holds one. [`Pool::state`], [`Pool::holders`] and
//! [`Pool::metrics`] tell what goes on.
//!
//! # Operations
//!
//! [`Pool::execute`] runs one [operation](operation): takes a lease, tries again what is safe
//! to try again, and is over by the operation's deadline, whatever the server does.
//!
#![cfg_attr(feature = "postgres", doc = "```no_run")]
#![cfg_attr(not(feature = "postgres"), doc = "```text")]
//! # fn example(pool: &millpond::Pool<millpond::Postgres>) -> Result<(), millpond::Error> {
//! use std::time::Duration;
//! use millpond::{Operation, Sql};
//!
//! let paid = Sql::new("UPDATE orders SET paid = now() WHERE id = $1").bind(7);
//! let reply = pool.execute(paid.deadline(Duration::from_millis(300)))?;
//! assert_eq!(reply.affected(), 1);
//! # Ok(()) }
//! ```
//!
//! # Batches
//!
//! A [`Batch`] takes operations from any thread and runs them in groups, which
//! is many times faster than one by one; see [`batch`]. Each operation has an [`Outcome`] of
//! its own: done, rejected by the server, certainly not executed, or unknown. It works on a pool,
//! on a [`Fleet`], or on a view of one: over `fleet.write()` it follows the primary.
//!
//! # Several servers
//!
//! A [`Fleet`] keeps a pool for each server and sends callers to the one that its strategy picks; a
//! server that fails is left out for a while and comes back slowly. `fleet.write()` is the
//! primary, `fleet.read()` its replicas, by what the servers say of themselves. Give operations
//! deadlines: nothing else frees a caller from a server that froze. See [`endpoints`].
#![cfg_attr(
    all(feature = "batch", feature = "redis"),
    doc = "A [`SharedQueue`](shared_queue::SharedQueue) is the batch queue of many processes."
)]
//!
//! # Servers in trouble
//!
//! What is tried again is paced, bounded by a budget, and stopped by a [circuit breaker](Breaker)
//! while a server keeps failing. Passwords in files, alone or in a URL, are read for each login,
//! and [certificates](security#files-that-change) for each connection, so that they can change
//! while the program runs.
//!
//! # Watching
//!
//! A [`Hub`] watches pools and batches: [metrics], [health], history, [alerts]. With the feature
//! `exporter` it has a live page, and answers for Prometheus and load balancers. What the log is
//! told is up to [`logging`]. With the feature `audit`, every operation leaves a line in a log in
//! which nothing can be changed unnoticed.
//!
//! Before a program starts, `Config::check` connects to every server once, within a time of your
//! choice, and reports as [`Hub::health`] does; the command `millpond` (feature `cli`) prints it.
//! What is promised about secrets and values, and what is not, is in [`security`].
//!
//! # Backends and managers
//!
//! | feature | manager | lease | operation |
//! |---|---|---|---|
//! | `postgres` | `Postgres` | `PostgresConnection`: the `postgres::Client`, with kept statements | `Sql` |
//! | `redis` | `Redis` | `RedisConnection`: a `redis::ConnectionLike` | `RedisCommand` |
//! | `mongodb` | `MongoDb` | `MongoDbConnection`: the `mongodb::sync::Client` | `MongoOperation` |
//! | `http` | `Http` | `HttpConnection`: one keep-alive connection, and the `ureq::Agent` | `HttpRequest` |
//!
//! Any other [`ManageConnection`] works as well. One of your own can tell the pool more, and
//! have operations and batches, by implementing [`backend::Backend`].
//!
//! # Coming from r2d2
//!
//! Write `use millpond as r2d2;`: the interface of r2d2 0.8.10 is part of this one, and
//! managers, customizers and error handlers implement r2d2's own traits.
//!
//! # Platforms
//!
//! Developed and tested on Linux.

pub mod alerts;
#[cfg(feature = "audit")]
pub mod audit;
pub mod backend;
#[cfg(feature = "batch")]
pub mod batch;
mod clock;
pub mod config;
mod contain;
mod deadline;
pub mod endpoints;
mod error;
pub mod event;
mod execute;
#[cfg(feature = "exporter")]
pub mod exporter;
pub mod health;
pub mod hub;
mod keeper;
pub mod logging;
pub mod metrics;
pub mod operation;
mod pool;
mod record;
mod recovery;
pub mod resources;
pub mod security;
#[cfg(all(feature = "batch", feature = "redis"))]
pub mod shared_queue;
mod sync;
mod threads;

#[cfg(feature = "http")]
pub use backend::http::{Http, HttpConfig, HttpConnection, HttpRequest, HttpResponse};
#[cfg(feature = "mongodb")]
pub use backend::mongodb::{MongoDb, MongoDbConfig, MongoDbConnection, MongoOperation, MongoReply};
#[cfg(feature = "postgres")]
pub use backend::postgres::{
    Postgres, PostgresConfig, PostgresConnection, Sql, SqlReply, SqlRow, SqlValue,
};
#[cfg(feature = "redis")]
pub use backend::redis::{Redis, RedisCommand, RedisConfig, RedisConnection};
#[cfg(feature = "batch")]
pub use batch::{Batch, BatchMetrics, Ticket};
#[cfg(feature = "_net")]
pub use config::Config;
pub use deadline::Deadline;
pub use endpoints::Fleet;
pub use error::{ConnectFailure, Error, ErrorKind, Phase, Source};
pub use event::{HandleEvent, NopEventHandler};
pub use health::Health;
pub use hub::Hub;
pub use operation::{Envelope, NoOperation, Operation, Outcome, Priority};
pub use pool::{
    Builder, CloseReason, ConnectionInfo, Holder, Pool, PoolMetrics, PooledConnection, Reset, State,
};
pub use r2d2::{
    CustomizeConnection, Extensions, HandleError, LoggingErrorHandler, ManageConnection,
    NopConnectionCustomizer, NopErrorHandler,
};
pub use recovery::{Breaker, BreakerState, RetryPolicy};
#[cfg(any(feature = "_net", feature = "exporter", feature = "audit"))]
pub use security::Secret;
#[cfg(feature = "_net")]
pub use security::{SealingKey, Tls, TlsVersion};

/// The README's programs compile.
#[cfg(all(doctest, feature = "postgres", feature = "batch", feature = "exporter"))]
#[doc = include_str!("../README.md")]
struct Readme;
