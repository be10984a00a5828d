//! The four backends, as these tests see them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use millpond::backend::postgres::SslMode;
use millpond::{
    Http, HttpConfig, MongoDb, MongoDbConfig, Postgres, PostgresConfig, Redis, RedisConfig, Tls,
};
use testbed::{Ca, Identity};

use crate::files::Files;
use crate::subjects::Subject;

/// A server that shows a certificate, and how clients are set up that look at it.
pub(super) trait Certified: Subject {
    /// A server with this certificate that knows clients by this authority, if it asks for their
    /// certificates.
    fn serve(ca: &Ca, identity: &Identity, client_certificates: bool) -> Self;

    /// Where the server has `server.pem` and `server.key`, the one after the other in the first
    /// if it wants both in one.
    fn folder(&self) -> PathBuf;

    /// Trusts the authority in these files, and shows the client's certificate if it is to.
    fn client(port: u16, files: &Files, shows: bool) -> Self::Manager;

    /// Gives the server another certificate, for which it must be started again.
    fn show(&self, identity: &Identity) {
        let folder = self.folder();
        std::fs::write(folder.join("server.pem"), identity.cert_pem()).unwrap();
        std::fs::write(folder.join("server.key"), identity.key_pem()).unwrap();
        Subject::restart(self);
    }
}

pub(super) fn tls(files: &Files, shows: bool) -> Tls {
    let tls = Tls::new().ca_file(files.path("ca.pem"));
    if shows {
        tls.client_certificate(files.path("client.pem"), files.path("client.key"))
    } else {
        tls
    }
}

macro_rules! serve {
    () => {
        fn serve(ca: &Ca, identity: &Identity, client_certificates: bool) -> Self {
            let server = Self::builder().tls_identity(ca, identity);
            let server = server.client_certificates(client_certificates);
            server.start().unwrap()
        }
    };
}

impl Certified for testbed::Postgres {
    serve!();

    fn folder(&self) -> PathBuf {
        self.data_dir().parent().unwrap().to_owned()
    }

    fn client(port: u16, files: &Files, shows: bool) -> Postgres {
        let config = PostgresConfig::new().host("127.0.0.1").port(port);
        let config = config.database("postgres").user("test");
        let config = config.ssl_mode(SslMode::VerifyFull);
        let mut config = config.ca_file(files.path("ca.pem"));
        if shows {
            let (certificate, key) = (files.path("client.pem"), files.path("client.key"));
            config = config.client_certificate(certificate, key);
        }
        Postgres::new(config).unwrap()
    }
}

impl Certified for testbed::Redis {
    serve!();

    fn folder(&self) -> PathBuf {
        Self::folder(self).to_owned()
    }

    fn client(port: u16, files: &Files, shows: bool) -> Redis {
        let config = RedisConfig::new().host("127.0.0.1").port(port);
        Redis::new(config.tls(tls(files, shows))).unwrap()
    }
}

impl Certified for testbed::Mongo {
    serve!();

    fn folder(&self) -> PathBuf {
        let log = self.members()[0].log_path();
        log.parent().unwrap().to_owned()
    }

    fn client(port: u16, files: &Files, shows: bool) -> MongoDb {
        let config = MongoDbConfig::new().host("127.0.0.1").port(port);
        let mut tls = tls(files, false);
        if shows {
            tls = tls.client_certificate(files.path("both.pem"), files.path("both.pem"));
        }
        MongoDb::new(config.database("test").tls(tls)).unwrap()
    }

    fn show(&self, identity: &Identity) {
        let both = self.folder().join("server.pem");
        std::fs::write(both, identity.combined_pem()).unwrap();
        Subject::restart(self);
    }
}

impl Certified for testbed::Nginx {
    serve!();

    fn folder(&self) -> PathBuf {
        let pid = self.pid().unwrap();
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let mut words = command.split(|byte| *byte == 0);
        words.find(|word| *word == b"-p").unwrap();
        Path::new(OsStr::from_bytes(words.next().unwrap())).to_owned()
    }

    fn client(port: u16, files: &Files, shows: bool) -> Http {
        let config = HttpConfig::new(format!("https://127.0.0.1:{port}"));
        Http::new(config.health_path("/").tls(tls(files, shows))).unwrap()
    }
}
