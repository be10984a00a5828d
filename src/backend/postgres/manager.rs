//! Connects, checks and cleans PostgreSQL connections.

mod login;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use postgres::SimpleQueryMessage;
use r2d2::ManageConnection;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::batch;
use super::config::{Host, PostgresConfig, SslMode};
use super::connection::PostgresConnection;
use super::connector::Way;
use super::errors::ours;
use super::operation::Sql;
use super::sql::SqlReply;
use crate::backend::{self, Backend, Encryption, Role, Service, Traffic};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::Outcome;
use crate::pool::Reset;
use crate::security::{Credential, Renewed, Watch, warn_unchecked};

/// Undoes what a session may have kept, but for the prepared statements:
/// `DISCARD ALL` of the manual, taken apart, after the end of any transaction.
const FAST_RESET: &str = "ROLLBACK; CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; \
     UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

const ABOUT: &str = "SELECT current_setting('server_version'), pg_is_in_recovery(), \
     current_setting('transaction_read_only'), \
     CASE WHEN pg_is_in_recovery() THEN \
     greatest(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 0) END";

/// Makes PostgreSQL connections for a [`Pool`](crate::Pool).
pub struct Postgres {
    config: PostgresConfig,
    hosts: Vec<Target>,
    /// Those of the hosts, each once.
    tls: Vec<Arc<Renewed<MakeRustlsConnect>>>,
    endpoint: String,
    certificates: Arc<Watch>,
    /// A server has refused to copy what it should copy.
    copies_not: AtomicBool,
}

/// One host, and how to encrypt the way to it.
struct Target {
    host: Host,
    port: u16,
    way: Way,
    /// A pooler has answered there.
    pooled: AtomicBool,
}

impl Postgres {
    /// A manager for these settings. Reads the certificates; does not connect.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`], naming every setting that is wrong.
    pub fn new(config: PostgresConfig) -> Result<Self, Error> {
        let mut vars = crate::config::Vars::from_lookup(|_| None);
        config.check(&mut vars);
        vars.finish()?;
        if !config.check_certificates {
            warn_unchecked("PostgreSQL");
        }
        let certificates = Arc::<Watch>::default();
        let mut ways: Vec<Way> = Vec::new();
        for (host, _) in &config.hosts {
            let mode = config.mode_for(host);
            if ways.iter().all(|way| way.mode != mode) {
                ways.push(way(&config, mode, &certificates)?);
            }
        }
        let hosts = config.hosts.iter().filter_map(|(host, port)| {
            let mode = config.mode_for(host);
            let way = ways.iter().find(|way| way.mode == mode)?;
            Some(Target::new(host, *port, way))
        });
        let hosts: Vec<Target> = hosts.collect();
        backend::adopt::<Self>();
        let names: Vec<String> = hosts.iter().map(Target::name).collect();
        let mut endpoint = names.join(",");
        if let Some(database) = &config.database {
            endpoint = format!("{endpoint}/{database}");
        }
        Ok(Self {
            config,
            hosts,
            tls: ways.into_iter().filter_map(|way| way.tls).collect(),
            endpoint,
            certificates,
            copies_not: AtomicBool::new(false),
        })
    }

    /// Whether lost outcomes are looked for.
    pub(super) fn resolves_unknown(&self) -> bool {
        self.config.resolve_unknown
    }

    /// Whether large groups of INSERTs may be copied.
    pub(super) fn may_copy(&self) -> bool {
        !self.copies_not.load(Relaxed)
    }

    pub(super) fn stop_copying(&self) {
        if !self.copies_not.swap(true, Relaxed) {
            log::warn!(
                "millpond: PostgreSQL at {} has refused a COPY; from now on large groups of \
                 INSERTs are merged instead",
                self.endpoint
            );
        }
    }

    pub(super) fn placed(&self, error: Error) -> Error {
        if error.endpoint().is_some() {
            error
        } else {
            error.with_endpoint(self.endpoint.as_str())
        }
    }
}

/// How hosts are reached in this mode.
fn way(config: &PostgresConfig, mode: SslMode, certificates: &Arc<Watch>) -> Result<Way, Error> {
    let ca_given = config.tls.ca_path().is_some();
    let tls = match mode {
        SslMode::Disable => None,
        _ if !config.check_certificates => Some(config.tls.clone().danger_trust_any_certificate()),
        SslMode::VerifyFull => Some(config.tls.clone()),
        SslMode::VerifyCa => Some(config.tls.clone().skip_host_name()),
        SslMode::Require if ca_given => Some(config.tls.clone().skip_host_name()),
        SslMode::Prefer | SslMode::Require => {
            Some(config.tls.clone().danger_trust_any_certificate())
        }
    };
    let renewed = |tls| {
        let watch = Arc::clone(certificates);
        Renewed::new("PostgreSQL", &tls, move |tls, files| {
            let config = tls.client_config(files, &watch)?;
            Ok(MakeRustlsConnect::new(config))
        })
    };
    let tls = tls.map(renewed).transpose()?.map(Arc::new);
    Ok(Way { mode, tls })
}

impl Target {
    fn new(host: &Host, port: u16, way: &Way) -> Self {
        Self {
            host: host.clone(),
            port,
            way: way.clone(),
            pooled: AtomicBool::new(false),
        }
    }

    fn name(&self) -> String {
        match &self.host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]:{}", self.port),
            Host::Tcp(name) => format!("{name}:{}", self.port),
            Host::Unix(folder) => format!("{}:{}", folder.display(), self.port),
        }
    }
}

impl ManageConnection for Postgres {
    type Connection = PostgresConnection;
    type Error = Error;

    /// Tries the hosts in their order and takes the first that will do.
    fn connect(&self) -> Result<PostgresConnection, Error> {
        for tls in &self.tls {
            tls.attempt();
        }
        let mut failure: Option<Error> = None;
        for target in &self.hosts {
            match self.connect_to(target) {
                Ok(conn) => return Ok(conn),
                Err(error) => {
                    let error = error.with_endpoint(target.name());
                    // What may heal says more about the set of hosts than what cannot.
                    let keep = failure.as_ref().is_some_and(|kept| {
                        kept.kind().connect_may_heal() && !error.kind().connect_may_heal()
                    });
                    if !keep {
                        failure = Some(error);
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| {
            Error::new(
                ErrorKind::Configuration,
                Phase::Connect,
                "no host is named (DB_HOST)",
            )
        }))
    }

    fn is_valid(&self, conn: &mut PostgresConnection) -> Result<(), Error> {
        conn.client()
            .is_valid(self.config.check_timeout)
            .map_err(|error| {
                // Whatever failed, a late answer may still be on its way.
                conn.mark_broken();
                self.placed(ours(error, Phase::Validate))
            })
    }

    fn has_broken(&self, conn: &mut PostgresConnection) -> bool {
        conn.is_broken()
    }
}

impl Backend for Postgres {
    const NAME: &'static str = "postgres";

    const NATIVE_BATCH: bool = true;

    type Operation = Sql;

    type Reply = SqlReply;

    fn execute(
        &self,
        conn: &mut PostgresConnection,
        operation: &Sql,
        deadline: Deadline,
    ) -> Result<SqlReply, Error> {
        batch::execute(conn, operation, deadline).map_err(|error| self.placed(error))
    }

    fn execute_batch(
        &self,
        conn: &mut PostgresConnection,
        operations: &[&Sql],
        deadline: Deadline,
    ) -> Vec<Outcome<SqlReply>> {
        batch::execute_batch(self, conn, operations, deadline)
    }

    fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    fn classify(error: &Error) -> ErrorKind {
        error.kind()
    }

    fn is_clean(&self, conn: &PostgresConnection, policy: Reset) -> bool {
        match policy {
            Reset::None => true,
            Reset::Fast => conn.is_clean(),
            Reset::Full => false,
        }
    }

    fn reset(&self, conn: &mut PostgresConnection, policy: Reset) -> Result<(), Error> {
        let limit = self.config.connect_timeout;
        let reset = conn.limited(limit, |conn| match policy {
            Reset::Full => {
                conn.forget_statements();
                // `DISCARD ALL` refuses to run beside another statement.
                conn.client()
                    .batch_execute("ROLLBACK")
                    .and_then(|()| conn.client().batch_execute("DISCARD ALL"))
            }
            Reset::Fast | Reset::None => conn.client().batch_execute(FAST_RESET),
        });
        reset.map_err(|error| self.placed(ours(error, Phase::Validate)))?;
        conn.mark_clean();
        Ok(())
    }

    fn check(&self, conn: &mut PostgresConnection) -> Result<Service, Error> {
        self.is_valid(conn)?;
        let service = conn
            .limited(self.config.check_timeout, about)
            .map_err(|error| self.placed(ours(error, Phase::Validate)))?;
        let encryption = if conn.is_encrypted() {
            self.certificates.encryption()
        } else {
            Encryption::None
        };
        for tls in &self.tls {
            tls.look();
        }
        let certificates = self.certificates.certificates();
        Ok(service
            .with_encryption(encryption)
            .with_certificates(certificates))
    }

    fn credentials_changed(&self) -> Option<bool> {
        let password = self.config.password.as_ref();
        let password = password.and_then(Credential::has_changed);
        let tls = self.tls.iter().filter_map(|tls| tls.has_changed());
        password.into_iter().chain(tls).max()
    }

    fn traffic(conn: &PostgresConnection) -> Traffic {
        Traffic::statements(conn.statements())
    }
}

/// What the server says of itself, in one round trip.
fn about(conn: &mut PostgresConnection) -> Result<Service, postgres::Error> {
    let start = Instant::now();
    let messages = conn.client().simple_query(ABOUT)?;
    let latency = start.elapsed();
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let text = |column| row.and_then(|row| row.get(column));
    let replica = text(1) == Some("t");
    let mut service = Service::new(
        if replica {
            Role::Replica
        } else {
            Role::Primary
        },
        latency,
    );
    service.version = text(0).map(str::to_owned);
    service.writable = text(2).map(|read_only| read_only == "off");
    service.lag = text(3)
        .and_then(|seconds| seconds.parse().ok())
        .and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
    Ok(service)
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
