//! The backend's threads do not grow with managers. In a process of its own, so that
//! no other test's threads are counted.

use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::{Deadline, ManageConnection, MongoDb, MongoDbConfig, MongoOperation};
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
    // Operations that a deadline cut off leave no thread behind.
    let (manager, mut lease) = one;
    mongo.freeze();
    let insert = |n| MongoOperation::insert_one("c", doc! { "_id": n }).database("test");
    let inserts: Vec<_> = (0..100).map(insert).collect();
    let group: Vec<_> = inserts.iter().collect();
    for _ in 0..3 {
        let limit = Deadline::within(Duration::from_millis(50));
        let outcomes = manager.execute_batch(&mut lease, &group, limit);
        assert!(outcomes.iter().all(|outcome| !outcome.is_done()));
        let limit = Deadline::within(Duration::from_millis(50));
        assert!(manager.execute(&mut lease, group[0], limit).is_err());
    }
    assert_eq!(threads(), with_one);
    mongo.thaw();
    let start = Instant::now();
    let after = insert(-1).database("after");
    while manager
        .execute(
            &mut lease,
            &after,
            Deadline::within(Duration::from_millis(200)),
        )
        .is_err_and(|error| !error.to_string().contains("E11000"))
    {
        assert!(start.elapsed() < Duration::from_secs(2), "works again");
    }
    drop((manager, lease));
    assert_eq!(threads(), with_one);
}
