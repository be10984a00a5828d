//! Throw-away Redis servers: single ones, a set under Sentinels, a Cluster.
//!
//! Invariant: every node also listens on a Unix socket in its folder, without
//! TLS; readiness and errands go that way.

mod cluster;
mod resp;
mod sentinel;

use std::ffi::OsString;
use std::iter;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::ca::{Ca, Identity};
use crate::error::Error;
use crate::folder::Folder;
use crate::locate;
use crate::ports::{Port, on_free_port};
use crate::process::{Daemon, Launch, lifecycle, shared};

pub use cluster::RedisCluster;
pub use sentinel::RedisSentinel;

/// A Redis server that keeps nothing on disk.
///
/// On drop it is killed and its folder removed.
pub struct Redis {
    daemon: Daemon,
    port: Port,
    _bus: Option<Port>,
    tls: bool,
    password: Option<String>,
    // Last, so that the server is gone before its folder.
    folder: Folder,
}

lifecycle!(Redis);
shared!(Redis);

impl Redis {
    /// Starts a server without TLS or password.
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// A server to be configured first.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The folder, with `server.pem`, `server.key` and `ca.pem` if it speaks TLS.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its URL, with the password if there is one: `redis://` or `rediss://`.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let login = self
            .password
            .as_ref()
            .map_or_else(String::new, |password| format!(":{password}@"));
        format!("{scheme}://{login}127.0.0.1:{}", self.port())
    }

    /// Runs a command, `&["CLIENT", "KILL", "TYPE", "normal"]`; the reply is as
    /// `redis-cli` prints it, an element a line. An error reply is an error.
    pub fn cli(&self, args: &[&str]) -> Result<String, Error> {
        resp::ask(&socket(&self.folder), self.password.as_deref(), args)
            .map_err(|error| Error::new(format!("Redis, asked {args:?}: {error}")))
    }

    fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        iter::once(&self.daemon)
    }
}

/// What to start a [`Redis`] with.
#[derive(Clone, Debug, Default)]
pub struct RedisBuilder {
    tls: Option<(Identity, String)>,
    client_certificates: bool,
    password: Option<String>,
    args: Vec<OsString>,
    sentinel_config: Option<String>,
}

impl RedisBuilder {
    /// Speaks TLS, and only TLS, with a certificate for `localhost` and
    /// `127.0.0.1`.
    #[must_use]
    pub fn tls(self, ca: &Ca) -> Self {
        self.tls_identity(ca, &ca.server(&["localhost", "127.0.0.1"]))
    }

    /// Speaks TLS with a certificate of your choice, such as an expired one.
    #[must_use]
    pub fn tls_identity(mut self, ca: &Ca, server: &Identity) -> Self {
        self.tls = Some((server.clone(), ca.cert_pem().to_owned()));
        self
    }

    /// Whether clients must show a certificate. Needs [`tls`](Self::tls).
    #[must_use]
    pub fn client_certificates(mut self, on: bool) -> Self {
        self.client_certificates = on;
        self
    }

    /// Requires this password of the default user.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// One more word on the command line, such as `--maxclients` or `10`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Starts the server.
    pub fn start(self) -> Result<Redis, Error> {
        on_free_port(|port| self.start_on(port, None))
    }

    fn start_on(&self, port: Port, bus: Option<Port>) -> Result<Redis, Error> {
        let folder = Folder::new("redis", None)?;
        let mut args: Vec<OsString> = Vec::new();
        if let Some(config) = &self.sentinel_config {
            args.push(folder.write("sentinel.conf", config, None)?.into());
            args.push("--sentinel".into());
        }
        let port_option = if self.tls.is_some() {
            "--tls-port"
        } else {
            "--port"
        };
        for (name, value) in [
            (port_option, port.number().to_string().into()),
            ("--bind", "127.0.0.1".into()),
            ("--dir", folder.path().as_os_str().to_owned()),
            ("--unixsocket", socket(&folder).into_os_string()),
        ] {
            args.extend([name.into(), value]);
        }
        if self.sentinel_config.is_none() {
            args.extend(["--save", "", "--appendonly", "no"].map(OsString::from));
        }
        if let Some((identity, ca_pem)) = &self.tls {
            let auth = if self.client_certificates {
                "yes"
            } else {
                "no"
            };
            for (name, value) in [
                ("--port", "0".into()),
                (
                    "--tls-cert-file",
                    folder.write("server.pem", identity.cert_pem(), None)?,
                ),
                (
                    "--tls-key-file",
                    folder.write("server.key", identity.key_pem(), None)?,
                ),
                ("--tls-ca-cert-file", folder.write("ca.pem", ca_pem, None)?),
                ("--tls-auth-clients", PathBuf::from(auth)),
            ] {
                args.extend([name.into(), value.into_os_string()]);
            }
        }
        if let Some(password) = &self.password {
            args.extend(["--requirepass".into(), password.into()]);
        }
        args.extend(self.args.iter().cloned());
        let (socket, password) = (socket(&folder), self.password.clone());
        let daemon = Daemon::start(Launch {
            name: "Redis",
            program: locate::redis()?,
            args,
            folder: folder.path().to_owned(),
            user: None,
            stop: Signal::TERM,
            quit: Signal::KILL,
            ready: Box::new(move || ping(&socket, password.as_deref())),
        })?;
        Ok(Redis {
            daemon,
            port,
            _bus: bus,
            tls: self.tls.is_some(),
            password: self.password.clone(),
            folder,
        })
    }
}

fn ping(socket: &Path, password: Option<&str>) -> Result<(), String> {
    resp::ask(socket, password, &["PING"]).map(drop)
}

fn socket(folder: &Folder) -> PathBuf {
    folder.join("redis.sock")
}

/// Asks again and again until the answer fits; gives up after a minute.
fn until(what: &str, mut fits: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
    use std::time::{Duration, Instant};
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fits()? {
        if Instant::now() > deadline {
            return Err(Error::new(format!(
                "{what} did not come about within a minute"
            )));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
