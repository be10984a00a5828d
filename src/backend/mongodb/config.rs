//! Settings of the MongoDB backend.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use mongodb::options::{
    ClientOptions, Credential as DriverCredential, ReadConcern, ReadPreference, SelectionCriteria,
    WriteConcern,
};

use crate::config::{Plain, Vars};
use crate::error::Error;
use crate::security::{Credential, Secret, Tls};

/// Where MongoDB is, and how to talk to it.
///
/// ```
/// use std::time::Duration;
/// use millpond::MongoDbConfig;
///
/// let config = MongoDbConfig::new()
///     .host("db1.internal:27017")
///     .host("db2.internal:27017")
///     .replica_set("rs0")
///     .user("app")
///     .password("hunter2")
///     .database("shop")
///     .connect_timeout(Duration::from_secs(2));
/// assert!(!format!("{config:?}").contains("hunter2"));
/// ```
#[derive(Clone)]
#[must_use]
pub struct MongoDbConfig {
    pub(super) hosts: Vec<String>,
    pub(super) port: u16,
    /// Everything the driver has a field for; its password stays empty, its hosts
    /// and TLS are filled in by `driver`.
    pub(super) options: ClientOptions,
    pub(super) password: Option<Credential>,
    pub(super) encryption: Encryption,
    pub(super) tls: Tls,
    pub(super) allow_plaintext: bool,
    pub(super) max_sockets: u32,
    pub(super) connect_timeout: Duration,
    pub(super) check_timeout: Duration,
}

/// Whether the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    /// To loopback no, to any other host yes.
    Auto,
    /// Always.
    Required,
    /// Never; the setting that asked for it.
    Plaintext(&'static str),
}

impl Default for MongoDbConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl MongoDbConfig {
    /// `localhost:27017`, no login, no database; encrypted to any host but loopback.
    pub fn new() -> Self {
        let mut options = ClientOptions::default();
        options.app_name = Some("millpond".to_owned());
        options.heartbeat_freq = Some(Duration::from_secs(5));
        options.server_selection_timeout = Some(Duration::from_secs(15));
        options.max_idle_time = Some(Duration::from_secs(300));
        Self {
            hosts: Vec::new(),
            port: 27017,
            options,
            password: None,
            encryption: Encryption::Auto,
            tls: Tls::new(),
            allow_plaintext: false,
            max_sockets: 100,
            connect_timeout: Duration::from_secs(5),
            check_timeout: Duration::from_secs(3),
        }
    }

    /// From a connection string: `mongodb://user:password@host:port,host/database?options`,
    /// with MongoDB's usual options (`authSource`, `replicaSet`, `tls`, `tlsCAFile`,
    /// `readPreference`, `w`, `retryWrites`, `connectTimeoutMS`, ...). What it
    /// leaves open is as in [`new`](Self::new).
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when it is
    /// malformed, or when it asks for what the driver cannot do (`socketTimeoutMS`)
    /// or this build does not (`mongodb+srv`). The message contains no password.
    ///
    /// ```
    /// use millpond::MongoDbConfig;
    /// let config = MongoDbConfig::from_url("mongodb://app:hunter2@localhost/shop")?;
    /// assert!(MongoDbConfig::from_url("http://localhost").is_err());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn from_url(url: &str) -> Result<Self, Error> {
        super::uri::parse(url)
    }

    /// From the environment, `None` when MongoDB is not enabled there: neither
    /// `MONGODB_ENABLED=true` nor a `MONGODB_URI`.
    ///
    /// `MONGODB_URI`, or `MONGODB_HOST` (several with commas; localhost),
    /// `MONGODB_PORT` (27017), `MONGODB_DB`, `MONGODB_USER`, `MONGODB_PASSWORD` or
    /// `MONGODB_PASSWORD_FILE`, `MONGODB_AUTH_SOURCE` (admin), `MONGODB_SSL` (false:
    /// to loopback only), `MONGODB_SSL_MIN_VERSION` (1.2), `MONGODB_SSL_CA_FILE`,
    /// `MONGODB_SSL_CERT_FILE` (certificate and key), `MONGODB_REPLICA_SET`, `MONGODB_APP_NAME` (millpond),
    /// `MONGODB_READ_PREFERENCE`, `MONGODB_WRITE_CONCERN` (a number, `majority`, a
    /// tag), `MONGODB_RETRY_READS` and `MONGODB_RETRY_WRITES` (true),
    /// `MONGODB_MAX_SOCKETS` (100), and in seconds `MONGODB_CONNECT_TIMEOUT` (5),
    /// `MONGODB_CHECK_TIMEOUT` (3), `MONGODB_SERVER_SELECTION_TIMEOUT` (15); also
    /// `SECURITY_CONNECTION_ENCRYPTION` and `SECURITY_CERTIFICATE_VALIDATION` (true).
    /// Where a URI is given too, a part that is set overrides the URI's.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) with all
    /// mistakes at once.
    pub fn from_env() -> Result<Option<Self>, Error> {
        Vars::process().read(Self::from_vars)
    }

    /// What the variables say; `None` unless MongoDB is on.
    pub(crate) fn from_vars(vars: &mut Vars<'_>) -> Option<Self> {
        super::environment::read(vars)
    }

    /// Adds a server: a host name or address, with a port or without
    /// ([`port`](Self::port)), or the path of a Unix socket that ends in `.sock`.
    /// Several are members of one replica set, or routers of one cluster.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// The port of hosts that were named without one. 27017 by default.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The database that [`MongoDbConnection::db`](super::MongoDbConnection::db)
    /// gives, and the driver's `default_database`.
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.options.default_database = Some(name.into());
        self
    }

    /// Logs in as this user.
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.credential().username = Some(name.into());
        self
    }

    /// The user's password.
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into().into());
        self
    }

    /// The password is the first line of this file (`MONGODB_PASSWORD_FILE`). When it changes,
    /// a driver client with the new password takes the place of the old one at the next
    /// connect, and a login that was refused is tried again at once. Leases that exist go on
    /// with the old client.
    pub fn password_file(mut self, path: impl AsRef<Path>) -> Self {
        self.password = Some(Credential::file(path));
        self
    }

    /// The database that holds the user. `admin` by default.
    pub fn auth_source(mut self, database: impl Into<String>) -> Self {
        self.credential().source = Some(database.into());
        self
    }

    fn credential(&mut self) -> &mut DriverCredential {
        self.options.credential.get_or_insert_default()
    }

    /// Encrypts every connection, with these certificates. A client certificate and
    /// its key must be in one PEM file (name it for both), and the host name is
    /// always checked: the driver offers nothing else.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self.encryption = Encryption::Required;
        self
    }

    /// Never encrypts. Refused by [`MongoDb::new`](super::MongoDb::new) for any host
    /// but loopback, unless [`allow_plaintext`](Self::allow_plaintext) is set.
    pub fn plaintext(mut self) -> Self {
        self.encryption = Encryption::Plaintext("plaintext()");
        self
    }

    /// Whether unencrypted connections to other hosts than loopback are allowed
    /// (`SECURITY_CONNECTION_ENCRYPTION=false`). `false` by default.
    pub fn allow_plaintext(mut self, allow: bool) -> Self {
        self.allow_plaintext = allow;
        self
    }

    /// The replica set that the hosts must belong to.
    pub fn replica_set(mut self, name: impl Into<String>) -> Self {
        self.options.repl_set_name = Some(name.into());
        self
    }

    /// Talks to the one host given, whatever its role, without looking for the other
    /// members of its set.
    pub fn direct(mut self, direct: bool) -> Self {
        self.options.direct_connection = Some(direct);
        self
    }

    /// The name under which the server's logs and `currentOp` show this program.
    /// `millpond` by default.
    pub fn app_name(mut self, name: impl Into<String>) -> Self {
        self.options.app_name = Some(name.into());
        self
    }

    /// Whether the driver repeats a read once after a network error. `true` by default.
    pub fn retry_reads(mut self, retry: bool) -> Self {
        self.options.retry_reads = Some(retry);
        self
    }

    /// Whether the driver repeats a write once after a network error, which replica
    /// sets make safe (a standalone server cannot). `true` by default.
    pub fn retry_writes(mut self, retry: bool) -> Self {
        self.options.retry_writes = Some(retry);
        self
    }

    /// Which members of a replica set answer reads. The primary by default. A lease is
    /// considered alive when such a member answers.
    pub fn read_preference(mut self, preference: ReadPreference) -> Self {
        self.options.selection_criteria = Some(SelectionCriteria::ReadPreference(preference));
        self
    }

    /// What reads must be safe against. The server's default by default.
    pub fn read_concern(mut self, concern: ReadConcern) -> Self {
        self.options.read_concern = Some(concern);
        self
    }

    /// When a write counts as done. The server's default by default.
    pub fn write_concern(mut self, concern: WriteConcern) -> Self {
        self.options.write_concern = Some(concern);
        self
    }

    /// The most leases at once, and the most sockets to one server. Must not be below
    /// the pool's `max_size`: leases above it are refused. The sockets that are
    /// really opened follow the leases in use; give it the pool's `max_size` where
    /// not one more may be opened. 100 by default.
    pub fn max_sockets(mut self, sockets: u32) -> Self {
        self.max_sockets = sockets;
        self
    }

    /// How long making a connection may take: a lease's `connect`, login included,
    /// and each socket of the driver's. 5 s by default.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long a liveness check or a service check may take. 3 s by default.
    pub fn check_timeout(mut self, limit: Duration) -> Self {
        self.check_timeout = limit;
        self
    }

    /// How long an operation waits for a suitable server, as during a fail-over. 15 s
    /// by default.
    pub fn server_selection_timeout(mut self, limit: Duration) -> Self {
        self.options.server_selection_timeout = Some(limit);
        self
    }

    /// How often the driver looks after each server; at least 0.5 s. A server that
    /// stops answering is noticed after this and `connect_timeout`. 5 s by default.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.options.heartbeat_freq = Some(interval);
        self
    }

    /// Closes sockets that were idle for so long. 300 s by default.
    pub fn socket_idle_timeout(mut self, limit: Duration) -> Self {
        self.options.max_idle_time = Some(limit);
        self
    }

    /// Sets what has no method here on the driver's own options. Its hosts, password,
    /// TLS, pool sizes and the handlers of its pool and server events are replaced by
    /// this crate's.
    ///
    /// ```
    /// let config = millpond::MongoDbConfig::new()
    ///     .driver_options(|options| options.local_threshold = Some(std::time::Duration::ZERO));
    /// ```
    pub fn driver_options(mut self, set: impl FnOnce(&mut ClientOptions)) -> Self {
        set(&mut self.options);
        self
    }
}

impl fmt::Debug for MongoDbConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let credential = options.credential.as_ref();
        f.debug_struct("MongoDbConfig")
            .field("hosts", &Plain(&self.hosts))
            .field("port", &self.port)
            .field("database", &Plain(&options.default_database))
            .field(
                "user",
                &Plain(credential.and_then(|login| login.username.as_ref())),
            )
            .field("password", &self.password)
            .field(
                "auth_source",
                &Plain(credential.and_then(|login| login.source.as_ref())),
            )
            .field("encryption", &self.encryption)
            .field("tls", &self.tls)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("replica_set", &Plain(&options.repl_set_name))
            .field("direct", &options.direct_connection)
            .field("app_name", &Plain(&options.app_name))
            .field("retry_reads", &options.retry_reads)
            .field("retry_writes", &options.retry_writes)
            .field("selection_criteria", &Plain(&options.selection_criteria))
            .field("write_concern", &Plain(&options.write_concern))
            .field("max_sockets", &self.max_sockets)
            .field("connect_timeout", &self.connect_timeout)
            .field("check_timeout", &self.check_timeout)
            .field(
                "server_selection_timeout",
                &options.server_selection_timeout,
            )
            .field("heartbeat", &options.heartbeat_freq)
            .field("socket_idle_timeout", &options.max_idle_time)
            .finish()
    }
}
