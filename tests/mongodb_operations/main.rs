//! Operations on MongoDB, singly and in groups, on real servers.

mod as_data;
mod faults;
mod groups;
mod singly;

use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::{
    Deadline, MongoDb, MongoDbConfig, MongoDbConnection, MongoOperation, MongoReply, Outcome, Pool,
};
use mongodb::bson::{Document, doc};
use testbed::Mongo;

fn config(port: u16) -> MongoDbConfig {
    MongoDbConfig::new()
        .host(format!("127.0.0.1:{port}"))
        .database("test")
        .connect_timeout(Duration::from_millis(1500))
        .check_timeout(Duration::from_millis(500))
}

fn pool_of(config: MongoDbConfig) -> Pool<MongoDb> {
    let manager = MongoDb::new(config).expect("settings");
    Pool::builder().max_size(4).build(manager).expect("pool")
}

/// A pool on the server that all tests share.
fn pool() -> Pool<MongoDb> {
    pool_of(config(Mongo::shared().port()))
}

fn run_batch(
    pool: &Pool<MongoDb>,
    operations: &[MongoOperation],
    deadline: Deadline,
) -> Vec<Outcome<MongoReply>> {
    let operations: Vec<_> = operations.iter().collect();
    let mut lease = pool.get().expect("a lease");
    let outcomes = pool
        .manager()
        .execute_batch(&mut lease, &operations, deadline);
    assert_eq!(outcomes.len(), operations.len(), "one each");
    testbed::keep("outcomes", format!("{outcomes:?}"));
    outcomes
}

fn batch(pool: &Pool<MongoDb>, operations: &[MongoOperation]) -> Vec<Outcome<MongoReply>> {
    run_batch(pool, operations, Deadline::NEVER)
}

fn documents(lease: &MongoDbConnection, collection: &str) -> Vec<Document> {
    let collection = lease.db().expect("a database").collection(collection);
    let found = collection.find(doc! {}).sort(doc! { "_id": 1 });
    let found = found.run().expect("answers");
    found.map(|document| document.expect("reads")).collect()
}

/// Lets the server fail the next commands.
fn fail(lease: &MongoDbConnection, times: i32, data: Document) {
    let command =
        doc! { "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data };
    let admin = lease.database("admin");
    admin.run_command(command).run().expect("test commands");
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn eventually(limit: Duration, what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
