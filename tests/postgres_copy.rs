//! Groups of PostgreSQL INSERTs that are so large that they are copied, on real servers:
//! what is stored is what the INSERTs alone store, and every operation has its true outcome.

use std::thread;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::batch::{Batch, wait_all};
use millpond::{
    Deadline, ErrorKind, ManageConnection, Outcome, Pool, Postgres, PostgresConfig,
    PostgresConnection, Sql, SqlReply, SqlValue,
};
use testbed::{PgBouncer, Postgres as Server, Proxy};

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

/// Types with values of them that can be copied.
fn copied_types() -> Vec<(&'static str, Vec<SqlValue>)> {
    vec![
        ("int2", vec![(-32768).into(), "7".into(), SqlValue::Null]),
        ("int4", vec![i32::MAX.into(), " 7 ".into(), 2.0.into()]),
        ("int8", vec![i64::MIN.into(), i64::MAX.into(), 0.into()]),
        ("float4", vec![0.1.into(), f64::NAN.into(), 1e-40.into()]),
        (
            "float8",
            vec![
                0.1.into(),
                f64::NAN.into(),
                f64::INFINITY.into(),
                f64::NEG_INFINITY.into(),
                (-0.0).into(),
                5.into(),
            ],
        ),
        ("numeric", texts(&["1e-300", "NaN", "-Infinity", "0.10"])),
        (
            "numeric(12,2)",
            vec![1.into(), "12345678.905".into(), "NaN".into(), 0.1.into()],
        ),
        ("bool", vec![true.into(), "off".into(), SqlValue::Null]),
        (
            "text",
            texts(&[
                "",
                " ",
                "\\N",
                "\\.",
                "\\",
                "\\\\N",
                "NULL",
                "a\tb",
                "a\nb",
                "a\rb",
                "\r\n",
                "\\\n",
                "\\t\\x41\\101",
                "it's \"so\"",
                "{,}",
                "ä 𝄞 \u{85}\u{2028}\u{1}\u{7f}",
            ]),
        ),
        ("text", vec![7.into(), b"\xff\\".into(), SqlValue::Null]),
        (
            "text",
            vec![
                vec![Some("a\\\t\""), None].into(),
                "x".repeat(200_000).into(),
            ],
        ),
        ("varchar(5)", texts(&["abc", "ab   ", "ab         ", "\\N"])),
        ("char(5)", texts(&["abc", "", "abc         ", "\t"])),
        ("bpchar", texts(&["abc  ", ""])),
        ("\"char\"", texts(&["x", "", "\\", "\\200", "\n"])),
        ("name", vec!["x".repeat(80).into(), "ä".repeat(40).into()]),
        (
            "bytea",
            vec![
                b"\x00\xff\\'\n\t".into(),
                b"".into(),
                SqlValue::Null,
                "\\x01".into(),
                "a\\000\\\\".into(),
            ],
        ),
        (
            "json",
            vec![
                serde_json::json!({"a\\": ["\"", null, "\n\t\\"]}).into(),
                "[1]\n".into(),
                "null".into(),
                5.into(),
            ],
        ),
        (
            "jsonb",
            vec![
                serde_json::json!({"a": "\\'\u{1}"}).into(),
                "[1,  2]".into(),
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
            texts(&[
                "2024-02-29 12:00:00.123456+02",
                "infinity",
                "03/02/2024 1:00 PST",
            ]),
        ),
        (
            "timestamptz(1)",
            texts(&["2024-02-29 12:00:00.949999999+02", "-infinity"]),
        ),
        (
            "timestamp(0)",
            texts(&[
                "2024-02-29 12:00:00.4999999",
                "2024-02-29 12:00:00.5",
                "13.12.99 0:00",
            ]),
        ),
        ("time(2)", texts(&["23:59:59.999", "12:00:00.125"])),
        ("timetz(0)", texts(&["23:59:59.5+03", "04:05 PM"])),
        ("date", texts(&["03/02/2024", "0044-03-15 BC", "infinity"])),
        (
            "interval",
            texts(&["1 mon -2 days 03:04:05.6", "-1", "P1Y2M"]),
        ),
        ("inet", texts(&["::1/64", "10.0.0.1"])),
        ("point", texts(&["(1,2)"])),
        ("box", texts(&["(3,4),(1,2)"])),
        ("int4range", texts(&["[1,5)", "empty", "(,)"])),
        (
            "tstzmultirange",
            texts(&["{}", "{[\"2024-01-01 00:00Z\",)}"]),
        ),
        ("mood", texts(&["so, so", "it's \"fine\"", "\\N"])),
        ("positive", vec![7.into(), "8".into(), SqlValue::Null]),
        ("short", texts(&["abc", "ab   "])),
        ("\"Odd \"\"schema\".\"Odd type\"", texts(&["a\tb"])),
        (
            "int4[]",
            vec![
                vec![1, 2].into(),
                vec![Some(1), None].into(),
                "{}".into(),
                "[5:6]={7,8}".into(),
                vec![vec![1, 2], vec![3, 4]].into(),
                SqlValue::Null,
            ],
        ),
        (
            "text[]",
            vec![
                vec![
                    Some("a,b"),
                    Some("\"'\\\n"),
                    None,
                    Some("NULL"),
                    Some(""),
                    Some("\\N"),
                ]
                .into(),
            ],
        ),
        (
            "jsonb[]",
            vec![vec![serde_json::json!({"a": "\"x\\\""})].into()],
        ),
        ("mood[]", vec![vec!["so, so", "\\N"].into()]),
        ("tags", vec![vec!["a\\", "b"].into(), SqlValue::Null]),
        ("tsvector", texts(&["'a\\\\':1 'b'"])),
        ("bit(4)", texts(&["0101", "x5"])),
        ("varbit(5)", texts(&["101", ""])),
        ("money", vec!["$1,234.50".into(), "(3)".into(), 7.into()]),
        ("xml", texts(&["<a>\n</a>"])),
        ("regclass", texts(&["pg_class", "-"])),
    ]
}

/// Types whose values are merged, whatever their number.
fn merged_types() -> Vec<(&'static str, Vec<SqlValue>)> {
    vec![
        ("interval year", texts(&["1", "2 years 3 months"])),
        ("interval(0)", texts(&["1.5"])),
        ("varchar(3)[]", vec![vec!["abc", "a  "].into()]),
        ("pair", texts(&["(1,\"a,b\")", "(,)"])),
        ("positive[]", texts(&["{1,2}"])),
        ("guarded", texts(&["a"])),
        ("spans", texts(&["[1,5)"])),
    ]
}

const DEFINITIONS: [&str; 10] = [
    "CREATE SCHEMA \"Odd \"\"schema\"",
    "CREATE TYPE mood AS ENUM ('so, so', 'it''s \"fine\"', '\\N')",
    "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
    "CREATE DOMAIN short AS varchar(5) CHECK (VALUE <> 'x')",
    "CREATE TYPE \"Odd \"\"schema\".\"Odd type\" AS ENUM ('a\tb')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE DOMAIN tags AS text[] CHECK (array_position(VALUE, 'bad') IS NULL)",
    "CREATE FUNCTION fine(text) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN true; END'",
    "CREATE DOMAIN guarded AS text CHECK (fine(VALUE))",
    "CREATE TYPE spans AS RANGE (subtype = int8)",
];

/// Compares what the INSERTs store one by one with what a large group of them does.
fn means_the_same(bed: &mut Bed<'_>, number: usize, kind: &str, values: &[SqlValue], trips: u64) {
    let [alone, together] = ["alone", "together"].map(|way| {
        let table = format!("{way}_{number}");
        bed.psql(&format!("CREATE TABLE {table} (n int, v {kind}, k int)"));
        table
    });
    let insert =
        |table: &str| Sql::new(format!("INSERT INTO {table} (k, v, n) VALUES ($3, $1, $2)"));
    let sql = insert(&alone);
    for (n, value) in values.iter().enumerate() {
        let operation = sql.clone().bind(value.clone()).bind(n).bind(0);
        let reply = bed
            .manager
            .execute(&mut bed.conn, &operation, Deadline::NEVER);
        assert_eq!(reply.expect(kind).affected(), 1);
    }
    // The long ones only a few times.
    let value = |n: usize| match &values[n % values.len()] {
        SqlValue::Text(text) if n > 50 && text.len() > 1000 => (0, &values[0]),
        value => (n % values.len(), value),
    };
    let sql = insert(&together);
    let operations: Vec<Sql> = (0..MANY as usize)
        .map(|k| {
            sql.clone()
                .bind(value(k).1.clone())
                .bind(value(k).0)
                .bind(k)
        })
        .collect();
    let (outcomes, taken) = bed.twice(&operations, &format!("TRUNCATE {together}"));
    assert_all_done(&outcomes);
    assert_eq!(taken, trips, "{kind}");
    let seen = format!(
        "SELECT count(*), count(DISTINCT t.k), count(*) FILTER (WHERE (t.v IS NULL) = (a.v IS NULL) \
         AND concat(t.v) = concat(a.v) AND pg_column_size(t.v) IS NOT DISTINCT FROM \
         pg_column_size(a.v)) FROM {together} t JOIN {alone} a USING (n)"
    );
    assert_eq!(bed.psql(&seen), format!("{MANY}|{MANY}|{MANY}"), "{kind}");
}

#[test]
fn every_type_means_the_same_alone_and_copied() {
    let server = Server::shared();
    let url = server.create_database("copy_types").expect("made");
    for setting in ["datestyle = 'SQL, DMY'", "timezone = 'Asia/Kathmandu'"] {
        let sql = format!("ALTER DATABASE copy_types SET {setting}");
        server.psql(&sql).expect("works");
    }
    let mut bed = Bed::at(server, "copy_types", &url, |config| config);
    for sql in DEFINITIONS {
        bed.psql(sql);
    }
    let copied = copied_types().into_iter().map(|kind| (kind, COPIED));
    let merged = merged_types().into_iter().map(|kind| (kind, MERGED));
    for (number, ((kind, values), trips)) in copied.chain(merged).enumerate() {
        means_the_same(&mut bed, number, kind, &values, trips);
    }
}

#[test]
fn a_database_of_another_encoding_stores_the_same() {
    let server = Server::shared();
    server
        .psql("CREATE DATABASE copy_latin ENCODING 'LATIN1' TEMPLATE template0")
        .expect("made");
    let url = server.url_of("copy_latin");
    let mut bed = Bed::at(server, "copy_latin", &url, |config| config);
    let values = texts(&["ä", "\u{a0}\\\u{ff}"]);
    means_the_same(&mut bed, 0, "text", &values, COPIED);
    assert_eq!(bed.psql("SELECT min(octet_length(v)) FROM together_0"), "1");
    // What the encoding has not is refused, alone.
    let insert = Sql::new("INSERT INTO together_0 (v) VALUES ($1)");
    let bind = |n| insert.clone().bind(if n == 4321 { "𝄞" } else { "a" });
    let operations: Vec<Sql> = (0..MANY).map(bind).collect();
    let (outcomes, _) = bed.batch(&operations);
    let refused: Vec<_> = (0..MANY)
        .filter(|n| !outcomes[*n as usize].is_done())
        .collect();
    assert_eq!(refused, [4321]);
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
        .map(|n| insert.clone().bind(n).bind(format!("row {n}")))
        .collect();
    let (outcomes, trips) = bed.twice(&operations, "TRUNCATE \"S.\"\"\".\"T (\"");
    assert_all_done(&outcomes);
    assert_eq!(trips, COPIED);
    assert_eq!(
        bed.psql(
            "SELECT count(*), count(DISTINCT id), count(DISTINCT s), min(a), max(a), \
             bool_and(twice = a * 2 AND \"A\" = 'row ' || a AND \"B c\" = 'x' AND at2 > at), \
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
            insert.clone().bind("hunter2").bind("").bind(1).bind(-1),
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

/// Tables by what is special about them, and what holds after two groups.
const TABLES: [(&str, &str, &str); 11] = [
    (
        "a trigger for each row",
        "CREATE TABLE t (a int); CREATE TABLE log (a int); \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN INSERT INTO log VALUES (new.a); RETURN new; END'; \
         CREATE TRIGGER note AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()",
        "SELECT count(*) = 2 * 5000 AND (SELECT count(*) FROM log) = 2 * 5000 FROM t",
    ),
    (
        "a trigger for each statement",
        "CREATE TABLE t (a int); CREATE TABLE log (a int); \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN INSERT INTO log SELECT a FROM fresh; RETURN NULL; END'; \
         CREATE TRIGGER note AFTER INSERT ON t REFERENCING NEW TABLE AS fresh \
         FOR EACH STATEMENT EXECUTE FUNCTION note()",
        "SELECT count(*) = 2 * 5000 AND (SELECT count(*) FROM log) = 2 * 5000 FROM t",
    ),
    (
        "a rule beside",
        "CREATE TABLE t (a int); CREATE TABLE log (a int); \
         CREATE RULE r AS ON INSERT TO t DO ALSO INSERT INTO log VALUES (new.a)",
        "SELECT count(*) = 2 * 5000 AND (SELECT count(*) FROM log) = 2 * 5000 FROM t",
    ),
    (
        "a view",
        "CREATE TABLE u (a int); CREATE VIEW t AS SELECT a FROM u",
        "SELECT count(*) = 2 * 5000 FROM t",
    ),
    (
        "partitions",
        "CREATE TABLE t (a int) PARTITION BY RANGE (a); \
         CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100); \
         CREATE TABLE t2 PARTITION OF t DEFAULT",
        "SELECT count(*) = 2 * 5000 AND (SELECT count(*) FROM t1) = 200 FROM t",
    ),
    (
        "a check with a function",
        "CREATE TABLE t (a int); \
         CREATE FUNCTION odd(int) RETURNS bool LANGUAGE plpgsql AS \
         'BEGIN RETURN (SELECT count(*) < 1000000 FROM t); END'; \
         ALTER TABLE t ADD CHECK (odd(a))",
        "SELECT count(*) = 2 * 5000 FROM t",
    ),
    (
        "a check with an operator",
        "CREATE TABLE t (a int); \
         CREATE FUNCTION near(int, int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN true; END'; \
         CREATE OPERATOR ~~~ (FUNCTION = near, LEFTARG = int, RIGHTARG = int); \
         ALTER TABLE t ADD CHECK (a ~~~ 1)",
        "SELECT count(*) = 2 * 5000 FROM t",
    ),
    (
        "a default with a function",
        "CREATE TABLE t (a int); \
         CREATE FUNCTION place() RETURNS int LANGUAGE plpgsql AS \
         'BEGIN RETURN 7; END'; \
         ALTER TABLE t ADD b int DEFAULT place()",
        "SELECT count(*) = 2 * 5000 AND sum(b) = 7 * 2 * 5000 FROM t",
    ),
    (
        "a domain over a domain over a type of its own",
        "CREATE TYPE mine; \
         CREATE FUNCTION mine_in(cstring) RETURNS mine LANGUAGE internal IMMUTABLE STRICT AS 'int4in'; \
         CREATE FUNCTION mine_out(mine) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out'; \
         CREATE TYPE mine (INPUT = mine_in, OUTPUT = mine_out, LIKE = int4); \
         CREATE DOMAIN one AS mine; CREATE DOMAIN two AS one; CREATE TABLE t (a two)",
        "SELECT count(*) = 2 * 5000 FROM t",
    ),
    (
        "row security",
        "CREATE TABLE t (a int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY p ON t USING (true) WITH CHECK (a < 1000000); \
         CREATE ROLE copy_app LOGIN; GRANT ALL ON t TO copy_app",
        "SELECT count(*) = 2 * 5000 FROM t",
    ),
    (
        "another isolation",
        "CREATE TABLE t (a int); \
         ALTER DATABASE copy_ways_10 SET default_transaction_isolation = 'repeatable read'",
        "SELECT count(*) = 2 * 5000 FROM t",
    ),
];

#[test]
fn tables_that_copy_treats_differently_are_not_copied() {
    let server = Server::shared();
    for (number, (what, definition, holds)) in TABLES.into_iter().enumerate() {
        let database: &'static str = format!("copy_ways_{number}").leak();
        let mut url = server.create_database(database).expect("made");
        server.psql_in(database, definition).expect("works");
        if what == "row security" {
            url = url.replacen("test@", "copy_app@", 1);
        }
        let mut bed = Bed::at(server, database, &url, |config| config);
        let operations = inserts("INSERT INTO t (a) VALUES ($1)", 0..MANY);
        let (outcomes, trips) = bed.twice(&operations, "SELECT 1");
        assert_all_done(&outcomes);
        assert_eq!(trips, MERGED, "{what}");
        assert_eq!(bed.psql(holds), "t", "{what}");
    }
}

#[test]
fn the_owner_of_a_table_with_row_security_copies() {
    let mut bed = Bed::new("copy_owner");
    bed.psql("CREATE TABLE t (a int); ALTER TABLE t ENABLE ROW LEVEL SECURITY");
    let operations = inserts("INSERT INTO t (a) VALUES ($1)", 0..MANY);
    assert_eq!(bed.twice(&operations, "SELECT 1").1, COPIED);
}

/// A table changes after it was found fit.
#[test]
fn a_table_that_changed_since_is_noticed() {
    const ODD: &str = "CREATE OR REPLACE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN IF new.a % 2 = 0 THEN RETURN NULL; END IF; RETURN new; END'; \
         CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION odd()";
    let mut bed = Bed::new("copy_altered");
    let operations = inserts("INSERT INTO t (a) VALUES ($1)", 0..MANY);
    let half = |n: usize| n % 2;
    let all = |_: usize| 1;
    let none = |_: usize| 0;
    for (what, change, count, expected) in [
        ("a trigger", ODD, 2500, half as fn(usize) -> usize),
        (
            "a rule",
            "CREATE RULE r AS ON INSERT TO t WHERE new.a % 2 = 0 DO INSTEAD NOTHING",
            2500,
            half,
        ),
        ("a type", "ALTER TABLE t ALTER a TYPE int8", 5000, all),
        ("a text", "ALTER TABLE t ALTER a TYPE text", 5000, all),
        (
            "another table",
            "ALTER TABLE t RENAME TO was; CREATE TABLE t (b int, a int)",
            5000,
            all,
        ),
        ("no column", "ALTER TABLE t RENAME a TO b", 0, none),
        (
            "an identity",
            "ALTER TABLE t ALTER a SET NOT NULL, ALTER a ADD GENERATED ALWAYS AS IDENTITY",
            0,
            none,
        ),
        (
            "a generated column",
            "ALTER TABLE t DROP COLUMN a, ADD a int GENERATED ALWAYS AS (7) STORED",
            0,
            none,
        ),
        ("no table", "ALTER TABLE t RENAME TO was", 0, none),
    ] {
        bed.psql("DROP TABLE IF EXISTS t, was; CREATE TABLE t (a int)");
        bed.conn = bed.manager.connect().expect("connects");
        let (outcomes, trips) = bed.twice(&operations, "TRUNCATE t");
        assert_all_done(&outcomes);
        assert_eq!(trips, COPIED);
        bed.psql("TRUNCATE t");
        bed.psql(change);
        // The first time something is found out, the second time it rests, the third time
        // the table is looked at.
        for round in 0..if count > 0 { 3 } else { 1 } {
            let (outcomes, _) = bed.batch(&operations);
            for (n, outcome) in outcomes.iter().enumerate() {
                match outcome {
                    Outcome::Done(reply) => {
                        assert_eq!(reply.affected() as usize, expected(n), "{what} {n}");
                    }
                    Outcome::Rejected(_) => assert_eq!(count, 0, "{what} {n}"),
                    other => panic!("{what} {other:?}"),
                }
            }
            if what != "no table" {
                let there = bed.psql("SELECT count(*) FROM t");
                assert_eq!(there, (count * (round + 1)).to_string(), "{what}");
            }
        }
        // Where nothing is in the way, they are copied again in time.
        if what == "another table" {
            let trips: Vec<u64> = (0..3).map(|_| bed.batch(&operations).1).collect();
            assert!(trips.contains(&COPIED), "{trips:?}");
            let kept = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%mp_c%'";
            let kept = Sql::new(kept);
            let reply = bed.manager.execute(&mut bed.conn, &kept, Deadline::NEVER);
            let reply = reply.expect("works");
            assert_eq!(
                reply.rows()[0].text(0),
                Some("2"),
                "this one, and the last check"
            );
        }
    }
}

/// The driver loses step with such a server.
#[test]
fn a_copy_that_is_refused_costs_a_connection_and_is_the_last_one() {
    let mut bed = Bed::new("copy_refused");
    bed.psql("CREATE TABLE t (a int, b int DEFAULT 1)");
    let operations = inserts("INSERT INTO t (a) VALUES ($1)", 0..MANY);
    assert_eq!(bed.twice(&operations, "TRUNCATE t").1, COPIED);
    // COPY finds out about this before it asks for the rows.
    bed.psql("TRUNCATE t; ALTER TABLE t ALTER b SET DEFAULT 1 / 0");
    assert_not_executed(bed.batch(&operations).0, ErrorKind::ConnectionLost);
    assert!(bed.manager.has_broken(&mut bed.conn));
    bed.conn = bed.manager.connect().expect("connects");
    for outcome in bed.batch(&operations).0 {
        match outcome {
            Outcome::Rejected(error) => assert!(error.to_string().contains("22012"), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bed.psql("SELECT count(*) FROM t"), "0");
    bed.psql("ALTER TABLE t ALTER b SET DEFAULT 1");
    let (outcomes, trips) = bed.twice(&operations, "TRUNCATE t");
    assert_all_done(&outcomes);
    assert_eq!(trips, MERGED);
}

/// What would make the server refuse a COPY before it asks for the rows is noticed before.
#[test]
fn what_the_role_may_not_do_is_not_tried_by_copying() {
    let server = Server::shared();
    let url = server.create_database("copy_role").expect("made");
    let psql = |sql: &str| server.psql_in("copy_role", sql).expect("works");
    psql(
        "CREATE TABLE t (a int, b int); CREATE ROLE copy_role LOGIN; GRANT INSERT ON t TO copy_role",
    );
    let url = url.replacen("test@", "copy_role@", 1);
    let mut bed = Bed::at(server, "copy_role", &url, |config| config);
    let operations = inserts("INSERT INTO t (a) VALUES ($1)", 0..MANY);
    let (outcomes, trips) = bed.twice(&operations, "TRUNCATE t");
    assert_all_done(&outcomes);
    assert_eq!(trips, COPIED, "needs no other privilege");
    let rejected = |outcomes: Vec<Outcome<SqlReply>>| {
        let one = |outcome: Outcome<SqlReply>| match outcome {
            Outcome::Rejected(error) => assert_eq!(error.kind(), ErrorKind::Permission),
            other => panic!("{other:?}"),
        };
        outcomes.into_iter().for_each(one);
    };
    psql(
        "TRUNCATE t; REVOKE INSERT ON t FROM copy_role; GRANT INSERT (b), UPDATE ON t TO copy_role",
    );
    rejected(bed.batch(&operations).0);
    assert!(!bed.manager.has_broken(&mut bed.conn));
    psql("REVOKE ALL ON t FROM copy_role; GRANT INSERT (a) ON t TO copy_role");
    let (outcomes, _) = bed.batch(&operations);
    assert_all_done(&outcomes);
    psql("ALTER DATABASE copy_role SET default_transaction_read_only = on");
    bed.conn = bed.manager.connect().expect("connects");
    for outcome in bed
        .twice(&operations, "BEGIN READ WRITE; TRUNCATE t; COMMIT")
        .0
    {
        assert_eq!(
            outcome.error().expect("refused").kind(),
            ErrorKind::WrongRole
        );
    }
    assert!(!bed.manager.has_broken(&mut bed.conn));
    assert_eq!(psql("SELECT count(*) FROM t"), "0");
}

#[test]
fn a_connection_with_something_left_behind_copies_nothing() {
    let mut bed = Bed::new("copy_dirty");
    bed.psql("CREATE TABLE t (a int)");
    let operations = inserts("INSERT INTO t (a) VALUES ($1)", 0..MANY);
    assert_eq!(bed.twice(&operations, "TRUNCATE t").1, COPIED);
    bed.psql("TRUNCATE t");
    bed.conn.batch_execute("BEGIN").expect("works");
    assert_eq!(bed.batch(&operations).1, MERGED);
    assert_eq!(bed.psql("SELECT count(*) FROM t"), "0");
    bed.conn.batch_execute("ROLLBACK").expect("works");
    assert_eq!(bed.psql("SELECT count(*) FROM t"), "0");
}

#[test]
fn nothing_is_copied_behind_a_pooler() {
    let server = Server::start().expect("starts");
    server.psql("CREATE TABLE t (a int)").expect("works");
    let bouncer = PgBouncer::start(&server).expect("starts");
    let mut bed = Bed::at(&server, "postgres", &bouncer.url(), |config| {
        config.statement_cache(0)
    });
    let operations = inserts("INSERT INTO t (a) VALUES ($1)", 0..MANY);
    let (outcomes, trips) = bed.twice(&operations, "TRUNCATE t");
    assert_all_done(&outcomes);
    assert_eq!(trips, MERGED);
    assert_eq!(bed.psql("SELECT count(*) FROM t"), "5000");
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
        .flush(millpond::batch::Flush::WhenDue)
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
    let last = "SELECT query FROM pg_stat_activity WHERE datname = 'copy_engine' \
                AND pid <> pg_backend_pid()";
    assert_eq!(psql(last), "COMMIT", "a merged group has none");
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "waiting for {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether somebody waits for a lock while doing this.
fn is_held_up(server: &Server, query: &str) -> bool {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '{query}%'"
    );
    server.psql(&sql).is_ok_and(|count| count == "1")
}

fn kill_the_waiting(server: &Server) {
    let sql =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    server.psql(sql).expect("works");
}

/// A server with a table `t (a)`, and a proxy to it. The COPY is held up by `hold` in the
/// other session at row 4,000, or its COMMIT is.
fn held_up(server: &Server) -> Proxy {
    server
        .psql(
            "CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1); \
             CREATE TABLE t (a int PRIMARY KEY, \
             u int REFERENCES u DEFERRABLE INITIALLY DEFERRED DEFAULT 1)",
        )
        .expect("works");
    Proxy::start(server.port()).expect("starts")
}

/// Makes a COPY wait at row 4,000.
const HOLD_ROW: &str = "BEGIN; INSERT INTO t VALUES (4000)";
/// Makes a COMMIT wait.
const HOLD_COMMIT: &str = "BEGIN; SELECT FROM u FOR UPDATE";

/// Runs a group that is copied, and meanwhile what happens while it is held up.
fn run_held_up(
    server: &Server,
    port: u16,
    resolve: bool,
    hold: &str,
    deadline: Duration,
    meanwhile: impl FnOnce(&mut PostgresConnection) + Send,
) -> (Vec<Outcome<SqlReply>>, Duration) {
    let config = PostgresConfig::new().host("127.0.0.1").port(port);
    let config = config
        .user("test")
        .database("postgres")
        .resolve_unknown(resolve);
    let manager = Postgres::new(config).expect("good settings");
    let mut conn = manager.connect().expect("connects");
    let own = PostgresConfig::from_url(&server.url()).expect("a good URL");
    let own = Postgres::new(own).expect("good settings");
    let mut other = own.connect().expect("connects");
    let operations = inserts("INSERT INTO t (a) VALUES ($1)", 0..MANY);
    let operations: Vec<&Sql> = operations.iter().collect();
    for outcome in manager.execute_batch(&mut conn, &operations, Deadline::NEVER) {
        assert!(outcome.is_done());
    }
    server.psql("TRUNCATE t").expect("works");
    other.batch_execute(hold).expect("works");
    thread::scope(|scope| {
        scope.spawn(move || meanwhile(&mut other));
        let start = Instant::now();
        let outcomes = manager.execute_batch(&mut conn, &operations, Deadline::within(deadline));
        (outcomes, start.elapsed())
    })
}

const LONG: Duration = Duration::from_secs(20);

fn rows_in(server: &Server) -> String {
    server.psql("SELECT count(*) FROM t").expect("works")
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
fn what_is_lost_in_the_middle_of_a_copy_is_not_executed() {
    for (resolve, cut) in [(false, false), (true, false), (false, true), (true, true)] {
        let server = Server::start().expect("starts");
        let proxy = held_up(&server);
        let (outcomes, _) = run_held_up(&server, proxy.port(), resolve, HOLD_ROW, LONG, |other| {
            until("the COPY", || is_held_up(&server, "COPY"));
            if cut {
                proxy.cut();
                other.batch_execute("ROLLBACK").expect("works");
            } else {
                kill_the_waiting(&server);
                other.batch_execute("ROLLBACK").expect("works");
            }
        });
        assert_not_executed(outcomes, ErrorKind::ConnectionLost);
        until("the end", || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%'";
            server.psql(sql).is_ok_and(|count| count == "0")
        });
        assert_eq!(rows_in(&server), "0");
    }
}

#[test]
fn what_is_killed_in_the_middle_of_a_copy_is_not_executed() {
    let server = Server::start().expect("starts");
    let proxy = held_up(&server);
    let (outcomes, _) = run_held_up(&server, proxy.port(), false, HOLD_ROW, LONG, |_| {
        until("the COPY", || is_held_up(&server, "COPY"));
        server.kill();
        server.restart().expect("starts again");
    });
    assert_not_executed(outcomes, ErrorKind::ConnectionLost);
    assert_eq!(rows_in(&server), "0");
}

#[test]
fn what_is_lost_while_it_is_committed_is_unknown_unless_it_is_asked_for() {
    for (resolve, dies) in [(false, false), (true, false), (true, true)] {
        let server = Server::start().expect("starts");
        let proxy = held_up(&server);
        let (outcomes, _) =
            run_held_up(&server, proxy.port(), resolve, HOLD_COMMIT, LONG, |other| {
                until("the COMMIT", || is_held_up(&server, "COMMIT"));
                proxy.cut();
                if dies {
                    kill_the_waiting(&server);
                }
                other.batch_execute("COMMIT").expect("works");
            });
        match (resolve, dies) {
            (false, _) => {
                for outcome in outcomes {
                    assert!(matches!(outcome, Outcome::Unknown(error) if error.outcome_unknown()));
                }
                until("its end", || rows_in(&server) == "5000");
            }
            (true, false) => {
                assert_all_done(&outcomes);
                assert_eq!(rows_in(&server), "5000");
            }
            (true, true) => {
                assert_not_executed(outcomes, ErrorKind::ConnectionLost);
                assert_eq!(rows_in(&server), "0");
            }
        }
    }
}

const LIMIT: Duration = Duration::from_millis(400);
/// What an end may be late on a machine that has much else to do.
const LATE: Duration = Duration::from_secs(1);
/// What it may be late on one that has not.
const PUNCTUAL: Duration = Duration::from_millis(100);

#[test]
fn a_copy_that_takes_too_long_is_cancelled() {
    let server = Server::start().expect("starts");
    let proxy = held_up(&server);
    let (outcomes, took) = run_held_up(&server, server.port(), false, HOLD_ROW, LIMIT, |other| {
        until("the end", || is_held_up(&server, "COPY"));
        until("the end", || !is_held_up(&server, "COPY"));
        other.batch_execute("ROLLBACK").expect("works");
    });
    drop(proxy);
    assert!(took >= LIMIT && took < LIMIT + LATE, "{took:?}");
    assert_not_executed(outcomes, ErrorKind::DeadlineExceeded);
    assert_eq!(rows_in(&server), "0");
}

#[test]
fn a_frozen_server_is_left_in_the_middle_of_a_copy() {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let server = Server::start().expect("starts");
        held_up(&server);
        let (outcomes, took) = run_held_up(&server, server.port(), false, HOLD_ROW, LIMIT, |_| {
            until("the COPY", || is_held_up(&server, "COPY"));
            server.freeze();
        });
        server.thaw();
        assert!(took >= LIMIT && took < LIMIT + LATE, "{took:?}");
        assert_not_executed(outcomes, ErrorKind::DeadlineExceeded);
        best = best.min(took);
    }
    assert!(best < LIMIT + PUNCTUAL, "{best:?}");
}

/// There are more rows than the buffers on the way hold, so that the driver waits to write.
#[test]
fn a_server_that_takes_no_more_rows_is_left_in_time() {
    for frozen in [false, true] {
        let server = Server::start().expect("starts");
        let sql = "CREATE TABLE t (a text PRIMARY KEY, b text)";
        server.psql(sql).expect("works");
        let mut bed = Bed::at(&server, "postgres", &server.url(), |config| config);
        let insert = Sql::new("INSERT INTO t (a, b) VALUES ($1, $2)");
        let rows = |b: &str| -> Vec<Sql> {
            let row = |n: i32| insert.clone().bind(n).bind(b);
            (0..MANY).map(row).collect()
        };
        assert_all_done(&bed.twice(&rows(""), "TRUNCATE t").0);
        bed.psql("TRUNCATE t");
        let mut other = bed.manager.connect().expect("connects");
        let hold = "BEGIN; INSERT INTO t VALUES ('7')";
        other.batch_execute(hold).expect("works");
        let rows = rows(&"x".repeat(10_000));
        let (outcomes, took) = thread::scope(|scope| {
            scope.spawn(|| {
                until("the COPY", || is_held_up(&server, "COPY"));
                if frozen {
                    server.freeze();
                }
            });
            let start = Instant::now();
            let (outcomes, _) = bed.batch_until(&rows, Deadline::within(LIMIT));
            (outcomes, start.elapsed())
        });
        server.thaw();
        assert!(took >= LIMIT && took < LIMIT + LATE, "{took:?}");
        assert_not_executed(outcomes, ErrorKind::DeadlineExceeded);
        other.batch_execute("ROLLBACK").expect("works");
        until("the end", || {
            let sql = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass";
            server.psql(sql).is_ok_and(|count| count == "0")
        });
        assert_eq!(rows_in(&server), "0");
    }
}
