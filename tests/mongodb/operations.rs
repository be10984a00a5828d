//! What operations tell, and what leases leave behind.

use std::time::Duration;

use millpond::backend::Backend;
use millpond::{Error, ErrorKind, ManageConnection, MongoDb, MongoDbConfig, Reset};
use mongodb::bson::{Document, doc};
use testbed::Mongo;

use super::{config, items, manager, timed};

/// Makes the server fail the next insert of this application in this way.
fn fail_insert(manager: &MongoDb, app: &str, how: Document) {
    let lease = manager.connect().expect("connects");
    let mut data = how;
    data.insert("failCommands", vec!["insert"]);
    data.insert("appName", app);
    let command =
        doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": data };
    lease
        .database("admin")
        .run_command(command)
        .run()
        .expect("a test command");
}

#[test]
fn the_servers_refusals_are_sorted() {
    let manager = manager(config(Mongo::shared().port()));
    let lease = manager.connect().expect("connects");
    let items = items(&lease, "sorted");
    items.drop().run().expect("dropped");
    items.insert_one(doc! { "_id": 1 }).run().expect("inserted");
    let kind = |result: Result<(), mongodb::error::Error>| {
        let error = Error::from(result.expect_err("refused"));
        assert!(!error.outcome_unknown(), "{error}");
        error.kind()
    };
    let twice = items.insert_one(doc! { "_id": 1 }).run().map(drop);
    assert_eq!(kind(twice), ErrorKind::Constraint);
    let many = items
        .insert_many([doc! { "_id": 2 }, doc! { "_id": 1 }])
        .run();
    let error = Error::from(many.expect_err("refused"));
    assert_eq!(error.kind(), ErrorKind::Constraint);
    assert!(error.to_string().contains("number 1"), "{error}");
    let db = lease.db().expect("configured");
    let unknown = db.run_command(doc! { "noSuchCommand": 1 });
    assert_eq!(kind(unknown.run().map(drop)), ErrorKind::InvalidOperation);
    let operator = items.find_one(doc! { "a": { "$nope": 1 } }).run().map(drop);
    assert_eq!(kind(operator), ErrorKind::InvalidOperation);
    let index = items.drop_index("nope").run();
    assert_eq!(kind(index), ErrorKind::NotFound);
    let slow = items.find_one(doc! { "$where": "sleep(2000) || true" });
    let slow = slow.max_time(Duration::from_millis(50)).run().map(drop);
    assert_eq!(
        Error::from(slow.expect_err("too slow")).kind(),
        ErrorKind::DeadlineExceeded
    );
}

#[test]
fn what_a_server_says_in_trouble_is_sorted() {
    let port = Mongo::shared().port();
    let admin = manager(config(port));
    let manager = manager(config(port).app_name("trouble"));
    let lease = manager.connect().expect("connects");
    let items = items(&lease, "trouble");
    for (how, kind, unknown) in [
        (doc! { "errorCode": 10107 }, ErrorKind::WrongRole, false),
        (doc! { "errorCode": 112 }, ErrorKind::Conflict, false),
        (doc! { "errorCode": 13 }, ErrorKind::Permission, false),
        (
            doc! { "closeConnection": true },
            ErrorKind::ConnectionLost,
            true,
        ),
        (
            doc! { "writeConcernError": { "code": 64, "errmsg": "late" } },
            ErrorKind::DeadlineExceeded,
            true,
        ),
    ] {
        fail_insert(&admin, "trouble", how.clone());
        let failed = items.insert_one(doc! {}).run().expect_err("told to fail");
        let error = Error::from(failed);
        assert_eq!(error.kind(), kind, "{how}: {error}");
        assert_eq!(error.outcome_unknown(), unknown, "{how}: {error}");
    }
    items.insert_one(doc! {}).run().expect("works again");
}

#[test]
fn a_deadline_holds_on_a_slow_operation() {
    let manager = manager(config(Mongo::shared().port()));
    let lease = manager.connect().expect("connects");
    items(&lease, "slow")
        .insert_one(doc! {})
        .run()
        .expect("inserted");
    let limit = Duration::from_millis(100);
    let (result, took) = timed(|| {
        lease.within(limit, async |client| {
            let slow = client.database("test").collection::<Document>("slow");
            slow.find_one(doc! { "$where": "sleep(3000) || true" })
                .await
        })
    });
    let error = result.expect_err("too slow");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    assert!(error.outcome_unknown());
    assert!(took >= limit && took < limit * 2, "{took:?}");
    let found = lease.within(Duration::from_secs(5), async |client| {
        let slow = client.database("test").collection::<Document>("slow");
        slow.find_one(doc! {}).await
    });
    assert!(found.expect("quick").is_some());
}

#[test]
fn a_transaction_that_was_abandoned_is_gone_for_the_next_lease() {
    let set = Mongo::builder().replica_set(1).start().expect("a set");
    let config = MongoDbConfig::from_url(&set.uri())
        .expect("uri")
        .database("test");
    let manager = manager(config);
    let first = manager.connect().expect("connects");
    let orders = items(&first, "orders");
    orders
        .insert_one(doc! { "_id": 1 })
        .run()
        .expect("inserted");

    let mut session = first.start_session().run().expect("a session");
    session.start_transaction().run().expect("begun");
    orders
        .insert_one(doc! { "_id": 2 })
        .session(&mut session)
        .run()
        .expect("inserted");
    session.commit_transaction().run().expect("committed");

    session.start_transaction().run().expect("begun");
    orders
        .insert_one(doc! { "_id": 3 })
        .session(&mut session)
        .run()
        .expect("inserted");
    drop(session);
    assert!(manager.is_clean(&first, Reset::Full));
    drop(first);

    let next = manager.connect().expect("connects");
    let orders = items(&next, "orders");
    assert_eq!(orders.count_documents(doc! {}).run().expect("counted"), 2);
    orders
        .insert_one(doc! { "_id": 3 })
        .run()
        .expect("not locked");
}

#[test]
fn conflicting_transactions_conflict() {
    let set = Mongo::builder().replica_set(1).start().expect("a set");
    let config = MongoDbConfig::from_url(&set.uri())
        .expect("uri")
        .database("test");
    let lease = manager(config).connect().expect("connects");
    let orders = items(&lease, "orders");
    orders
        .insert_one(doc! { "_id": 1, "n": 0 })
        .run()
        .expect("inserted");
    let raise = || orders.update_one(doc! { "_id": 1 }, doc! { "$inc": { "n": 1 } });
    let mut one = lease.start_session().run().expect("a session");
    let mut two = lease.start_session().run().expect("a session");
    one.start_transaction().run().expect("begun");
    two.start_transaction().run().expect("begun");
    raise().session(&mut one).run().expect("first");
    let second = raise().session(&mut two).run().expect_err("second");
    assert_eq!(Error::from(second).kind(), ErrorKind::Conflict);
    one.commit_transaction().run().expect("committed");
}
