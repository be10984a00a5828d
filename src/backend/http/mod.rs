//! HTTP services: a lease is one keep-alive connection to one service.
//!
//! [`Http`] is the manager, [`HttpConfig`] its settings, [`HttpConnection`] what a
//! lease gives: requests by path, JSON, and by `Deref` the driver's
//! [`ureq::Agent`], whose requests to the same service use the same socket.
//!
//! ```no_run
//! use millpond::{Http, HttpConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = HttpConfig::new("https://api.example.com/v1").bearer_token("...");
//! let pool = millpond::Pool::new(Http::new(config)?)?;
//! let mut lease = pool.get()?;
//! let response = lease.get("/users?limit=10")?;
//! println!("{} {}", response.status(), response.text()?);
//! # Ok(())
//! # }
//! ```
//!
//! How the one socket is kept: the driver asks our connector for a connection at
//! every request and would keep it in a pool of its own afterwards. That pool's
//! size is zero here. The connector lends the driver the kept `wire::Wire`, and
//! when the driver lets go of it after a complete exchange, it is kept again.
//!
//! Invariants:
//! - At most one wire per connection is kept, and it has nothing unread on it.
//! - A wire that failed, timed out, or whose response was not read to its end is
//!   closed, never kept.
//! - Only the service's own origin sees the login and the default headers:
//!   redirects to other origins are followed without them, on sockets of their own.
//! - No proxy is used, whatever the environment says.

mod codes;
mod config;
mod connection;
mod connector;
mod errors;
mod execute;
mod manager;
mod operation;
mod request;
mod response;
mod retry_after;
mod text;
mod wire;

pub use codes::kind_of_status;
pub use config::HttpConfig;
pub use connection::HttpConnection;
pub use errors::HttpStatusError;
pub use manager::Http;
pub use operation::HttpRequest;
pub use response::HttpResponse;
pub use ureq::http::{HeaderMap, Method, Request};
