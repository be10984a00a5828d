//! Each kind by itself, through the pool.

use millpond::{ErrorKind, MongoDb, MongoOperation, MongoReply, Operation, Pool, PooledConnection};
use mongodb::bson::{Bson, Document, doc};
use testbed::Mongo;

use super::{config, documents, fail, pool, pool_of};

fn done(pool: &Pool<MongoDb>, operation: MongoOperation) -> MongoReply {
    pool.execute(operation).expect("done")
}

#[test]
fn each_kind_gives_its_reply() {
    let pool = pool();
    let c = "each_kind";
    for n in 0..5 {
        let id = done(
            &pool,
            MongoOperation::insert_one(c, doc! { "_id": n, "n": n }),
        );
        assert_eq!(id.inserted_id(), Some(&Bson::Int32(n)));
    }
    let made = done(&pool, MongoOperation::insert_one("each_kind_ids", doc! {}));
    assert!(made.inserted_id().and_then(Bson::as_object_id).is_some());

    let set = || doc! { "$set": { "n": 9 } };
    let updated = done(
        &pool,
        MongoOperation::update_one(c, doc! { "_id": 0 }, set()),
    );
    assert_eq!((updated.matched(), updated.modified()), (Some(1), Some(1)));
    let again = done(
        &pool,
        MongoOperation::update_one(c, doc! { "_id": 0 }, set()),
    );
    assert_eq!((again.matched(), again.modified()), (Some(1), Some(0)));
    let some = doc! { "_id": { "$lt": 3 } };
    let many = done(&pool, MongoOperation::update_many(c, some, set()));
    assert_eq!((many.matched(), many.modified()), (Some(3), Some(2)));
    let upsert = MongoOperation::update_one(c, doc! { "_id": 77 }, set()).upsert(true);
    let upserted = done(&pool, upsert);
    assert_eq!(upserted.upserted_id(), Some(&Bson::Int32(77)));
    assert_eq!(upserted.matched(), Some(0));
    let replaced = MongoOperation::replace_one(c, doc! { "_id": 77 }, doc! { "new": true });
    assert_eq!(done(&pool, replaced).modified(), Some(1));

    let one = done(&pool, MongoOperation::find_one(c, doc! { "_id": 77 }));
    assert_eq!(one.into_document(), Some(doc! { "_id": 77, "new": true }));
    let none = done(&pool, MongoOperation::find_one(c, doc! { "_id": -1 }));
    assert_eq!(none.document(), None);
    let last = MongoOperation::find(c, doc! {})
        .sort(doc! { "_id": -1 })
        .skip(1)
        .limit(2)
        .projection(doc! { "_id": 1 });
    assert_eq!(
        done(&pool, last).documents(),
        [doc! { "_id": 4 }, doc! { "_id": 3 }]
    );
    let count = MongoOperation::count(c, doc! { "n": 9 });
    assert_eq!(done(&pool, count).count(), Some(3));
    let sum = doc! { "$group": { "_id": null, "sum": { "$sum": "$n" } } };
    let sum = done(&pool, MongoOperation::aggregate(c, [sum]));
    assert_eq!(
        sum.documents()[0].get_i32("sum").ok(),
        Some(9 + 9 + 9 + 3 + 4)
    );
    let all = done(&pool, MongoOperation::aggregate(c, Vec::<Document>::new()));
    assert_eq!(all.documents().len(), 6);
    let out = MongoOperation::aggregate(c, [doc! { "$out": "each_kind_out" }]);
    assert!(done(&pool, out).documents().is_empty());
    let lease = pool.get().expect("a lease");
    assert_eq!(documents(&lease, "each_kind_out").len(), 6);

    let deleted = done(&pool, MongoOperation::delete_one(c, doc! { "_id": 77 }));
    assert_eq!(deleted.deleted(), Some(1));
    let rest = done(&pool, MongoOperation::delete_many(c, doc! {}));
    assert_eq!(rest.deleted(), Some(5));
    let pong = done(&pool, MongoOperation::command(doc! { "ping": 1 }));
    assert_eq!(
        pong.document().expect("an answer").get_f64("ok").ok(),
        Some(1.0)
    );
}

#[test]
fn another_database_is_another_database() {
    let pool = pool();
    let there = MongoOperation::insert_one("elsewhere", doc! { "_id": 1 }).database("other");
    done(&pool, there);
    let found = |operation| done(&pool, operation).document().is_some();
    assert!(!found(MongoOperation::find_one("elsewhere", doc! {})));
    assert!(found(
        MongoOperation::find_one("elsewhere", doc! {}).database("other")
    ));

    let config = config(Mongo::shared().port()).driver_options(|options| {
        options.default_database = None;
    });
    let error = pool_of(config)
        .execute(MongoOperation::count("c", doc! {}))
        .expect_err("no database");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("MONGODB_DB"), "{error}");
}

#[test]
fn what_the_server_refuses_keeps_its_message_and_no_value() {
    let pool = pool();
    let insert = || MongoOperation::insert_one("refused", doc! { "_id": testbed::value("id") });
    done(&pool, insert());
    // Repeatable or not: an `_id` of the caller's own proves nothing.
    for operation in [insert(), insert().idempotent(true)] {
        let error = pool.execute(operation).expect_err("is there");
        assert_eq!(error.kind(), ErrorKind::Constraint, "{error}");
        assert!(!error.outcome_unknown());
        assert!(error.to_string().contains("E11000"), "{error}");
        assert!(!testbed::bears_mark(&error.to_string()), "{error}");
    }
    let wrong = MongoOperation::update_one("refused", doc! {}, doc! { "$nothing": { "n": 1 } });
    let error = pool.execute(wrong).expect_err("no such operator");
    assert_eq!(error.kind(), ErrorKind::InvalidOperation, "{error}");
}

#[test]
fn an_update_of_many_that_fails_halfway_leaves_its_outcome_open() {
    let pool = pool();
    let c = "halfway";
    for (id, n) in [(1, Bson::Int32(1)), (2, "text".into())] {
        done(
            &pool,
            MongoOperation::insert_one(c, doc! { "_id": id, "n": n }),
        );
    }
    let add = MongoOperation::update_many(c, doc! {}, doc! { "$inc": { "n": 1 } });
    let error = pool.execute(add).expect_err("text cannot be added to");
    assert!(error.outcome_unknown(), "{error}");
    let lease = pool.get().expect("a lease");
    assert_eq!(
        documents(&lease, c)[0].get_i32("n").ok(),
        Some(2),
        "the first was done"
    );
}

#[test]
fn a_repeated_insert_that_finds_itself_is_done() {
    let mongo = Mongo::start().expect("mongod");
    // The driver would repeat by itself only on a replica set.
    let pool = pool_of(config(mongo.port()));
    let lease = pool.get().expect("a lease");
    let lost = doc! { "failCommands": ["insert"], "closeConnection": true };
    let insert = || MongoOperation::insert_one("repeated", doc! { "n": 1 });

    fail(&lease, 1, lost.clone());
    let error = pool.execute(insert()).expect_err("lost");
    assert!(error.outcome_unknown(), "{error}");
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(documents(&lease, "repeated").len(), 0);

    fail(&lease, 1, lost);
    let repeatable = insert().idempotent(true);
    let first = pool.execute(&repeatable).expect("tried again");
    assert_eq!(documents(&lease, "repeated").len(), 1);
    // As if the answer to the first attempt had been lost.
    let second = pool.execute(&repeatable).expect("it is there");
    assert_eq!(first, second);
    assert_eq!(documents(&lease, "repeated").len(), 1);
}

#[test]
fn what_can_succeed_by_itself_is_tried_again() {
    let mongo = Mongo::start().expect("mongod");
    let pool = pool_of(config(mongo.port()).retry_reads(false));
    let lease = pool.get().expect("a lease");
    // A write conflict is tried again, and so is a read whose connection was lost.
    fail(
        &lease,
        2,
        doc! { "failCommands": ["update"], "errorCode": 112 },
    );
    let update =
        MongoOperation::update_one("again", doc! { "_id": 1 }, doc! { "$set": { "n": 1 } });
    done(&pool, update.upsert(true));
    fail(
        &lease,
        1,
        doc! { "failCommands": ["find"], "closeConnection": true },
    );
    let found = done(&pool, MongoOperation::find_one("again", doc! { "_id": 1 }));
    assert!(found.document().is_some());
    // A refusal is not.
    fail(
        &lease,
        1,
        doc! { "failCommands": ["update"], "errorCode": 13 },
    );
    let update =
        || MongoOperation::update_one("again", doc! { "_id": 1 }, doc! { "$set": { "n": 2 } });
    let error = pool.execute(update()).expect_err("refused once");
    assert_eq!(error.kind(), ErrorKind::Permission);
    done(&pool, update());
}

#[test]
fn a_lease_runs_operations_beside_the_drivers_own() {
    let pool = pool();
    let mut lease = pool.get().expect("a lease");
    let insert = MongoOperation::insert_one("on_a_lease", doc! { "_id": 1 });
    PooledConnection::execute(&mut lease, &insert).expect("done");
    assert_eq!(documents(&lease, "on_a_lease"), [doc! { "_id": 1 }]);
}

#[test]
fn more_documents_than_a_reply_holds_are_an_error() {
    let pool = pool();
    let numbers = doc! { "$range": [0, 100_001] };
    let stages = |numbers| {
        [
            doc! { "$project": { "n": numbers } },
            doc! { "$unwind": "$n" },
        ]
    };
    done(&pool, MongoOperation::insert_one("one", doc! {}));
    let error = pool
        .execute(MongoOperation::aggregate("one", stages(numbers)))
        .expect_err("too many");
    assert!(error.to_string().contains("100000"), "{error}");
    let most = doc! { "$range": [0, 100_000] };
    let all = done(&pool, MongoOperation::aggregate("one", stages(most)));
    assert_eq!(all.documents().len(), 100_000);
}
