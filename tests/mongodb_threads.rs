//! The backend's threads do not grow with managers. In a process of its own, so that
//! no other test's threads are counted.

use millpond::{ManageConnection, MongoDb, MongoDbConfig};
use mongodb::bson::doc;
use testbed::Mongo;

fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    tasks.count()
}

#[test]
fn twenty_managers_have_the_threads_of_one() {
    let mongo = Mongo::start().expect("mongod");
    let config = || MongoDbConfig::new().host(format!("127.0.0.1:{}", mongo.port()));
    let open = || {
        let manager = MongoDb::new(config()).expect("settings");
        let lease = manager.connect().expect("connects");
        let ping = doc! { "ping": 1 };
        lease
            .database("admin")
            .run_command(ping)
            .run()
            .expect("answers");
        (manager, lease)
    };
    let before = threads();
    let one = open();
    let with_one = threads();
    let more: Vec<_> = (0..19).map(|_| open()).collect();
    assert_eq!(threads(), with_one);
    // Ours, and one per processor of the driver's own.
    let processors = std::thread::available_parallelism().expect("known").get();
    assert!(with_one - before <= 2 + processors, "{before} {with_one}");
    drop(more);
    drop(one);
    assert_eq!(threads(), with_one);
}
