//! Settings of a Redis manager: by code, by URL, from the environment.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Plain, Vars, is_host};
use crate::security::{Credential, Secret, Tls};

mod environment;
mod url;

pub(super) const DEFAULT_PORT: u16 = 6379;

/// Where a Redis server is and how to talk to it.
///
/// ```
/// use std::time::Duration;
/// use millpond::{RedisConfig, Tls};
///
/// let config = RedisConfig::new()
///     .host("cache.internal")
///     .user("app")
///     .password("hunter2")
///     .tls(Tls::new())
///     .db(3)
///     .read_timeout(Duration::from_secs(5));
/// assert!(!format!("{config:?}").contains("hunter2"));
/// ```
#[derive(Clone)]
#[must_use]
pub struct RedisConfig {
    pub(super) topology: Topology,
    pub(super) db: i64,
    pub(super) user: Option<String>,
    pub(super) password: Option<Credential>,
    pub(super) tls: Option<Tls>,
    pub(super) allow_plaintext: bool,
    pub(super) resp3: bool,
    pub(super) decode_responses: bool,
    pub(super) client_name: String,
    pub(super) connect_timeout: Duration,
    pub(super) read_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
    pub(super) check_timeout: Duration,
}

/// Which servers there are.
#[derive(Clone, Debug)]
pub(super) enum Topology {
    Single(Address),
    Sentinel(Sentinels),
    Cluster(Vec<(String, u16)>),
}

/// One server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Which of the servers that Sentinel watches is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SentinelRole {
    /// The primary, which takes writes.
    #[default]
    Primary,
    /// Any healthy replica; another one for each connection.
    Replica,
}

#[derive(Clone, Debug)]
pub(super) struct Sentinels {
    pub(super) addresses: Vec<(String, u16)>,
    pub(super) primary: String,
    pub(super) role: SentinelRole,
    pub(super) user: Option<String>,
    pub(super) password: Option<Credential>,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            topology: Topology::Single(Address::Tcp("localhost".into(), DEFAULT_PORT)),
            db: 0,
            user: None,
            password: None,
            tls: None,
            allow_plaintext: false,
            resp3: false,
            decode_responses: true,
            client_name: "millpond".into(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Some(Duration::from_secs(30)),
            write_timeout: Some(Duration::from_secs(30)),
            check_timeout: Duration::from_secs(3),
        }
    }
}

impl RedisConfig {
    /// `localhost:6379`, database 0, no login, no TLS.
    pub fn new() -> Self {
        Self::default()
    }

    /// The server's name or IP address. Makes it a single node.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        let port = match self.topology {
            Topology::Single(Address::Tcp(_, port)) => port,
            _ => DEFAULT_PORT,
        };
        self.topology = Topology::Single(Address::Tcp(host.into(), port));
        self
    }

    /// The server's TCP port. Makes it a single node.
    pub fn port(mut self, port: u16) -> Self {
        let host = match self.topology {
            Topology::Single(Address::Tcp(host, _)) => host,
            _ => "localhost".into(),
        };
        self.topology = Topology::Single(Address::Tcp(host, port));
        self
    }

    /// The path of the server's Unix socket. Makes it a single node.
    pub fn unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.topology = Topology::Single(Address::Unix(path.into()));
        self
    }

    /// Asks these Sentinels (host, port) where the primary of this name is, at
    /// every connect. [`SentinelRole::Primary`] is wanted unless
    /// [`sentinel_role`](Self::sentinel_role) says otherwise.
    ///
    /// ```
    /// use millpond::RedisConfig;
    /// let config = RedisConfig::new().sentinel("mymaster", [("10.0.0.1", 26379), ("10.0.0.2", 26379)]);
    /// ```
    pub fn sentinel<H: Into<String>>(
        mut self,
        primary: impl Into<String>,
        addresses: impl IntoIterator<Item = (H, u16)>,
    ) -> Self {
        self.topology = Topology::Sentinel(Sentinels {
            addresses: owned(addresses),
            primary: primary.into(),
            role: SentinelRole::Primary,
            user: None,
            password: None,
        });
        self
    }

    /// Which server Sentinel is asked for. Without effect unless
    /// [`sentinel`](Self::sentinel) was called before.
    pub fn sentinel_role(mut self, role: SentinelRole) -> Self {
        if let Topology::Sentinel(sentinels) = &mut self.topology {
            sentinels.role = role;
        }
        self
    }

    /// The login at the Sentinels themselves, where they ask for one; the user is
    /// `None` for a plain password. Without effect unless
    /// [`sentinel`](Self::sentinel) was called before.
    pub fn sentinel_login(self, user: Option<&str>, password: impl Into<Secret>) -> Self {
        self.sentinel_credential(user, password.into().into())
    }

    /// The same with the password in the first line of this file
    /// (`REDIS_SENTINEL_PASSWORD_FILE`), which is read for each login.
    pub fn sentinel_login_file(self, user: Option<&str>, path: impl AsRef<Path>) -> Self {
        self.sentinel_credential(user, Credential::file(path))
    }

    pub(super) fn sentinel_credential(mut self, user: Option<&str>, password: Credential) -> Self {
        if let Topology::Sentinel(sentinels) = &mut self.topology {
            sentinels.user = user.map(str::to_owned);
            sentinels.password = Some(password);
        }
        self
    }

    /// A Cluster that is found through any of these nodes (host, port). A
    /// connection then holds one socket per node of the cluster.
    pub fn cluster<H: Into<String>>(mut self, nodes: impl IntoIterator<Item = (H, u16)>) -> Self {
        self.topology = Topology::Cluster(owned(nodes));
        self
    }

    /// The number of the database to select; 0 by default, and always 0 in a
    /// Cluster.
    pub fn db(mut self, number: i64) -> Self {
        self.db = number;
        self
    }

    /// The ACL user; without one the password is that of the user `default`.
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.user = Some(name.into());
        self
    }

    /// The password.
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into().into());
        self
    }

    /// The password is the first line of this file (`REDIS_PASSWORD_FILE`), which is read for
    /// each login: when it changes, new connections use the new one, and a login that was
    /// refused is tried again at once.
    pub fn password_file(mut self, path: impl AsRef<Path>) -> Self {
        self.password = Some(Credential::file(path));
        self
    }

    /// Encrypts the connection. The driver finds its crypto provider in the
    /// process's default, so [`Redis::new`](super::Redis::new) installs ring there
    /// if the program has installed none.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Allows an unencrypted connection to a host other than this one. Off by
    /// default.
    pub fn allow_plaintext(mut self, allowed: bool) -> Self {
        self.allow_plaintext = allowed;
        self
    }

    /// Speaks RESP3 (Redis 6 and later): maps, doubles and booleans arrive as such.
    pub fn resp3(mut self, wanted: bool) -> Self {
        self.resp3 = wanted;
        self
    }

    /// Whether [`RedisConnection::run`](super::RedisConnection::run) gives strings
    /// as text where they are UTF-8 (default), or always as bytes.
    pub fn decode_responses(mut self, wanted: bool) -> Self {
        self.decode_responses = wanted;
        self
    }

    /// The name that `CLIENT LIST` shows; `millpond` by default. Printable ASCII
    /// without spaces.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = name.into();
        self
    }

    /// The longest time to establish a connection: name look-up, TCP, TLS, login
    /// and, with Sentinel or Cluster, finding the server. 10 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The longest wait for a reply; 30 s by default, `None` for no limit. Must be
    /// longer than the longest `BLPOP` and its like.
    pub fn read_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.read_timeout = timeout.into();
        self
    }

    /// The longest time that sending may block; 30 s by default, `None` for no
    /// limit.
    pub fn write_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.write_timeout = timeout.into();
        self
    }

    /// The longest time of a liveness check; 3 s by default.
    pub fn check_timeout(mut self, timeout: Duration) -> Self {
        self.check_timeout = timeout;
        self
    }

    /// Every address that is connected to first.
    fn hosts(&self) -> Vec<(&str, u16)> {
        match &self.topology {
            Topology::Single(Address::Tcp(host, port)) => vec![(host, *port)],
            Topology::Single(Address::Unix(_)) => Vec::new(),
            Topology::Sentinel(Sentinels { addresses, .. }) | Topology::Cluster(addresses) => {
                addresses
                    .iter()
                    .map(|(host, port)| (&**host, *port))
                    .collect()
            }
        }
    }

    /// Whether an unencrypted connection to this host is against the rules.
    pub(super) fn forbids(&self, host: &str) -> bool {
        self.tls.is_none() && !self.allow_plaintext && !is_this_host(host)
    }

    /// Notes every mistake in these settings.
    pub(super) fn check(&self, vars: &mut Vars) {
        let hosts = self.hosts();
        if hosts.is_empty() && !matches!(self.topology, Topology::Single(_)) {
            vars.mistake(
                "REDIS_SENTINELS or REDIS_CLUSTER_NODES",
                "",
                "host:port,host:port",
            );
        }
        for (host, port) in hosts {
            let name = match &self.topology {
                Topology::Single(_) => "REDIS_HOST",
                Topology::Sentinel(_) => "REDIS_SENTINELS",
                Topology::Cluster(_) => "REDIS_CLUSTER_NODES",
            };
            if !is_host(host) {
                vars.mistake(name, host, "a host name or IP address");
            } else if self.tls.is_some() && host.contains('%') {
                let accepted = "a host name, or an IP address without a zone (%), as the driver \
                                has no TLS (REDIS_SSL) with one";
                vars.mistake(name, host, accepted);
            } else if self.forbids(host) {
                vars.mistake(
                    "REDIS_SSL",
                    &format!("false, for {host}"),
                    "true for any other host than this one, \
                     or allow plaintext with SECURITY_CONNECTION_ENCRYPTION=false",
                );
            }
            if port == 0 {
                vars.mistake("REDIS_PORT", "0", "1 to 65535");
            }
        }
        if self.tls.is_some() && matches!(self.topology, Topology::Single(Address::Unix(_))) {
            vars.mistake(
                "REDIS_SSL",
                "true",
                "false for a Unix socket (in REDIS_URL), which is not encrypted",
            );
        }
        if self.tls.as_ref().is_some_and(|tls| !tls.allows_tls12()) {
            vars.mistake(
                "REDIS_SSL_MIN_VERSION",
                "1.3",
                "1.2, as the driver speaks 1.2 and 1.3 and can be told nothing else; \
                 limit the server to 1.3 (tls-protocols)",
            );
        }
        if self.db < 0 || (self.db != 0 && matches!(self.topology, Topology::Cluster(_))) {
            vars.mistake(
                "REDIS_DB",
                &self.db.to_string(),
                "0 or more, and 0 in a Cluster",
            );
        }
        if let Topology::Sentinel(Sentinels { primary, .. }) = &self.topology
            && primary.is_empty()
        {
            vars.mistake(
                "REDIS_SENTINEL_MASTER",
                "",
                "the name of the watched primary",
            );
        }
        if self.user.is_some() && self.password.is_none() {
            vars.mistake("REDIS_PASSWORD", "", "a password, since there is a user");
        }
        if !self.client_name.bytes().all(|byte| byte.is_ascii_graphic()) {
            vars.mistake(
                "REDIS_CLIENT_NAME",
                &self.client_name,
                "printable ASCII without spaces",
            );
        }
        for (name, timeout) in [
            ("REDIS_CONNECT_TIMEOUT", Some(self.connect_timeout)),
            ("REDIS_READ_TIMEOUT", self.read_timeout),
            ("REDIS_WRITE_TIMEOUT", self.write_timeout),
            ("REDIS_CHECK_TIMEOUT", Some(self.check_timeout)),
        ] {
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                vars.mistake(name, "0", "seconds, more than 0, such as 2.5");
            }
        }
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("topology", &Plain(&self.topology))
            .field("db", &self.db)
            .field("user", &Plain(&self.user))
            .field("password", &self.password)
            .field("tls", &self.tls)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("resp3", &self.resp3)
            .field("decode_responses", &self.decode_responses)
            .field("client_name", &Plain(&self.client_name))
            .field("connect_timeout", &self.connect_timeout)
            .field("read_timeout", &self.read_timeout)
            .field("write_timeout", &self.write_timeout)
            .field("check_timeout", &self.check_timeout)
            .finish()
    }
}

/// Whether the host is this machine itself.
fn is_this_host(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn owned<H: Into<String>>(addresses: impl IntoIterator<Item = (H, u16)>) -> Vec<(String, u16)> {
    let addresses = addresses.into_iter();
    addresses.map(|(host, port)| (host.into(), port)).collect()
}
