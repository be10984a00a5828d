//! Groups on a healthy server.

use std::collections::HashSet;

use millpond::{ErrorKind, MongoOperation, Operation, Outcome};
use mongodb::bson::{Bson, doc};
use testbed::Mongo;

use super::{batch, config, documents, fail, pool, pool_of};

#[test]
fn a_group_gives_the_replies_of_its_operations_one_by_one() {
    let pool = pool();
    let operations = |c: &'static str| {
        let set = |n: i32| doc! { "$set": { "n": n } };
        let key = |id: i32| doc! { "_id": id };
        vec![
            vec![
                MongoOperation::insert_one(c, doc! { "_id": 1, "n": 0 }),
                MongoOperation::insert_one(c, doc! { "_id": 2, "n": 0 }),
                MongoOperation::insert_one(c, doc! { "_id": 3, "n": 0 }),
            ],
            vec![
                MongoOperation::update_one(c, key(1), set(1)),
                MongoOperation::update_one(c, key(2), set(1)),
                MongoOperation::replace_one(c, key(3), doc! { "n": 1 }),
                MongoOperation::update_one(c, key(4), set(1)).upsert(true),
                MongoOperation::replace_one(c, key(5), doc! { "n": 1 }).upsert(true),
            ],
            vec![
                MongoOperation::find_one(c, key(1)),
                MongoOperation::count(c, doc! { "n": 1 }),
                MongoOperation::find(c, doc! {}).sort(doc! { "_id": 1 }),
                MongoOperation::aggregate(c, [doc! { "$sort": { "_id": -1 } }]),
                MongoOperation::update_many(c, doc! {}, set(2)),
                MongoOperation::command(doc! { "count": c }),
            ],
            vec![
                MongoOperation::delete_one(c, key(1)),
                MongoOperation::delete_one(c, key(2)),
            ],
            vec![
                MongoOperation::delete_one(c, key(-1)),
                MongoOperation::delete_one(c, key(-2)),
            ],
            vec![
                MongoOperation::delete_many(c, doc! { "_id": 3 }),
                MongoOperation::delete_many(c, doc! { "_id": { "$gt": 3 } }),
            ],
        ]
    };
    let singly = operations("singly").into_iter().map(|step| {
        let replies = step.into_iter().map(|operation| pool.execute(operation));
        replies.collect::<Result<Vec<_>, _>>().expect("all done")
    });
    let grouped = operations("grouped").into_iter().map(|step| {
        let outcomes = batch(&pool, &step).into_iter().map(Outcome::into_result);
        outcomes.collect::<Result<Vec<_>, _>>().expect("all done")
    });
    for (singly, grouped) in singly.zip(grouped) {
        assert_eq!(singly, grouped);
    }
}

#[test]
fn counts_that_nobody_knows_are_not_made_up() {
    let pool = pool();
    let c = "counts";
    let insert = MongoOperation::insert_one(c, doc! { "_id": 1, "n": 1 });
    pool.execute(insert).expect("done");
    let set =
        |id: i32| MongoOperation::update_one(c, doc! { "_id": id }, doc! { "$set": { "n": 1 } });
    let outcomes = batch(&pool, &[set(1), set(2)]);
    for outcome in outcomes {
        let reply = outcome.into_result().expect("done");
        assert_eq!(reply.matched(), None, "one of two");
        assert_eq!(reply.modified(), Some(0), "none of two");
    }
    let delete = |id: i32| MongoOperation::delete_one(c, doc! { "_id": id });
    for outcome in batch(&pool, &[delete(1), delete(2)]) {
        assert_eq!(outcome.into_result().expect("done").deleted(), None);
    }
}

#[test]
fn duplicates_in_a_thousand_are_found_exactly() {
    let pool = pool();
    let c = "thousand";
    let culprits: HashSet<i64> = [0, 17, 499, 500, 999].into();
    let taken =
        |n: &i64| MongoOperation::insert_one(c, doc! { "_id": testbed::number(*n), "old": true });
    for outcome in batch(&pool, &culprits.iter().map(taken).collect::<Vec<_>>()) {
        assert!(outcome.is_done());
    }
    let inserts: Vec<_> = (0..1000_i64)
        .map(|n| MongoOperation::insert_one(c, doc! { "_id": testbed::number(n), "old": false }))
        .collect();
    for (index, outcome) in (0..).zip(batch(&pool, &inserts)) {
        match outcome {
            Outcome::Done(reply) => {
                assert!(!culprits.contains(&index));
                assert_eq!(
                    reply.inserted_id(),
                    Some(&Bson::Int64(testbed::number(index)))
                );
            }
            Outcome::Rejected(error) => {
                assert!(culprits.contains(&index));
                assert_eq!(error.kind(), ErrorKind::Constraint);
                assert!(error.to_string().contains("E11000"), "{error}");
            }
            other => panic!("{index}: {other:?}"),
        }
    }
    let lease = pool.get().expect("a lease");
    let there = documents(&lease, c);
    assert_eq!(there.len(), 1000);
    for (index, document) in (0..).zip(&there) {
        assert_eq!(
            document.get_bool("old").ok(),
            Some(culprits.contains(&index))
        );
    }
}

#[test]
fn refused_updates_and_deletes_are_named_exactly() {
    let pool = pool();
    let c = "refused_updates";
    let inserts: Vec<_> = (0..10)
        .map(|n| {
            let value = if n == 4 {
                Bson::from(testbed::value("text"))
            } else {
                Bson::Int32(0)
            };
            MongoOperation::insert_one(c, doc! { "_id": n, "n": value })
        })
        .collect();
    assert!(batch(&pool, &inserts).iter().all(Outcome::is_done));
    let mut updates: Vec<_> = (0..10)
        .map(|n| MongoOperation::update_one(c, doc! { "_id": n }, doc! { "$inc": { "n": 1 } }))
        .collect();
    updates.push(MongoOperation::update_one(
        c,
        doc! {},
        doc! { "$nothing": { "n": 1 } },
    ));
    updates.push(MongoOperation::delete_one(c, doc! { "$nothing": 1 }));
    updates.push(MongoOperation::delete_one(c, doc! { "_id": 9 }));
    for (index, outcome) in batch(&pool, &updates).into_iter().enumerate() {
        let culprit = [4, 10, 11].contains(&index);
        match outcome {
            Outcome::Done(reply) if index < 10 => assert_eq!(reply.matched(), Some(1)),
            Outcome::Done(reply) => assert_eq!(reply.deleted(), Some(1)),
            Outcome::Rejected(error) => {
                assert!(culprit, "{index}: {error}");
                assert_eq!(error.kind(), ErrorKind::InvalidOperation, "{error}");
                let alone = pool
                    .execute(&updates[index])
                    .expect_err("refused alone too");
                assert_eq!(
                    alone.to_string().split(" [").next(),
                    error.to_string().split(" [").next()
                );
                continue;
            }
            other => panic!("{index}: {other:?}"),
        }
        assert!(!culprit, "{index}");
    }
}

#[test]
fn a_group_larger_than_a_message_arrives_whole() {
    let pool = pool();
    let text = "x".repeat(9_000_000);
    let c = "large";
    let inserts: Vec<_> = (0..7)
        .map(|n| MongoOperation::insert_one(c, doc! { "_id": n, "text": &text }))
        .collect();
    assert!(batch(&pool, &inserts).iter().all(Outcome::is_done));
    let replaces: Vec<_> = (0..3)
        .map(|n| MongoOperation::replace_one(c, doc! { "_id": n }, doc! { "text": &text, "n": n }))
        .collect();
    assert!(batch(&pool, &replaces).iter().all(Outcome::is_done));
    let count = pool.execute(MongoOperation::count(c, doc! {}));
    assert_eq!(count.expect("counts").count(), Some(7));
    let count = pool.execute(MongoOperation::count(c, doc! { "n": { "$gte": 0 } }));
    assert_eq!(count.expect("counts").count(), Some(3));
    pool.execute(MongoOperation::delete_many(c, doc! {}))
        .expect("room again");
}

#[test]
fn many_namespaces_and_kinds_share_a_group() {
    let pool = pool();
    let operations: Vec<_> = (0..60)
        .map(|n| {
            let c = format!("mixed_{}", n % 3);
            match n % 4 {
                0 => MongoOperation::delete_one(c, doc! { "_id": -n }),
                1 => MongoOperation::count(c, doc! { "_id": -n }),
                2 => MongoOperation::insert_one(c, doc! { "_id": n }).database("other"),
                _ => MongoOperation::insert_one(c, doc! { "_id": n }),
            }
        })
        .collect();
    for (n, outcome) in (0..).zip(batch(&pool, &operations)) {
        let reply = outcome.into_result().expect("done");
        match n % 4 {
            0 => assert_eq!(reply.deleted(), Some(0)),
            1 => assert_eq!(reply.count(), Some(0)),
            _ => assert_eq!(reply.inserted_id(), Some(&Bson::Int32(n))),
        }
    }
}

#[test]
fn a_command_that_fails_as_a_whole_is_split_only_if_nothing_was_done() {
    let mongo = Mongo::start().expect("mongod");
    let pool = pool_of(config(mongo.port()));
    let lease = pool.get().expect("a lease");
    let inserts = |c: &'static str| -> Vec<_> {
        (0..8)
            .map(|n| MongoOperation::insert_one(c, doc! { "_id": n }))
            .collect()
    };
    let failing = |code: i32| doc! { "failCommands": ["insert"], "errorCode": code };

    // A refusal that one of them may have caused: found by splitting, and then gone.
    fail(&lease, 1, failing(9));
    assert!(batch(&pool, &inserts("split")).iter().all(Outcome::is_done));

    // One that concerns them all.
    fail(&lease, 1, failing(13));
    for outcome in batch(&pool, &inserts("denied")) {
        assert!(
            matches!(&outcome, Outcome::Rejected(error) if error.kind() == ErrorKind::Permission)
        );
    }
    assert_eq!(documents(&lease, "denied").len(), 0);

    // An interruption, which may have come in the middle.
    for code in [50, 11601, 11602, 91] {
        fail(&lease, 1, failing(code));
        for outcome in batch(&pool, &inserts("interrupted")) {
            assert!(
                matches!(outcome, Outcome::Unknown(_)),
                "{code}: {outcome:?}"
            );
        }
    }

    // A fail-over met by one operation: certainly not applied, and worth another attempt.
    fail(&lease, 1, failing(10107));
    let outcome = batch(&pool, &inserts("failed_over")[..1]).remove(0);
    assert!(
        matches!(&outcome, Outcome::NotExecuted(error) if error.kind() == ErrorKind::WrongRole)
    );
}

#[test]
fn a_write_concern_that_is_not_met_leaves_the_outcome_open() {
    let mongo = Mongo::start().expect("mongod");
    let pool = pool_of(config(mongo.port()));
    let lease = pool.get().expect("a lease");
    let error = doc! { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out" };
    fail(
        &lease,
        2,
        doc! { "failCommands": ["insert", "update"], "writeConcernError": error },
    );
    let operations = [
        MongoOperation::insert_one("concern", doc! { "_id": 1 }),
        MongoOperation::insert_one("concern", doc! { "_id": 2 }),
        MongoOperation::update_one("concern", doc! { "_id": 1 }, doc! { "$set": { "n": 1 } }),
        MongoOperation::update_one("concern", doc! { "_id": 2 }, doc! { "$set": { "n": 1 } }),
    ];
    for outcome in batch(&pool, &operations) {
        let Outcome::Unknown(error) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(
            error.to_string().contains("waiting for replication"),
            "{error}"
        );
    }
    assert_eq!(
        documents(&lease, "concern").len(),
        2,
        "written all the same"
    );
}

#[test]
fn a_repeated_group_finds_what_an_earlier_attempt_inserted() {
    let pool = pool();
    let inserts: Vec<_> = (0..10)
        .map(|n| {
            MongoOperation::insert_one("again_in_group", doc! { "n": n }).idempotent(n % 2 == 0)
        })
        .collect();
    assert!(batch(&pool, &inserts[..6]).iter().all(Outcome::is_done));
    for (n, outcome) in batch(&pool, &inserts).into_iter().enumerate() {
        assert_eq!(outcome.is_done(), n >= 6 || n % 2 == 0, "{n}: {outcome:?}");
    }
    let lease = pool.get().expect("a lease");
    assert_eq!(documents(&lease, "again_in_group").len(), 10);
}

#[test]
fn a_replica_set_repeats_a_group_of_inserts_exactly_once() {
    let mongo = Mongo::builder().replica_set(1).start().expect("mongod");
    let pool = pool_of(config(mongo.port()).replica_set("rs0"));
    let lease = pool.get().expect("a lease");
    let lost = doc! { "failCommands": ["insert"], "closeConnection": true };
    fail(&lease, 1, lost);
    let inserts: Vec<_> = (0..10)
        .map(|n| MongoOperation::insert_one("set", doc! { "_id": n }))
        .collect();
    assert!(batch(&pool, &inserts).iter().all(Outcome::is_done));
    assert_eq!(documents(&lease, "set").len(), 10);
}
