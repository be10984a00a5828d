//! Groups of PostgreSQL INSERTs that are so large that they are copied, on real servers:
//! what is stored is what the INSERTs alone store, and every operation has its true outcome.

mod faults;
mod refused;
mod tables;
mod types;

use std::time::Duration;

use millpond::backend::Backend;
use millpond::batch::{Batch, Flush, wait_all};
use millpond::{
    Deadline, ErrorKind, ManageConnection, Outcome, Pool, Postgres, PostgresConfig,
    PostgresConnection, Sql, SqlReply, SqlValue,
};
use testbed::Postgres as Server;

/// As many rows are copied.
const MANY: i32 = 5000;
/// Statements of a group that is copied: BEGIN with the check, COPY, and COMMIT.
const COPIED: u64 = 3;
/// And of one that is merged.
const MERGED: u64 = 1;

struct Bed<'a> {
    server: &'a Server,
    database: &'static str,
    manager: Postgres,
    conn: PostgresConnection,
}

impl<'a> Bed<'a> {
    fn new(database: &'static str) -> Self {
        let server = Server::shared();
        let url = server.create_database(database).expect("made");
        Self::at(server, database, &url, |config| config)
    }

    fn at(
        server: &'a Server,
        database: &'static str,
        url: &str,
        settings: impl FnOnce(PostgresConfig) -> PostgresConfig,
    ) -> Self {
        let config = PostgresConfig::from_url(url).expect("a good URL");
        let manager = Postgres::new(settings(config)).expect("good settings");
        let conn = manager.connect().expect("connects");
        Self {
            server,
            database,
            manager,
            conn,
        }
    }

    /// Runs something beside the connection.
    fn psql(&self, sql: &str) -> String {
        let done = self.server.psql_in(self.database, sql);
        done.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs a group and says how many statements that took.
    fn batch(&mut self, operations: &[Sql]) -> (Vec<Outcome<SqlReply>>, u64) {
        self.batch_until(operations, Deadline::NEVER)
    }

    fn batch_until(
        &mut self,
        operations: &[Sql],
        deadline: Deadline,
    ) -> (Vec<Outcome<SqlReply>>, u64) {
        let operations: Vec<&Sql> = operations.iter().collect();
        let before = statements(&self.conn);
        let outcomes = self
            .manager
            .execute_batch(&mut self.conn, &operations, deadline);
        assert_eq!(outcomes.len(), operations.len());
        testbed::keep("outcomes", format!("{outcomes:?}"));
        (outcomes, statements(&self.conn) - before)
    }

    /// Runs a group twice, so that the second time nothing has to be found out, with what
    /// is run beside in between. Says how many statements the second one took.
    fn twice(&mut self, operations: &[Sql], between: &str) -> (Vec<Outcome<SqlReply>>, u64) {
        self.batch(operations);
        self.psql(between);
        self.batch(operations)
    }
}

fn statements(conn: &PostgresConnection) -> u64 {
    Postgres::traffic(conn).statements.expect("counted")
}

fn assert_all_done(outcomes: &[Outcome<SqlReply>]) {
    for outcome in outcomes {
        match outcome {
            Outcome::Done(reply) => assert_eq!((reply.affected(), reply.rows().len()), (1, 0)),
            other => panic!("not done: {:?}", other.error()),
        }
    }
}

/// INSERTs with this text of these numbers.
fn inserts(sql: &'static str, numbers: std::ops::Range<i32>) -> Vec<Sql> {
    let insert = Sql::new(sql);
    numbers.map(|n| insert.clone().bind(n)).collect()
}

fn texts(list: &[&str]) -> Vec<SqlValue> {
    list.iter().map(|text| SqlValue::from(*text)).collect()
}
fn assert_not_executed(outcomes: Vec<Outcome<SqlReply>>, kind: ErrorKind) {
    for outcome in outcomes {
        match outcome {
            Outcome::NotExecuted(error) => {
                assert_eq!(error.kind(), kind);
                assert!(!error.outcome_unknown());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_table_keeps_its_defaults_constraints_and_names() {
    let mut bed = Bed::new("copy_names");
    bed.psql("CREATE SCHEMA \"S.\"\"\"");
    bed.psql(
        "CREATE TABLE \"S.\"\"\".\"T (\" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
         a int NOT NULL CHECK (a >= 0), \"B c\" text DEFAULT 'x', s serial, \
         twice int GENERATED ALWAYS AS (a * 2) STORED, at timestamptz DEFAULT now(), \
         at2 timestamptz DEFAULT clock_timestamp(), \"A\" text, gone int)",
    );
    bed.psql("ALTER TABLE \"S.\"\"\".\"T (\" DROP COLUMN gone");
    let insert = Sql::new(
        "insert into \"S.\"\"\" . \"T (\" (id, \"A\", A, \"B c\") /* VALUES */ values (default, $2, $1, DEFAULT);",
    );
    let operations: Vec<Sql> = (0..MANY)
        .map(|n| {
            insert
                .clone()
                .bind(n)
                .bind(testbed::value(format!("row {n}")))
        })
        .collect();
    let (outcomes, trips) = bed.twice(&operations, "TRUNCATE \"S.\"\"\".\"T (\"");
    assert_all_done(&outcomes);
    assert_eq!(trips, COPIED);
    assert_eq!(
        bed.psql(
            "SELECT count(*), count(DISTINCT id), count(DISTINCT s), min(a), max(a), \
             bool_and(twice = a * 2 AND \"A\" = 'Canary7f3aZ-row ' || a AND \"B c\" = 'x' AND at2 > at), \
             count(DISTINCT at) FROM \"S.\"\"\".\"T (\""
        ),
        "5000|5000|5000|0|4999|t|1"
    );
}

#[test]
fn a_bad_row_is_found_and_the_others_are_done() {
    let mut bed = Bed::new("copy_poison");
    bed.psql("CREATE TABLE u (id int PRIMARY KEY)");
    bed.psql("INSERT INTO u VALUES (1)");
    bed.psql(
        "CREATE TABLE t (a int PRIMARY KEY, b varchar(5) CHECK (b <> 'no'), \
         u int REFERENCES u DEFERRABLE INITIALLY DEFERRED, c int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
    );
    let insert = Sql::new("INSERT INTO t (a, b, u, c) VALUES ($1, $2, $3, $4)");
    let good = |n: i32| insert.clone().bind(n).bind("\t").bind(1).bind(n);
    let operations: Vec<Sql> = (0..MANY).map(good).collect();
    let (outcomes, trips) = bed.twice(&operations, "TRUNCATE t");
    assert_all_done(&outcomes);
    assert_eq!(trips, COPIED);
    for (at, (bad, kind)) in [
        (insert.clone().bind(77).bind("").bind(1).bind(-1), "23505"),
        (insert.clone().bind(-1).bind("no").bind(1).bind(-1), "23514"),
        (
            insert.clone().bind(-1).bind("a\\bcde").bind(1).bind(-1),
            "22001",
        ),
        (
            insert
                .clone()
                .bind(testbed::value("no number"))
                .bind("")
                .bind(1)
                .bind(-1),
            "22P02",
        ),
        (
            insert.clone().bind_null().bind("").bind(1).bind(-1),
            "23502",
        ),
        (insert.clone().bind(-1).bind("").bind(2).bind(-1), "23503"),
        (insert.clone().bind(-1).bind("").bind(1).bind(78), "23505"),
    ]
    .into_iter()
    .enumerate()
    {
        bed.psql("TRUNCATE t");
        let place = at * 800 + 100;
        let mut operations = operations.clone();
        operations.insert(place, bad);
        let (outcomes, _) = bed.batch(&operations);
        for (n, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Outcome::Done(_) => assert_ne!(n, place),
                Outcome::Rejected(error) => {
                    assert!(n == place || kind == "23505", "{n}: {error}");
                    assert!(error.to_string().contains(kind), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
        let done = outcomes.iter().filter(|outcome| outcome.is_done()).count();
        assert_eq!(done, MANY as usize, "{kind}");
        assert_eq!(bed.psql("SELECT count(*) FROM t"), MANY.to_string());
    }
    // A while after the last bad one they are copied again.
    let mut trips = Vec::new();
    for _ in 0..70 {
        bed.psql("TRUNCATE t");
        let (outcomes, taken) = bed.batch(&operations);
        assert_all_done(&outcomes);
        trips.push(taken);
        if taken == COPIED {
            break;
        }
    }
    assert_eq!(trips.last(), Some(&COPIED), "{trips:?}");
    assert_eq!(trips.first(), Some(&MERGED), "{trips:?}");
}

#[test]
fn smaller_groups_and_other_texts_are_not_copied() {
    let mut bed = Bed::new("copy_not");
    bed.psql("CREATE TABLE t (a int, b int)");
    let insert = "INSERT INTO t (a) VALUES ($1)";
    let (_, trips) = bed.twice(&inserts(insert, 0..MANY), "TRUNCATE t");
    assert_eq!(trips, COPIED);
    let (_, trips) = bed.twice(&inserts(insert, 0..MANY - 1), "TRUNCATE t");
    assert_eq!(trips, MERGED);
    for other in [
        "INSERT INTO t VALUES ($1)",
        "INSERT INTO t (a) VALUES ($1 + 0)",
        "INSERT INTO t (a) VALUES ($1::int2)",
        "INSERT INTO t (a, b) VALUES ($1, 7)",
        "INSERT INTO t AS x (a) VALUES ($1)",
        "INSERT INTO t (a) VALUES ($1) ON CONFLICT DO NOTHING",
        "INSERT INTO t (a) OVERRIDING USER VALUE VALUES ($1)",
    ] {
        let (outcomes, trips) = bed.twice(&inserts(other, 0..MANY), "TRUNCATE t");
        assert_all_done(&outcomes);
        assert_eq!(trips, MERGED, "{other}");
        assert_eq!(bed.psql("SELECT sum(a) FROM t"), "12497500", "{other}");
    }
}
#[test]
fn a_batch_that_is_large_enough_copies() {
    let server = Server::shared();
    let url = server.create_database("copy_engine").expect("made");
    let psql = |sql: &str| server.psql_in("copy_engine", sql).expect("works");
    psql("CREATE TABLE t (a int, x xid8 DEFAULT pg_current_xact_id())");
    let manager = Postgres::new(PostgresConfig::from_url(&url).expect("a good URL"));
    let pool = Pool::builder()
        .max_size(1)
        .build(manager.expect("good settings"));
    let batch = Batch::builder(pool.expect("connects"))
        .size(20_000)
        .max_operations(60_000)
        .workers(1)
        .flush(Flush::WhenDue)
        .timeout(Duration::from_secs(5))
        .build()
        .expect("starts");
    let operations = inserts("INSERT INTO t (a) VALUES ($1)", 0..20_000);
    let tickets: Vec<_> = operations
        .into_iter()
        .map(|operation| batch.submit(operation).expect("room"))
        .collect();
    for outcome in wait_all(tickets, |_| ()) {
        assert_eq!(outcome.into_result().expect("done").affected(), 1);
    }
    assert_eq!(
        psql("SELECT count(*), count(DISTINCT a), count(DISTINCT x) FROM t"),
        "20000|20000|1"
    );
    // A `psql` of before may still be about to end.
    let last = "SELECT query FROM pg_stat_activity WHERE datname = 'copy_engine' \
                AND application_name = 'millpond'";
    assert_eq!(psql(last), "COMMIT", "a merged group has none");
}
