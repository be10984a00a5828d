//! MongoDB, through the driver's own synchronous client.
//!
//! The driver pools sockets itself and one client of it is meant to be shared by
//! a whole program. So a lease of this backend is a *permit*: [`MongoDb`], the
//! manager, owns one driver client, and every [`MongoDbConnection`] is a counted
//! handle on it. A thread uses one socket at a time, hence the driver never has
//! more sockets in use than there are leases, and the open ones follow a pool's
//! size (the driver learns a little late that a socket is free, so there may be a
//! few more). [`MongoDbConfig::max_sockets`] is the hard bound, and [`Sockets`]
//! counts the real ones from the driver's own events.
//!
//! ```no_run
//! use millpond::{ManageConnection, MongoDb, MongoDbConfig};
//! use mongodb::bson::{Document, doc};
//!
//! # fn main() -> Result<(), millpond::Error> {
//! let manager = MongoDb::new(MongoDbConfig::from_url("mongodb://localhost/shop")?)?;
//! let lease = manager.connect()?;
//! let orders = lease.db()?.collection::<Document>("orders");
//! orders.insert_one(doc! { "_id": 7, "total": 12 }).run()?;
//! # Ok(()) }
//! ```
//!
//! # Invariants
//!
//! - One driver client per manager, made by the first `connect`: each costs two
//!   monitoring sockets per server. Another one takes its place only when the
//!   password or the TLS files have changed, as the driver reads these once per
//!   client. The old one lives as long as a lease has it: until then it opens
//!   sockets with what it was made with, and leases are replaced after the pool's
//!   [`max_lifetime`](crate::Builder::max_lifetime) at the latest.
//! - Live permits never exceed [`MongoDbConfig::max_sockets`], so no operation
//!   waits unseen in the driver's own queue, which has no timeout.
//! - `connect`, `is_valid` and `check` end within their limits whatever the server
//!   does: they poll the driver's asynchronous client on the calling thread
//!   against a deadline (see `runtime`). While it is not known whether the servers answer, one
//!   of them asks and the others share what it is told (see `scout`): the driver would log in
//!   for each.
//! - Two background threads serve all managers of the process; see `runtime`.
//!
//! # What a frozen server does to the driver's own calls
//!
//! The driver has no socket timeout. A call on a server that stopped answering
//! returns when the driver's monitor notices, after
//! [`heartbeat`](MongoDbConfig::heartbeat) and
//! [`connect_timeout`](MongoDbConfig::connect_timeout), or after
//! [`server_selection_timeout`](MongoDbConfig::server_selection_timeout) more
//! where the driver retries. So does one on a server whose certificate is no longer
//! trusted, or that no longer accepts ours. [`MongoDbConnection::within`] and the deadline
//! of a [`MongoOperation`] hold whatever happens.
//!
//! # Operations
//!
//! [`MongoOperation`] is data: its documents are encoded once, where it is made
//! (`document`), checked without I/O (`validation`) and written as JSON in a form of their
//! own (`form`). `execute` runs one, `batch` a group, and `answer` reads what a server says
//! to many updates at once.

mod answer;
mod batch;
mod client;
mod codes;
mod config;
mod connection;
mod document;
mod driver;
mod environment;
mod errors;
mod execute;
mod form;
mod manager;
mod operation;
mod reply;
mod runtime;
mod scout;
mod service;
mod sockets;
mod topology;
mod uri;
mod validation;

#[cfg(test)]
mod tests;

pub use codes::kind_of_code;
pub use config::MongoDbConfig;
pub use connection::MongoDbConnection;
pub use manager::MongoDb;
pub use operation::MongoOperation;
pub use reply::MongoReply;
pub use sockets::{SocketMeter, Sockets};
