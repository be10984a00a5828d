//! Copies that a server would refuse, and connections that copy nothing.

use testbed::PgBouncer;

use super::*;

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
    psql("GRANT INSERT ON t TO copy_role");
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
