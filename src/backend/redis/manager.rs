//! The r2d2 manager: connects, logs in, checks, cleans.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use redis::cluster::ClusterClient;
use redis::{Cmd, RedisResult, cmd};

use super::cluster;
use super::config::{Address, RedisConfig, Topology};
use super::connection::{Inner, RedisConnection};
use super::errors;
use super::operation::RedisCommand;
use super::reply::Reply;
use super::tls::{self, Parameters};
use super::wire::{Login, converse, hello, set_name, timed_out};
use crate::backend::{self, Backend, Encryption, Service, Traffic};
use crate::config::Vars;
use crate::deadline::{Deadline, moment_in};
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::Outcome;
use crate::pool::Reset;
use crate::security::{Credential, Renewed, Secret, Watch, same, warn_unchecked};

/// Makes connections to Redis.
///
/// ```no_run
/// # fn main() -> Result<(), millpond::Error> {
/// use millpond::{Redis, RedisConfig};
/// let redis = Redis::new(RedisConfig::from_url("redis://:hunter2@localhost/1")?)?;
/// # Ok(())
/// # }
/// ```
pub struct Redis {
    pub(super) config: RedisConfig,
    /// Where TLS is on.
    pub(super) tls: Option<Renewed<Arc<Parameters>>>,
    /// Of a Cluster.
    cluster: Mutex<Option<Made>>,
    /// Of a Cluster: which node has which slot.
    pub(super) map: cluster::Shared,
    /// Of a Cluster: whether the login of a lease at a further node was refused just now.
    pub(super) refused: cluster::Refused,
    certificates: Arc<Watch>,
    endpoint: String,
    /// Whether a server was reached with TLS, so that silence need not be explained.
    pub(super) encrypted: AtomicBool,
    /// Where the next round of replicas, or of a Cluster's nodes, begins.
    pub(super) turn: AtomicUsize,
}

/// The driver's client of a Cluster, and what it was made with.
struct Made {
    password: Option<Secret>,
    tls: Option<Arc<Parameters>>,
    client: ClusterClient,
}

impl Redis {
    /// Checks the settings and reads the TLS files; connects to nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] with every mistake at once.
    pub fn new(config: RedisConfig) -> Result<Self, Error> {
        let mut mistakes = Vars::from_lookup(|_| None);
        config.check(&mut mistakes);
        mistakes.finish()?;
        let watch = Arc::default();
        let parameters = config.tls.as_ref().map(|tls| tls::parameters(tls, &watch));
        let parameters = parameters.transpose()?;
        if let Some(tls) = &config.tls {
            tls::ensure_provider();
            if tls.trusts_any_certificate() {
                warn_unchecked("Redis");
            }
        }
        backend::adopt::<Self>();
        let redis = Self {
            endpoint: endpoint(&config),
            tls: parameters,
            cluster: Mutex::new(None),
            map: cluster::Shared::default(),
            refused: cluster::Refused::default(),
            certificates: watch,
            config,
            encrypted: AtomicBool::new(false),
            turn: AtomicUsize::new(fastrand::usize(..1024)),
        };
        if let Topology::Cluster(nodes) = &redis.config.topology {
            redis.cluster_client(nodes)?;
        }
        Ok(redis)
    }

    /// The driver's client of a Cluster, which keeps the password and the certificates.
    fn cluster_client(&self, nodes: &[(String, u16)]) -> Result<ClusterClient, Error> {
        let password = self.password()?;
        let tls = self.tls.as_ref().map(Renewed::current);
        let mut made = self.cluster.lock();
        if let Some(made) = &*made
            && same(made.password.as_ref(), password.as_ref())
            && made.tls.as_ref().map(Arc::as_ptr) == tls.as_ref().map(Arc::as_ptr)
        {
            return Ok(made.client.clone());
        }
        let pem = tls.as_ref().map(|tls| tls.certificates.clone());
        let client = cluster::client(&self.config, nodes, password.as_ref(), pem)?;
        *made = Some(Made {
            password,
            tls,
            client: client.clone(),
        });
        Ok(client)
    }

    /// The settings.
    pub fn config(&self) -> &RedisConfig {
        &self.config
    }

    pub(super) fn endpoint_text(&self) -> &str {
        &self.endpoint
    }

    /// The password as it is now.
    pub(super) fn password(&self) -> Result<Option<Secret>, Error> {
        let password = self.config.password.as_ref();
        password.map(Credential::current).transpose()
    }

    pub(super) fn login<'a>(&'a self, password: Option<&'a Secret>) -> Login<'a> {
        Login {
            user: self.config.user.as_deref(),
            password,
        }
    }

    /// The commands that make a connection ours: after the driver's own `HELLO` on a
    /// new one, after `RESET` on a used one.
    pub(super) fn setup(&self, login: Login, used: bool) -> Vec<Cmd> {
        let mut commands = Vec::with_capacity(5);
        if used {
            commands.push(cmd("RESET"));
        }
        if self.config.resp3 {
            if used {
                commands.push(hello(login));
            }
        } else if let Some(password) = login.password {
            let mut auth = cmd("AUTH");
            if let Some(user) = login.user {
                auth.arg(user);
            }
            auth.arg(password.expose());
            commands.push(auth);
        }
        if self.config.db != 0 {
            let mut select = cmd("SELECT");
            select.arg(self.config.db);
            commands.push(select);
        }
        commands.push(set_name(&self.config.client_name));
        if !used {
            // A server that still loads its data, or wants a password, takes all of the above
            // and refuses work: better known now than by an operation.
            commands.push(cmd("PING"));
        }
        commands
    }

    fn validate(&self, conn: &mut RedisConnection) -> RedisResult<()> {
        let timeout = Some(self.config.check_timeout);
        match &mut conn.inner {
            Inner::Single(connection) => {
                connection.set_read_timeout(timeout)?;
                connection.set_write_timeout(timeout)?;
                self.verify(connection)?;
                connection.set_read_timeout(self.config.read_timeout)?;
                connection.set_write_timeout(self.config.write_timeout)
            }
            Inner::Cluster(cluster) => self.verify_cluster(cluster),
        }
    }

    fn clean(&self, conn: &mut RedisConnection) -> Result<(), Error> {
        let deadline = moment_in(self.config.check_timeout);
        let lost = |error| errors::on_connection(error, Phase::Validate, &self.endpoint);
        match (&mut conn.inner, &self.config.topology) {
            (Inner::Single(connection), _) => {
                let password = self.password()?;
                let setup = self.setup(self.login(password.as_ref()), true);
                converse(connection, &setup, deadline).map_err(lost)?;
                connection
                    .set_read_timeout(self.config.read_timeout)
                    .map_err(lost)?;
                connection
                    .set_write_timeout(self.config.write_timeout)
                    .map_err(lost)?;
            }
            (Inner::Cluster(_), Topology::Cluster(nodes)) => {
                let client = self.cluster_client(nodes)?;
                conn.inner = self.connect_cluster(client)?.inner;
            }
            (Inner::Cluster(_), _) => return Err(lost(timed_out())),
        }
        conn.noticed.clear();
        Ok(())
    }
}

impl r2d2::ManageConnection for Redis {
    type Connection = RedisConnection;
    type Error = Error;

    fn connect(&self) -> Result<RedisConnection, Error> {
        let deadline = moment_in(self.config.connect_timeout);
        if let Some(tls) = &self.tls {
            tls.attempt();
        }
        let connection = match &self.config.topology {
            Topology::Single(address) => self.dial(address, deadline)?,
            Topology::Sentinel(sentinels) => self.discover(sentinels, deadline)?,
            Topology::Cluster(nodes) => {
                let client = self.cluster_client(nodes)?;
                return self.connect_cluster(client);
            }
        };
        let inner = Inner::Single(Box::new(connection));
        Ok(RedisConnection::new(inner, &self.config))
    }

    fn is_valid(&self, conn: &mut RedisConnection) -> Result<(), Error> {
        self.validate(conn).map_err(|error| {
            conn.broken = true;
            errors::on_connection(error, Phase::Validate, &self.endpoint)
        })
    }

    fn has_broken(&self, conn: &mut RedisConnection) -> bool {
        conn.is_broken()
    }
}

impl Backend for Redis {
    const NAME: &'static str = "redis";

    const NATIVE_BATCH: bool = true;

    type Operation = RedisCommand;

    type Reply = Reply;

    fn execute(
        &self,
        conn: &mut RedisConnection,
        operation: &RedisCommand,
        deadline: Deadline,
    ) -> Result<Reply, Error> {
        let mut outcomes = self.run(conn, &[operation], deadline);
        // One outcome for each command.
        outcomes.remove(0).into_result()
    }

    fn execute_batch(
        &self,
        conn: &mut RedisConnection,
        operations: &[&RedisCommand],
        deadline: Deadline,
    ) -> Vec<Outcome<Reply>> {
        self.run(conn, operations, deadline)
    }

    fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    fn classify(error: &Error) -> ErrorKind {
        error.kind()
    }

    fn is_clean(&self, conn: &RedisConnection, policy: Reset) -> bool {
        match policy {
            Reset::None => true,
            Reset::Fast => conn.noticed.is_clean(),
            Reset::Full => false,
        }
    }

    fn reset(&self, conn: &mut RedisConnection, policy: Reset) -> Result<(), Error> {
        if policy == Reset::None {
            return Ok(());
        }
        if conn.noticed.is_spoilt() {
            conn.broken = true;
            return Err(Error::new(
                ErrorKind::ConnectionLost,
                Phase::Validate,
                "a command was run on it that RESET does not undo",
            ));
        }
        self.clean(conn).inspect_err(|_| conn.broken = true)
    }

    fn check(&self, conn: &mut RedisConnection) -> Result<Service, Error> {
        let service = self.ask(conn).map_err(|error| {
            conn.broken |= error.is_io_error();
            errors::on_connection(error, Phase::Validate, &self.endpoint)
        })?;
        let encryption = match self.config.tls {
            Some(_) => Encryption::Tls,
            None => Encryption::None,
        };
        if let Some(tls) = &self.tls {
            tls.look();
        }
        let certificates = self.certificates.certificates();
        Ok(service
            .with_encryption(encryption)
            .with_certificates(certificates))
    }

    fn credentials_changed(&self) -> Option<bool> {
        let own = self.config.password.as_ref();
        let of_sentinels = match &self.config.topology {
            Topology::Sentinel(sentinels) => sentinels.password.as_ref(),
            _ => None,
        };
        let both = own.into_iter().chain(of_sentinels);
        let passwords = both.filter_map(Credential::has_changed);
        let tls = self.tls.as_ref().and_then(Renewed::has_changed);
        passwords.chain(tls).max()
    }

    fn traffic(conn: &RedisConnection) -> Traffic {
        Traffic::statements(conn.commands())
    }
}

/// The address as an operator would write it.
fn endpoint(config: &RedisConfig) -> String {
    let list = |addresses: &[(String, u16)]| {
        let addresses = addresses.iter().cloned();
        let texts = addresses.map(|(host, port)| Address::Tcp(host, port).to_string());
        texts.collect::<Vec<_>>().join(",")
    };
    let servers = match &config.topology {
        Topology::Single(address) => address.to_string(),
        Topology::Sentinel(sentinels) => {
            format!("{}@{}", sentinels.primary, list(&sentinels.addresses))
        }
        Topology::Cluster(nodes) => return list(nodes),
    };
    format!("{servers}/{}", config.db)
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Redis").field(&self.config).finish()
    }
}

/// The next number in turn, for taking replicas round.
pub(super) fn next_turn(turn: &AtomicUsize) -> usize {
    turn.fetch_add(1, Ordering::Relaxed)
}
