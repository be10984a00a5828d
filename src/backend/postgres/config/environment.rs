//! The `DB_*` variables.

use std::net::SocketAddr;

use super::words::{Host, SSL_MODES, TARGET_SESSIONS};
use super::{DEFAULT_PORT, PostgresConfig};
use crate::config::{Vars, host_of, is_address};
use crate::error::Error;
use crate::security::{Secret, TLS_VERSIONS};

impl PostgresConfig {
    /// Reads the process's environment; `None` unless `DB_HOST`, `DB_NAME` or
    /// `DATABASE_URL` is set. What `DATABASE_URL` says is overruled by the others:
    ///
    /// | variable | default |
    /// |---|---|
    /// | `DB_HOST` (or several: `a,b:5433`; or a socket folder) `DB_PORT` (of all, or `5432,5433`) | localhost, 5432 |
    /// | `DB_NAME` `DB_USER` `DB_PASSWORD` (or `DB_PASSWORD_FILE`) | none |
    /// | `DB_SSL_MODE` `DB_SSL_MIN_VERSION` | prefer, 1.2 |
    /// | `DB_SSL_CA_FILE` `DB_SSL_CERT_FILE` `DB_SSL_KEY_FILE` | none |
    /// | `DB_APPLICATION_NAME` `DB_OPTIONS` `DB_TARGET_SESSION_ATTRS` | millpond, none, any |
    /// | `DB_CONNECT_TIMEOUT` `DB_CHECK_TIMEOUT` `DB_STATEMENT_TIMEOUT` | 10, 3, none (seconds) |
    /// | `DB_STATEMENT_CACHE` `DB_RESOLVE_UNKNOWN` | 256 but 0 behind a pooler, false |
    /// | `SECURITY_CONNECTION_ENCRYPTION` `SECURITY_CERTIFICATE_VALIDATION` | true, true |
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) with every mistake at once.
    pub fn from_env() -> Result<Option<Self>, Error> {
        Vars::process().read(Self::from_vars)
    }

    /// What the variables say; `None` unless they name a server.
    pub(crate) fn from_vars(vars: &mut Vars<'_>) -> Option<Self> {
        let url = vars.url("DATABASE_URL");
        if url.is_none() && vars.text("DB_HOST").is_none() && vars.text("DB_NAME").is_none() {
            return None;
        }
        let mut config = Self::new();
        if let Some(url) = url {
            config.read_url("DATABASE_URL", url.expose(), vars);
            if config.password.is_some()
                && let Some(password) = vars.url_password("DATABASE_URL", password_in)
            {
                config.password = Some(password);
            }
        }
        config.read_vars(vars);
        config.check(vars);
        Some(config)
    }

    /// The same for each of its hosts by itself.
    pub(crate) fn of_each_host(self) -> Vec<Self> {
        let hosts = self.hosts.iter();
        hosts
            .map(|host| Self {
                hosts: vec![host.clone()],
                ..self.clone()
            })
            .collect()
    }

    /// `host:port`, if its one host is a name that is looked up.
    pub(crate) fn host_name(&self) -> Option<String> {
        match &*self.hosts {
            [(Host::Tcp(name), port)] if !is_address(name) => Some(format!("{name}:{port}")),
            _ => None,
        }
    }

    /// The same for the one server at this address: for
    /// [`FleetBuilder::resolve`](crate::endpoints::FleetBuilder::resolve) and its like. One with a
    /// zone (`fe80::1%eth0`) is a mistake, as the driver connects to none.
    ///
    /// ```
    /// # fn main() -> Result<(), millpond::Error> {
    /// use millpond::PostgresConfig;
    /// use millpond::backend::Backend;
    ///
    /// let config = PostgresConfig::from_url("postgres://app:hunter2@replicas.internal/shop")?;
    /// let at = config.at("192.0.2.7:5433".parse().expect("an address"));
    /// let postgres = millpond::Postgres::new(at)?;
    /// assert_eq!(postgres.endpoint(), "192.0.2.7:5433/shop");
    /// # Ok(()) }
    /// ```
    pub fn at(&self, address: SocketAddr) -> Self {
        Self {
            hosts: vec![(Host::Tcp(host_of(&address)), address.port())],
            ..self.clone()
        }
    }

    fn read_vars(&mut self, vars: &mut Vars<'_>) {
        self.hosts_are_default &= vars.text("DB_HOST").is_none();
        let known = std::mem::take(&mut self.hosts);
        self.hosts = vars.servers(("DB_HOST", "DB_PORT"), known, DEFAULT_PORT, Host::checked);
        self.database = vars.text("DB_NAME").or(self.database.take());
        self.user = vars.text("DB_USER").or(self.user.take());
        if let Some(password) = vars.credential("DB_PASSWORD") {
            self.password = Some(password);
        }
        if let Some(mode) = vars.text("DB_SSL_MODE") {
            match mode.trim().parse() {
                Ok(mode) => self.ssl_mode = mode,
                Err(()) => vars.mistake("DB_SSL_MODE", &mode, SSL_MODES),
            }
        }
        if let Some(version) = vars.parse("DB_SSL_MIN_VERSION", TLS_VERSIONS) {
            self.tls = std::mem::take(&mut self.tls).min_version(version);
        }
        if let Some(path) = vars.text("DB_SSL_CA_FILE") {
            self.tls = std::mem::take(&mut self.tls).ca_file(path);
        }
        match (vars.text("DB_SSL_CERT_FILE"), vars.text("DB_SSL_KEY_FILE")) {
            (Some(cert), Some(key)) => {
                self.tls = std::mem::take(&mut self.tls).client_certificate(cert, key);
            }
            (Some(_), None) => vars.mistake("DB_SSL_KEY_FILE", "", "the key of DB_SSL_CERT_FILE"),
            (None, Some(_)) => vars.mistake("DB_SSL_CERT_FILE", "", "the certificate of the key"),
            (None, None) => {}
        }
        if let Some(name) = vars.text("DB_APPLICATION_NAME") {
            self.application_name = name;
        }
        self.options = vars.text("DB_OPTIONS").or(self.options.take());
        if let Some(target) = vars.text("DB_TARGET_SESSION_ATTRS") {
            match target.trim().parse() {
                Ok(target) => self.target = target,
                Err(()) => vars.mistake("DB_TARGET_SESSION_ATTRS", &target, TARGET_SESSIONS),
            }
        }
        if let Some(timeout) = vars.seconds("DB_CONNECT_TIMEOUT") {
            self.connect_timeout = timeout;
        }
        if let Some(timeout) = vars.seconds("DB_CHECK_TIMEOUT") {
            self.check_timeout = timeout;
        }
        if let Some(timeout) = vars.seconds("DB_STATEMENT_TIMEOUT") {
            self.statement_timeout = Some(timeout);
        }
        if let Some(size) = vars.parse("DB_STATEMENT_CACHE", "a number, 0 for none") {
            self.statement_cache = Some(size);
        }
        if let Some(resolve) = vars.flag("DB_RESOLVE_UNKNOWN") {
            self.resolve_unknown = resolve;
        }
        if let Some(encrypt) = vars.flag("SECURITY_CONNECTION_ENCRYPTION") {
            self.allow_plaintext = !encrypt;
        }
        if let Some(check) = vars.flag("SECURITY_CERTIFICATE_VALIDATION") {
            self.check_certificates = check;
        }
    }
}

/// The password in this URL.
fn password_in(url: &str) -> Option<Secret> {
    let mut vars = Vars::from_lookup(|_| None);
    let mut config = PostgresConfig::new();
    config.read_url("the URL", url, &mut vars);
    let password = config.password.filter(|_| vars.is_good());
    password?.current().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::postgres::config::{Host, SslMode};

    fn read(pairs: &[(&str, &str)]) -> Result<Option<PostgresConfig>, Error> {
        let vars = Vars::from_lookup(|name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        });
        vars.read(PostgresConfig::from_vars)
    }

    #[test]
    fn is_off_unless_named() {
        assert!(read(&[("DB_USER", "app")]).expect("no mistake").is_none());
        assert!(read(&[("DB_NAME", "app")]).expect("no mistake").is_some());
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let config = read(&[("DB_HOST", "localhost")])
            .expect("no mistake")
            .expect("on");
        assert_eq!(config.hosts, [(Host::Tcp("localhost".into()), 5432)]);
        assert_eq!(config.ssl_mode, SslMode::Prefer);
        assert_eq!(config.application_name, "millpond");
        assert!(config.database.is_none() && config.user.is_none() && config.password.is_none());
    }

    #[test]
    fn variables_overrule_the_url() {
        let config = read(&[
            ("DATABASE_URL", "postgres://u:p@[::1]:5/d?sslmode=require"),
            ("DB_NAME", "other"),
            ("DB_PORT", "6"),
        ]);
        let config = config.expect("no mistake").expect("on");
        assert_eq!(config.hosts, [(Host::Tcp("::1".into()), 6)]);
        assert_eq!(config.database.as_deref(), Some("other"));
        assert_eq!(config.user.as_deref(), Some("u"));
        assert_eq!(config.ssl_mode, SslMode::Require);
    }

    #[test]
    fn all_mistakes_at_once_and_no_secret() {
        let error = read(&[
            ("DB_HOST", "db.internal"),
            ("DB_PORT", "many"),
            ("DB_SSL_MODE", "disable"),
            ("DB_PASSWORD", "hunter2"),
            ("DB_CHECK_TIMEOUT", "soon"),
            ("DB_SSL_CERT_FILE", "/c.pem"),
        ]);
        let message = error.expect_err("mistakes").to_string();
        for name in [
            "DB_PORT",
            "DB_SSL_MODE",
            "DB_CHECK_TIMEOUT",
            "DB_SSL_KEY_FILE",
        ] {
            assert!(message.contains(name), "{message}");
        }
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn prefer_means_require_for_another_host() {
        let config = PostgresConfig::new()
            .host("db.internal")
            .host("/run/postgresql");
        assert_eq!(config.mode_for(&config.hosts[0].0), SslMode::Require);
        assert_eq!(config.mode_for(&config.hosts[1].0), SslMode::Disable);
        assert_eq!(
            config.mode_for(&Host::Tcp("127.0.0.1".into())),
            SslMode::Prefer
        );
        let lenient = config.allow_plaintext(true);
        assert_eq!(lenient.mode_for(&lenient.hosts[0].0), SslMode::Prefer);
    }

    #[test]
    fn an_address_in_a_zone_is_one_that_the_driver_cannot_reach() {
        let config = PostgresConfig::new().allow_plaintext(true);
        let in_zone = config.at("[fe80::1%2]:7".parse().expect("an address"));
        assert_eq!(in_zone.hosts, [(Host::Tcp("fe80::1%2".into()), 7)]);
        assert_eq!(in_zone.host_name(), None);
        let error = crate::Postgres::new(in_zone).expect_err("a zone");
        assert!(
            error.message().contains("DB_HOST is `fe80::1%2`"),
            "{error}"
        );
    }
}
