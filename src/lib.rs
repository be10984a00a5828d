//! Millpond: a blocking connection pool.

pub mod backend;
mod config;
mod error;
mod pool;
#[cfg(feature = "_net")]
mod security;

#[cfg(feature = "http")]
pub use backend::http::{Http, HttpConfig, HttpConnection};
#[cfg(feature = "redis")]
pub use backend::redis::{Redis, RedisConfig, RedisConnection};
pub use error::{ConnectFailure, Error, ErrorKind, Phase, Source};
pub use pool::{Holder, Reset, State};
pub use r2d2::ManageConnection;
#[cfg(feature = "_net")]
pub use security::{Secret, Tls};
