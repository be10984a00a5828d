//! Redis: a single node, a primary or replica behind Sentinel, or a Cluster.
//!
//! [`Redis`] is the manager, [`RedisConfig`] its settings, [`RedisConnection`]
//! what a lease gives: it implements the driver's [`redis::ConnectionLike`], so
//! `redis::cmd(..).query(&mut lease)`, `redis::pipe()` and every method of
//! `redis::Commands` work on a lease directly.
//!
//! ```no_run
//! use millpond::{Redis, RedisConfig};
//! use redis::Commands;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = millpond::Pool::new(Redis::new(RedisConfig::new().host("localhost"))?)?;
//! let mut lease = pool.get()?;
//! let _: () = lease.set("greeting", "hello")?;
//! let text: String = lease.get("greeting")?;
//! let both: (String, i64) = redis::pipe().get("greeting").incr("visits", 1).query(&mut lease)?;
//! # Ok(())
//! # }
//! ```
//!
//! Invariants:
//! - Every command passes through [`RedisConnection`], which looks at its name
//!   only; what changes the connection (`SELECT`, `WATCH`, `SUBSCRIBE`, ...) is
//!   noticed there, and a lease that did nothing of the kind is clean without I/O.
//! - After an I/O or protocol error a reply may still be on its way, so the
//!   connection counts as broken from then on, whatever the driver thinks of it.
//! - Nothing is sent twice: the driver's own retries are off.
//!
//! In a Cluster an operation goes to the node that owns the slot of its keys, and a batch to all
//! its nodes at once. `MOVED`, `ASK` and `TRYAGAIN` are followed for each command; a node that
//! is lost takes nothing of the others with it. A lease has a connection to each node that it
//! has needed. What is in several slots (`MGET` of any keys), or in none (`FLUSHALL`), is left to
//! the driver, one command after the other: where a part of it fails, its outcome is unknown.
//!
//! How soon work goes on after a failover is up to the timeouts where a server is not gone but
//! silent: an operation that waits for it holds its connection until its deadline,
//! `REDIS_READ_TIMEOUT` or, while connecting, `REDIS_CONNECT_TIMEOUT`.
//!
//! A `redis::pipe()` that times out goes on to wait for each of its replies (the driver
//! does so), so it can last as long as the read timeout times its commands. Operations
//! ([`RedisCommand`]), one by one or in a batch, have one deadline for all.

mod arguments;
mod batch;
mod cluster;
mod codes;
mod commands;
mod config;
mod connection;
mod dial;
mod errors;
mod manager;
mod notice;
mod operation;
mod reply;
mod sentinel;
mod service;
mod timed;
mod tls;
mod wire;

pub use codes::kind_of_answer;
pub use config::{RedisConfig, SentinelRole};
pub use connection::RedisConnection;
pub use manager::Redis;
pub use operation::RedisCommand;
pub use reply::Reply;
