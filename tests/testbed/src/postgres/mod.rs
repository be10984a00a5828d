//! Throw-away PostgreSQL servers.
//!
//! A server's folder holds its data, its log and its Unix socket. Its data are a
//! copy of a template in the store, made once per version by `initdb` (a copy
//! takes a tenth of the time). Settings go to `postgresql.conf`, not to the
//! command line, so that `ALTER SYSTEM` and a reload can change them.
//!
//! Invariant: the first line of `pg_hba.conf` trusts everyone on the Unix socket,
//! whatever the test put below; readiness and errands go that way.

mod template;
mod wire;

pub(crate) use template::remove_shared_memory;

use std::fmt::Write as _;
use std::iter;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::ca::{Ca, Identity};
use crate::error::{Context, Error};
use crate::folder::Folder;
use crate::locate::{self, Program};
use crate::ports::{Port, on_free_port};
use crate::process::{Daemon, Launch, become_user, lifecycle, run, shared};
use crate::user::{User, unprivileged};
pub(crate) use wire::Session;
use wire::USER;

const HOST: &str = "127.0.0.1";

/// A PostgreSQL server with the superuser `test` and the database `postgres`.
///
/// On drop it is stopped and its folder removed.
pub struct Postgres {
    daemon: Daemon,
    program: Program,
    port: Port,
    user: Option<User>,
    // Last, so that the server is gone before its folder.
    folder: Folder,
}

lifecycle!(Postgres);
shared!(Postgres);

impl Postgres {
    /// Starts a server that trusts every login and does not wait for the disk.
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// A server to be configured first.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The host, `127.0.0.1`.
    #[allow(clippy::unused_self, reason = "reads as a property of the server")]
    pub fn host(&self) -> &'static str {
        HOST
    }

    /// A URL of the superuser and the database `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// A URL of the superuser and another database.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{USER}@{HOST}:{}/{database}", self.port())
    }

    /// The folder of the Unix socket, on which every user is trusted.
    pub fn socket_dir(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of the data.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Creates a database (25 ms) and returns its URL.
    pub fn create_database(&self, name: &str) -> Result<String, Error> {
        self.psql(&format!("CREATE DATABASE \"{name}\""))?;
        Ok(self.url_of(name))
    }

    /// Runs SQL as superuser in the database `postgres`, as `psql -At` would: the
    /// columns of the result joined by `|`, the rows by line feeds.
    pub fn psql(&self, sql: &str) -> Result<String, Error> {
        self.psql_in("postgres", sql)
    }

    /// The same in another database.
    pub fn psql_in(&self, database: &str, sql: &str) -> Result<String, Error> {
        Session::open(&socket(self.folder.path(), self.port()), database)
            .and_then(|mut session| session.query(sql))
            .map_err(|error| Error::new(format!("PostgreSQL, asked `{sql}`: {error}")))
    }

    /// Starts a standby of this server, streaming from it.
    pub fn replica(&self) -> Result<Self, Error> {
        on_free_port(|port| {
            let folder = Folder::new("pg", self.user)?;
            let mut command = self.program.sibling("pg_basebackup").command();
            command
                .args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-C", "-S"])
                .arg(format!("standby_{}", port.number()))
                .args(["-U", USER, "-p"])
                .arg(self.port().to_string())
                .arg("-h")
                .arg(self.socket_dir())
                .arg("-D")
                .arg(folder.join("data"))
                .current_dir(folder.path());
            become_user(&mut command, self.user);
            run(command, "pg_basebackup")?;
            let settings = place(&folder, &port);
            Self::launch(self.program.clone(), self.user, folder, port, &settings)
        })
    }

    /// Makes a standby a server of its own; returns once it takes writes.
    pub fn promote(&self) -> Result<(), Error> {
        match self.psql("SELECT pg_promote(true, 30)")?.as_str() {
            "t" => Ok(()),
            _ => Err(Error::new("PostgreSQL was not promoted within 30 seconds")),
        }
    }

    fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        iter::once(&self.daemon)
    }

    fn launch(
        program: Program,
        user: Option<User>,
        folder: Folder,
        port: Port,
        settings: &str,
    ) -> Result<Self, Error> {
        append(&folder.join("data/postgresql.conf"), settings)?;
        let socket = socket(folder.path(), port.number());
        let daemon = Daemon::start(Launch {
            name: "PostgreSQL",
            args: vec![
                "-D".into(),
                folder.join("data").into(),
                "-c".into(),
                // In every process's title, for the reaper.
                format!("cluster_name={}", folder.unique_name()?).into(),
            ],
            program: program.clone(),
            folder: folder.path().to_owned(),
            user,
            stop: Signal::INT,
            quit: Signal::QUIT,
            ready: Box::new(move || Session::open(&socket, "postgres").map(drop)),
        })?;
        Ok(Self {
            daemon,
            program,
            port,
            user,
            folder,
        })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.daemon.quit();
        remove_shared_memory(&self.data_dir());
    }
}

/// What to start a [`Postgres`] with.
#[derive(Clone, Debug, Default)]
pub struct PostgresBuilder {
    fsync: bool,
    tls: Option<(Identity, String)>,
    client_certificates: bool,
    hba: Option<String>,
    settings: Vec<(String, String)>,
}

impl PostgresBuilder {
    /// Whether commits wait for the disk, as in production. Off by default.
    #[must_use]
    pub fn fsync(mut self, on: bool) -> Self {
        self.fsync = on;
        self
    }

    /// Speaks TLS, and only TLS, with a certificate for `localhost` and
    /// `127.0.0.1`.
    #[must_use]
    pub fn tls(self, ca: &Ca) -> Self {
        self.tls_identity(ca, &ca.server(&["localhost", HOST]))
    }

    /// Speaks TLS with a certificate of your choice, such as an expired one.
    #[must_use]
    pub fn tls_identity(mut self, ca: &Ca, server: &Identity) -> Self {
        self.tls = Some((server.clone(), ca.cert_pem().to_owned()));
        self
    }

    /// Whether clients log in by a certificate whose common name is their user's.
    /// Needs [`tls`](Self::tls).
    #[must_use]
    pub fn client_certificates(mut self, on: bool) -> Self {
        self.client_certificates = on;
        self
    }

    /// Lines of `pg_hba.conf` in place of the usual ones for TCP.
    #[must_use]
    pub fn hba(mut self, lines: &str) -> Self {
        self.hba = Some(lines.to_owned());
        self
    }

    /// A line of `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server.
    pub fn start(self) -> Result<Postgres, Error> {
        let program = locate::postgres()?;
        let user = unprivileged()?;
        let template = template::prepared(&program, user)?;
        on_free_port(|port| {
            let folder = Folder::new("pg", user)?;
            template::copy(&template, &folder.join("data"), !self.fsync)?;
            let mut settings = place(&folder, &port);
            settings.push_str(&self.configure(&folder, user)?);
            Postgres::launch(program.clone(), user, folder, port, &settings)
        })
    }

    /// Writes `pg_hba.conf` and the certificates; returns the settings.
    fn configure(&self, folder: &Folder, user: Option<User>) -> Result<String, Error> {
        let usual = match (&self.tls, self.client_certificates) {
            (None, _) => "host all all 127.0.0.1/32 trust",
            (Some(_), false) => "hostssl all all 127.0.0.1/32 trust",
            (Some(_), true) => "hostssl all all 127.0.0.1/32 cert clientcert=verify-full",
        };
        let hba = format!(
            "local all all trust\nlocal replication all trust\n{}\n",
            self.hba.as_deref().unwrap_or(usual)
        );
        folder.write("data/pg_hba.conf", &hba, user)?;
        let mut settings = String::new();
        let durable = if self.fsync { "on" } else { "off" };
        let mut set = |name: &str, value: &str| {
            // Writing to a string does not fail.
            let _ = writeln!(settings, "{name} = '{}'", value.replace('\'', "''"));
        };
        set("fsync", durable);
        set("full_page_writes", durable);
        // Writing zeros first makes later waits for the disk shorter.
        set("wal_init_zero", durable);
        set("shared_buffers", "16MB");
        // In the data folder, so that a killed server leaves nothing in /dev/shm.
        set("dynamic_shared_memory_type", "mmap");
        set("wal_retrieve_retry_interval", "50ms");
        set("wal_receiver_timeout", "2s");
        set("wal_sender_timeout", "2s");
        if let Some((identity, ca_pem)) = &self.tls {
            folder.write("server.pem", identity.cert_pem(), user)?;
            folder.write("server.key", identity.key_pem(), user)?;
            folder.write("ca.pem", ca_pem, user)?;
            let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
            set("ssl", "on");
            set("ssl_cert_file", &path("server.pem"));
            set("ssl_key_file", &path("server.key"));
            set("ssl_ca_file", &path("ca.pem"));
        }
        for (name, value) in &self.settings {
            set(name, value);
        }
        Ok(settings)
    }
}

/// The settings that say where a server listens.
fn place(folder: &Folder, port: &Port) -> String {
    format!(
        "listen_addresses = '{HOST}'\nport = {}\nunix_socket_directories = '{}'\n",
        port.number(),
        folder.path().display()
    )
}

/// The Unix socket of a server in this folder.
pub(crate) fn socket(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

fn append(path: &Path, text: &str) -> Result<(), Error> {
    use std::io::Write;
    std::fs::File::options()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .context(|| format!("append to {}", path.display()))
}
