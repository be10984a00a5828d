//! What a lease of the MongoDB backend derefs to.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use mongodb::sync::{Client, Database};

use super::manager::Permit;
use super::runtime;
use super::sockets::Sockets;
use crate::error::{Error, ErrorKind, Phase};

/// A permit to use the manager's one driver client. Derefs to
/// [`mongodb::sync::Client`], so that the driver's whole API is there.
///
/// The client may be cloned and shared, but what is done with a clone after the
/// lease has gone back is outside the pool's bounds.
///
/// Nothing that one user does with it reaches the next one: sessions, transactions
/// and cursors are objects of their own in this driver, which end when they are
/// dropped, and a socket has no state that an operation could leave behind. That is
/// why there is nothing to reset.
///
/// ```no_run
/// # use millpond::{ManageConnection, MongoDb, MongoDbConfig};
/// # use mongodb::bson::{Document, doc};
/// # fn main() -> Result<(), millpond::Error> {
/// # let lease = MongoDb::new(MongoDbConfig::new().database("shop"))?.connect()?;
/// let orders = lease.db()?.collection::<Document>("orders");
/// let order = orders.find_one(doc! { "_id": 7 }).run()?;
/// let logs = lease.database("logs"); // the driver's own method
/// # Ok(()) }
/// ```
pub struct MongoDbConnection {
    client: Client,
    driver: mongodb::Client,
    permit: Permit,
    /// The driver's count of clears when this permit was last known to be good.
    clears: u64,
}

impl MongoDbConnection {
    pub(super) fn new(driver: mongodb::Client, permit: Permit, clears: u64) -> Self {
        Self {
            client: Client::from(driver.clone()),
            driver,
            permit,
            clears,
        }
    }

    /// The database of the configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] when it names none.
    pub fn db(&self) -> Result<Database, Error> {
        self.client.default_database().ok_or_else(|| {
            Error::new(
                ErrorKind::Configuration,
                Phase::Operation,
                "no database is configured: set MONGODB_DB (MongoDbConfig::database)",
            )
            .with_endpoint(self.permit.endpoint())
        })
    }

    /// Runs an operation of the driver's asynchronous API on this thread, and gives
    /// up after `limit`, whatever the server does. No runtime is needed.
    ///
    /// # Errors
    /// The operation's own error, or [`ErrorKind::DeadlineExceeded`], with its outcome
    /// unknown; the socket that it used is closed then.
    ///
    /// ```no_run
    /// # use millpond::{ManageConnection, MongoDb, MongoDbConfig};
    /// # use mongodb::bson::{Document, doc};
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), millpond::Error> {
    /// # let lease = MongoDb::new(MongoDbConfig::new())?.connect()?;
    /// let order = lease.within(Duration::from_millis(300), async |client| {
    ///     let orders = client.database("shop").collection::<Document>("orders");
    ///     orders.find_one(doc! { "_id": 7 }).await
    /// })?;
    /// # Ok(()) }
    /// ```
    pub fn within<'a, T, F>(
        &'a self,
        limit: Duration,
        operation: impl FnOnce(&'a mongodb::Client) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, mongodb::error::Error>>,
    {
        match runtime::block_on(limit, async { operation(&self.driver).await })? {
            Some(result) => result.map_err(|error| self.locate(error.into())),
            None => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                Phase::Operation,
                format!("no answer within {limit:?}"),
            )
            .with_endpoint(self.permit.endpoint())
            .with_outcome_unknown()),
        }
    }

    /// The real sockets of the client that this lease shares.
    pub fn sockets(&self) -> Sockets {
        self.permit.sockets()
    }

    pub(super) fn locate(&self, error: Error) -> Error {
        error.with_endpoint(self.permit.endpoint())
    }

    pub(super) fn driver(&self) -> &mongodb::Client {
        &self.driver
    }

    pub(super) fn clears(&self) -> u64 {
        self.clears
    }

    /// The server answered, so failures up to `clears` are over.
    pub(super) fn vouch(&mut self, clears: u64) {
        self.clears = clears;
    }
}

impl Deref for MongoDbConnection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for MongoDbConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint: Arc<str> = self.permit.endpoint();
        f.debug_struct("MongoDbConnection")
            .field("endpoint", &endpoint)
            .field("sockets", &self.sockets())
            .finish_non_exhaustive()
    }
}
