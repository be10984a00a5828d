//! Throw-away MongoDB servers: single ones and replica sets.
//!
//! A server with TLS is set up without it first (its set initiated, its user
//! made), since doing that through TLS would take a driver; then it is restarted.

mod wire;

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ca::{Ca, Identity};
use crate::error::Error;
use crate::folder::Folder;
use crate::locate::{self, Program};
use crate::ports::{Port, on_free_port};
use crate::process::{Daemon, Launch, lifecycle, shared};
use crate::proxy::Proxy;
use crate::secret;
use wire::{Value, command, document};

const SET: &str = "rs0";
const USER: &str = "test";

/// A MongoDB server, or a replica set of some.
///
/// Test commands such as `failCommand` are enabled. `freeze`, `kill` and the like
/// hit all members; for one of them see [`members`](Self::members). On drop all
/// are killed and their folders removed.
pub struct Mongo {
    members: Vec<MongoMember>,
    proxies: Vec<Proxy>,
    set: bool,
    auth: bool,
    ca: Option<Folder>,
}

lifecycle!(Mongo);
shared!(Mongo);

/// One server of a [`Mongo`].
pub struct MongoMember {
    daemon: Daemon,
    port: Port,
    // Last, so that the server is gone before its folder.
    folder: Folder,
}

lifecycle!(MongoMember);

impl MongoMember {
    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where its log is.
    pub fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Whether the server says so of itself in its reply to `hello`.
    fn is(&self, role: &str) -> bool {
        hello(self.port()).is_ok_and(|flags| flags.iter().any(|(name, yes)| *yes && name == role))
    }

    fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        std::iter::once(&self.daemon)
    }
}

impl Mongo {
    /// Of the user `test`, where a login is [required](MongoBuilder::auth).
    pub const PASSWORD: &str = secret!("mongo");

    /// Starts a single server without TLS or login.
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// A server to be configured first.
    pub fn builder() -> MongoBuilder {
        MongoBuilder::default()
    }

    /// The first member's port on loopback.
    pub fn port(&self) -> u16 {
        self.members[0].port()
    }

    /// The members; one if it is no replica set.
    pub fn members(&self) -> &[MongoMember] {
        &self.members
    }

    /// The proxies in front of the members, if
    /// [asked for](MongoBuilder::through_proxies).
    pub fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// `host:port` of all members, or of their proxies, joined by commas.
    pub fn hosts(&self) -> String {
        let hosts = self.ports().map(|port| format!("127.0.0.1:{port}"));
        hosts.collect::<Vec<_>>().join(",")
    }

    /// The URI, with what there is of login, set name, TLS and authority.
    pub fn uri(&self) -> String {
        let login = if self.auth {
            format!("{USER}:{}@", Self::PASSWORD)
        } else {
            String::new()
        };
        let mut options = Vec::new();
        if self.auth {
            options.push("authSource=admin".to_owned());
        }
        if self.set {
            options.push(format!("replicaSet={SET}"));
        }
        if let Some(folder) = &self.ca {
            options.push("tls=true".to_owned());
            options.push(format!("tlsCAFile={}", folder.join("ca.pem").display()));
        }
        let mark = if options.is_empty() { "" } else { "?" };
        format!(
            "mongodb://{login}{}/{mark}{}",
            self.hosts(),
            options.join("&")
        )
    }

    fn ports(&self) -> impl Iterator<Item = u16> {
        let direct = self.members.iter().map(MongoMember::port);
        let proxied = self.proxies.iter().map(Proxy::port);
        proxied.chain(direct).take(self.members.len())
    }

    fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        self.members.iter().flat_map(MongoMember::daemons)
    }

    /// Makes one set of the members, and waits for its primary.
    fn initiate(&self) -> Result<(), Error> {
        let member = |(id, port): (i32, u16)| {
            let host = format!("127.0.0.1:{port}");
            document([("_id", Value::Int(id)), ("host", Value::Text(host))])
        };
        let config = document([
            ("_id", SET.into()),
            (
                "members",
                Value::Array((0..).zip(self.ports()).map(member).collect()),
            ),
            (
                "settings",
                document([
                    ("electionTimeoutMillis", Value::Int(1000)),
                    ("heartbeatIntervalMillis", Value::Int(500)),
                ]),
            ),
        ]);
        command(self.port(), "admin", [("replSetInitiate", config)])
            .map_err(|error| Error::new(format!("MongoDB did not make a set: {error}")))?;
        self.await_primary()?;
        self.await_secondaries()
    }

    /// The index of the primary of a set without TLS, once there is one.
    pub fn await_primary(&self) -> Result<usize, Error> {
        self.until("primary", || {
            self.members
                .iter()
                .position(|member| member.is("isWritablePrimary"))
        })
    }

    /// Waits until every member has its copy of the data and may become primary.
    fn await_secondaries(&self) -> Result<(), Error> {
        self.until("full complement of members", || {
            let ready =
                |member: &MongoMember| member.is("isWritablePrimary") || member.is("secondary");
            self.members.iter().all(ready).then_some(())
        })
    }

    fn until<T>(&self, what: &str, find: impl Fn() -> Option<T>) -> Result<T, Error> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(found) = find() {
                return Ok(found);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(Error::new(format!(
            "MongoDB's set at {} had no {what} within a minute",
            self.hosts()
        )))
    }

    /// Makes the user, as anyone may from this host while there is none.
    fn create_user(&self) -> Result<(), Error> {
        let primary = if self.set { self.await_primary()? } else { 0 };
        command(
            self.members[primary].port(),
            "admin",
            [
                ("createUser", USER.into()),
                ("pwd", Mongo::PASSWORD.into()),
                ("roles", Value::Array(vec!["root".into()])),
            ],
        )
        .map(drop)
        .map_err(|error| Error::new(format!("MongoDB did not make a user: {error}")))
    }
}

/// What to start a [`Mongo`] with.
#[derive(Clone, Debug, Default)]
pub struct MongoBuilder {
    tls: Option<(Identity, String)>,
    client_certificates: bool,
    auth: bool,
    members: Option<usize>,
    proxies: bool,
    args: Vec<OsString>,
}

impl MongoBuilder {
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

    /// Requires a login. The user is `test` with [`PASSWORD`](Mongo::PASSWORD) and the role `root`.
    #[must_use]
    pub fn auth(mut self) -> Self {
        self.auth = true;
        self
    }

    /// Makes a replica set of so many members.
    #[must_use]
    pub fn replica_set(mut self, members: usize) -> Self {
        self.members = Some(members.max(1));
        self
    }

    /// Puts a [`Proxy`] in front of each member of the set, under whose port the
    /// set knows it; so that drivers, who go by that, meet the proxies' faults.
    #[must_use]
    pub fn through_proxies(mut self) -> Self {
        self.proxies = true;
        self
    }

    /// One more word on the command line.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Starts the server or servers.
    pub fn start(self) -> Result<Mongo, Error> {
        let program = locate::mongod()?;
        let ca = match &self.tls {
            Some((_, pem)) => {
                let folder = Folder::new("mongo-ca", None)?;
                folder.write("ca.pem", pem, None)?;
                Some(folder)
            }
            None => None,
        };
        let members = (0..self.members.unwrap_or(1))
            .map(|_| self.start_member(&program))
            .collect::<Result<Vec<_>, _>>()?;
        let proxies = members
            .iter()
            .filter(|_| self.proxies)
            .map(|member| Proxy::start(member.port()))
            .collect::<Result<Vec<_>, _>>()?;
        let mongo = Mongo {
            members,
            proxies,
            set: self.members.is_some(),
            auth: self.auth,
            ca,
        };
        if mongo.set {
            mongo.initiate()?;
        }
        if mongo.auth {
            mongo.create_user()?;
        }
        if self.tls.is_some() {
            for member in &mongo.members {
                member.folder.write(CONFIG, REQUIRE_TLS, None)?;
            }
            mongo.stop();
            mongo.restart()?;
        }
        Ok(mongo)
    }

    fn start_member(&self, program: &Program) -> Result<MongoMember, Error> {
        on_free_port(|port| {
            let folder = Folder::new("mongo", None)?;
            let number = port.number();
            let tls = self.tls.is_some();
            let daemon = Daemon::start(Launch {
                name: "mongod",
                program: program.clone(),
                args: self.args(&folder, number)?,
                folder: folder.path().to_owned(),
                user: None,
                stop: Signal::TERM,
                quit: Signal::KILL,
                ready: Box::new(move || {
                    if tls {
                        connect(number)
                    } else {
                        hello(number).map(drop)
                    }
                }),
            })?;
            Ok(MongoMember {
                daemon,
                port,
                folder,
            })
        })
    }

    fn args(&self, folder: &Folder, port: u16) -> Result<Vec<OsString>, Error> {
        let mut args: Vec<OsString> = [
            "--bind_ip",
            "127.0.0.1",
            "--nounixsocket",
            "--wiredTigerCacheSizeGB",
            "0.25",
            "--setParameter",
            "enableTestCommands=1",
            "--setParameter",
            "diagnosticDataCollectionEnabled=false",
            // Otherwise a server takes 300 MB of disk.
            "--wiredTigerEngineConfigString",
            "log=(file_max=4MB,prealloc=false)",
        ]
        .map(OsString::from)
        .into();
        let mut option = |name: &str, value: OsString| args.extend([name.into(), value]);
        option("--dbpath", folder.path().into());
        option("--port", port.to_string().into());
        if self.members.is_some() {
            option("--replSet", SET.into());
            if self.auth {
                let key = folder.write("key", "throwaway", None)?;
                option("--keyFile", key.into());
            }
        }
        if let Some((identity, ca_pem)) = &self.tls {
            let pem = folder.write("server.pem", &identity.combined_pem(), None)?;
            option("--config", folder.write(CONFIG, ALLOW_TLS, None)?.into());
            option("--tlsCertificateKeyFile", pem.into());
            option("--tlsCAFile", folder.write("ca.pem", ca_pem, None)?.into());
            if !self.client_certificates {
                args.push("--tlsAllowConnectionsWithoutCertificates".into());
            }
        }
        if self.auth {
            args.push("--auth".into());
        }
        args.extend(self.args.iter().cloned());
        Ok(args)
    }
}

const CONFIG: &str = "mongod.conf";
const ALLOW_TLS: &str = "net:\n  tls:\n    mode: allowTLS\n";
const REQUIRE_TLS: &str = "net:\n  tls:\n    mode: requireTLS\n";

fn connect(port: u16) -> Result<(), String> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .map(drop)
        .map_err(|error| error.to_string())
}

fn hello(port: u16) -> Result<Vec<(String, bool)>, String> {
    command(port, "admin", [("hello", Value::Int(1))])
}
