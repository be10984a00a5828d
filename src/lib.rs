//! Millpond: a blocking connection pool.

pub mod backend;
mod clock;
mod config;
mod error;
pub mod event;
mod keeper;
mod pool;
#[cfg(feature = "_net")]
mod security;

#[cfg(feature = "http")]
pub use backend::http::{Http, HttpConfig, HttpConnection};
#[cfg(feature = "mongodb")]
pub use backend::mongodb::{MongoDb, MongoDbConfig, MongoDbConnection};
#[cfg(feature = "postgres")]
pub use backend::postgres::{Postgres, PostgresConfig, PostgresConnection};
#[cfg(feature = "redis")]
pub use backend::redis::{Redis, RedisConfig, RedisConnection};
pub use error::{ConnectFailure, Error, ErrorKind, Phase, Source};
pub use event::{HandleEvent, NopEventHandler};
pub use pool::{
    Builder, CloseReason, ConnectionInfo, Holder, Pool, PoolMetrics, PooledConnection, Reset, State,
};
pub use r2d2::{
    CustomizeConnection, Extensions, HandleError, LoggingErrorHandler, ManageConnection,
    NopConnectionCustomizer, NopErrorHandler,
};
#[cfg(feature = "_net")]
pub use security::{Secret, Tls};
