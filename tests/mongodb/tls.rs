//! Encrypted connections.

use std::io::Write as _;
use std::time::Duration;

use millpond::{ConnectFailure, ErrorKind, ManageConnection, MongoDbConfig, Tls};
use testbed::{Ca, Mongo, Nginx};

use super::{config, connect_error, manager, works};

#[test]
fn a_private_authority_is_trusted_when_named() {
    let ca = Ca::new();
    let mongo = Mongo::builder().tls(&ca).auth().start().expect("mongod");
    let tls = || Tls::new().ca_file(ca.cert_path());
    let login = |config: MongoDbConfig| config.user("test").password("test");
    let lease = manager(login(config(mongo.port()).tls(tls()))).connect();
    works(&lease.expect("by address")).expect("works");
    let by_name = login(MongoDbConfig::new().host("localhost").port(mongo.port()));
    let lease = manager(by_name.database("test").tls(tls())).connect();
    works(&lease.expect("by name")).expect("works");
    let by_uri = MongoDbConfig::from_url(&mongo.uri()).expect("uri");
    works(&manager(by_uri.database("test")).connect().expect("by URI")).expect("works");
}

#[test]
fn a_certificate_that_is_not_trusted_is_refused_and_named() {
    let ca = Ca::new();
    let other = Ca::new();
    let mongo = Mongo::builder().tls(&ca).start().expect("mongod");
    for tls in [Tls::new().ca_file(other.cert_path()), Tls::new()] {
        let error = connect_error(config(mongo.port()).tls(tls));
        assert_eq!(
            error.kind(),
            ErrorKind::Connect(ConnectFailure::Tls),
            "{error}"
        );
        let text = error.to_string();
        assert!(
            text.contains("certificate") && text.contains("MONGODB_SSL_CA_FILE"),
            "{text}"
        );
    }
    let any = Tls::new().danger_trust_any_certificate();
    works(
        &manager(config(mongo.port()).tls(any))
            .connect()
            .expect("not checked"),
    )
    .expect("works");
}

#[test]
fn expired_and_for_another_host() {
    let ca = Ca::new();
    let tls = || Tls::new().ca_file(ca.cert_path());
    let wrong_host = ca.issue().wrong_host().server();
    let mongo = Mongo::builder().tls_identity(&ca, &wrong_host).start();
    let mongo = mongo.expect("mongod");
    // mongod does not start with such a one; the handshake is the same everywhere.
    let expired = ca.issue().names(&["127.0.0.1"]).expired().server();
    let nginx = Nginx::builder().tls_identity(&ca, &expired).start();
    let nginx = nginx.expect("nginx");
    for (port, problem) in [(mongo.port(), "not valid for"), (nginx.port(), "expired")] {
        let error = connect_error(config(port).tls(tls()));
        assert_eq!(
            error.kind(),
            ErrorKind::Connect(ConnectFailure::Tls),
            "{error}"
        );
        assert!(error.to_string().contains(problem), "{error}");
    }
}

#[test]
fn a_client_certificate_is_shown() {
    let ca = Ca::new();
    let mongo = Mongo::builder()
        .tls(&ca)
        .client_certificates(true)
        .start()
        .expect("mongod");
    let identity = ca.client("app");
    let mut file = tempfile(&identity.combined_pem());
    file.0.flush().expect("written");
    let tls = Tls::new()
        .ca_file(ca.cert_path())
        .client_certificate(&file.1, &file.1);
    works(
        &manager(config(mongo.port()).tls(tls))
            .connect()
            .expect("shown"),
    )
    .expect("works");
    std::fs::remove_file(&file.1).expect("removed");

    let without = Tls::new().ca_file(ca.cert_path());
    let error = connect_error(config(mongo.port()).tls(without));
    let kinds = [
        ErrorKind::ConnectionLost,
        ErrorKind::Connect(ConnectFailure::Tls),
    ];
    assert!(kinds.contains(&error.kind()), "{error}");
}

#[test]
fn one_side_speaks_tls_and_the_other_does_not() {
    let ca = Ca::new();
    let mongo = Mongo::builder().tls(&ca).start().expect("mongod");
    let error = connect_error(config(mongo.port()).plaintext());
    assert!(error.to_string().contains("MONGODB_SSL"), "{error}");

    let plain = Mongo::shared();
    let tls = Tls::new().ca_file(ca.cert_path());
    let config = config(plain.port())
        .tls(tls)
        .connect_timeout(Duration::from_secs(3));
    let error = connect_error(config);
    let kinds = [
        ErrorKind::ConnectionLost,
        ErrorKind::Connect(ConnectFailure::Tls),
    ];
    assert!(kinds.contains(&error.kind()), "{error}");
}

fn tempfile(content: &str) -> (std::fs::File, std::path::PathBuf) {
    let name = format!("millpond-mongodb-{}.pem", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut file = std::fs::File::create(&path).expect("a file");
    file.write_all(content.as_bytes()).expect("written");
    (file, path)
}
