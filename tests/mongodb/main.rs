//! The MongoDB backend on real servers.

mod connect;
mod faults;
mod operations;
mod sockets;

use std::time::{Duration, Instant};

use millpond::{Error, ManageConnection, MongoDb, MongoDbConfig, MongoDbConnection};
use mongodb::bson::{Document, doc};
use mongodb::sync::Collection;

/// Short limits, so that a test that waits for one is short too.
fn config(port: u16) -> MongoDbConfig {
    MongoDbConfig::new()
        .host(format!("127.0.0.1:{port}"))
        .database("test")
        .connect_timeout(Duration::from_millis(1500))
        .check_timeout(Duration::from_millis(500))
}

fn manager(config: MongoDbConfig) -> MongoDb {
    MongoDb::new(config).expect("settings")
}

fn connect_error(config: MongoDbConfig) -> Error {
    manager(config).connect().expect_err("must not connect")
}

fn items(lease: &MongoDbConnection, name: &str) -> Collection<Document> {
    lease.db().expect("a database").collection(name)
}

/// One write and one read.
fn works(lease: &MongoDbConnection) -> Result<(), mongodb::error::Error> {
    let items = items(lease, "works");
    let id = items
        .insert_one(doc! { "n": testbed::value(1) })
        .run()?
        .inserted_id;
    let found = items.find_one(doc! { "_id": id }).run()?;
    assert!(found.is_some());
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// Waits until something holds, and says how long that took.
fn eventually(limit: Duration, what: &str, holds: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}
