//! MongoDB starts, answers and suffers as told.

use std::net::TcpStream;

use testbed::{Ca, Mongo};

#[test]
fn starts_and_comes_back_on_the_same_port() {
    let mongo = Mongo::start().expect("MongoDB");
    let port = mongo.port();
    assert_eq!(mongo.uri(), format!("mongodb://127.0.0.1:{port}/"));
    mongo.kill();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    mongo.restart().expect("MongoDB, again");
    TcpStream::connect(("127.0.0.1", port)).expect("a connection");
}

#[test]
fn a_set_of_one_has_a_primary() {
    let mongo = Mongo::builder().replica_set(1).start().expect("a set");
    assert!(mongo.uri().ends_with("/?replicaSet=rs0"));
    assert_eq!(mongo.await_primary().expect("a primary"), 0);
}

#[test]
fn a_set_of_three_behind_proxies_elects_another_primary() {
    let mongo = Mongo::builder()
        .replica_set(3)
        .through_proxies()
        .start()
        .expect("a set");
    assert_eq!(mongo.proxies().len(), 3);
    let first = mongo.await_primary().expect("a primary");
    mongo.members()[first].kill();
    let second = mongo.await_primary().expect("another primary");
    assert_ne!(first, second);
}

#[test]
fn login_and_tls_can_be_combined_with_a_set() {
    let ca = Ca::new();
    let mongo = Mongo::builder()
        .auth()
        .start()
        .expect("MongoDB with logins");
    assert!(
        mongo
            .uri()
            .starts_with(&format!("mongodb://test:{}@", Mongo::PASSWORD))
    );
    let mongo = Mongo::builder()
        .tls(&ca)
        .auth()
        .replica_set(1)
        .start()
        .expect("MongoDB with everything");
    assert!(mongo.uri().contains("tls=true"));
}
