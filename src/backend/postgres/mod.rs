//! PostgreSQL, on the `postgres` driver and `r2d2_postgres`.
//!
//! ```no_run
//! use millpond::{Pool, Postgres, PostgresConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = PostgresConfig::new().host("localhost").database("app").user("app");
//! let pool = Pool::builder().max_size(8).build(Postgres::new(config)?)?;
//! let mut lease = pool.get()?;
//! let row = lease.query_one("SELECT $1::int + 1", &[&41])?;
//! assert_eq!(row.get::<_, i32>(0), 42);
//! # Ok(()) }
//! ```
//!
//! A lease derefs to [`PostgresConnection`], and that to the driver's
//! [`Client`](postgres::Client) with its whole interface. `query`, `query_one`,
//! `query_opt` and `execute` are shadowed by ones that keep prepared statements, so
//! that each costs one round trip after the first.
//!
//! # What the driver does not do, and how it is made up for
//!
//! * `Client::is_closed()` stays false after the server has gone: the connection
//!   notes errors that mean a lost connection itself, and what happens out of its
//!   sight (through the driver's own interface) is found by the reset that follows.
//! * `connect_timeout` covers TCP only, and nothing can interrupt a login that hangs.
//!   So each host is asked first, on a socket of our own and by the clock, whether it
//!   answers at all (see `probe`). A server that freezes in the few hundred
//!   microseconds between that and the end of the login still holds one background
//!   thread until it goes on or its connection breaks.
//! * Dropping a `Client` talks to the server: the pool does it in the background.
//! * The driver logs parameter values at debug level: keep `tokio_postgres` at `info`.

mod batch;
mod cache;
mod config;
mod connection;
mod errors;
mod manager;
mod operation;
mod probe;
mod sql;
mod statement;

pub use config::{PostgresConfig, SslMode, TargetSession};
pub use connection::{PostgresConnection, Query};
pub use manager::Postgres;
pub use operation::Sql;
pub use sql::{FromSqlText, SqlIndex, SqlReply, SqlRow, SqlValue};
