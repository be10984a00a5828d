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
//! # Operations
//!
//! An [`Sql`] runs by [`Pool::execute`](crate::Pool::execute) in one round trip once its
//! statement is prepared on the connection, and comes back as [`SqlReply`] with rows in
//! text form. In a group, INSERTs of one row with the same text become one statement, and
//! all others share one round trip and one commit; what the server refuses is split until
//! the culprit stands alone.
//!
//! # Behind a pooler
//!
//! PgBouncer in transaction mode gives each transaction whatever server connection is free.
//! So what stays prepared on one is missing on the next, and names of statements meet those
//! of other programs. A connection notices at its login that it talks to a pooler, and then
//! keeps nothing prepared: values go as literals in the text, or in a transaction of their
//! own. On a Unix socket it cannot notice: set
//! [`statement_cache(0)`](PostgresConfig::statement_cache) there. A pooler that pools whole
//! sessions is noticed too; there say how many statements to keep. Should a server still not
//! know a statement that was kept, it is run without, and the connection keeps no more.
//!
//! What you do yourself by way of the driver is yours to keep within one transaction: a
//! [`Statement`](postgres::Statement) of your own, `SET`, `LISTEN`, temporary tables.
//!
//! The server's setting `standard_conforming_strings` is taken to be on, as it is by
//! default.
//!
//! # What the driver does not do, and how it is made up for
//!
//! * `Client::is_closed()` stays false after the server has gone: the connection
//!   notes errors that mean a lost connection itself, and what happens out of its
//!   sight (through the driver's own interface) is found by the reset that follows.
//! * `connect_timeout` covers TCP only, and nothing in the driver ends a call that
//!   waits for a server that has stopped answering. So the socket gets a fuse (see `fuse`
//!   and `connector`): login, checks, resets and whatever has a deadline
//!   ([`within_deadline`](PostgresConnection::within_deadline)) end by the clock. On a
//!   Unix socket this cannot be done. There a deadline only has the server asked to
//!   cancel, and a server that is frozen, as a whole or since the moment it was last
//!   seen alive (see `probe`), holds the calling thread until it goes on.
//! * Dropping a `Client` talks to the server: the pool does it in the background, and
//!   the fuse ends it.
//! * The driver logs parameter values at debug level: keep `tokio_postgres` at `info`.

mod batch;
mod cache;
mod codes;
mod config;
mod connection;
mod connector;
mod errors;
mod fuse;
mod greeting;
mod manager;
mod operation;
mod probe;
mod sql;
mod statement;

pub use codes::kind_of_sqlstate;
pub use config::{PostgresConfig, SslMode, TargetSession};
pub use connection::{PostgresConnection, Query};
pub use manager::Postgres;
pub use operation::Sql;
pub use sql::{FromSqlText, SqlIndex, SqlReply, SqlRow, SqlValue};
