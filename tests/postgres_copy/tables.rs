//! Tables that COPY treats differently from INSERT, and tables that become such ones.

use super::*;

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
        (
            "a table before it",
            "CREATE SCHEMA test; CREATE TABLE test.t (a int); \
             CREATE RULE r AS ON INSERT TO public.t DO INSTEAD NOTHING",
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
        bed.psql(
            "DROP SCHEMA IF EXISTS test CASCADE; DROP TABLE IF EXISTS t, was; \
             CREATE TABLE t (a int)",
        );
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

/// The parameter stays a date, and is cast.
#[test]
fn a_column_that_has_another_type_now_gets_what_a_cast_makes() {
    let mut bed = Bed::new("copy_cast");
    bed.psql("CREATE TABLE t (a date)");
    let insert = Sql::new("INSERT INTO t (a) VALUES ($1)").bind("20240102");
    let operations = vec![insert; MANY.unsigned_abs() as usize];
    assert_eq!(bed.twice(&operations, "TRUNCATE t").1, COPIED);
    bed.psql("TRUNCATE t; ALTER TABLE t ALTER a TYPE text");
    for _ in 0..3 {
        assert_all_done(&bed.batch(&operations).0);
    }
    let seen = bed.psql("SELECT a, count(*) FROM t GROUP BY a");
    assert_eq!(seen, "2024-01-02|15000");
}
