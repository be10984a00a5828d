//! What can be known without a server: JSON, validation, statements.

use std::time::Duration;

use millpond::{Deadline, ErrorKind, MongoOperation, Operation, Outcome, Priority};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};

use super::{pool, run_batch};

/// One of each type that a document of a program usually has.
fn every_type() -> Document {
    doc! {
        "_id": ObjectId::new(),
        "when": DateTime::from_millis(1_700_000_000_123),
        "bytes": Binary { subtype: BinarySubtype::Generic, bytes: vec![0, 255, 7] },
        "long": 5_i64, "longer": i64::MAX, "longest": i64::MIN,
        "int": 5, "negative": -5, "least": i32::MIN,
        "whole": 1.0, "part": 0.1, "endless": f64::INFINITY,
        "nothing": Bson::Null, "yes": true, "text": "a \" and a \0",
        "list": [1_i64, { "deep": -1_i64 }, [2.0]],
        "regular": Bson::RegularExpression(mongodb::bson::Regex {
            pattern: mongodb::bson::raw::cstr!("^a").into(),
            options: mongodb::bson::raw::cstr!("i").into(),
        }),
    }
}

fn each_kind() -> Vec<MongoOperation> {
    let key = || doc! { "_id": 7, "n": { "$gt": 5_i64 } };
    let set = || doc! { "$set": { "n": 6_i64 } };
    vec![
        MongoOperation::insert_one("c", every_type()),
        MongoOperation::insert_one("c", doc! { "without": "id" }).idempotent(true),
        MongoOperation::update_one("c", key(), set()).upsert(true),
        MongoOperation::update_many("c", key(), set()),
        MongoOperation::replace_one("c", key(), every_type()).database("other"),
        MongoOperation::delete_one("c", key()),
        MongoOperation::delete_many("c", doc! {}),
        MongoOperation::find_one("c", key()).sort(doc! { "n": -1 }),
        MongoOperation::find("c", key())
            .limit(3)
            .skip(1)
            .projection(doc! { "n": 1 }),
        MongoOperation::count("c", key()),
        MongoOperation::aggregate("c", [doc! { "$match": key() }, doc! { "$count": "n" }]),
        MongoOperation::aggregate("c", Vec::<Document>::new()),
        MongoOperation::command(doc! { "ping": 1 })
            .id("first")
            .priority(Priority::Low)
            .deadline(Duration::from_secs(2)),
    ]
}

#[test]
fn json_brings_back_what_was_written() {
    for operation in each_kind() {
        let text = serde_json::to_string(&operation).expect("writes");
        let read: MongoOperation = serde_json::from_str(&text).expect(&text);
        assert!(read == operation, "{text}");
        assert_eq!(read.statement(), operation.statement());
        read.validate().expect(&text);
    }
}

#[test]
fn json_written_by_hand_is_read() {
    let text = r#"{"operation":"insert_one","collection":"orders","document":{"n":{"$numberLong":"1"}},
        "priority":"high","deadline":0.5,"ordering_key":"k"}"#;
    let read: MongoOperation = serde_json::from_str(text).expect("reads");
    assert_eq!(read.envelope().priority(), Priority::High);
    assert_eq!(read.envelope().ordering_key(), Some("k"));
    // The `_id` is made when it is read, and then kept.
    let written = serde_json::to_string(&read).expect("writes");
    assert!(written.contains(r#""$oid""#), "{written}");
    assert_eq!(written, serde_json::to_string(&read).expect("writes"));
    for (text, named) in [
        (r#"{"operation":"drop_all","collection":"c"}"#, "drop_all"),
        (r#"{"operation":"delete_one","collection":"c"}"#, "filter"),
    ] {
        let error = serde_json::from_str::<MongoOperation>(text).expect_err(text);
        assert!(error.to_string().contains(named), "{error}");
    }
}

fn wrong() -> Vec<(MongoOperation, &'static str)> {
    let insert = |name: &str| MongoOperation::insert_one(name, doc! {});
    let large = "x".repeat(16 * 1024 * 1024);
    vec![
        (insert(""), "empty"),
        (insert("a$b"), "$"),
        (insert("a\0b"), "NUL"),
        (insert(".a"), "dot"),
        (insert("a."), "dot"),
        (insert("system.users"), "system."),
        (insert(&"x".repeat(300)), "too long"),
        (insert("c").database(""), "database"),
        (insert("c").database("a.b"), "database"),
        (insert("c").database("$x"), "database"),
        (
            MongoOperation::insert_one("c", doc! { "large": large }),
            "16777216",
        ),
        (MongoOperation::insert_one("c", doc! { "a\0b": 1 }), "NUL"),
        (
            MongoOperation::update_one("c", doc! {}, doc! {}),
            "operators",
        ),
        (
            MongoOperation::update_one("c", doc! {}, doc! { "n": 1 }),
            "operators",
        ),
        (
            MongoOperation::update_many("c", doc! {}, doc! { "$set": { "n": 1 }, "n": 1 }),
            "operators",
        ),
        (
            MongoOperation::replace_one("c", doc! {}, doc! { "$set": { "n": 1 } }),
            "update_one",
        ),
        (MongoOperation::command(doc! {}), "empty"),
        (MongoOperation::aggregate("c", [doc! {}]), "stage"),
        (insert("c").upsert(true), "upsert"),
        (MongoOperation::delete_one("c", doc! {}).limit(1), "limit"),
        (MongoOperation::find("c", doc! {}).limit(0), "limit"),
    ]
}

#[test]
fn what_no_server_could_accept_is_refused_before_it_is_sent() {
    for (operation, named) in wrong() {
        let error = operation.validate().expect_err(named);
        assert_eq!(error.kind(), ErrorKind::InvalidOperation, "{error}");
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
    let large = "x".repeat(16 * 1024 * 1024 - 64);
    let fits = MongoOperation::insert_one("c", doc! { "large": large });
    fits.validate().expect("just fits");
}

#[test]
fn what_is_wrong_in_a_group_is_rejected_alone() {
    let pool = pool();
    let mut operations: Vec<_> = wrong()
        .into_iter()
        .map(|(operation, _)| operation)
        .collect();
    operations.insert(3, MongoOperation::insert_one("beside_wrong", doc! {}));
    for (index, outcome) in run_batch(&pool, &operations, Deadline::NEVER)
        .into_iter()
        .enumerate()
    {
        match outcome {
            Outcome::Done(_) => assert_eq!(index, 3),
            Outcome::Rejected(error) => assert_eq!(error.kind(), ErrorKind::InvalidOperation),
            other => panic!("{index}: {other:?}"),
        }
    }
}

#[test]
fn statements_name_fields_and_no_values() {
    let secret = doc! { "name": testbed::value("name"), "age": { "$gt": 7 } };
    for (operation, statement) in [
        (
            MongoOperation::insert_one("c", secret.clone()),
            "insert_one c",
        ),
        (
            MongoOperation::delete_many("c", secret.clone()).database("d"),
            "delete_many d.c (name, age)",
        ),
        (
            MongoOperation::aggregate(
                "c",
                [doc! { "$match": secret.clone() }, doc! { "$count": "n" }],
            ),
            "aggregate c ($match, $count)",
        ),
        (
            MongoOperation::command(doc! { "ping": testbed::value("ping") }),
            "command ping",
        ),
    ] {
        assert_eq!(operation.statement(), statement);
        assert!(!testbed::bears_mark(&format!("{operation:?}")));
    }
}

#[test]
fn only_reads_may_run_twice_by_nature() {
    let reads = ["find_one", "find", "count", "aggregate"];
    for operation in each_kind() {
        let statement = operation.statement().into_owned();
        let verb = statement.split(' ').next().expect("a verb");
        assert_eq!(operation.is_read(), reads.contains(&verb), "{statement}");
    }
    for stage in [doc! { "$out": "c" }, doc! { "$merge": { "into": "c" } }] {
        assert!(!MongoOperation::aggregate("c", [stage]).is_read());
    }
}

#[test]
fn an_operation_is_small() {
    assert!(
        size_of::<MongoOperation>() <= 112,
        "{}",
        size_of::<MongoOperation>()
    );
    let small = MongoOperation::insert_one("c", doc! { "_id": 7 });
    let large = MongoOperation::insert_one("c", doc! { "_id": 7, "text": "x".repeat(1000) });
    assert!(large.size() >= small.size() + 1000);
}
