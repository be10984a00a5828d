//! `MONGODB_*`.

use ::mongodb::bson::doc;
use millpond::{Config, ConnectFailure, ErrorKind, Hub, MongoDb, MongoOperation};
use testbed::{Ca, Mongo, secret};

use super::{config, hub};

fn at(server: &Mongo) -> Config {
    config()
        .set("MONGODB_ENABLED", true)
        .set("MONGODB_HOST", "127.0.0.1")
        .set("MONGODB_PORT", server.port())
        .set("MONGODB_DB", "every_variable")
        .set("POOL_CONNECTION_TIMEOUT", 2)
}

fn write(hub: &Hub) -> Result<(), millpond::Error> {
    let insert = MongoOperation::insert_one("things", doc! { "n": 1 });
    hub.pool::<MongoDb>("mongodb")?.execute(insert).map(drop)
}

fn count(hub: &Hub, database: &str) -> u64 {
    let count = MongoOperation::count("things", doc! {}).database(database);
    let pool = hub.pool::<MongoDb>("mongodb").unwrap();
    pool.execute(count).unwrap().count().unwrap()
}

#[test]
pub(super) fn enabled_host_port_and_db() {
    let server = Mongo::shared();
    let by_parts = hub(&at(server).set("MONGODB_DB", "every_a"));
    let before = (count(&by_parts, "every_a"), count(&by_parts, "every_b"));
    write(&by_parts).unwrap();
    let uri = format!("mongodb://127.0.0.1:{}/every_b", server.port());
    write(&hub(&config().set("MONGODB_URI", uri))).unwrap();
    let after = (count(&by_parts, "every_a"), count(&by_parts, "every_b"));
    assert_eq!(after, (before.0 + 1, before.1 + 1));
    let off = hub(&at(server).set("MONGODB_ENABLED", false));
    assert!(off.pool::<MongoDb>("mongodb").is_err());
    for elsewhere in [
        at(server).set("MONGODB_HOST", "127.0.0.2"),
        at(server).set("MONGODB_PORT", testbed::refused_port()),
    ] {
        let error = write(&hub(&elsewhere)).unwrap_err();
        assert!(error.to_string().contains("MONGODB_PORT"), "{error}");
    }
}

#[test]
pub(super) fn login() {
    let server = Mongo::builder().auth().start().unwrap();
    let login = |user: &str, password: &str| {
        at(&server)
            .set("MONGODB_USER", user)
            .set("MONGODB_PASSWORD", password)
    };
    write(&hub(&login("test", Mongo::PASSWORD))).unwrap();
    let elsewhere = login("test", Mongo::PASSWORD).set("MONGODB_AUTH_SOURCE", "every_variable");
    for refused in [
        login("test", secret!("wrong")),
        login("nobody", Mongo::PASSWORD),
        elsewhere,
    ] {
        let error = write(&hub(&refused)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    }
}

#[test]
pub(super) fn ssl() {
    let ca = Ca::new();
    let server = Mongo::builder().tls(&ca).start().unwrap();
    let trusted = at(&server).set("MONGODB_SSL_CA_FILE", ca.cert_path().to_str().unwrap());
    write(&hub(&trusted.clone().set("MONGODB_SSL", true))).unwrap();
    assert!(write(&hub(&trusted.set("MONGODB_SSL", false))).is_err());
    let error = write(&hub(&at(&server).set("MONGODB_SSL", true))).unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Connect(ConnectFailure::Tls),
        "{error}"
    );
}
