//! Servers that freeze, and connections that are cut.

use std::time::Duration;

use millpond::{Deadline, ErrorKind, MongoOperation, Operation, Outcome};
use mongodb::bson::doc;
use testbed::{Mongo, Proxy};

use super::{batch, config, documents, eventually, fail, pool_of, run_batch, timed};

const LIMIT: Duration = Duration::from_millis(300);
const SLACK: Duration = Duration::from_millis(100);

fn insert(n: i32) -> MongoOperation {
    MongoOperation::insert_one("faults", doc! { "_id": n, "text": testbed::value(n) })
}

#[test]
fn a_frozen_server_holds_no_operation_beyond_its_deadline() {
    let mongo = Mongo::start().expect("mongod");
    let pool = pool_of(config(mongo.port()));
    let meter = pool.manager().meter();
    pool.execute(insert(0)).expect("works");
    let before = meter.read().open;
    mongo.freeze();

    let (result, took) = timed(|| pool.execute(insert(1).deadline(LIMIT)));
    let error = result.expect_err("frozen");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    assert!(error.outcome_unknown(), "it was sent: {error}");
    assert!(took >= LIMIT && took < LIMIT + SLACK, "{took:?}");

    for _ in 0..3 {
        let read = MongoOperation::find("faults", doc! {}).deadline(LIMIT);
        let (result, took) = timed(|| pool.execute(read));
        let error = result.expect_err("frozen");
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
        assert!(!error.outcome_unknown(), "a read has no effect: {error}");
        assert!(took < LIMIT + SLACK, "{took:?}");
    }

    mongo.thaw();
    eventually(Duration::from_secs(1), "works again", || {
        pool.execute(MongoOperation::count("faults", doc! {}).deadline(LIMIT))
            .is_ok()
    });
    let found = pool.execute(MongoOperation::count("faults", doc! { "_id": 0 }));
    assert_eq!(found.expect("works").count(), Some(1));
    // Not one for each operation that was given up. (The driver opens two at a time.)
    eventually(Duration::from_secs(2), "sockets as before", || {
        let sockets = meter.read();
        sockets.in_use == 0 && sockets.open <= before + 2
    });
}

#[test]
fn a_group_on_a_frozen_server_ends_by_its_deadline() {
    let mongo = Mongo::start().expect("mongod");
    let pool = pool_of(config(mongo.port()));
    pool.execute(insert(-1)).expect("works");
    let mut operations: Vec<_> = (0..500).map(insert).collect();
    operations.extend((0..500).map(|n| MongoOperation::delete_one("faults", doc! { "_id": -n })));
    operations.push(MongoOperation::count("faults", doc! {}));
    mongo.freeze();
    let (outcomes, took) = timed(|| run_batch(&pool, &operations, Deadline::within(LIMIT)));
    assert!(took >= LIMIT && took < LIMIT + SLACK, "{took:?}");
    for (index, outcome) in outcomes.iter().enumerate() {
        let error = outcome.error().expect("frozen");
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
        // Only the first command was sent.
        let sent = index < 500;
        assert_eq!(
            matches!(outcome, Outcome::Unknown(_)),
            sent,
            "{index}: {outcome:?}"
        );
        assert_eq!(matches!(outcome, Outcome::NotExecuted(_)), !sent, "{index}");
    }
    mongo.thaw();
    eventually(Duration::from_secs(2), "works again", || {
        let last = [MongoOperation::insert_one("after", doc! {})];
        run_batch(&pool, &last, Deadline::within(LIMIT))[0].is_done()
    });
    let meter = pool.manager().meter();
    eventually(Duration::from_secs(2), "no socket in use", || {
        meter.read().in_use == 0
    });
}

#[test]
fn a_slow_read_is_ended_by_the_server_itself() {
    let mongo = Mongo::start().expect("mongod");
    let pool = pool_of(config(mongo.port()));
    let inserts: Vec<_> = (0..400).map(insert).collect();
    assert!(batch(&pool, &inserts).iter().all(Outcome::is_done));
    let meter = pool.manager().meter();
    let closed = meter.read().closed;
    // The server looks at its clock between documents.
    let function = doc! {
        "body": "function() { sleep(10); return false }", "args": [], "lang": "js",
    };
    let limit = 2 * LIMIT;
    let slow = doc! { "$expr": { "$function": function } };
    let operations = [
        MongoOperation::find("faults", slow.clone()),
        MongoOperation::find_one("faults", slow.clone()),
        MongoOperation::count("faults", slow.clone()),
        MongoOperation::aggregate("faults", [doc! { "$match": slow }]),
    ];
    for operation in operations {
        let (result, took) = timed(|| pool.execute(operation.deadline(limit)));
        let error = result.expect_err("slow");
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
        assert!(!error.outcome_unknown());
        assert!(
            error.to_string().contains("code 50"),
            "the server said so: {error}"
        );
        assert!(took < limit + SLACK, "{took:?}");
    }
    assert_eq!(meter.read().closed, closed, "the socket survived");
}

#[test]
fn a_slow_cursor_ends_by_the_deadline_too() {
    let mongo = Mongo::start().expect("mongod");
    let pool = pool_of(config(mongo.port()));
    let inserts: Vec<_> = (0..500).map(insert).collect();
    assert!(batch(&pool, &inserts).iter().all(Outcome::is_done));
    let lease = pool.get().expect("a lease");
    let block = doc! { "failCommands": ["getMore"], "blockConnection": true, "blockTimeMS": 2000 };
    fail(&lease, 1, block);
    let (result, took) =
        timed(|| pool.execute(MongoOperation::find("faults", doc! {}).deadline(LIMIT)));
    assert_eq!(
        result.expect_err("blocked").kind(),
        ErrorKind::DeadlineExceeded
    );
    assert!(took < LIMIT + SLACK, "{took:?}");
}

#[test]
fn a_connection_cut_in_a_group_leaves_open_only_what_was_sent() {
    let mongo = Mongo::start().expect("mongod");
    let proxy = Proxy::start(mongo.port()).expect("proxy");
    let pool = pool_of(config(proxy.port()));
    pool.execute(insert(-1)).expect("works");
    let meter = pool.manager().meter();
    eventually(Duration::from_secs(2), "given back", || {
        meter.read().in_use == 0
    });
    let operations: Vec<_> = (0..100)
        .map(insert)
        .chain((0..100).map(|n| MongoOperation::insert_one("second", doc! { "_id": n })))
        .chain((0..100).map(|n| MongoOperation::delete_one("third", doc! { "_id": n })))
        .collect();
    // The first command reaches nobody before it is cut off.
    proxy.black_hole(true);
    let outcomes = std::thread::scope(|scope| {
        let running = scope.spawn(|| batch(&pool, &operations));
        eventually(Duration::from_secs(2), "on its way", || {
            meter.read().in_use == 1
        });
        proxy.cut();
        running.join().expect("no panic")
    });
    proxy.black_hole(false);
    for (index, outcome) in outcomes.iter().enumerate() {
        let error = outcome.error().expect("cut");
        assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
        assert_eq!(
            matches!(outcome, Outcome::Unknown(_)),
            index < 100,
            "{index}"
        );
        assert_eq!(
            matches!(outcome, Outcome::NotExecuted(_)),
            index >= 100,
            "{index}"
        );
    }
    // What was not executed is absent, and another lease can do it all.
    let again: Vec<_> = operations[100..].to_vec();
    eventually(Duration::from_secs(5), "a lease that works", || {
        pool.execute(MongoOperation::count("second", doc! {}))
            .is_ok_and(|found| found.count() == Some(0))
    });
    assert!(batch(&pool, &again).iter().all(Outcome::is_done));
    let lease = pool.get().expect("a lease");
    assert_eq!(documents(&lease, "second").len(), 100);
}

#[test]
fn a_connection_closed_instead_of_an_answer_is_told_from_one_never_used() {
    let mongo = Mongo::start().expect("mongod");
    let pool = pool_of(config(mongo.port()));
    let lease = pool.get().expect("a lease");
    fail(
        &lease,
        1,
        doc! { "failCommands": ["update"], "closeConnection": true },
    );
    let updates: Vec<_> = (0..10)
        .map(|n| {
            MongoOperation::update_one("faults", doc! { "_id": n }, doc! { "$set": { "n": 1 } })
        })
        .collect();
    for outcome in batch(&pool, &updates) {
        assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    }
    // A deadline that is over before anything is sent is certain.
    for outcome in run_batch(&pool, &updates, Deadline::within(Duration::ZERO)) {
        assert!(matches!(&outcome, Outcome::NotExecuted(error)
            if error.kind() == ErrorKind::DeadlineExceeded));
    }
}
