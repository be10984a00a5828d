//! Groups of PostgreSQL operations on real servers.

use millpond::backend::Backend;
use millpond::{
    Deadline, ErrorKind, ManageConnection, Operation, Outcome, Postgres, PostgresConfig,
    PostgresConnection, Sql, SqlReply, SqlValue,
};
use testbed::{PgBouncer, Postgres as Server};

struct Bed {
    manager: Postgres,
    conn: PostgresConnection,
}

impl Bed {
    fn new(database: &str) -> Self {
        Self::with(database, |config| config)
    }

    fn with(database: &str, settings: impl FnOnce(PostgresConfig) -> PostgresConfig) -> Self {
        let url = Server::shared().create_database(database).expect("made");
        Self::at(&url, settings)
    }

    fn at(url: &str, settings: impl FnOnce(PostgresConfig) -> PostgresConfig) -> Self {
        let config = PostgresConfig::from_url(url).expect("a good URL");
        let manager = Postgres::new(settings(config)).expect("good settings");
        let conn = manager.connect().expect("connects");
        Self { manager, conn }
    }

    fn run(&mut self, sql: impl Into<std::borrow::Cow<'static, str>>) -> String {
        let reply = self
            .manager
            .execute(&mut self.conn, &Sql::new(sql), Deadline::NEVER);
        let reply = reply.expect("works");
        let row = |row: &millpond::SqlRow| {
            let texts = (0..row.len()).map(|column| row.text(column).unwrap_or("NULL"));
            texts.collect::<Vec<_>>().join("|")
        };
        reply.rows().iter().map(row).collect::<Vec<_>>().join("\n")
    }

    fn batch(&mut self, operations: &[Sql]) -> Vec<Outcome<SqlReply>> {
        let operations: Vec<&Sql> = operations.iter().collect();
        for operation in &operations {
            operation.validate().expect("valid");
        }
        let outcomes = self
            .manager
            .execute_batch(&mut self.conn, &operations, Deadline::NEVER);
        assert_eq!(outcomes.len(), operations.len());
        testbed::keep("outcomes", format!("{outcomes:?}"));
        outcomes
    }

    /// Runs a group and says how many statements that took.
    fn counted(&mut self, operations: &[Sql]) -> (Vec<Outcome<SqlReply>>, u64) {
        let count =
            |conn: &PostgresConnection| Postgres::traffic(conn).statements.expect("counted");
        let before = count(&self.conn);
        let outcomes = self.batch(operations);
        (outcomes, count(&self.conn) - before)
    }
}

fn affected(outcomes: &[Outcome<SqlReply>]) -> Vec<u64> {
    let count = |outcome: &Outcome<SqlReply>| match outcome {
        Outcome::Done(reply) => reply.affected(),
        other => panic!("not done: {:?}", other.error()),
    };
    outcomes.iter().map(count).collect()
}

/// A letter for each outcome: done, rejected, not executed, unknown.
fn letters(outcomes: &[Outcome<SqlReply>]) -> String {
    let letter = |outcome: &Outcome<SqlReply>| match outcome {
        Outcome::Done(_) => 'd',
        Outcome::Rejected(_) => 'r',
        Outcome::NotExecuted(_) => 'n',
        Outcome::Unknown(_) => 'u',
    };
    outcomes.iter().map(letter).collect()
}

/// Each type with values of it.
fn types() -> Vec<(&'static str, Vec<SqlValue>)> {
    let texts = |list: &[&str]| list.iter().map(|text| SqlValue::from(*text)).collect();
    vec![
        ("int2", vec![1.into(), (-32768).into(), "7".into()]),
        ("int4", vec![i32::MAX.into(), SqlValue::Null, 2.0.into()]),
        ("int8", vec![i64::MIN.into(), i64::MAX.into(), 0.into()]),
        ("float4", vec![0.1.into(), 1.into(), f64::NAN.into()]),
        (
            "float8",
            vec![0.1.into(), f64::NEG_INFINITY.into(), 5.into()],
        ),
        (
            "numeric(12,2)",
            vec![1.into(), "12345678.905".into(), 0.1.into()],
        ),
        ("bool", vec![true.into(), "off".into(), SqlValue::Null]),
        (
            "text",
            texts(&["", "it's", r#"\ " , { } NULL"#, "ä 𝄞\n", "NULL"]),
        ),
        ("text", vec![7.into(), true.into(), b"\xff".into()]),
        ("varchar(5)", texts(&["abc", "ab   "])),
        ("char(5)", texts(&["abc", ""])),
        ("name", vec!["x".repeat(80).into(), "a".into()]),
        (
            "bytea",
            vec![b"\x00\xff\\'".into(), SqlValue::Null, "\\x01".into()],
        ),
        (
            "json",
            vec![
                serde_json::json!({"a": ["\"", null]}).into(),
                "[1]".into(),
                5.into(),
            ],
        ),
        (
            "jsonb",
            vec![
                serde_json::json!({"a": "\\'"}).into(),
                "[1]".into(),
                SqlValue::Null,
            ],
        ),
        (
            "uuid",
            texts(&[
                "00112233-4455-6677-8899-aabbccddeeff",
                "{00112233445566778899AABBCCDDEEFF}",
            ]),
        ),
        (
            "timestamptz",
            texts(&["2024-02-29 12:00:00.123456+02", "infinity"]),
        ),
        ("timestamp(0)", texts(&["2024-02-29 12:00:00.6"])),
        ("date", texts(&["2024-02-29", "0044-03-15 BC"])),
        ("interval", texts(&["1 mon -2 days 03:04:05.6"])),
        ("inet", texts(&["::1/64"])),
        ("point", texts(&["(1,2)"])),
        ("box", texts(&["(3,4),(1,2)"])),
        ("int4range", texts(&["[1,5)", "empty"])),
        ("mood", texts(&["so, so", "it's \"fine\""])),
        ("positive", vec![7.into(), "8".into()]),
        ("\"Odd \"\"schema\".\"Odd type\"", texts(&["a"])),
        ("pair", texts(&["(1,\"a,b\")", "(,)"])),
        (
            "int4[]",
            vec![
                vec![1, 2].into(),
                vec![Some(1), None].into(),
                "{}".into(),
                SqlValue::Null,
            ],
        ),
        (
            "int4[]",
            vec![vec![vec![1, 2], vec![3, 4]].into(), "[5:6]={7,8}".into()],
        ),
        (
            "text[]",
            vec![vec![Some("a,b"), Some("\"'\\"), None, Some("NULL"), Some("")].into()],
        ),
        (
            "jsonb[]",
            vec![vec![serde_json::json!({"a": "\"x\""})].into()],
        ),
        ("tags", vec![vec!["a", "b"].into(), SqlValue::Null]),
        ("tsvector", texts(&["'a':1 'b'"])),
        ("bit(3)", texts(&["101"])),
        ("\"char\"", texts(&["x"])),
        ("money", texts(&["12.50"])),
        ("xml", texts(&["<a/>"])),
    ]
}

const DEFINITIONS: [&str; 6] = [
    "CREATE SCHEMA \"Odd \"\"schema\"",
    "CREATE TYPE mood AS ENUM ('so, so', 'it''s \"fine\"')",
    "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
    "CREATE TYPE \"Odd \"\"schema\".\"Odd type\" AS ENUM ('a')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE DOMAIN tags AS text[] CHECK (array_position(VALUE, 'bad') IS NULL)",
];

#[test]
fn every_type_means_the_same_alone_and_in_a_group() {
    for (database, cache) in [("batch_types", 256), ("batch_types_off", 0)] {
        let mut bed = Bed::with(database, |config| config.statement_cache(cache));
        for sql in DEFINITIONS {
            bed.run(sql);
        }
        for (number, (kind, values)) in types().into_iter().enumerate() {
            let [alone, merged, grouped] = ["alone", "merged", "grouped"].map(|way| {
                let table = format!("{way}_{number}");
                bed.run(format!("CREATE TABLE {table} (n int, v {kind})"));
                table
            });
            let insert = |table: &str, more: &str| {
                let sql = format!("INSERT INTO {table} (n, v) VALUES ($1, $2) {more}");
                let bind = |(n, value): (usize, &SqlValue)| {
                    Sql::new(sql.clone()).bind(n).bind(value.clone())
                };
                // At least two, so that they are merged.
                values
                    .iter()
                    .chain(&values)
                    .enumerate()
                    .map(bind)
                    .collect::<Vec<_>>()
            };
            for operation in insert(&alone, "") {
                let reply = bed
                    .manager
                    .execute(&mut bed.conn, &operation, Deadline::NEVER);
                assert_eq!(reply.expect(kind).affected(), 1);
            }
            let count = values.len() * 2;
            assert_eq!(
                affected(&bed.batch(&insert(&merged, ""))),
                vec![1; count],
                "{kind}"
            );
            let outcomes = bed.batch(&insert(&grouped, "RETURNING n"));
            assert_eq!(affected(&outcomes), vec![1; count], "{kind}");
            let rows = |table: &str| format!("SELECT * FROM {table} ORDER BY n");
            let expected = bed.run(rows(&alone));
            assert_eq!(bed.run(rows(&merged)), expected, "{kind}");
            assert_eq!(bed.run(rows(&grouped)), expected, "{kind}");
            let (_, trips) = bed.counted(&insert(&merged, ""));
            assert_eq!(trips, 1, "{kind} is merged");
        }
    }
}

#[test]
fn merged_inserts_are_one_statement_of_the_servers() {
    let mut bed = Bed::new("batch_merged");
    bed.run("CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, a int, b text DEFAULT 'x', c timestamptz, d jsonb, e date)");
    bed.run("CREATE TABLE log (xid xid8 DEFAULT pg_current_xact_id(), cid text)");
    bed.run("CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO log (cid) VALUES (new.a); RETURN new; END'");
    bed.run("CREATE TRIGGER note AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()");
    let insert = Sql::new(
        "INSERT INTO t (id, a, b, c, d, e) VALUES (DEFAULT, $1 * 2, DEFAULT, now(), '{}', NULL);",
    );
    let operations: Vec<Sql> = (0..100).map(|n| insert.clone().bind(n)).collect();
    assert_eq!(affected(&bed.batch(&operations)), vec![1; 100]);
    let (_, trips) = bed.counted(&operations);
    assert_eq!(trips, 1);
    let seen = "SELECT count(*), count(DISTINCT id), min(a), max(a), string_agg(DISTINCT b, ''), count(DISTINCT c) FROM t";
    assert_eq!(bed.run(seen), "200|200|0|198|x|2");
    let logged = "SELECT count(*), count(DISTINCT xid) FROM log";
    assert_eq!(
        bed.run(logged),
        "200|2",
        "row triggers fire for each, in one transaction"
    );
}

#[test]
fn a_conflict_tells_each_operation_what_it_did() {
    let mut bed = Bed::new("batch_conflict");
    bed.run("CREATE TABLE t (a int PRIMARY KEY, n int DEFAULT 1)");
    let ignore = Sql::new("INSERT INTO t (a) VALUES ($1) ON CONFLICT DO NOTHING");
    let ops = |sql: &Sql, keys: &[i32]| {
        keys.iter()
            .map(|key| sql.clone().bind(*key))
            .collect::<Vec<_>>()
    };
    assert_eq!(affected(&bed.batch(&ops(&ignore, &[1, 2, 3]))), [1, 1, 1]);
    assert_eq!(
        affected(&bed.batch(&ops(&ignore, &[3, 4, 4, 5]))),
        [0, 1, 0, 1]
    );
    let add = Sql::new(
        "INSERT INTO t (a) VALUES ($1) ON CONFLICT (a) DO UPDATE SET n = t.n + excluded.n",
    );
    assert_eq!(affected(&bed.batch(&ops(&add, &[1, 2, 6]))), [1, 1, 1]);
    assert_eq!(
        affected(&bed.batch(&ops(&add, &[1, 1, 1, 7]))),
        [1, 1, 1, 1]
    );
    assert_eq!(
        bed.run("SELECT string_agg(a || ':' || n, ' ' ORDER BY a) FROM t"),
        "1:5 2:2 3:1 4:1 5:1 6:2 7:1".replace("6:2", "6:1")
    );
    // What was of no use is not tried again for a while, longer each time.
    for pause in [1, 2, 4] {
        for _ in 0..pause {
            assert_eq!(bed.counted(&ops(&add, &[1, 1])).1, 1);
        }
        assert_eq!(bed.counted(&ops(&add, &[1, 1])).1, 2);
    }
}

#[test]
fn a_table_with_a_rule_is_left_as_it_is() {
    let mut bed = Bed::new("batch_rule");
    bed.run("CREATE TABLE t (a int)");
    bed.run("CREATE TABLE u (a int)");
    bed.run("CREATE RULE r AS ON INSERT TO t DO INSTEAD INSERT INTO u VALUES (new.a)");
    let insert = |n: i32| Sql::new("INSERT INTO t VALUES ($1)").bind(n);
    let operations: Vec<Sql> = (0..100).map(insert).collect();
    affected(&bed.batch(&operations));
    assert_eq!(bed.run("SELECT count(*) FROM u"), "100");
    assert_eq!(bed.counted(&operations).1, 1);
}

#[test]
fn a_trigger_that_drops_rows_is_noticed() {
    let mut bed = Bed::new("batch_dropped");
    bed.run("CREATE TABLE t (a int)");
    bed.run("CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF new.a % 2 = 0 THEN RETURN NULL; END IF; RETURN new; END'");
    bed.run("CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION odd()");
    let insert = |n: i32| Sql::new("INSERT INTO t VALUES ($1)").bind(n);
    let outcomes = bed.batch(&[insert(1), insert(2), insert(3), insert(4)]);
    assert_eq!(affected(&outcomes), [1, 0, 1, 0]);
    assert_eq!(bed.run("SELECT count(*) FROM t"), "2");
}

#[test]
fn each_statement_of_a_group_has_its_own_rows() {
    let mut bed = Bed::new("batch_rows");
    bed.run("CREATE TABLE t (a int PRIMARY KEY, b text)");
    let operations = [
        Sql::new("INSERT INTO t VALUES ($1, $2) RETURNING b")
            .bind(1)
            .bind(testbed::value("one")),
        Sql::new("INSERT INTO t VALUES ($1, $2) RETURNING b")
            .bind(2)
            .bind(testbed::value("two")),
        Sql::new("SELECT a, b FROM t WHERE a <= $1 ORDER BY a").bind(2),
        Sql::new("UPDATE t SET b = b || $1").bind("!"),
        Sql::new("SELECT * FROM t WHERE false"),
        Sql::new("DELETE FROM t WHERE a = $1").bind(1),
        Sql::new("SHOW server_encoding"),
        Sql::new("VACUUM t"),
        Sql::new("CREATE INDEX CONCURRENTLY ON t (b) -- done"),
        Sql::new("WITH x AS (DELETE FROM t RETURNING b) SELECT * FROM x;"),
    ];
    let outcomes = bed.batch(&operations);
    assert_eq!(affected(&outcomes)[..6], [1, 1, 2, 2, 0, 1]);
    let rows = |at: usize| match &outcomes[at] {
        Outcome::Done(reply) => reply
            .rows()
            .iter()
            .map(|row| row.text(row.len() - 1).expect("text").to_owned())
            .collect::<Vec<_>>(),
        other => panic!("{:?}", other.error()),
    };
    let (one, two) = (testbed::value("one"), testbed::value("two"));
    assert_eq!(rows(0), [&*one]);
    assert_eq!(rows(1), [&*two]);
    assert_eq!(rows(2), [&*one, &*two]);
    assert!(rows(4).is_empty());
    assert_eq!(rows(6), ["UTF8"]);
    assert_eq!(rows(9), [format!("{two}!")]);
}

#[test]
fn mixed_updates_and_deletes_take_one_round_trip() {
    let mut bed = Bed::new("batch_mixed");
    bed.run("CREATE TABLE t AS SELECT generate_series(1, 90) AS a, 0 AS b");
    let texts = [
        "UPDATE t SET b = 1 WHERE a = $1",
        "UPDATE t SET b = b + 2 WHERE a = $1",
        "DELETE FROM t WHERE a = $1",
    ];
    let operations: Vec<Sql> = (0..90)
        .map(|n| Sql::new(texts[n % 3]).bind(n + 1))
        .collect();
    assert_eq!(affected(&bed.batch(&operations)), vec![1; 90]);
    assert_eq!(bed.run("SELECT count(*), sum(b) FROM t"), "60|90");
    let (outcomes, trips) = bed.counted(&operations);
    assert_eq!(trips, 1);
    assert_eq!(affected(&outcomes).iter().sum::<u64>(), 60);
}

/// A group of 1,000 with these bad ones, after a warm-up.
fn poisoned(bed: &mut Bed, sql: &'static str, bad: &[usize]) -> u64 {
    bed.run("TRUNCATE t");
    let insert = Sql::new(sql);
    let warm: Vec<Sql> = (0..2)
        .map(|n| insert.clone().bind(-1 - n).bind("warm"))
        .collect();
    affected(&bed.batch(&warm));
    let long = testbed::value("too long");
    let value = |n: usize| if bad.contains(&n) { &long } else { "ok" };
    let operations: Vec<Sql> = (0..1000)
        .map(|n| insert.clone().bind(n).bind(value(n)))
        .collect();
    let (outcomes, trips) = bed.counted(&operations);
    for (n, outcome) in outcomes.iter().enumerate() {
        if bad.contains(&n) {
            assert!(
                matches!(outcome, Outcome::Rejected(error) if error.kind() == ErrorKind::InvalidOperation),
                "{n}"
            );
        } else {
            assert!(outcome.is_done(), "{n}: {:?}", outcome.error());
        }
    }
    let count = bed.run("SELECT count(*) - 2 FROM t");
    assert_eq!(count, (1000 - bad.len()).to_string());
    trips
}

#[test]
fn one_poison_row_in_a_thousand_is_found_with_few_statements() {
    let mut bed = Bed::new("batch_poison");
    bed.run("CREATE TABLE t (a int PRIMARY KEY, b varchar(4))");
    for sql in [
        "INSERT INTO t VALUES ($1, $2)",
        "INSERT INTO t VALUES ($1, $2) RETURNING a",
    ] {
        for at in [0, 499, 500, 937, 999] {
            let trips = poisoned(&mut bed, sql, &[at]);
            assert!(trips <= 21, "{trips} for {at}");
        }
        poisoned(&mut bed, sql, &[3, 4, 500, 777]);
    }
    let trips = poisoned(
        &mut bed,
        "INSERT INTO t VALUES ($1, $2)",
        &(0..1000).collect::<Vec<_>>(),
    );
    assert!(trips <= 2001, "{trips}");
}

#[test]
fn errors_stay_with_their_operation() {
    let mut bed = Bed::new("batch_errors");
    bed.run("CREATE TABLE t (a int PRIMARY KEY, b int REFERENCES t DEFERRABLE INITIALLY DEFERRED)");
    let insert = |a: i32, b: Option<i32>| Sql::new("INSERT INTO t VALUES ($1, $2)").bind(a).bind(b);
    let operations = [
        insert(1, None),
        insert(1, None),
        insert(2, Some(77)),
        insert(3, Some(1)),
        Sql::new("SELECT nonesuch FROM t"),
        Sql::new("SELECT 1 / $1::int").bind(0),
        Sql::new("SELEC 1"),
        Sql::new("SELECT $1::int").bind(testbed::value("no number")),
        Sql::new("UPDATE t SET a = 9 WHERE a = $1").bind(3),
    ];
    let outcomes = bed.batch(&operations);
    assert_eq!(letters(&outcomes), "drrdrrrrd");
    let kinds: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| Some(outcome.error()?.kind()))
        .collect();
    assert_eq!(kinds[..2], [ErrorKind::Constraint; 2]);
    assert_eq!(kinds[2..], [ErrorKind::InvalidOperation; 4]);
    assert!(
        outcomes[4]
            .error()
            .expect("error")
            .to_string()
            .contains("nonesuch")
    );
    assert_eq!(
        bed.run("SELECT string_agg(a::text, ' ' ORDER BY a) FROM t"),
        "1 9"
    );
}

#[test]
fn hostile_values_stay_values() {
    for (database, cache) in [("batch_hostile", 8), ("batch_hostile_off", 0)] {
        let mut bed = Bed::with(database, |config| config.statement_cache(cache));
        bed.run("CREATE TABLE t (a text, n int)");
        let texts = [
            "'); DROP TABLE t; --",
            r"\'); DROP TABLE t; --",
            "},{",
            "\"",
            "$1",
            "\\",
            "''",
            "{\"a\"}",
        ];
        for more in ["", "RETURNING a"] {
            bed.run("TRUNCATE t");
            let sql = format!("INSERT INTO t VALUES ($1, $2) {more}");
            let ops: Vec<Sql> = texts
                .iter()
                .enumerate()
                .map(|(n, text)| Sql::new(sql.clone()).bind(*text).bind(n))
                .collect();
            assert_eq!(affected(&bed.batch(&ops)), vec![1; texts.len()]);
            assert_eq!(bed.run("SELECT a FROM t ORDER BY n"), texts.join("\n"));
        }
    }
}

#[test]
fn what_the_server_forgot_is_prepared_again() {
    let mut bed = Bed::new("batch_forgot");
    bed.run("CREATE TABLE t (a int)");
    let operations = [
        Sql::new("INSERT INTO t VALUES ($1)").bind(1),
        Sql::new("INSERT INTO t VALUES ($1)").bind(2),
        Sql::new("SELECT * FROM t LIMIT 1"),
        Sql::new("SELECT 5"),
    ];
    assert_eq!(letters(&bed.batch(&operations)), "dddd");
    bed.run("DISCARD ALL");
    assert_eq!(letters(&bed.batch(&operations)), "dddd");
    bed.run("ALTER TABLE t ADD b int");
    assert_eq!(letters(&bed.batch(&operations)), "dddd");
    assert_eq!(bed.run("SELECT count(*) FROM t"), "6");
}

#[test]
fn works_behind_a_pooler() {
    let server = Server::start().expect("starts");
    let bouncer = PgBouncer::start(&server).expect("starts");
    let mut bed = Bed::at(&bouncer.url(), |config| config.statement_cache(0));
    bed.run("CREATE TYPE mood AS ENUM ('a', 'b')");
    bed.run("CREATE TABLE t (a int, b mood, c int[])");
    let insert = Sql::new("INSERT INTO t VALUES ($1, $2, $3)");
    let ops: Vec<Sql> = (0..100)
        .map(|n| insert.clone().bind(n).bind("b").bind(vec![n, 1]))
        .collect();
    for _ in 0..3 {
        assert_eq!(affected(&bed.batch(&ops)), vec![1; 100]);
    }
    assert_eq!(bed.counted(&ops).1, 1);
    assert_eq!(
        server
            .psql("SELECT count(*), sum(c[1]) FROM t")
            .expect("works"),
        "400|19800"
    );
    assert_eq!(
        server
            .psql("SELECT count(*) FROM pg_prepared_statements")
            .expect("works"),
        "0"
    );
}

#[test]
fn a_connection_killed_in_between_leaves_nothing_without_an_outcome() {
    let mut bed = Bed::new("batch_killed");
    bed.run("CREATE TABLE t (a int)");
    let kill = "SELECT pg_terminate_backend(pg_backend_pid())";
    let insert = |n: i32| Sql::new("INSERT INTO t VALUES ($1)").bind(n);
    let operations = [
        insert(1),
        insert(2),
        Sql::new(kill),
        Sql::new("SELECT 1"),
        Sql::new("VACUUM t"),
    ];
    let outcomes = bed.batch(&operations);
    assert_eq!(letters(&outcomes), "dduun");
    for outcome in &outcomes[2..] {
        assert_eq!(
            outcome.error().expect("error").kind(),
            ErrorKind::ConnectionLost
        );
    }
    let outcomes = bed.batch(&operations);
    assert_eq!(
        letters(&outcomes),
        "nnnnn",
        "nothing is sent over a lost connection"
    );
}

#[test]
fn groups_of_a_transaction_that_failed_are_told_so_together() {
    let mut bed = Bed::with("batch_cancelled", |config| {
        config.statement_timeout(std::time::Duration::from_millis(100))
    });
    let operations = [Sql::new("SELECT 1"), Sql::new("SELECT pg_sleep(5)")];
    let start = std::time::Instant::now();
    assert_eq!(letters(&bed.batch(&operations)), "dn");
    assert!(start.elapsed() < std::time::Duration::from_secs(2));
    bed.run("CREATE TABLE t (a int)");
    bed.run("SET default_transaction_read_only = on");
    let operations = [
        Sql::new("INSERT INTO t VALUES (1)"),
        Sql::new("SELECT 1"),
        Sql::new("DELETE FROM t"),
    ];
    let outcomes = bed.batch(&operations);
    assert!(outcomes[1].is_done());
    for write in [&outcomes[0], &outcomes[2]] {
        assert_eq!(write.error().expect("error").kind(), ErrorKind::WrongRole);
    }
}
