//! MongoDB with TLS.

use std::io::Write as _;
use std::sync::OnceLock;

use millpond::{
    ErrorKind, ManageConnection, MongoDb, MongoDbConfig, MongoOperation, Tls, TlsVersion,
};
use mongodb::bson::doc;
use testbed::{Ca, Mongo, MongoBuilder, Nginx};

use super::recorder::{Recorder, is_handshake};
use super::{PASSWORD, TLS, WRONG, ca, forbidden, refused, works};

const MONGO: &str = "MongoDB";

fn at(port: u16) -> MongoDbConfig {
    MongoDbConfig::new()
        .host("localhost")
        .port(port)
        .database("test")
}

fn trusting(ca: &Ca, port: u16) -> MongoDbConfig {
    at(port).tls(Tls::new().ca_file(ca.cert_path()))
}

fn manager(config: MongoDbConfig) -> MongoDb {
    MongoDb::new(config).unwrap()
}

fn started(builder: MongoBuilder) -> Mongo {
    builder.start().unwrap()
}

#[test]
fn certificates_and_logins() {
    let ca = Ca::new();
    let mongo = started(Mongo::builder().tls(&ca).auth());
    let login = |config: MongoDbConfig| config.user("test").password(Mongo::PASSWORD);
    let pool = works(MONGO, "SCRAM", manager(login(trusting(&ca, mongo.port()))));
    let lease = pool.get().unwrap();
    let user = doc! { "createUser": "reader", "pwd": PASSWORD, "roles": ["read"] };
    lease.database("test").run_command(user).run().unwrap();
    drop(lease);
    let by_address = MongoDbConfig::new().host("127.0.0.1").port(mongo.port());
    let by_address = login(by_address.tls(Tls::new().ca_file(ca.cert_path())));
    works(MONGO, "good, by address", manager(by_address));
    let by_uri = MongoDbConfig::from_url(&mongo.uri()).unwrap();
    works(MONGO, "good, by URI", manager(by_uri.database("test")));
    let any = at(mongo.port()).tls(Tls::new().danger_trust_any_certificate());
    works(MONGO, "not checked", manager(login(any)));
    for config in [
        trusting(&Ca::new(), mongo.port()),
        at(mongo.port()).tls(Tls::new()),
    ] {
        let words = ["authority", "not known", "MONGODB_SSL_CA_FILE"];
        refused(MONGO, "unknown CA", manager(login(config)), TLS, &words);
    }
    let kind = ErrorKind::Authentication;
    let words = ["MONGODB_USER", "MONGODB_PASSWORD"];
    let config = || trusting(&ca, mongo.port());
    for (condition, config) in [
        (
            "wrong user",
            config().user("nobody").password(Mongo::PASSWORD),
        ),
        ("wrong password", config().user("test").password(WRONG)),
        (
            "wrong auth source",
            login(config()).auth_source("elsewhere"),
        ),
    ] {
        refused(MONGO, condition, manager(config), kind, &words);
    }
    let reader = config()
        .user("reader")
        .password(PASSWORD)
        .auth_source("test");
    let pool = works(MONGO, "a reader", manager(reader));
    let insert = MongoOperation::insert_one("items", doc! { "n": 1 });
    let kind = ErrorKind::Permission;
    forbidden(
        MONGO,
        "role without the right",
        &pool,
        insert,
        kind,
        &["not authorized"],
    );

    let plain = manager(at(mongo.port()).plaintext());
    let error = plain.connect().map(drop).unwrap_err();
    assert!(error.message().contains("MONGODB_SSL"), "{error}");
}

/// A server with a certificate for another host.
pub(super) fn elsewhere() -> &'static Mongo {
    static SERVER: OnceLock<Mongo> = OnceLock::new();
    SERVER.get_or_init(|| {
        let identity = ca().issue().wrong_host().server();
        started(Mongo::builder().tls_identity(ca(), &identity))
    })
}

#[test]
fn flawed_certificates() {
    let ca = ca();
    for (condition, identity, words) in super::flawed(ca) {
        // mongod does not start with a certificate that is not valid now; the handshake is the
        // same everywhere.
        if condition == "wrong host name" {
            let mongo = elsewhere();
            refused(
                MONGO,
                condition,
                manager(trusting(ca, mongo.port())),
                TLS,
                words,
            );
        } else {
            let nginx = Nginx::builder()
                .tls_identity(ca, &identity)
                .start()
                .unwrap();
            refused(
                MONGO,
                condition,
                manager(trusting(ca, nginx.port())),
                TLS,
                words,
            );
        }
    }
    let tls = Tls::new().ca_file(ca.cert_path()).skip_host_name();
    let error = MongoDb::new(at(1).tls(tls)).map(drop).unwrap_err();
    let words = ["always checks the host name"];
    super::tells(
        MONGO,
        "host name not to be checked",
        &error,
        ErrorKind::Configuration,
        &words,
    );
}

#[test]
fn versions() {
    let ca = Ca::new();
    let old = Mongo::builder()
        .tls(&ca)
        .arg("--tlsDisabledProtocols")
        .arg("TLS1_2,TLS1_3");
    let old = started(old);
    let words = ["no version that is new enough", "MONGODB_SSL_MIN_VERSION"];
    refused(
        MONGO,
        "TLS 1.1",
        manager(trusting(&ca, old.port())),
        TLS,
        &words,
    );
    let tls = Tls::new().ca_file(ca.cert_path());
    let newer = at(old.port()).tls(tls.min_version(TlsVersion::Tls13));
    let error = MongoDb::new(newer).map(drop).unwrap_err();
    let words = ["MONGODB_SSL_MIN_VERSION", "tlsDisabledProtocols"];
    super::tells(
        MONGO,
        "1.3 wanted",
        &error,
        ErrorKind::Configuration,
        &words,
    );
}

#[test]
fn a_server_without_tls() {
    let mongo = Mongo::shared();
    let recorder = Recorder::before(mongo.port());
    let config = at(recorder.port())
        .user("app")
        .password(PASSWORD)
        .tls(Tls::new());
    let words = ["offers no TLS", "MONGODB_SSL=false"];
    refused(MONGO, "server without TLS", manager(config), TLS, &words);
    let said = recorder.said();
    assert!(!said.is_empty());
    for said in said {
        assert!(is_handshake(&said), "{said:?}");
    }
}

#[test]
fn client_certificates() {
    let ca = Ca::new();
    let mongo = started(Mongo::builder().tls(&ca).client_certificates(true));
    let showing = |identity: &testbed::Identity, name: &str| {
        let path = std::env::temp_dir().join(format!("millpond-{name}-{}.pem", std::process::id()));
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(identity.combined_pem().as_bytes()).unwrap();
        let tls = Tls::new()
            .ca_file(ca.cert_path())
            .client_certificate(&path, &path);
        (manager(at(mongo.port()).tls(tls)), path)
    };
    let (good, good_path) = showing(&ca.client("app"), "good");
    works(MONGO, "client certificate", good);
    let words = ["client", "certificate", "MONGODB_SSL_CERT_FILE"];
    let without = manager(trusting(&ca, mongo.port()));
    refused(MONGO, "client certificate missing", without, TLS, &words);
    let (wrong, wrong_path) = showing(&Ca::new().client("app"), "wrong");
    refused(MONGO, "client certificate wrong", wrong, TLS, &words);
    for path in [good_path, wrong_path] {
        std::fs::remove_file(path).unwrap();
    }
}
