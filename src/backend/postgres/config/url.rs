//! Connection URLs as libpq understands them:
//! `postgres://user:password@host1:port,host2:port/database?setting=value`.
//!
//! The driver's own parser refuses `verify-full` and the certificate files, and the
//! general URL grammar knows no lists of hosts, so they are taken apart here.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::words::{Host, SSL_MODES, TARGET_SESSIONS};
use super::{DEFAULT_PORT, PostgresConfig};
use crate::config::{ESCAPED, Login, Vars, login, nearest_of};
use crate::error::Error;
use crate::security::Secret;

impl PostgresConfig {
    /// Reads a URL such as
    /// `postgres://app:secret@db1,db2:5433/app?sslmode=verify-full&sslrootcert=/ca.pem`.
    ///
    /// Settings understood: `host`, `port`, `dbname`, `user`, `password`, `sslmode`,
    /// `sslrootcert`, `sslcert`, `sslkey`, `ssl_min_protocol_version`, `application_name`,
    /// `options`, `connect_timeout` (seconds), `keepalives_idle` (seconds), `tcp_user_timeout`
    /// (milliseconds), `target_session_attrs`.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) with every mistake at once;
    /// the message never contains the password.
    ///
    /// ```
    /// use millpond::PostgresConfig;
    /// let config = PostgresConfig::from_url("postgres://app@localhost/app")?;
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let mut vars = Vars::from_lookup(|_| None);
        let mut config = Self::new();
        config.read_url("the URL", url, &mut vars);
        config.check(&mut vars);
        vars.finish()?;
        Ok(config)
    }

    /// Takes what the URL says; mistakes are noted under `name`.
    pub(super) fn read_url(&mut self, name: &str, url: &str, vars: &mut Vars<'_>) {
        const FORM: &str = "postgres://user:password@host:port/database?setting=value";
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|s| url.strip_prefix(s));
        let Some(rest) = rest else {
            // What was given may be anything, a password too: it is not repeated.
            vars.mistake(name, "not a PostgreSQL URL", FORM);
            return;
        };
        let login = login(url);
        if login == Login::Astray {
            vars.mistake(name, "***", ESCAPED);
            return;
        }
        let before = vars.count();
        self.read_parts(name, rest, vars);
        if login == Login::Doubtful && vars.retract(before) {
            vars.mistake(name, "***", ESCAPED);
        }
    }

    /// What follows the scheme.
    fn read_parts(&mut self, name: &str, rest: &str, vars: &mut Vars<'_>) {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let mut say = |key: &str, value: &str| self.set(name, key, &decoded(value), vars);
        if !user.is_empty() {
            say("user", user);
        }
        if let Some(password) = password {
            say("password", password);
        }
        if !database.is_empty() {
            say("dbname", database);
        }
        let (names, ports): (Vec<_>, Vec<_>) = hosts.split(',').map(split_port).unzip();
        if !hosts.is_empty() {
            say("host", &names.join(","));
            say("port", &ports.join(","));
        }
        let mut files = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let Some(variable) = variable_of(key) {
                vars.said_by_url(variable);
            }
            match key {
                "sslcert" => files.0 = Some(decoded(value)),
                "sslkey" => files.1 = Some(decoded(value)),
                _ => self.set(name, key, &decoded(value), vars),
            }
        }
        match files {
            (Some(cert), Some(key)) => {
                self.tls = std::mem::take(&mut self.tls).client_certificate(&*cert, &*key);
            }
            (None, None) => {}
            _ => vars.mistake(name, "one of sslcert and sslkey", "both or neither"),
        }
    }

    fn set(&mut self, name: &str, key: &str, value: &str, vars: &mut Vars<'_>) {
        let wrong = |vars: &mut Vars<'_>, accepted: &str| {
            // Where the `@` is missing, a host or a port is a password.
            let value = if ["host", "port"].contains(&key) {
                "***"
            } else {
                value
            };
            vars.mistake(&format!("{name}, {key}"), value, accepted);
        };
        let text = Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "user" => self.user = text,
            "password" => self.password = Some(Secret::from(value).into()),
            "dbname" => self.database = text,
            "host" => {
                let hosts: Option<Vec<_>> = value.split(',').map(Host::checked).collect();
                if let Some(hosts) = hosts {
                    self.hosts_are_default = false;
                    self.hosts = hosts.into_iter().map(|host| (host, DEFAULT_PORT)).collect();
                } else {
                    wrong(
                        vars,
                        "host names, IP addresses or socket folders, with commas",
                    );
                }
            }
            "port" => {
                let ports: Vec<&str> = value.split(',').collect();
                for (index, (_, port)) in self.hosts.iter_mut().enumerate() {
                    // One port counts for all hosts.
                    let text = ports
                        .get(index)
                        .or(ports.first())
                        .copied()
                        .unwrap_or_default();
                    match text.parse() {
                        Ok(number) => *port = number,
                        Err(_) if text.is_empty() => *port = DEFAULT_PORT,
                        Err(_) => wrong(vars, "a port, 1 to 65535"),
                    }
                }
            }
            "sslmode" => match value.parse() {
                Ok(mode) => self.ssl_mode = mode,
                Err(()) => wrong(vars, SSL_MODES),
            },
            "sslrootcert" => self.tls = std::mem::take(&mut self.tls).ca_file(value),
            "ssl_min_protocol_version" => match value.parse() {
                Ok(version) => self.tls = std::mem::take(&mut self.tls).min_version(version),
                Err(()) => wrong(vars, "TLSv1.2 or TLSv1.3"),
            },
            "application_name" => value.clone_into(&mut self.application_name),
            "options" => self.options = text,
            "target_session_attrs" => match value.parse() {
                Ok(target) => self.target = target,
                Err(()) => wrong(vars, TARGET_SESSIONS),
            },
            "connect_timeout" | "keepalives_idle" | "tcp_user_timeout" => match value.parse() {
                Ok(number) if number > 1_000_000_000 => wrong(vars, "at most 1000000000"),
                Ok(0) if key == "connect_timeout" => wrong(vars, "whole seconds, from 1"),
                Ok(number) => self.set_time(key, number),
                Err(_) => wrong(vars, "a whole number"),
            },
            // Perhaps a mistyped `password`, or what is left of one: nothing is repeated.
            _ => {
                let near = nearest_of(key, SETTINGS.into_iter());
                let hint = near
                    .map(|near| format!("; is it {near}?"))
                    .unwrap_or_default();
                let accepted = format!("{}{hint}", SETTINGS.join(", "));
                vars.mistake(&format!("{name}, a setting"), "***", &accepted);
            }
        }
    }

    fn set_time(&mut self, key: &str, number: u64) {
        let some = |unit: fn(u64) -> Duration| (number > 0).then(|| unit(number));
        match key {
            "connect_timeout" => self.connect_timeout = Duration::from_secs(number),
            "keepalives_idle" => self.keepalive = some(Duration::from_secs),
            _ => self.tcp_user_timeout = some(Duration::from_millis),
        }
    }
}

/// What [`PostgresConfig::from_url`] understands.
const SETTINGS: [&str; 15] = [
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "options",
    "connect_timeout",
    "keepalives_idle",
    "tcp_user_timeout",
    "target_session_attrs",
];

/// The variable for this setting, where a setting in the URL overrules that in an earlier layer.
fn variable_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "sslmode" => "DB_SSL_MODE",
        "sslrootcert" => "DB_SSL_CA_FILE",
        "sslcert" => "DB_SSL_CERT_FILE",
        "sslkey" => "DB_SSL_KEY_FILE",
        "application_name" => "DB_APPLICATION_NAME",
        "options" => "DB_OPTIONS",
        "target_session_attrs" => "DB_TARGET_SESSION_ATTRS",
        "connect_timeout" => "DB_CONNECT_TIMEOUT",
        _ => return None,
    })
}

/// `host:port`, `[::1]:port` or a bare host; an absent port is empty.
fn split_port(host: &str) -> (&str, &str) {
    if let Some(rest) = host.strip_prefix('[')
        && let Some((address, port)) = rest.split_once(']')
    {
        return (address, port.strip_prefix(':').unwrap_or(port));
    }
    host.split_once(':').unwrap_or((host, ""))
}

fn decoded(text: &str) -> Zeroizing<String> {
    Zeroizing::new(percent_decode_str(text).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::postgres::config::{SslMode, TargetSession};
    use crate::security::Secret;

    #[test]
    fn several_hosts_escapes_and_settings() {
        let config = PostgresConfig::from_url(
            "postgresql://a%40b:p%2Fw%3A@db1:5433,[::1],%2Frun%2Fpg/d%20b?sslmode=verify-full\
             &sslrootcert=/ca.pem&connect_timeout=7&target_session_attrs=read-write\
             &application_name=x%20y",
        )
        .expect("a good URL");
        assert_eq!(config.user.as_deref(), Some("a@b"));
        let password = config.password.map(|password| password.current().unwrap());
        assert_eq!(password.as_ref().map(Secret::expose), Some("p/w:"));
        assert_eq!(config.database.as_deref(), Some("d b"));
        assert_eq!(
            config.hosts,
            [
                (Host::Tcp("db1".into()), 5433),
                (Host::Tcp("::1".into()), 5432),
                (Host::Unix("/run/pg".into()), 5432),
            ]
        );
        assert_eq!(config.ssl_mode, SslMode::VerifyFull);
        assert_eq!(config.connect_timeout, Duration::from_secs(7));
        assert_eq!(config.target, TargetSession::ReadWrite);
        assert_eq!(config.application_name, "x y");
    }

    #[test]
    fn mistakes_are_named_and_passwords_are_not() {
        let url = "postgres://u:hunter2@h:99999/d?sslmode=maybe&wat=1&connect_timeout=x&sslkey=k";
        let message = PostgresConfig::from_url(url)
            .expect_err("mistakes")
            .to_string();
        for part in [
            "port",
            "sslmode",
            "keepalives_idle",
            "connect_timeout",
            "sslcert",
        ] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains("hunter2"), "{message}");
        let message = PostgresConfig::from_url("hunter2")
            .expect_err("no URL")
            .to_string();
        assert!(!message.contains("hunter2"), "{message}");
    }
}
