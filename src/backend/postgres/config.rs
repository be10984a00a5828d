//! Settings of a PostgreSQL manager: by code, by URL, from the environment.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Plain, Vars, is_host};
use crate::security::{Credential, Secret, Tls, TlsVersion};

pub(super) use words::Host;
pub use words::{SslMode, TargetSession};

mod environment;
mod url;
mod words;

pub(super) const DEFAULT_PORT: u16 = 5432;

/// The server has a number of milliseconds with 31 bits.
const LONGEST_STATEMENT: Duration = Duration::from_millis(i32::MAX as u64);

/// Where a PostgreSQL server is and how to log in.
///
/// ```
/// use millpond::PostgresConfig;
/// use millpond::backend::postgres::SslMode;
///
/// let config = PostgresConfig::new()
///     .host("db.internal")
///     .database("app")
///     .user("app")
///     .password("hunter2")
///     .ssl_mode(SslMode::VerifyFull)
///     .ca_file("/etc/ssl/private-ca.pem");
/// assert!(!format!("{config:?}").contains("hunter2"));
/// ```
#[derive(Clone)]
#[must_use]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own"
)]
pub struct PostgresConfig {
    /// Each with its port; never empty.
    pub(super) hosts: Vec<(Host, u16)>,
    pub(super) database: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Credential>,
    pub(super) ssl_mode: SslMode,
    pub(super) tls: Tls,
    pub(super) check_certificates: bool,
    pub(super) allow_plaintext: bool,
    pub(super) application_name: String,
    pub(super) options: Option<String>,
    pub(super) target: TargetSession,
    pub(super) connect_timeout: Duration,
    pub(super) check_timeout: Duration,
    pub(super) statement_timeout: Option<Duration>,
    pub(super) keepalive: Option<Duration>,
    pub(super) tcp_user_timeout: Option<Duration>,
    pub(super) statement_cache: Option<usize>,
    pub(super) resolve_unknown: bool,
    hosts_are_default: bool,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            hosts: vec![(Host::Tcp("localhost".into()), DEFAULT_PORT)],
            database: None,
            user: None,
            password: None,
            ssl_mode: SslMode::Prefer,
            tls: Tls::new(),
            check_certificates: true,
            allow_plaintext: false,
            application_name: "millpond".into(),
            options: None,
            target: TargetSession::Any,
            connect_timeout: Duration::from_secs(10),
            check_timeout: Duration::from_secs(3),
            statement_timeout: None,
            keepalive: Some(Duration::from_secs(30)),
            tcp_user_timeout: Some(Duration::from_secs(30)),
            statement_cache: None,
            resolve_unknown: false,
            hosts_are_default: true,
        }
    }
}

impl PostgresConfig {
    /// `localhost:5432`, TLS if the server offers it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The server's name or IP address, or the folder of its Unix socket (beginning
    /// with `/`). Called again, it adds another host; they are tried in this order.
    pub fn host(mut self, host: impl AsRef<str>) -> Self {
        let port = self.hosts.last().map_or(DEFAULT_PORT, |(_, port)| *port);
        if self.hosts_are_default {
            self.hosts.clear();
            self.hosts_are_default = false;
        }
        self.hosts.push((Host::of(host.as_ref()), port));
        self
    }

    /// The port, 5432 by default, of the host named last; of hosts named later too.
    pub fn port(mut self, port: u16) -> Self {
        if let Some((_, last)) = self.hosts.last_mut() {
            *last = port;
        }
        self
    }

    /// The database; that of the user's name by default.
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }

    /// The user; the operating system's user by default.
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.user = Some(name.into());
        self
    }

    /// The password.
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into().into());
        self
    }

    /// The password is the first line of this file (`DB_PASSWORD_FILE`), which is read for each
    /// login: when it changes, new connections use the new one, and a login that was refused is
    /// tried again at once.
    pub fn password_file(mut self, path: impl AsRef<Path>) -> Self {
        self.password = Some(Credential::file(path));
        self
    }

    /// Whether and how the connection is encrypted.
    pub fn ssl_mode(mut self, mode: SslMode) -> Self {
        self.ssl_mode = mode;
        self
    }

    /// Trusts the authorities in this PEM file instead of the system's. It is read
    /// again when it changes, see [`Tls`].
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls = self.tls.ca_file(path);
        self
    }

    /// Shows this certificate (PEM) to the server. The files are read again when
    /// they change, see [`Tls`].
    pub fn client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.tls = self.tls.client_certificate(certificate, key);
        self
    }

    /// The oldest version of TLS that is spoken; 1.2 by default.
    pub fn min_tls_version(mut self, version: TlsVersion) -> Self {
        self.tls = self.tls.min_version(version);
        self
    }

    /// Accepts any certificate, whatever the mode. An attacker in between is not
    /// noticed.
    pub fn danger_trust_any_certificate(mut self) -> Self {
        self.check_certificates = false;
        self
    }

    /// Allows an unencrypted connection to a host other than this one. Off by
    /// default.
    pub fn allow_plaintext(mut self, allowed: bool) -> Self {
        self.allow_plaintext = allowed;
        self
    }

    /// The name that `pg_stat_activity` shows; `millpond` by default.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }

    /// Command-line options for the session, such as `-c search_path=app`.
    pub fn options(mut self, options: impl Into<String>) -> Self {
        self.options = Some(options.into());
        self
    }

    /// Which of several hosts is wanted.
    pub fn target_session(mut self, target: TargetSession) -> Self {
        self.target = target;
        self
    }

    /// The longest time for reaching one host and logging in there, and for the reset
    /// between two leases; 10 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The longest time of a liveness check; 3 s by default.
    pub fn check_timeout(mut self, timeout: Duration) -> Self {
        self.check_timeout = timeout;
        self
    }

    /// The longest time of a statement, kept by the server; none by default.
    pub fn statement_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.statement_timeout = timeout.into();
        self
    }

    /// How long a connection may be silent before TCP asks whether the other side is
    /// still there; 30 s by default.
    pub fn keepalive(mut self, idle: impl Into<Option<Duration>>) -> Self {
        self.keepalive = idle.into();
        self
    }

    /// How long sent data may stay unacknowledged before TCP gives up; 30 s by
    /// default. (Linux only.)
    pub fn tcp_user_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.tcp_user_timeout = timeout.into();
        self
    }

    /// How many prepared statements each connection keeps; by default 256, and 0 where a
    /// pooler such as PgBouncer answers.
    ///
    /// In transaction mode, a pooler's next transaction may meet another server connection,
    /// which does not know the statement, or knows another program's under its name. With 0
    /// a statement without parameters is sent unprepared, and one with parameters in a
    /// transaction of its own. A pooler is noticed by one round trip at each connect, but not
    /// on a Unix socket: there say 0. Say how many to keep if it pools whole sessions; in
    /// transaction mode that asks for wrong results.
    pub fn statement_cache(mut self, statements: usize) -> Self {
        self.statement_cache = Some(statements);
        self
    }

    /// Whether a batch finds out what became of a group whose connection was lost while
    /// it was being committed; off by default. Then its operations are
    /// [`Done`](crate::Outcome::Done) or [`NotExecuted`](crate::Outcome::NotExecuted) instead
    /// of [`Unknown`](crate::Outcome::Unknown), as far as the server can tell.
    ///
    /// A group notes its transaction's number, and after a loss a new connection asks for
    /// that one's state (`pg_xact_status`, PostgreSQL 13 and later), by the operations'
    /// deadline or for 30 seconds. The price is a COMMIT of its own for each group: one round
    /// trip more, two for INSERTs that became one statement.
    ///
    /// What stays unknown: a transaction that the server calls committed after it crashed in
    /// between, as a number that was not yet on disk is given out again; and everything if
    /// no connection can be made.
    pub fn resolve_unknown(mut self, resolve: bool) -> Self {
        self.resolve_unknown = resolve;
        self
    }

    /// The mode that counts for this host, after the rule on plaintext.
    pub(super) fn mode_for(&self, host: &Host) -> SslMode {
        match (host, self.ssl_mode) {
            (Host::Unix(_), _) => SslMode::Disable,
            (host, SslMode::Prefer) if !host.is_here() && !self.allow_plaintext => SslMode::Require,
            (_, mode) => mode,
        }
    }

    /// Notes every mistake in these settings.
    pub(super) fn check(&self, vars: &mut Vars<'_>) {
        for (host, port) in &self.hosts {
            if let Host::Tcp(name) = host {
                if !is_host(name) {
                    vars.mistake(
                        "DB_HOST",
                        name,
                        "a host name, an IP address or a socket folder",
                    );
                } else if name.contains('%') {
                    let accepted = "a host name, or an IP address without a zone (%), which the \
                                    driver drops";
                    vars.mistake("DB_HOST", name, accepted);
                } else if self.ssl_mode == SslMode::Disable
                    && !self.allow_plaintext
                    && !host.is_here()
                {
                    vars.mistake(
                        "DB_SSL_MODE",
                        &format!("disable, for {name}"),
                        "require, verify-ca or verify-full for any other host than this one, \
                         or allow plaintext with SECURITY_CONNECTION_ENCRYPTION=false",
                    );
                }
            }
            if *port == 0 {
                vars.mistake("DB_PORT", "0", "1 to 65535");
            }
        }
        let texts = [
            ("DB_NAME", &self.database),
            ("DB_USER", &self.user),
            ("DB_OPTIONS", &self.options),
        ];
        for (name, text) in texts {
            if text.as_deref().is_some_and(|text| text.contains('\0')) {
                vars.mistake(name, "text with a NUL byte", "text without one");
            }
        }
        // Errors and the log name both.
        for (name, text) in &texts[..2] {
            if let Some(text) = text.as_deref().filter(|text| text.contains("://")) {
                vars.mistake(name, text, "a name; a URL belongs in DATABASE_URL");
            }
        }
        let password = self.password.as_ref();
        let password = password.and_then(|password| password.current().ok());
        if password.is_some_and(|password| password.expose().contains('\0')) {
            vars.mistake("DB_PASSWORD", "***", "text without a NUL byte");
        }
        if self.application_name.contains('\0') {
            vars.mistake(
                "DB_APPLICATION_NAME",
                "text with a NUL byte",
                "text without one",
            );
        }
        let timeouts = [
            ("DB_CONNECT_TIMEOUT", Some(self.connect_timeout)),
            ("DB_CHECK_TIMEOUT", Some(self.check_timeout)),
            ("DB_STATEMENT_TIMEOUT", self.statement_timeout),
        ];
        if self.statement_timeout > Some(LONGEST_STATEMENT) {
            let seconds = self
                .statement_timeout
                .map_or(0, |timeout| timeout.as_secs());
            let accepted = "seconds, at most 2147483, which is all that the server takes";
            vars.mistake("DB_STATEMENT_TIMEOUT", &seconds.to_string(), accepted);
        }
        for (name, timeout) in timeouts {
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                vars.mistake(name, "0", "seconds, more than 0, such as 2.5");
            }
        }
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("hosts", &Plain(&self.hosts))
            .field("database", &Plain(&self.database))
            .field("user", &Plain(&self.user))
            .field("password", &self.password)
            .field("ssl_mode", &self.ssl_mode)
            .field("tls", &self.tls)
            .field("check_certificates", &self.check_certificates)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("application_name", &Plain(&self.application_name))
            .field("options", &Plain(&self.options))
            .field("target", &self.target)
            .field("connect_timeout", &self.connect_timeout)
            .field("check_timeout", &self.check_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("keepalive", &self.keepalive)
            .field("tcp_user_timeout", &self.tcp_user_timeout)
            .field("statement_cache", &self.statement_cache)
            .field("resolve_unknown", &self.resolve_unknown)
            .finish_non_exhaustive()
    }
}
