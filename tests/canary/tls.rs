//! TLS: private keys, whole ones and broken ones, and logins that go through it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millpond::backend::Backend;
use millpond::backend::postgres::SslMode;
use millpond::{
    Error, Http, HttpConfig, HttpRequest, MongoDb, MongoDbConfig, MongoOperation, Pool, Postgres,
    PostgresConfig, Redis, RedisCommand, RedisConfig, Sql, Tls,
};
use mongodb::bson::doc;
use testbed::{Ca, Identity, Nginx};

use super::{MARK, fails, marked, run, show, show_error, show_pool, show_refusal};

const SOON: Duration = Duration::from_millis(700);

/// One of each backend that wants TLS, a certificate and a login.
struct Servers {
    postgres: testbed::Postgres,
    redis: testbed::Redis,
    mongodb: testbed::Mongo,
    nginx: Nginx,
}

impl Servers {
    fn start(ca: &Ca) -> Self {
        let postgres = testbed::Postgres::builder()
            .tls(ca)
            .hba("hostssl all app 127.0.0.1/32 scram-sha-256 clientcert=verify-full")
            .start()
            .expect("PostgreSQL");
        let role = format!("CREATE ROLE app LOGIN PASSWORD '{}'", marked("tls"));
        postgres.psql(&role).expect("a role");
        let redis = testbed::Redis::builder()
            .tls(ca)
            .client_certificates(true)
            .password(&marked("tls"));
        let mongodb = testbed::Mongo::builder()
            .tls(ca)
            .client_certificates(true)
            .auth();
        let nginx = Nginx::builder().tls(ca).client_certificates(true);
        Self {
            postgres,
            redis: redis.start().expect("Redis"),
            mongodb: mongodb.start().expect("mongod"),
            nginx: nginx.start().expect("nginx"),
        }
    }

    fn postgres(&self, tls: &Files, password: &str) -> Result<Postgres, Error> {
        let config = PostgresConfig::new()
            .host("localhost")
            .port(self.postgres.port())
            .database("postgres")
            .user("app")
            .password(password)
            .ssl_mode(SslMode::VerifyFull)
            .ca_file(&tls.ca);
        let config = match &tls.client {
            Some((certificate, key)) => config.client_certificate(certificate, key),
            None => config,
        };
        show("TLS", &config);
        Postgres::new(config)
    }

    fn redis(&self, tls: &Files, password: &str) -> Result<Redis, Error> {
        let config = RedisConfig::new().host("localhost").tls(tls.tls());
        let config = config.port(self.redis.port()).password(password);
        show("TLS", &config);
        Redis::new(config)
    }

    fn mongodb(&self, tls: &Files, password: &str) -> Result<MongoDb, Error> {
        // The driver takes certificate and key from one file.
        let both = tls.both.as_ref().map(|path| (path.clone(), path.clone()));
        let tls = Files {
            client: both,
            ..tls.clone()
        };
        let config = MongoDbConfig::new()
            .host(format!("localhost:{}", self.mongodb.port()))
            .database("test")
            .user("test")
            .password(password)
            .tls(tls.tls());
        show("TLS", &config);
        MongoDb::new(config)
    }

    fn http(&self, tls: &Files, token: &str) -> Result<Http, Error> {
        let url = format!("https://localhost:{}", self.nginx.port());
        let config = HttpConfig::new(url).tls(tls.tls()).bearer_token(token);
        show("TLS", &config);
        Http::new(config.header("X-Api-Key", marked("header")))
    }

    /// All that are made with these files have to be refused, there or by their servers.
    fn refuse(&self, tls: &Files) {
        show_refusal("TLS", self.postgres(tls, &marked("tls")));
        show_refusal("TLS", self.redis(tls, &marked("tls")));
        show_refusal("TLS", self.mongodb(tls, testbed::Mongo::PASSWORD));
        match self.http(tls, Nginx::TOKEN) {
            // nginx tells by a reply that it wants another certificate.
            Ok(http) => {
                let pool = Pool::builder()
                    .connection_timeout(SOON)
                    .build_unchecked(http);
                run(&pool, HttpRequest::get("/bearer"));
            }
            Err(error) => show_error("TLS", &error),
        }
    }
}

/// What a client is given.
#[derive(Clone)]
struct Files {
    ca: PathBuf,
    client: Option<(PathBuf, PathBuf)>,
    both: Option<PathBuf>,
}

impl Files {
    fn tls(&self) -> Tls {
        let tls = Tls::new().ca_file(&self.ca);
        match &self.client {
            Some((certificate, key)) => tls.client_certificate(certificate, key),
            None => tls,
        }
    }

    /// The client's certificate with another key, in files of this folder.
    fn with_key(folder: &Path, ca: &Ca, client: &Identity, key: &str) -> Self {
        let (alone, both) = (folder.join("key.pem"), folder.join("both.pem"));
        std::fs::write(&alone, key).expect("written");
        std::fs::write(&both, format!("{}{key}", client.cert_pem())).expect("written");
        Self {
            ca: ca.cert_path().to_owned(),
            client: Some((client.cert_path().to_owned(), alone)),
            both: Some(both),
        }
    }
}

/// Returns the private key that was used: the parent looks for its lines.
pub(super) fn everything(folder: &Path) -> String {
    let ca = Ca::new();
    let client = ca.client("app");
    let servers = Servers::start(&ca);
    let key = client.key_pem().to_owned();
    let good = Files::with_key(folder, &ca, &client, &key);

    let pool = opened(servers.postgres(&good, &marked("tls")).expect("settings"));
    show_pool(&pool);
    run(&pool, Sql::new("SELECT $1::text").bind(marked("bind"))).expect("a row");
    let pool = opened(servers.redis(&good, &marked("tls")).expect("settings"));
    show_pool(&pool);
    run(&pool, RedisCommand::new("ECHO").arg(marked("text"))).expect("a text");
    let password = testbed::Mongo::PASSWORD;
    let pool = opened(servers.mongodb(&good, password).expect("settings"));
    show_pool(&pool);
    let insert = MongoOperation::insert_one("people", doc! { "_id": marked("id") });
    run(&pool, insert).expect("inserted");
    let pool = opened(servers.http(&good, Nginx::TOKEN).expect("settings"));
    show_pool(&pool);
    run(&pool, HttpRequest::get("/bearer")).expect("the token is right");
    run(&pool, HttpRequest::get("/authorization")).expect("repeated");

    show_refusal("TLS", servers.postgres(&good, &marked("wrong")));
    show_refusal("TLS", servers.redis(&good, &marked("wrong")));
    show_refusal("TLS", servers.mongodb(&good, &marked("wrong")));
    let pool = opened(servers.http(&good, &marked("wrong")).expect("settings"));
    fails(&pool, HttpRequest::get("/bearer"));

    servers.refuse(&Files {
        client: None,
        both: None,
        ..good.clone()
    });
    servers.refuse(&Files {
        ca: Ca::new().cert_path().to_owned(),
        ..good
    });
    // In letters of base64, all of them.
    let body = format!("{MARK}A").repeat(4);
    let broken = |kind: &str| format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n");
    for key in [
        broken("PRIVATE KEY"),
        broken("ENCRYPTED PRIVATE KEY"),
        format!("-----BEGIN PRIVATE KEY-----\n{MARK}"),
        marked("no key at all"),
        ca.client("another").key_pem().to_owned(),
    ] {
        servers.refuse(&Files::with_key(folder, &ca, &client, &key));
    }
    // The keys themselves where their paths belong.
    let body = Files {
        client: Some((client.cert_path().to_owned(), broken("PRIVATE KEY").into())),
        both: Some(broken("PRIVATE KEY").into()),
        ca: ca.cert_path().to_owned(),
    };
    servers.refuse(&body);
    key
}

fn opened<B: Backend<Error = Error>>(manager: B) -> Pool<B> {
    Pool::new(manager).expect("opens")
}
