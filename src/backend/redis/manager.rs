//! The r2d2 manager: connects, logs in, checks, cleans.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redis::ProtocolVersion::{RESP2, RESP3};
use redis::cluster::{ClusterClient, ClusterConnection};
use redis::{
    Cmd, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult, Value,
    cmd,
};

use super::config::{Address, RedisConfig, Topology};
use super::connection::{Inner, RedisConnection};
use super::errors;
use super::tls;
use crate::backend::{self, Backend, Service, Traffic};
use crate::config::Vars;
use crate::error::{Error, ErrorKind, Phase};
use crate::pool::Reset;
use crate::security::Secret;

/// How many values of a forgotten subscription are read over before a connection
/// is given up.
const MOST_LEFT_OVER: usize = 10_000;

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
    /// An address with the TLS parameters, where TLS is on.
    tls: Option<ConnectionAddr>,
    cluster: Option<ClusterClient>,
    endpoint: String,
    /// Where the next round of replicas begins.
    pub(super) turn: AtomicUsize,
}

/// A login: user and password.
#[derive(Clone, Copy)]
pub(super) struct Login<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a Secret>,
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
        let certificates = config.tls.as_ref().map(tls::certificates).transpose()?;
        let mut address = None;
        if let Some((tls, certificates)) = config.tls.as_ref().zip(certificates.as_ref()) {
            tls::ensure_provider();
            if tls.trusts_any_certificate() {
                log::warn!("Redis: any certificate is trusted, so the server is not authenticated");
            }
            address = Some(tls::address(tls, certificates.clone())?);
        }
        let cluster = match &config.topology {
            Topology::Cluster(nodes) => Some(cluster_client(&config, nodes, certificates)?),
            _ => None,
        };
        backend::adopt::<Self>();
        Ok(Self {
            endpoint: endpoint(&config),
            tls: address,
            cluster,
            config,
            turn: AtomicUsize::new(fastrand::usize(..1024)),
        })
    }

    /// The settings.
    pub fn config(&self) -> &RedisConfig {
        &self.config
    }

    pub(super) fn endpoint_text(&self) -> &str {
        &self.endpoint
    }

    fn login(&self) -> Login<'_> {
        Login {
            user: self.config.user.as_deref(),
            password: self.config.password.as_ref(),
        }
    }

    /// One connection to one server, logged in and ready, by the deadline.
    pub(super) fn dial(
        &self,
        address: &Address,
        deadline: Instant,
    ) -> Result<redis::Connection, Error> {
        let wanted = self.setup(self.login(), false);
        self.dial_as(address, &wanted, self.login(), self.config.resp3, deadline)
    }

    pub(super) fn dial_as(
        &self,
        address: &Address,
        setup: &[Cmd],
        login: Login,
        resp3: bool,
        deadline: Instant,
    ) -> Result<redis::Connection, Error> {
        let endpoint = address.to_string();
        let failed = |error: RedisError| errors::connecting(error, &endpoint);
        let mut connection = match address {
            Address::Unix(path) => open(ConnectionAddr::Unix(path.clone()), login, resp3, deadline),
            Address::Tcp(host, port) => {
                if self.config.forbids(host) {
                    return Err(plaintext(host));
                }
                let found = resolve(host, *port).map_err(|error| {
                    let kind = errors::classify_connect(&error);
                    Error::new(kind, Phase::Connect, format!("{error}; check REDIS_HOST"))
                        .with_endpoint(&*endpoint)
                        .with_source(Arc::new(error))
                })?;
                self.open_tcp(host, *port, &found, login, resp3, deadline)
            }
        }
        .map_err(failed)?;
        converse(&mut connection, setup, deadline).map_err(failed)?;
        let timeouts = connection
            .set_read_timeout(self.config.read_timeout)
            .and_then(|()| connection.set_write_timeout(self.config.write_timeout));
        timeouts.map_err(failed)?;
        Ok(connection)
    }

    /// Tries each address of the host, each with its share of the time left.
    fn open_tcp(
        &self,
        host: &str,
        port: u16,
        found: &[SocketAddr],
        login: Login,
        resp3: bool,
        deadline: Instant,
    ) -> RedisResult<redis::Connection> {
        if let Some(ConnectionAddr::TcpTls {
            insecure,
            tls_params,
            ..
        }) = &self.tls
        {
            // The driver looks the name up again, as it needs it for the certificate,
            // and gives each address all the time that it is given.
            let address = ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            };
            let share = remaining(deadline)? / u32::try_from(found.len().max(1)).unwrap_or(1);
            return open(address, login, resp3, Instant::now() + share);
        }
        let mut last = None;
        for (index, address) in found.iter().enumerate() {
            let left = u32::try_from(found.len() - index).unwrap_or(1);
            let share = Instant::now() + remaining(deadline)? / left;
            let ip = address.ip().to_string();
            match open(ConnectionAddr::Tcp(ip, address.port()), login, resp3, share) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        // An empty list was turned into an error when the name was resolved.
        Err(last.unwrap_or_else(timed_out))
    }

    /// The commands that make a connection ours: after the driver's own `HELLO` on a
    /// new one, after `RESET` on a used one.
    fn setup(&self, login: Login, used: bool) -> Vec<Cmd> {
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
        commands
    }

    fn connect_cluster(&self, client: &ClusterClient) -> Result<RedisConnection, Error> {
        // The driver gives each node a time of its own, one after the other. The
        // whole is bounded by leaving it to a thread that ends with it.
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let task = client.clone();
        let write_timeout = self.config.write_timeout;
        let spawned = std::thread::Builder::new()
            .name("millpond-redis-cluster".into())
            .spawn(move || {
                let opened = task.get_connection().and_then(|connection| {
                    connection.set_write_timeout(write_timeout)?;
                    Ok(connection)
                });
                // Nobody waits any more if the time is over.
                let _ = sender.send(opened);
            });
        if let Err(error) = spawned {
            return Err(errors::connecting(error.into(), &self.endpoint));
        }
        let opened: RedisResult<ClusterConnection> = receiver
            .recv_timeout(self.config.connect_timeout)
            .unwrap_or_else(|_| Err(timed_out()));
        let connection =
            opened.map_err(|error| errors::connecting_cluster(error, &self.endpoint))?;
        let inner = Inner::Cluster(Box::new(connection));
        Ok(RedisConnection::new(
            inner,
            self.config.decode_responses,
            true,
        ))
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
            Inner::Cluster(connection) => {
                connection.set_read_timeout(timeout)?;
                connection.set_write_timeout(timeout)?;
                if !connection.check_connection() {
                    return Err(timed_out());
                }
                connection.set_read_timeout(self.config.read_timeout)?;
                connection.set_write_timeout(self.config.write_timeout)
            }
        }
    }

    fn clean(&self, conn: &mut RedisConnection) -> Result<(), Error> {
        let deadline = Instant::now() + self.config.check_timeout;
        let lost = |error| errors::on_connection(error, Phase::Validate, &self.endpoint);
        match (&mut conn.inner, &self.cluster) {
            (Inner::Single(connection), _) => {
                converse(connection, &self.setup(self.login(), true), deadline).map_err(lost)?;
                connection
                    .set_read_timeout(self.config.read_timeout)
                    .map_err(lost)?;
                connection
                    .set_write_timeout(self.config.write_timeout)
                    .map_err(lost)?;
            }
            (Inner::Cluster(_), Some(client)) => conn.inner = self.connect_cluster(client)?.inner,
            (Inner::Cluster(_), None) => return Err(lost(timed_out())),
        }
        conn.noticed.clear();
        Ok(())
    }
}

impl r2d2::ManageConnection for Redis {
    type Connection = RedisConnection;
    type Error = Error;

    fn connect(&self) -> Result<RedisConnection, Error> {
        let deadline = Instant::now() + self.config.connect_timeout;
        let (connection, role_can_move) = match (&self.config.topology, &self.cluster) {
            (Topology::Single(address), _) => (self.dial(address, deadline)?, false),
            (Topology::Sentinel(sentinels), _) => (self.discover(sentinels, deadline)?, true),
            (Topology::Cluster(_), Some(client)) => return self.connect_cluster(client),
            // `new` makes the client of every Cluster.
            (Topology::Cluster(_), None) => {
                return Err(errors::connecting(timed_out(), &self.endpoint));
            }
        };
        let inner = Inner::Single(Box::new(connection));
        let decode = self.config.decode_responses;
        Ok(RedisConnection::new(inner, decode, role_can_move))
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
            return Err(Error::new(
                ErrorKind::ConnectionLost,
                Phase::Validate,
                "a command was run on it that RESET does not undo",
            ));
        }
        self.clean(conn).inspect_err(|_| conn.broken = true)
    }

    fn check(&self, conn: &mut RedisConnection) -> Result<Service, Error> {
        self.ask(conn).map_err(|error| {
            conn.broken |= error.is_io_error();
            errors::on_connection(error, Phase::Validate, &self.endpoint)
        })
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

fn cluster_client(
    config: &RedisConfig,
    nodes: &[(String, u16)],
    certificates: Option<redis::TlsCertificates>,
) -> Result<ClusterClient, Error> {
    let nodes = nodes.iter().cloned();
    // Half of the time, so that one silent node leaves time for the others.
    let mut builder = ClusterClient::builder(nodes)
        .connection_timeout((config.connect_timeout / 2).max(Duration::from_millis(1)))
        .use_protocol(if config.resp3 { RESP3 } else { RESP2 })
        .retries(0);
    if let Some(timeout) = config.read_timeout {
        builder = builder.response_timeout(timeout);
    }
    if let Some(user) = &config.user {
        builder = builder.username(user);
    }
    if let Some(password) = &config.password {
        builder = builder.password(password.expose());
    }
    if let Some((tls, certificates)) = config.tls.as_ref().zip(certificates) {
        builder = builder
            .certs(certificates)
            .tls(if tls.trusts_any_certificate() {
                redis::TlsMode::Insecure
            } else {
                redis::TlsMode::Secure
            });
        if tls.skips_host_name() {
            builder = builder.danger_accept_invalid_hostnames(true);
        }
    }
    builder.build().map_err(|error| {
        Error::new(
            ErrorKind::Configuration,
            Phase::Configure,
            error.to_string(),
        )
        .with_source(Arc::new(error))
    })
}

fn plaintext(host: &str) -> Error {
    let message = format!(
        "{host} is another host, and the connection would not be encrypted; \
         set REDIS_SSL=true, or SECURITY_CONNECTION_ENCRYPTION=false"
    );
    Error::new(ErrorKind::Configuration, Phase::Connect, message)
}

fn resolve(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    let found: Vec<_> = (host, port).to_socket_addrs()?.collect();
    if found.is_empty() {
        return Err(std::io::Error::other(
            "failed to lookup address information",
        ));
    }
    Ok(found)
}

fn timed_out() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "the time for it is over").into()
}

/// The time left until the deadline; an error when it has passed.
pub(super) fn remaining(deadline: Instant) -> RedisResult<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(timed_out())
    } else {
        Ok(left)
    }
}

/// Opens one connection. With RESP2 the driver only opens the socket here: it is
/// left without password and database, so that our own commands do the login and
/// keep the server's words, of which the driver's login tells none.
fn open(
    address: ConnectionAddr,
    login: Login,
    resp3: bool,
    deadline: Instant,
) -> RedisResult<redis::Connection> {
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if resp3 {
        settings = settings.set_protocol(RESP3);
        if let Some(user) = login.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = login.password {
            settings = settings.set_password(password.expose());
        }
    }
    let info = address.into_connection_info()?.set_redis_settings(settings);
    redis::Client::open(info)?.get_connection_with_timeout(remaining(deadline)?)
}

fn hello(login: Login) -> Cmd {
    let mut hello = cmd("HELLO");
    hello.arg(3);
    if let Some(password) = login.password {
        let user = login.user.unwrap_or("default");
        hello.arg("AUTH").arg(user).arg(password.expose());
    }
    hello
}

pub(super) fn set_name(name: &str) -> Cmd {
    let mut set_name = cmd("CLIENT");
    set_name.arg("SETNAME").arg(name);
    set_name
}

/// Sends the commands in one go and reads their replies by the deadline. What an
/// earlier subscription still sends is read over until `RESET` is answered.
pub(super) fn converse(
    connection: &mut redis::Connection,
    commands: &[Cmd],
    deadline: Instant,
) -> RedisResult<()> {
    let mut packed = Vec::with_capacity(128);
    for command in commands {
        command.write_packed_command(&mut packed);
    }
    connection.set_write_timeout(Some(remaining(deadline)?))?;
    connection.send_packed_command(&packed)?;
    for command in commands {
        let name = match command.args_iter().next() {
            Some(redis::Arg::Simple(name)) => name,
            _ => b"",
        };
        let mut left_over = 0;
        loop {
            connection.set_read_timeout(Some(remaining(deadline)?))?;
            match connection.recv_response()? {
                Value::Push { .. } => left_over += 1,
                Value::SimpleString(text) if name == b"RESET" && text == "RESET" => break,
                // A server that does not know RESET, or a proxy.
                Value::ServerError(error) if name == b"RESET" => return Err(error.into()),
                _ if name == b"RESET" => left_over += 1,
                // The name is a courtesy: servers and proxies may refuse it.
                Value::ServerError(error) if name == b"CLIENT" && error.code() != "NOAUTH" => break,
                Value::ServerError(error) => return Err(error.into()),
                _ => break,
            }
            if left_over > MOST_LEFT_OVER {
                return Err(timed_out());
            }
        }
    }
    Ok(())
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
