//! The r2d2 manager: one driver client, and permits to use it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mongodb::error::Error as DriverError;
use mongodb::options::{ReadPreference, SelectionCriteria};
use r2d2::ManageConnection;

use super::client::DriverClient;
use super::config::MongoDbConfig;
use super::connection::MongoDbConnection;
use super::operation::MongoOperation;
use super::reply::MongoReply;
use super::sockets::{Counters, SocketMeter, Sockets};
use super::topology::{Doom, Topology};
use super::{batch, driver, errors, execute, runtime, service};
use crate::backend::{self, Backend, Encryption, Service};
use crate::deadline::Deadline;
use crate::error::{ConnectFailure, Error, ErrorKind, Phase};
use crate::operation::Outcome;
use crate::security::{Watch, warn_unchecked};

/// Makes leases on one shared MongoDB client. See the [module](super).
///
/// ```no_run
/// use millpond::{MongoDb, MongoDbConfig, Pool};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = MongoDb::new(MongoDbConfig::new().host("localhost").database("shop"))?;
/// let meter = manager.meter();
/// let pool = Pool::builder().max_size(8).build(manager)?;
/// let names = pool.get()?.db()?.list_collection_names().run()?;
/// println!("{names:?} over {} sockets", meter.read().open);
/// # Ok(()) }
/// ```
pub struct MongoDb {
    shared: Arc<Shared>,
}

/// What the manager and its permits have in common.
struct Shared {
    config: MongoDbConfig,
    endpoint: Arc<str>,
    client: DriverClient,
    certificates: Arc<Watch>,
    counters: Arc<Counters>,
    permits: AtomicU32,
}

/// One of the leases that may exist at once; gives its place back when dropped.
pub(super) struct Permit(Arc<Shared>);

impl Permit {
    fn take(shared: &Arc<Shared>) -> Result<Self, Error> {
        let limit = shared.config.max_sockets;
        let add = |live: u32| (live < limit).then_some(live + 1);
        shared
            .permits
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .map(|_| Self(Arc::clone(shared)))
            .map_err(|_| {
                shared.error(
                    ErrorKind::ResourceLimit,
                    Phase::Connect,
                    format!(
                        "{limit} leases exist; raise max_sockets (MONGODB_MAX_SOCKETS) to the \
                         pool's max_size or more"
                    ),
                )
            })
    }

    pub(super) fn endpoint(&self) -> Arc<str> {
        Arc::clone(&self.0.endpoint)
    }

    pub(super) fn sockets(&self) -> Sockets {
        SocketMeter::new(Arc::clone(&self.0.counters)).read()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.permits.fetch_sub(1, Ordering::Relaxed);
    }
}

impl MongoDb {
    /// A manager with these settings. Reads the TLS files, connects to nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] when a setting is wrong, a TLS file cannot be used,
    /// or plaintext is asked for to another host than loopback.
    pub fn new(config: MongoDbConfig) -> Result<Self, Error> {
        backend::adopt::<Self>();
        let options = driver::options(&config, None, None)?;
        let certificates = Arc::default();
        let client = DriverClient::new(&config, &certificates)?;
        if config.tls.trusts_any_certificate() && client.is_encrypted() {
            warn_unchecked("MongoDB");
        }
        let hosts = options.hosts.iter().map(ToString::to_string);
        let mut endpoint = hosts.collect::<Vec<_>>().join(",");
        if let Some(database) = &options.default_database {
            endpoint = format!("{endpoint}/{database}");
        }
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                endpoint: endpoint.into(),
                client,
                certificates,
                counters: Arc::new(Counters::default()),
                permits: AtomicU32::new(0),
            }),
        })
    }

    /// A handle on the counts of the driver's real sockets.
    pub fn meter(&self) -> SocketMeter {
        SocketMeter::new(Arc::clone(&self.shared.counters))
    }

    /// The driver's real sockets now.
    pub fn sockets(&self) -> Sockets {
        self.meter().read()
    }
}

impl Shared {
    fn error(&self, kind: ErrorKind, phase: Phase, message: impl Into<String>) -> Error {
        Error::new(kind, phase, message).with_endpoint(Arc::clone(&self.endpoint))
    }

    /// Which servers may answer for a lease to count as alive.
    fn criteria(&self) -> SelectionCriteria {
        let configured = self.config.options.selection_criteria.clone();
        configured.unwrap_or(SelectionCriteria::ReadPreference(ReadPreference::Primary))
    }

    /// Runs a question to the server that ends within `limit`, or as soon as it is
    /// certain that no server can be reached.
    fn ask<T>(
        &self,
        phase: Phase,
        limit: Duration,
        question: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, Error> {
        let known = self.client.known();
        let ask = |limit| self.ask_at_once(&known.topology, phase, limit, question);
        known.scout.ask(self.counters.clears(), limit, ask)
    }

    fn ask_at_once<T>(
        &self,
        topology: &Topology,
        phase: Phase,
        limit: Duration,
        question: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, Error> {
        let attempt = topology.attempt();
        let answer = runtime::block_on(limit, async {
            tokio::select! {
                biased;
                answer = question => answer.map_err(|error| self.refused(phase, error)),
                doom = attempt.doomed() => Err(match doom {
                    Doom::Failed(error) => self.failed_again(phase, error),
                    Doom::NoMember => self.no_member(phase),
                }),
            }
        })?;
        answer.unwrap_or_else(|| Err(self.silent(phase, limit)))
    }

    /// Every server failed, and on each new connection.
    fn failed_again(&self, phase: Phase, error: DriverError) -> Error {
        if phase == Phase::Connect
            && self.client.is_encrypted()
            && let Some((kind, message)) = errors::wants_certificate(&error)
        {
            return self
                .error(kind, phase, message)
                .with_source(Arc::new(error));
        }
        self.refused(phase, error)
    }

    fn refused(&self, phase: Phase, error: DriverError) -> Error {
        let kind = errors::kind_of(&error);
        let what = errors::describe(&error);
        let advice = match kind {
            // It says what to do already.
            _ if errors::tls_problem(&error).is_some() => "",
            ErrorKind::Authentication => {
                "; check user, password and auth source (MONGODB_USER, MONGODB_PASSWORD, \
                 MONGODB_AUTH_SOURCE)"
            }
            ErrorKind::Connect(ConnectFailure::Refused | ConnectFailure::Dns) => {
                "; check host and port (MONGODB_HOST, MONGODB_PORT) and that the server runs"
            }
            ErrorKind::Connect(ConnectFailure::Timeout) => {
                "; the server, or the way to it, does not answer; see connect_timeout \
                 (MONGODB_CONNECT_TIMEOUT)"
            }
            ErrorKind::ConnectionLost if phase == Phase::Connect => {
                "; the server hung up: does it require TLS (MONGODB_SSL), or speak none?"
            }
            ErrorKind::Other if phase == Phase::Connect => {
                "; is it a MongoDB server? check host and port (MONGODB_HOST, MONGODB_PORT)"
            }
            _ => "",
        };
        self.error(kind, phase, format!("{what}{advice}"))
            .with_driver_error(error)
    }

    fn no_member(&self, phase: Phase) -> Error {
        let message = match &self.config.options.repl_set_name {
            Some(name) => format!(
                "none of the hosts is a member of the replica set `{name}` (MONGODB_REPLICA_SET)"
            ),
            None => "none of the hosts is a usable MongoDB server (MONGODB_HOST)".to_owned(),
        };
        self.error(ErrorKind::Configuration, phase, message)
    }

    /// The time was over. Says what the monitors know by then.
    fn silent(&self, phase: Phase, limit: Duration) -> Error {
        let setting = if phase == Phase::Connect {
            "connect_timeout (MONGODB_CONNECT_TIMEOUT)"
        } else {
            "check_timeout (MONGODB_CHECK_TIMEOUT)"
        };
        let known = self.client.known();
        let topology = &known.topology;
        if let Some(error) = topology.last_failure() {
            return self.refused(phase, error);
        }
        if topology.has_no_primary() {
            return self.error(
                ErrorKind::WrongRole,
                phase,
                format!(
                    "the servers answer, but none that the read preference allows within \
                     {limit:?}: no primary? See {setting}, MONGODB_READ_PREFERENCE"
                ),
            );
        }
        let kind = if phase == Phase::Connect {
            ErrorKind::Connect(ConnectFailure::Timeout)
        } else {
            ErrorKind::ConnectionLost
        };
        self.error(
            kind,
            phase,
            format!(
                "no answer within {limit:?}, {setting}; check host and port (MONGODB_HOST, \
                 MONGODB_PORT), or whether the server hangs"
            ),
        )
    }

    /// Members that the driver discovered must not be reached in plaintext either.
    fn check_discovered(&self) -> Result<(), Error> {
        if self.config.allow_plaintext || self.client.is_encrypted() {
            return Ok(());
        }
        let addresses = self.client.known().topology.addresses();
        match addresses.iter().find(|address| !driver::is_local(address)) {
            None => Ok(()),
            Some(address) => Err(self.error(
                ErrorKind::Configuration,
                Phase::Connect,
                format!(
                    "the replica set's member {address} is not on loopback, so the connection \
                     must be encrypted: MONGODB_SSL=true"
                ),
            )),
        }
    }
}

impl ManageConnection for MongoDb {
    type Connection = MongoDbConnection;
    type Error = Error;

    /// A permit, once a server has answered (with the login, where one is configured).
    ///
    /// # Errors
    /// Within `connect_timeout`, and at once where the reason is certain: refused,
    /// name not found, TLS, authentication.
    fn connect(&self) -> Result<MongoDbConnection, Error> {
        let shared = &self.shared;
        let permit = Permit::take(shared)?;
        let client = shared.client.get(&shared.config, &shared.counters);
        let client = client.map_err(|error| error.with_endpoint(Arc::clone(&shared.endpoint)))?;
        let clears = shared.counters.clears();
        let question = service::ping(&client, shared.criteria());
        shared.ask(Phase::Connect, shared.config.connect_timeout, question)?;
        shared.check_discovered()?;
        Ok(MongoDbConnection::new(client, permit, clears))
    }

    /// Pings a server that the read preference allows, within `check_timeout`. A
    /// socket that turns out dead makes the driver drop all of that age; then a
    /// second ping, over a new one, decides.
    fn is_valid(&self, conn: &mut MongoDbConnection) -> Result<(), Error> {
        let shared = &self.shared;
        let client = conn.driver();
        let question = async {
            let first = service::ping(client, shared.criteria()).await;
            match first {
                Err(error) if errors::kind_of(&error) == ErrorKind::ConnectionLost => {
                    let clears = shared.counters.clears();
                    service::ping(client, shared.criteria())
                        .await
                        .map(|()| clears)
                }
                answer => answer.map(|()| shared.counters.clears()),
            }
        };
        let clears = shared.ask(Phase::Validate, shared.config.check_timeout, question)?;
        conn.vouch(clears);
        Ok(())
    }

    /// Whether the driver has given up its sockets to a server since this permit was
    /// last known to be good. Its next operation would work on a new socket; the
    /// permit is replaced so that nobody is handed one before a server answered.
    fn has_broken(&self, conn: &mut MongoDbConnection) -> bool {
        conn.clears() != self.shared.counters.clears()
    }
}

impl Backend for MongoDb {
    const NAME: &'static str = "mongodb";

    const NATIVE_BATCH: bool = true;

    type Operation = MongoOperation;

    type Reply = MongoReply;

    fn execute(
        &self,
        conn: &mut MongoDbConnection,
        operation: &MongoOperation,
        deadline: Deadline,
    ) -> Result<MongoReply, Error> {
        execute::execute(conn, operation, deadline)
    }

    fn execute_batch(
        &self,
        conn: &mut MongoDbConnection,
        operations: &[&MongoOperation],
        deadline: Deadline,
    ) -> Vec<Outcome<MongoReply>> {
        batch::execute_batch(conn, operations, deadline)
    }

    fn endpoint(&self) -> String {
        self.shared.endpoint.to_string()
    }

    fn classify(error: &Error) -> ErrorKind {
        error.kind()
    }

    /// Version, role, whether it takes writes, and a secondary's lag (where the user
    /// may see the set's status). Asks the primary, or a secondary where there is none.
    fn check(&self, conn: &mut MongoDbConnection) -> Result<Service, Error> {
        let shared = &self.shared;
        let criteria = match &shared.config.options.selection_criteria {
            Some(configured) => configured.clone(),
            None => ReadPreference::PrimaryPreferred { options: None }.into(),
        };
        let question = service::describe(conn.driver(), criteria);
        let service = shared.ask(Phase::Validate, shared.config.check_timeout, question)?;
        let encryption = if shared.client.is_encrypted() {
            Encryption::Tls
        } else {
            Encryption::None
        };
        shared.client.look();
        let certificates = shared.certificates.certificates();
        Ok(service
            .with_encryption(encryption)
            .with_certificates(certificates))
    }

    fn credentials_changed(&self) -> Option<bool> {
        self.shared.client.has_changed(&self.shared.config)
    }
}

impl fmt::Debug for MongoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoDb")
            .field("config", &self.shared.config)
            .field("sockets", &self.sockets())
            .finish_non_exhaustive()
    }
}
