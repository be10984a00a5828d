//! On a real server: what is told, and that no value is.

use std::time::Duration;

use millpond::audit::{Audit, Ending};
use millpond::{
    Batch, Fleet, Hub, Operation as _, Outcome, Pool, PooledConnection, Postgres, PostgresConfig,
    Sql,
};
use serde_json::Value;
use testbed::secret;

use super::{Folder, alone, operations};

/// A value that the log may not contain.
const MARKED: &str = secret!("value");

#[test]
fn operations_of_postgres_alone_and_in_a_batch() {
    let _alone = alone();
    let folder = Folder::new();
    let config = PostgresConfig::from_url(&testbed::Postgres::shared().url()).expect("a good URL");
    let manager = Postgres::new(config).expect("good settings");
    let pool = Pool::builder()
        .name("audited")
        .max_size(2)
        .build(manager)
        .expect("opens");
    let mut lease = pool.get().expect("one");
    let table = "CREATE TEMP TABLE audited (id int PRIMARY KEY, name text)";
    lease.batch_execute(table).expect("created");

    let audit = Audit::builder(folder.log())
        .key(secret!("a key of this program"))
        .install();
    let audit = audit.expect("installs");
    let hub = Hub::new();
    hub.watch(&pool);
    let insert = |id: i32| {
        let sql = Sql::new("INSERT INTO audited VALUES ($1, $2)");
        sql.bind(id)
            .bind(MARKED)
            .id(format!("row {id}"))
            .comment("import")
    };
    PooledConnection::execute(&mut lease, insert(1)).expect("inserted");
    PooledConnection::execute(&mut lease, insert(1)).expect_err("it is there");
    drop(lease);
    let literal = format!("SELECT '{MARKED}' || $1::text -- {MARKED}");
    pool.execute(Sql::new(literal).bind(MARKED))
        .expect("answers");
    pool.execute(Sql::new("SELECT $1::text, $2::text").bind(MARKED))
        .expect_err("a value is missing");
    pool.execute(Sql::new("SELECT $1::int / 0").bind(7))
        .expect_err("division by zero");

    let batch = Batch::builder(pool.clone()).build().expect("starts");
    let select = || Sql::new("SELECT $1::text").bind(MARKED).id("in a batch");
    let tickets: Vec<_> = (0..200)
        .map(|_| batch.submit(select()).expect("room"))
        .collect();
    assert!(
        tickets
            .into_iter()
            .all(|ticket| matches!(ticket.wait(), Outcome::Done(_)))
    );
    batch.close(Duration::from_secs(5));
    assert!(audit.flush());

    let shown = hub.metrics();
    assert_eq!(shown.audit, Some(audit.metrics()));
    let text = shown.prometheus();
    assert!(
        text.contains("\nmillpond_audit_written_total 205\n"),
        "{text}"
    );
    assert!(
        text.contains("\nmillpond_audit_dropped_total 0\n"),
        "{text}"
    );
    let key = millpond::Secret::from(secret!("a key of this program"));
    drop(audit);

    let found = millpond::audit::verify_with_key(folder.log(), &key).expect("a log");
    assert_eq!(
        (found.fault, found.lines, found.end),
        (None, 207, Ending::Closed)
    );
    let file = std::fs::read_to_string(folder.log()).expect("text");
    assert!(!file.contains(MARKED), "{file}");
    assert!(!file.contains(secret!("a key of this program")));

    told_of_each(&operations(&folder.log()));
}

fn told_of_each(told: &[Value]) {
    let of = |number: usize, key: &str| told[number][key].as_str().unwrap_or_default().to_owned();
    let facts: Vec<_> = (0..5)
        .map(|number| {
            [
                of(number, "kind"),
                of(number, "outcome"),
                of(number, "error"),
            ]
        })
        .collect();
    assert_eq!(
        facts,
        [
            ["INSERT", "done", ""],
            ["INSERT", "rejected", "constraint"],
            ["SELECT", "done", ""],
            ["SELECT", "rejected", "invalid_operation"],
            ["SELECT", "rejected", "invalid_operation"],
        ]
    );
    assert_eq!(of(0, "backend"), "postgres");
    assert_eq!(of(0, "pool"), "audited");
    assert!(of(0, "endpoint").contains("127.0.0.1"));
    assert_eq!(of(0, "statement"), "INSERT INTO audited VALUES ($1, $2)");
    assert_eq!(
        (of(0, "id"), of(0, "comment")),
        ("row 1".into(), "import".into())
    );
    assert_eq!(of(2, "statement"), "SELECT ? || $1::text");
    let of_batch = told.iter().filter(|line| line["id"] == "in a batch");
    assert_eq!(
        of_batch.filter(|line| line["outcome"] == "done").count(),
        200
    );
}

/// Each operation of a batch over a fleet is told of with the endpoint that did it.
#[test]
fn operations_of_a_batch_over_a_fleet() {
    let _alone = alone();
    let folder = Folder::new();
    let url = testbed::Postgres::shared().url();
    let mut fleet = Fleet::builder().name("audited");
    for url in [
        url.replace("localhost", "127.0.0.1"),
        url.replace("127.0.0.1", "localhost"),
    ] {
        let config = PostgresConfig::from_url(&url).expect("a good URL");
        fleet = fleet.endpoint(Postgres::new(config).expect("good settings"));
    }
    let batch = Batch::builder(fleet.build().expect("connects")).size(5);
    let batch = batch.build().expect("starts");
    let audit = Audit::builder(folder.log()).install().expect("installs");
    let select = |id: &str| Sql::new("SELECT 1").id(id);
    let refused = batch.submit(Sql::new("SELECT $1").id("refused"));
    refused.expect_err("a value is missing");
    let tickets: Vec<_> = (0..100)
        .map(|_| batch.submit(select("done")).expect("room"))
        .collect();
    assert!(tickets.into_iter().all(|ticket| ticket.wait().is_done()));
    batch.close(Duration::from_secs(5));
    batch.submit(select("late")).expect_err("closed");
    drop(audit);
    let told = operations(&folder.log());
    assert_eq!(told.len(), 101);
    for line in told {
        let of = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let (endpoint, pool) = (of("endpoint"), of("pool"));
        if of("id") == "done" {
            assert!(
                !endpoint.is_empty() && pool == format!("audited@{endpoint}"),
                "{line}"
            );
        } else {
            assert_eq!((&*endpoint, &*pool), ("", "audited"), "{line}");
        }
    }
}
