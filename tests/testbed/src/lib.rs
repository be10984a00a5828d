//! Throw-away servers for Millpond's tests, examples and benches.
//!
//! ```no_run
//! # fn main() -> Result<(), testbed::Error> {
//! let postgres = testbed::Postgres::start()?;
//! assert_eq!(postgres.psql("SELECT 1")?, "1");
//! let proxy = testbed::Proxy::start(postgres.port())?;
//! // ... connect through proxy.port(), then:
//! proxy.cut();
//! postgres.freeze();
//! postgres.thaw();
//! postgres.kill();
//! postgres.restart()?;
//! # Ok(())
//! # }
//! ```
//!
//! **Where servers come from.** From `PATH`, from Debian's folder of versioned
//! PostgreSQL programs, or fetched without root into `testbed` in cargo's target
//! folder: nothing is ever installed. What cannot be had is an [`Error`] that
//! names the package. `TESTBED_FETCH=1` ignores the machine's own programs.
//!
//! **Where they live.** On free ports of 127.0.0.1, in temporary folders.
//!
//! **How they end.** By drop. Those kept in statics (see [`Postgres::shared`]) and
//! those of a process that panics, is interrupted or killed end with the process,
//! and their folders with them.
//!
//! **What they keep secret.** Each password, token and key begins with [`MARK`] (see
//! [`secret!`]), and so do values that tests send ([`value`], [`number`]). `TESTBED_TRACE=DIR`
//! writes the log of each test process, at trace level, into a file there, and what tests
//! [`keep`]; the program `find-secrets` looks for the mark in all of them.
//!
//! Linux only: it stands on `/proc`, `setpriv` and parent-death signals.

#![allow(missing_debug_implementations, reason = "tests do not print servers")]

mod ca;
mod error;
mod fetch;
mod folder;
mod locate;
mod mongo;
mod nginx;
mod pace;
mod pgbouncer;
mod ports;
mod postgres;
mod process;
mod prometheus;
mod proxy;
mod redis;
mod secrets;
mod servers;
mod silent;
mod trace;
mod user;

pub use ca::{Ca, Identity, Issue};
pub use error::Error;
pub use mongo::{Mongo, MongoBuilder, MongoMember};
pub use nginx::{Nginx, NginxBuilder};
pub use pace::Pace;
pub use pgbouncer::PgBouncer;
pub use ports::refused_port;
pub use postgres::{Postgres, PostgresBuilder};
pub use prometheus::{Prometheus, promtool};
pub use proxy::Proxy;
pub use redis::{Redis, RedisBuilder, RedisCluster, RedisSentinel};
pub use secrets::{MARK, bears_mark, number, value, what, which};
pub use servers::Servers;
pub use silent::{BlackHole, Silent};
pub use trace::{keep, listen, trace};
