//! How a connection comes about: addresses, settings, the login by the clock.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use postgres::config::{SslMode as DriverSslMode, SslNegotiation};
use postgres::error::SqlState;
use postgres::{Client, Config, NoTls, SimpleQueryMessage};
use r2d2::ManageConnection as _;
use r2d2_postgres::PostgresConnectionManager;

use super::super::config::{Host, TargetSession};
use super::super::connection::PostgresConnection;
use super::super::connector::Way;
use super::super::errors::{self, ours};
use super::super::fuse::{Fuse, Then};
use super::super::greeting::Number;
use super::super::probe;
use super::{Postgres, Target, about};
use crate::deadline::Deadline;
use crate::error::{ConnectFailure, Error, ErrorKind, Phase};

/// A connection keeps so many prepared statements, unless it is said how many.
const STATEMENTS: usize = 256;

impl Postgres {
    /// A connection to this host, if it is the kind that is wanted.
    pub(super) fn connect_to(&self, target: &Target) -> Result<PostgresConnection, Error> {
        let (mut conn, deadline, number) = match &target.host {
            Host::Tcp(name) => self.connect_tcp(name, target)?,
            Host::Unix(folder) => self.connect_unix(folder, target.port)?,
        };
        let left = deadline.remaining_within(self.config.connect_timeout);
        conn.limited(left, |conn| {
            self.check_target(conn)?;
            self.look_for_pooler(conn, target, number.get().copied())
        })?;
        Ok(conn)
    }

    /// Tries the addresses of a name, all together within the connect timeout.
    fn connect_tcp(
        &self,
        name: &str,
        target: &Target,
    ) -> Result<(PostgresConnection, Deadline, Number), Error> {
        let addresses = probe::addresses(name, target.port)?;
        let deadline = Deadline::within(self.config.connect_timeout);
        let mut failure = None;
        for address in addresses {
            let fuse = Fuse::new();
            fuse.light(deadline.moment(), Then::GiveUp);
            let mut settings = self.driver_config()?;
            settings
                .host(name)
                .hostaddr(address)
                .port(target.port)
                .connect_timeout(deadline.remaining_within(self.config.connect_timeout))
                // How it is really encrypted is our connector's business.
                .ssl_mode(DriverSslMode::Require)
                .ssl_negotiation(SslNegotiation::Direct);
            let number = Number::default();
            let connector = target.way.fused(&fuse, &number);
            match PostgresConnectionManager::new(settings, connector).connect() {
                Ok(client) => {
                    let conn = self.connection(client, fuse, Some(&target.way));
                    return Ok((conn, deadline, number));
                }
                Err(error) => {
                    let error = probe::login_failed(error, self.config.connect_timeout);
                    let elsewhere = matches!(
                        error.kind(),
                        ErrorKind::Connect(ConnectFailure::Refused | ConnectFailure::Timeout)
                    );
                    if !elsewhere || deadline.is_over() {
                        return Err(error);
                    }
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| {
            let message = format!("the name of the host, {name}, has no address; check DB_HOST");
            Error::new(
                ErrorKind::Connect(ConnectFailure::Dns),
                Phase::Connect,
                message,
            )
        }))
    }

    fn connect_unix(
        &self,
        folder: &Path,
        port: u16,
    ) -> Result<(PostgresConnection, Deadline, Number), Error> {
        let deadline = Deadline::within(self.config.connect_timeout);
        probe::unix(folder, port, self.config.connect_timeout)?;
        let mut settings = self.driver_config()?;
        settings
            .host_path(folder)
            .port(port)
            .ssl_mode(DriverSslMode::Disable);
        let client = PostgresConnectionManager::new(settings, NoTls)
            .connect()
            .map_err(|error| ours(error, Phase::Connect))?;
        let conn = self.connection(client, Fuse::new(), None);
        Ok((conn, deadline, Number::default()))
    }

    fn connection(&self, client: Client, fuse: Arc<Fuse>, way: Option<&Way>) -> PostgresConnection {
        let statements = self.config.statement_cache.unwrap_or(STATEMENTS);
        PostgresConnection::new(client, statements, fuse, way.cloned())
    }

    fn driver_config(&self) -> Result<Config, Error> {
        let ours = &self.config;
        let mut config = Config::new();
        config
            .application_name(&ours.application_name)
            .connect_timeout(ours.connect_timeout);
        if let Some(user) = &ours.user {
            config.user(user);
        }
        if let Some(password) = &ours.password {
            config.password(password.current()?.expose());
        }
        if let Some(database) = &ours.database {
            config.dbname(database);
        }
        let mut options = ours.options.clone().unwrap_or_default();
        if let Some(timeout) = ours.statement_timeout {
            if !options.is_empty() {
                options.push(' ');
            }
            options.push_str("-c statement_timeout=");
            options.push_str(&timeout.as_millis().max(1).to_string());
        }
        if !options.is_empty() {
            config.options(&options);
        }
        match ours.keepalive {
            Some(idle) => {
                let interval = (idle / 3).max(std::time::Duration::from_secs(1));
                config
                    .keepalives_idle(idle)
                    .keepalives_interval(interval)
                    .keepalives_retries(3);
            }
            None => {
                config.keepalives(false);
            }
        }
        if let Some(timeout) = ours.tcp_user_timeout {
            config.tcp_user_timeout(timeout);
        }
        config.notice_callback(|notice| {
            // A reset rolls back whether there is a transaction or not.
            if *notice.code() != SqlState::NO_ACTIVE_SQL_TRANSACTION {
                log::info!(
                    "PostgreSQL: {}: {}",
                    notice.severity(),
                    errors::notice(&notice)
                );
            }
        });
        Ok(config)
    }

    /// Whether this is the kind of server that is wanted.
    fn check_target(&self, conn: &mut PostgresConnection) -> Result<(), Error> {
        let wanted = match self.config.target {
            TargetSession::Any => return Ok(()),
            TargetSession::ReadWrite => true,
            TargetSession::ReadOnly => false,
        };
        let service =
            about(conn).map_err(|error| probe::login_failed(error, self.config.connect_timeout))?;
        if service.writable == Some(wanted) {
            return Ok(());
        }
        let message = format!(
            "the server is {}, and target_session asks for the opposite \
             (DB_TARGET_SESSION_ATTRS)",
            if wanted { "read-only" } else { "writable" }
        );
        Err(Error::new(ErrorKind::WrongRole, Phase::Connect, message))
    }

    /// Keeps no prepared statements where a pooler answers, unless it is said how many are to
    /// be kept: the next transaction may meet another server, which does not know them or,
    /// worse, knows another program's by that name. The server's number is none on a Unix
    /// socket, where a pooler is not noticed.
    fn look_for_pooler(
        &self,
        conn: &mut PostgresConnection,
        target: &Target,
        number: Option<u32>,
    ) -> Result<(), Error> {
        if self.config.statement_cache.is_some() {
            return Ok(());
        }
        if !target.pooled.load(Relaxed) {
            let Some(number) = number else { return Ok(()) };
            let own = own_number(conn)
                .map_err(|error| probe::login_failed(error, self.config.connect_timeout))?;
            if own == Some(number) {
                return Ok(());
            }
            if !target.pooled.swap(true, Relaxed) {
                log::info!(
                    "millpond: PostgreSQL at {}: a pooler answers there, so no prepared \
                     statements are kept; if it pools whole sessions, say how many to keep \
                     (DB_STATEMENT_CACHE)",
                    target.name()
                );
            }
        }
        conn.keep_no_statements();
        Ok(())
    }
}

/// The number of the process that serves this connection, by itself.
fn own_number(conn: &mut PostgresConnection) -> Result<Option<u32>, postgres::Error> {
    let messages = conn.client().simple_query("SELECT pg_backend_pid()")?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    }))
}
