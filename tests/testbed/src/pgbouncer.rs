//! A throw-away PgBouncer in front of a [`Postgres`].

use std::iter;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;

use rustix::process::Signal;

use crate::error::Error;
use crate::folder::Folder;
use crate::locate;
use crate::ports::{Port, on_free_port};
use crate::postgres::{Postgres, Session, socket};
use crate::process::{Daemon, Launch, lifecycle};
use crate::user::unprivileged;

/// A PgBouncer that pools transactions.
///
/// It lets everyone in, as `test`, and to its console too. After a login at the server that a
/// pause interrupted it tries again at once, and not, as by default, after 15 seconds in which
/// it turns all away. It must not outlive its [`Postgres`].
pub struct PgBouncer {
    daemon: Daemon,
    port: Port,
    // Last, so that the program is gone before its folder.
    folder: Folder,
}

lifecycle!(PgBouncer);

impl PgBouncer {
    /// Starts one that passes everything on to the server.
    pub fn start(postgres: &Postgres) -> Result<Self, Error> {
        let program = locate::pgbouncer()?;
        let user = unprivileged()?;
        on_free_port(|port| {
            let folder = Folder::new("pgbouncer", user)?;
            let number = port.number();
            let config = format!(
                "[databases]\n\
                 * = host={socket} port={server} user=test\n\
                 [pgbouncer]\n\
                 listen_addr = 127.0.0.1\n\
                 listen_port = {number}\n\
                 unix_socket_dir = {own}\n\
                 auth_type = any\n\
                 admin_users = test\n\
                 pool_mode = transaction\n\
                 default_pool_size = 5\n\
                 server_login_retry = 0\n\
                 ignore_startup_parameters = extra_float_digits\n",
                socket = postgres.socket_dir().display(),
                own = folder.path().display(),
                server = postgres.port(),
            );
            let config = folder.write("pgbouncer.ini", &config, user)?;
            let daemon = Daemon::start(Launch {
                name: "PgBouncer",
                program: program.clone(),
                args: vec![config.into()],
                folder: folder.path().to_owned(),
                user,
                stop: Signal::INT,
                quit: Signal::KILL,
                ready: Box::new(move || {
                    TcpStream::connect((Ipv4Addr::LOCALHOST, number))
                        .map(drop)
                        .map_err(|error| error.to_string())
                }),
            })?;
            Ok(Self {
                daemon,
                port,
                folder,
            })
        })
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// A URL of the database `postgres` by way of the pooler.
    pub fn url(&self) -> String {
        format!("postgres://test@127.0.0.1:{}/postgres", self.port())
    }

    /// The folder of its Unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Lets what runs come to its end, and makes everything else wait.
    pub fn pause(&self) -> Result<(), Error> {
        self.console("PAUSE")
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) -> Result<(), Error> {
        self.console("RESUME")
    }

    fn console(&self, command: &str) -> Result<(), Error> {
        Session::open(&socket(self.socket_dir(), self.port()), "pgbouncer")
            .and_then(|mut session| session.query(command))
            .map(drop)
            .map_err(|error| Error::new(format!("PgBouncer, asked `{command}`: {error}")))
    }

    fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        iter::once(&self.daemon)
    }
}
