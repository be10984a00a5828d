//! A fleet seen by those who write, or by those who read.

use std::borrow::Borrow;
use std::panic::Location;
use std::time::Duration;

use super::Fleet;
use super::roles::Wanted;
use crate::backend::Backend;
use crate::error::Error;
use crate::pool::PooledConnection;

/// The endpoints of a fleet that take writes, or those for reads: [`Fleet::write`],
/// [`Fleet::read`].
#[derive(Debug)]
pub struct View<B: Backend> {
    pub(super) fleet: Fleet<B>,
    pub(super) wanted: Wanted,
}

impl<B: Backend> Clone for View<B> {
    fn clone(&self) -> Self {
        Self {
            fleet: self.fleet.clone(),
            wanted: self.wanted,
        }
    }
}

impl<B: Backend> Fleet<B> {
    /// The fleet for those who write: callers are sent to the endpoint that takes writes now, by
    /// its own account; while there is none, they wait for one. A failover is followed: a server
    /// that is seen to be promoted gets the writes within a few hundredths of a second, whether
    /// the old one died, froze or was demoted.
    ///
    /// Where endpoints are primaries, that is *one* of them, and one that was superseded does not
    /// get the writes back unless it is promoted again. Where endpoints have no roles (HTTP), it
    /// is all of them.
    ///
    #[cfg_attr(feature = "postgres", doc = "```no_run")]
    #[cfg_attr(not(feature = "postgres"), doc = "```text")]
    /// # fn main() -> Result<(), millpond::Error> {
    /// use std::time::Duration;
    /// use millpond::{Fleet, Postgres, PostgresConfig, Sql};
    ///
    /// let at = |url| PostgresConfig::from_url(url).and_then(Postgres::new);
    /// let fleet = Fleet::builder()
    ///     .endpoint(at("postgres://app:secret@db1/shop")?)
    ///     .endpoint(at("postgres://app:secret@db2/shop")?)
    ///     .max_lag(Some(Duration::from_secs(5)))
    ///     .build()?;
    /// let (write, read) = (fleet.write(), fleet.read());
    /// write.execute(Sql::new("INSERT INTO orders (item) VALUES ($1)").bind("lamp"))?;
    /// let orders = read.execute(Sql::new("SELECT count(*) FROM orders"))?;
    /// # Ok(()) }
    /// ```
    pub fn write(&self) -> View<B> {
        self.view(Wanted::Write)
    }

    /// The fleet for those who read: callers are sent to the replicas within
    /// [`max_lag`](super::FleetBuilder::max_lag), balanced as usual; if there is none, to the
    /// endpoint that takes writes; if there is none either, to whoever is in service, so that reads
    /// do not stop with the primary. With a `max_lag` the first reads wait until it is known who is
    /// fit for them, for a second at most.
    pub fn read(&self) -> View<B> {
        self.view(Wanted::Read)
    }

    fn view(&self, wanted: Wanted) -> View<B> {
        self.0.use_roles();
        View {
            fleet: self.clone(),
            wanted,
        }
    }
}

impl<B: Backend> View<B> {
    /// Takes a connection of one of these endpoints, waiting for at most the pools'
    /// `connection_timeout`.
    ///
    /// # Errors
    /// Those of [`Fleet::get`]; [`WrongRole`](crate::ErrorKind::WrongRole) if no endpoint took
    /// writes by then.
    #[track_caller]
    pub fn get(&self) -> Result<PooledConnection<B>, Error> {
        self.get_timeout(self.fleet.0.patience)
    }

    /// Takes a connection of one of these endpoints, waiting for at most `timeout`.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    #[track_caller]
    pub fn get_timeout(&self, timeout: Duration) -> Result<PooledConnection<B>, Error> {
        let location = Location::caller();
        match self.fleet.0.lend_idle(self.wanted, location) {
            Some(lease) => Ok(lease),
            None => self.fleet.0.lend(self.wanted, timeout, location),
        }
    }

    /// Runs an operation on one of these endpoints; see [`Fleet::execute`].
    ///
    /// # Errors
    /// Those of [`Fleet::execute`]; [`WrongRole`](crate::ErrorKind::WrongRole) if no endpoint took
    /// writes within the pools' `connection_timeout`.
    #[track_caller]
    pub fn execute(&self, operation: impl Borrow<B::Operation>) -> Result<B::Reply, Error> {
        let location = Location::caller();
        self.fleet
            .0
            .execute(self.wanted, operation.borrow(), location)
    }
}
