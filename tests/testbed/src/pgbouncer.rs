//! A throw-away PgBouncer in front of a [`Postgres`].

use std::iter;
use std::net::{Ipv4Addr, TcpStream};

use rustix::process::Signal;

use crate::error::Error;
use crate::folder::Folder;
use crate::locate;
use crate::ports::{Port, on_free_port};
use crate::postgres::Postgres;
use crate::process::{Daemon, Launch, lifecycle};
use crate::user::unprivileged;

/// A PgBouncer that pools transactions.
///
/// It lets everyone in, as `test`. It must not outlive its [`Postgres`].
pub struct PgBouncer {
    daemon: Daemon,
    port: Port,
    // Last, so that the program is gone before its folder.
    _folder: Folder,
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
                 unix_socket_dir =\n\
                 auth_type = any\n\
                 pool_mode = transaction\n\
                 default_pool_size = 5\n\
                 ignore_startup_parameters = extra_float_digits\n",
                socket = postgres.socket_dir().display(),
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
                _folder: folder,
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

    fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        iter::once(&self.daemon)
    }
}
