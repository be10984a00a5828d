//! The four backends, as these tests see them.

use std::error::Error;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millpond::backend::Backend;
use millpond::backend::postgres::SslMode;
use millpond::{
    Http, HttpConfig, MongoDb, MongoDbConfig, Pool, Postgres, PostgresConfig, Redis, RedisConfig,
    Tls,
};
use mongodb::bson::doc;
use testbed::{Ca, Identity};

use crate::files::Files;

/// A backend, and how its server is set up.
pub(super) trait Subject: Backend<Error = millpond::Error> {
    type Server;

    /// A server with this certificate that knows clients by this authority, if it asks for their
    /// certificates.
    fn serve(ca: &Ca, identity: &Identity, client_certificates: bool) -> Self::Server;

    fn port(server: &Self::Server) -> u16;

    /// Where the server has `server.pem` and `server.key`, the one after the other in the first
    /// if it wants both in one.
    fn folder(server: &Self::Server) -> PathBuf;

    fn restart(server: &Self::Server);

    /// Trusts the authority in these files, and shows the client's certificate if it is to.
    fn at(port: u16, files: &Files, shows: bool) -> Self;

    /// Gives the server another certificate, for which it must be started again.
    fn show(server: &Self::Server, identity: &Identity) {
        let folder = Self::folder(server);
        std::fs::write(folder.join("server.pem"), identity.cert_pem()).unwrap();
        std::fs::write(folder.join("server.key"), identity.key_pem()).unwrap();
        Self::restart(server);
    }

    fn ask(pool: &Pool<Self>) -> Result<(), Box<dyn Error>>;
}

fn tls(files: &Files, shows: bool) -> Tls {
    let tls = Tls::new().ca_file(files.path("ca.pem"));
    if shows {
        tls.client_certificate(files.path("client.pem"), files.path("client.key"))
    } else {
        tls
    }
}

impl Subject for Postgres {
    type Server = testbed::Postgres;

    fn serve(ca: &Ca, identity: &Identity, client_certificates: bool) -> Self::Server {
        let server = testbed::Postgres::builder().tls_identity(ca, identity);
        server
            .client_certificates(client_certificates)
            .start()
            .unwrap()
    }

    fn port(server: &Self::Server) -> u16 {
        server.port()
    }

    fn folder(server: &Self::Server) -> PathBuf {
        server.data_dir().parent().unwrap().to_owned()
    }

    fn restart(server: &Self::Server) {
        server.restart().unwrap();
    }

    fn at(port: u16, files: &Files, shows: bool) -> Self {
        let config = PostgresConfig::new().host("127.0.0.1").port(port);
        let config = config.database("postgres").user("test");
        let config = config.ssl_mode(SslMode::VerifyFull);
        let mut config = config.ca_file(files.path("ca.pem"));
        if shows {
            let (certificate, key) = (files.path("client.pem"), files.path("client.key"));
            config = config.client_certificate(certificate, key);
        }
        Self::new(config).unwrap()
    }

    fn ask(pool: &Pool<Self>) -> Result<(), Box<dyn Error>> {
        pool.get()?.query_one("SELECT 1", &[])?;
        Ok(())
    }
}

impl Subject for Redis {
    type Server = testbed::Redis;

    fn serve(ca: &Ca, identity: &Identity, client_certificates: bool) -> Self::Server {
        let server = testbed::Redis::builder().tls_identity(ca, identity);
        server
            .client_certificates(client_certificates)
            .start()
            .unwrap()
    }

    fn port(server: &Self::Server) -> u16 {
        server.port()
    }

    fn folder(server: &Self::Server) -> PathBuf {
        let answer = server.cli(&["CONFIG", "GET", "dir"]).unwrap();
        answer.lines().last().unwrap().into()
    }

    fn restart(server: &Self::Server) {
        server.restart().unwrap();
    }

    fn at(port: u16, files: &Files, shows: bool) -> Self {
        let config = RedisConfig::new().host("127.0.0.1").port(port);
        Self::new(config.tls(tls(files, shows))).unwrap()
    }

    fn ask(pool: &Pool<Self>) -> Result<(), Box<dyn Error>> {
        ::redis::cmd("PING").exec(&mut *pool.get()?)?;
        Ok(())
    }
}

impl Subject for MongoDb {
    type Server = testbed::Mongo;

    fn serve(ca: &Ca, identity: &Identity, client_certificates: bool) -> Self::Server {
        let server = testbed::Mongo::builder().tls_identity(ca, identity);
        server
            .client_certificates(client_certificates)
            .start()
            .unwrap()
    }

    fn port(server: &Self::Server) -> u16 {
        server.port()
    }

    fn folder(server: &Self::Server) -> PathBuf {
        let log = server.members()[0].log_path();
        log.parent().unwrap().to_owned()
    }

    fn restart(server: &Self::Server) {
        server.restart().unwrap();
    }

    fn at(port: u16, files: &Files, shows: bool) -> Self {
        let config = MongoDbConfig::new().host("127.0.0.1").port(port);
        let mut tls = tls(files, false);
        if shows {
            tls = tls.client_certificate(files.path("both.pem"), files.path("both.pem"));
        }
        Self::new(config.database("test").tls(tls)).unwrap()
    }

    fn show(server: &Self::Server, identity: &Identity) {
        let both = Self::folder(server).join("server.pem");
        std::fs::write(both, identity.combined_pem()).unwrap();
        Self::restart(server);
    }

    fn ask(pool: &Pool<Self>) -> Result<(), Box<dyn Error>> {
        // The driver's own calls wait for a server that it may trust, for as long as it selects.
        let ping = async |client: &::mongodb::Client| {
            let database = client.database("test");
            database.run_command(doc! { "ping": 1 }).await
        };
        pool.get()?.within(Duration::from_secs(1), ping)?;
        Ok(())
    }
}

impl Subject for Http {
    type Server = testbed::Nginx;

    fn serve(ca: &Ca, identity: &Identity, client_certificates: bool) -> Self::Server {
        let server = testbed::Nginx::builder().tls_identity(ca, identity);
        server
            .client_certificates(client_certificates)
            .start()
            .unwrap()
    }

    fn port(server: &Self::Server) -> u16 {
        server.port()
    }

    fn folder(server: &Self::Server) -> PathBuf {
        let pid = server.pid().unwrap();
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let mut words = command.split(|byte| *byte == 0);
        words.find(|word| *word == b"-p").unwrap();
        Path::new(OsStr::from_bytes(words.next().unwrap())).to_owned()
    }

    fn restart(server: &Self::Server) {
        server.restart().unwrap();
    }

    fn at(port: u16, files: &Files, shows: bool) -> Self {
        let config = HttpConfig::new(format!("https://127.0.0.1:{port}"));
        Self::new(config.health_path("/").tls(tls(files, shows))).unwrap()
    }

    fn ask(pool: &Pool<Self>) -> Result<(), Box<dyn Error>> {
        pool.get()?.get("/")?.error_for_status()?;
        Ok(())
    }
}
