//! What the plan asks the settings of a backend, whichever it is.

use std::net::SocketAddr;

use super::vars::Vars;
use crate::backend::Backend;
#[cfg(feature = "http")]
use crate::backend::http::{Http, HttpConfig};
#[cfg(feature = "mongodb")]
use crate::backend::mongodb::{MongoDb, MongoDbConfig};
#[cfg(feature = "postgres")]
use crate::backend::postgres::{Postgres, PostgresConfig};
#[cfg(feature = "redis")]
use crate::backend::redis::{Redis, RedisConfig};
use crate::error::Error;

/// The settings of a backend's server.
pub(super) trait Service: Clone + Send + Sync + 'static {
    type Manager: Backend<Error = Error>;

    /// Of one server, or of several as the driver understands it; `None` if it is off.
    fn one(vars: &mut Vars<'_>) -> Option<Self>;

    /// Of each server by itself, never none of them; `None` if it is off.
    fn each(vars: &mut Vars<'_>) -> Option<Vec<Self>>;

    fn manager(self) -> Result<Self::Manager, Error>;

    /// `host:port`, if the host is a name that may stand for several servers.
    fn host_name(&self) -> Option<String> {
        None
    }

    /// The same service at this address of its name.
    fn at(&self, _address: SocketAddr) -> Self {
        self.clone()
    }
}

#[cfg(feature = "postgres")]
impl Service for PostgresConfig {
    type Manager = Postgres;

    fn one(vars: &mut Vars<'_>) -> Option<Self> {
        Self::from_vars(vars)
    }

    fn each(vars: &mut Vars<'_>) -> Option<Vec<Self>> {
        Self::from_vars(vars).map(Self::of_each_host)
    }

    fn manager(self) -> Result<Postgres, Error> {
        Postgres::new(self)
    }

    fn host_name(&self) -> Option<String> {
        Self::host_name(self)
    }

    fn at(&self, address: SocketAddr) -> Self {
        Self::at(self, address)
    }
}

#[cfg(feature = "redis")]
impl Service for RedisConfig {
    type Manager = Redis;

    fn one(vars: &mut Vars<'_>) -> Option<Self> {
        Self::from_vars(vars)
    }

    fn each(vars: &mut Vars<'_>) -> Option<Vec<Self>> {
        Self::each_from_vars(vars)
    }

    fn manager(self) -> Result<Redis, Error> {
        Redis::new(self)
    }

    fn host_name(&self) -> Option<String> {
        Self::host_name(self)
    }

    fn at(&self, address: SocketAddr) -> Self {
        Self::at(self, address)
    }
}

#[cfg(feature = "mongodb")]
impl Service for MongoDbConfig {
    type Manager = MongoDb;

    fn one(vars: &mut Vars<'_>) -> Option<Self> {
        Self::from_vars(vars)
    }

    fn each(vars: &mut Vars<'_>) -> Option<Vec<Self>> {
        let one = Self::from_vars(vars)?;
        vars.refuse_balance("for MongoDB, whose driver balances over all of MONGODB_HOST itself");
        Some(vec![one])
    }

    fn manager(self) -> Result<MongoDb, Error> {
        MongoDb::new(self)
    }
}

#[cfg(feature = "http")]
impl Service for HttpConfig {
    type Manager = Http;

    fn one(vars: &mut Vars<'_>) -> Option<Self> {
        Self::from_vars(vars)
    }

    fn each(vars: &mut Vars<'_>) -> Option<Vec<Self>> {
        Self::each_from_vars(vars)
    }

    fn manager(self) -> Result<Http, Error> {
        Http::new(self)
    }
}

#[cfg(any(feature = "redis", feature = "mongodb"))]
impl Vars<'_> {
    /// `POOL_BALANCE` is set for a pool that must not have it.
    pub(crate) fn refuse_balance(&mut self, why: &str) {
        let strategy = self.text("POOL_BALANCE").unwrap_or_default();
        let accepted = format!(
            "none {why}; set it in the tables [pools.NAME] of those that have several servers"
        );
        self.mistake("POOL_BALANCE", &strategy, &accepted);
    }
}
