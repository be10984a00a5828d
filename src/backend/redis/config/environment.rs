//! The `REDIS_*` variables.

use std::net::SocketAddr;

use super::{Address, DEFAULT_PORT, RedisConfig, SentinelRole, Topology, url};
use crate::config::{Vars, host_of, is_address, is_host};
use crate::error::Error;
use crate::security::{Secret, TLS_VERSIONS, Tls};

/// Parameters of a URL that overrule variables of earlier layers.
const ASKED: [(&str, &str); 2] = [
    ("protocol", "REDIS_PROTOCOL"),
    ("client_name", "REDIS_CLIENT_NAME"),
];

impl RedisConfig {
    /// Reads the process's environment; `None` unless `REDIS_ENABLED` is true or
    /// `REDIS_URL` is set. What `REDIS_URL` says is overruled by the others; a socket in it gives
    /// way to `REDIS_HOST`, and has no port:
    ///
    /// | variable | default |
    /// |---|---|
    /// | `REDIS_HOST` (or `host:port`) `REDIS_PORT` `REDIS_DB` | localhost, 6379, 0 |
    /// | `REDIS_USER` `REDIS_PASSWORD` (or `REDIS_PASSWORD_FILE`) | none |
    /// | `REDIS_SSL` `REDIS_SSL_MIN_VERSION` | false, 1.2 |
    /// | `REDIS_SSL_CA_FILE` `REDIS_SSL_CERT_FILE` `REDIS_SSL_KEY_FILE` | none |
    /// | `REDIS_DECODE_RESPONSES` `REDIS_PROTOCOL` `REDIS_CLIENT_NAME` | true, 2, millpond |
    /// | `REDIS_CONNECT_TIMEOUT` `REDIS_READ_TIMEOUT` `REDIS_WRITE_TIMEOUT` `REDIS_CHECK_TIMEOUT` | 10, 30, 30, 3 (seconds) |
    /// | `REDIS_SENTINELS` (`host:port,...`) `REDIS_SENTINEL_MASTER` `REDIS_SENTINEL_ROLE` | none, none, master |
    /// | `REDIS_SENTINEL_USER` `REDIS_SENTINEL_PASSWORD` (or its `_FILE`) | none |
    /// | `REDIS_CLUSTER_NODES` (`host:port,...`) | none |
    /// | `SECURITY_CONNECTION_ENCRYPTION` `SECURITY_CERTIFICATE_VALIDATION` | true, true |
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) with every
    /// mistake at once.
    pub fn from_env() -> Result<Option<Self>, Error> {
        Vars::process().read(Self::from_vars)
    }

    /// What the variables say of one server; `None` unless Redis is on.
    pub(crate) fn from_vars(vars: &mut Vars<'_>) -> Option<Self> {
        let (config, others) = Self::read(vars)?;
        if !others.is_empty() {
            let hosts = vars.text("REDIS_HOST").unwrap_or_default();
            let accepted = "one server; for several, a hub's POOL_BALANCE";
            vars.mistake("REDIS_HOST", &hosts, accepted);
        }
        Some(config)
    }

    /// The same of each server by itself, for a fleet.
    pub(crate) fn each_from_vars(vars: &mut Vars<'_>) -> Option<Vec<Self>> {
        let (config, others) = Self::read(vars)?;
        let who = match &config.topology {
            Topology::Single(_) => None,
            Topology::Sentinel(_) => Some("REDIS_SENTINELS, which say which server it is"),
            Topology::Cluster(_) => Some("REDIS_CLUSTER_NODES, which a Cluster shares out itself"),
        };
        if let Some(who) = who {
            vars.refuse_balance(&format!("with {who}"));
        }
        let mut all = vec![config];
        for address in others {
            let topology = Topology::Single(address);
            let other = Self {
                topology,
                ..all[0].clone()
            };
            other.check(vars);
            all.push(other);
        }
        Some(all)
    }

    /// Whether the socket in `REDIS_URL` is not used, as there is a `REDIS_HOST`.
    pub(crate) fn leaves_socket(vars: &mut Vars<'_>) -> bool {
        let Some(url) = vars.url("REDIS_URL") else {
            return false;
        };
        let is_socket = Self::new()
            .with_url(url.expose())
            .is_ok_and(|config| matches!(config.topology, Topology::Single(Address::Unix(_))));
        is_socket && vars.flag("REDIS_ENABLED") != Some(false) && vars.text("REDIS_HOST").is_some()
    }

    /// The first of the servers, and where the others are.
    fn read(vars: &mut Vars<'_>) -> Option<(Self, Vec<Address>)> {
        let url = vars.url("REDIS_URL");
        if !vars.flag("REDIS_ENABLED").unwrap_or(url.is_some()) {
            return None;
        }
        let mut config = Self::new();
        if let Some(url) = url {
            match Self::new().with_url(url.expose()) {
                Ok(read) => {
                    for (name, variable) in ASKED {
                        if url::asks(url.expose(), name) {
                            vars.said_by_url(variable);
                        }
                    }
                    config = read;
                    if config.password.is_some()
                        && let Some(password) = vars.url_password("REDIS_URL", password_in)
                    {
                        config.password = Some(password);
                    }
                }
                Err(mistake) => vars.mistake(
                    "REDIS_URL",
                    "***",
                    &format!(
                        "redis://[user[:password]@]host[:port][/db], several hosts in REDIS_HOST \
                         ({mistake})"
                    ),
                ),
            }
        }
        let others = config.read_servers(vars);
        config.read_login(vars);
        config.read_tls(vars);
        config.read_manners(vars);
        config.check(vars);
        Some((config, others))
    }

    /// `host:port`, if it is a single node at a name that is looked up.
    pub(crate) fn host_name(&self) -> Option<String> {
        match &self.topology {
            Topology::Single(Address::Tcp(name, port)) if !is_address(name) => {
                Some(format!("{name}:{port}"))
            }
            _ => None,
        }
    }

    /// The same for a single node at this address, with its zone if it has one: for
    /// [`FleetBuilder::resolve`](crate::endpoints::FleetBuilder::resolve) and its like.
    ///
    /// ```
    /// # fn main() -> Result<(), millpond::Error> {
    /// use millpond::RedisConfig;
    /// use millpond::backend::Backend;
    ///
    /// let config = RedisConfig::from_url("rediss://:hunter2@caches.internal/2")?;
    /// let at = config.at("192.0.2.7:6380".parse().expect("an address"));
    /// let redis = millpond::Redis::new(at)?;
    /// assert_eq!(redis.endpoint(), "192.0.2.7:6380/2");
    /// # Ok(()) }
    /// ```
    pub fn at(&self, address: SocketAddr) -> Self {
        let node = Address::Tcp(host_of(&address), address.port());
        Self {
            topology: Topology::Single(node),
            ..self.clone()
        }
    }

    /// Takes the first of several single nodes; where the others are.
    fn read_servers(&mut self, vars: &mut Vars) -> Vec<Address> {
        let mut others = Vec::new();
        let has_host = vars.text("REDIS_HOST").is_some();
        let known = match &self.topology {
            Topology::Single(Address::Tcp(known, port)) => Some(vec![(known.clone(), *port)]),
            Topology::Single(Address::Unix(_)) if has_host => Some(Vec::new()),
            _ => None,
        };
        if let Some(known) = known {
            let servers = vars.servers(("REDIS_HOST", "REDIS_PORT"), known, DEFAULT_PORT, host);
            for (place, (host, port)) in servers.into_iter().enumerate() {
                let address = Address::Tcp(host, port);
                if place == 0 {
                    self.topology = Topology::Single(address);
                } else {
                    others.push(address);
                }
            }
        } else if let Some(port) = vars.text("REDIS_PORT") {
            let accepted = "none beside the socket in REDIS_URL, which has no port";
            vars.mistake("REDIS_PORT", &port, accepted);
        }
        let sentinels = addresses(vars, "REDIS_SENTINELS", 26379);
        let nodes = addresses(vars, "REDIS_CLUSTER_NODES", DEFAULT_PORT);
        if sentinels.is_some() && nodes.is_some() {
            vars.mistake(
                "REDIS_CLUSTER_NODES",
                "set",
                "either it or REDIS_SENTINELS, not both",
            );
        }
        if let Some(nodes) = nodes {
            self.topology = Topology::Cluster(nodes);
        }
        if let Some(sentinels) = sentinels {
            let primary = vars.text("REDIS_SENTINEL_MASTER").unwrap_or_default();
            let mut config = std::mem::take(self).sentinel(primary, sentinels);
            match vars.text("REDIS_SENTINEL_ROLE").as_deref().map(str::trim) {
                None | Some("master" | "primary") => {}
                Some("replica" | "slave") => config = config.sentinel_role(SentinelRole::Replica),
                Some(other) => vars.mistake("REDIS_SENTINEL_ROLE", other, "master or replica"),
            }
            if let Some(password) = vars.credential("REDIS_SENTINEL_PASSWORD") {
                let user = vars.text("REDIS_SENTINEL_USER");
                config = config.sentinel_credential(user.as_deref(), password);
            }
            *self = config;
        }
        others
    }

    fn read_login(&mut self, vars: &mut Vars) {
        if let Some(db) = vars.parse("REDIS_DB", "0 or more") {
            self.db = db;
        }
        if let Some(user) = vars.text("REDIS_USER") {
            self.user = Some(user);
        }
        if let Some(password) = vars.credential("REDIS_PASSWORD") {
            self.password = Some(password);
        }
    }

    fn read_tls(&mut self, vars: &mut Vars) {
        match vars.flag("REDIS_SSL") {
            Some(true) => {
                self.tls.get_or_insert_default();
            }
            Some(false) => self.tls = None,
            None => {}
        }
        if let Some(allowed) = vars.flag("SECURITY_CONNECTION_ENCRYPTION") {
            self.allow_plaintext = !allowed;
        }
        let version = vars.parse("REDIS_SSL_MIN_VERSION", TLS_VERSIONS);
        let validate = vars.flag("SECURITY_CERTIFICATE_VALIDATION") != Some(false);
        let ca_file = vars.text("REDIS_SSL_CA_FILE");
        let certificate = vars.text("REDIS_SSL_CERT_FILE");
        let key = vars.text("REDIS_SSL_KEY_FILE");
        if certificate.is_some() != key.is_some() {
            vars.mistake(
                "REDIS_SSL_CERT_FILE and REDIS_SSL_KEY_FILE",
                "one without the other",
                "both or none",
            );
        }
        self.tls = self.tls.take().map(|mut tls: Tls| {
            if let Some(path) = ca_file {
                tls = tls.ca_file(path);
            }
            if let Some(version) = version {
                tls = tls.min_version(version);
            }
            if let Some((certificate, key)) = certificate.zip(key) {
                tls = tls.client_certificate(certificate, key);
            }
            if validate {
                tls
            } else {
                tls.danger_trust_any_certificate()
            }
        });
    }

    fn read_manners(&mut self, vars: &mut Vars) {
        if let Some(wanted) = vars.flag("REDIS_DECODE_RESPONSES") {
            self.decode_responses = wanted;
        }
        match vars.parse::<u8>("REDIS_PROTOCOL", "2 or 3") {
            None => {}
            Some(2) => self.resp3 = false,
            Some(3) => self.resp3 = true,
            Some(other) => vars.mistake("REDIS_PROTOCOL", &other.to_string(), "2 or 3"),
        }
        if let Some(name) = vars.text("REDIS_CLIENT_NAME") {
            self.client_name = name;
        }
        if let Some(timeout) = vars.seconds("REDIS_CONNECT_TIMEOUT") {
            self.connect_timeout = timeout;
        }
        if let Some(timeout) = vars.seconds("REDIS_READ_TIMEOUT") {
            self.read_timeout = Some(timeout);
        }
        if let Some(timeout) = vars.seconds("REDIS_WRITE_TIMEOUT") {
            self.write_timeout = Some(timeout);
        }
        if let Some(timeout) = vars.seconds("REDIS_CHECK_TIMEOUT") {
            self.check_timeout = timeout;
        }
    }
}

/// A host, as [`Vars::hosts`] wants it.
fn host(text: &str) -> Option<String> {
    is_host(text).then(|| text.to_owned())
}

/// A list of `host:port`, where the port may be left out.
fn addresses(vars: &mut Vars, name: &str, default_port: u16) -> Option<Vec<(String, u16)>> {
    let hosts = vars.hosts(name, host)?.into_iter();
    let with_port = hosts.map(|(host, port)| (host, port.unwrap_or(default_port)));
    Some(with_port.collect())
}

/// The password in this URL.
fn password_in(url: &str) -> Option<Secret> {
    let config = RedisConfig::new().with_url(url).ok()?;
    config.password?.current().ok()
}

#[cfg(test)]
mod tests;
