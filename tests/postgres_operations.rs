//! PostgreSQL operations on real servers, one at a time.

use std::time::Duration;

use millpond::{
    Deadline, ErrorKind, ManageConnection, Operation, Pool, PooledConnection, Postgres,
    PostgresConfig, Sql, SqlReply, SqlValue, backend::Backend,
};
use testbed::{PgBouncer, Postgres as Server};

fn manager(url: &str, cache: usize) -> Postgres {
    let config = PostgresConfig::from_url(url).expect("a good URL");
    Postgres::new(config.statement_cache(cache)).expect("good settings")
}

fn pool(url: &str, cache: usize) -> Pool<Postgres> {
    let builder = Pool::builder().max_size(1);
    builder.build(manager(url, cache)).expect("opens")
}

fn text(reply: &SqlReply) -> Option<&str> {
    reply.rows().first().expect("a row").text(0)
}

const HOSTILE: [&str; 8] = [
    "",
    "'); DROP TABLE kept; --",
    r"\'; DROP TABLE kept; --",
    r"\\",
    "$1 $$ \"x\" /* -- */ ;",
    "ä 𝄞 \u{301} \t\r\n",
    "E'\\x41'",
    "NULL",
];

#[test]
fn values_stay_values_with_and_without_kept_statements() {
    let server = Server::shared();
    for cache in [0, 8] {
        let pool = pool(&server.url(), cache);
        let select = Sql::new("SELECT $1::text, $1::text IS NULL, '$1' -- $1");
        for value in HOSTILE {
            let reply = pool.execute(select.clone().bind(value)).expect("works");
            assert_eq!(text(&reply), Some(value));
            assert!(!reply.rows()[0].get::<bool>(1).expect("bool"));
            assert_eq!(reply.rows()[0].text(2), Some("$1"));
        }
        let reply = pool.execute(select.clone().bind_null()).expect("works");
        assert_eq!(text(&reply), None);
        assert_eq!(
            reply.rows()[0].get::<Option<String>>(0).expect("null"),
            None
        );
        assert!(reply.rows()[0].get::<String>(0).is_err());
        let bytes: Vec<u8> = (0..=255).collect();
        let sql = Sql::new("SELECT $1::bytea AS b").bind(bytes.clone());
        let reply = pool.execute(sql).expect("works");
        assert_eq!(reply.rows()[0].get::<Vec<u8>>("b").expect("bytes"), bytes);
    }
}

#[test]
fn replies_count_and_carry_rows() {
    let url = Server::shared()
        .create_database("op_replies")
        .expect("made");
    let pool = pool(&url, 8);
    pool.execute(Sql::new("CREATE TABLE t (a int PRIMARY KEY, b text)"))
        .expect("made");
    let insert = Sql::new("INSERT INTO t VALUES ($1, $2) RETURNING a * 2 AS twice");
    let reply = pool
        .execute(insert.clone().bind(4).bind(testbed::value("x")))
        .expect("works");
    assert_eq!(reply.affected(), 1);
    assert_eq!(reply.rows()[0].get::<i32>("twice").expect("int"), 8);
    let error = pool
        .execute(insert.bind(4).bind(testbed::value("y")))
        .expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::Constraint);
    assert!(
        !error.outcome_unknown() && !testbed::bears_mark(&error.to_string()),
        "{error}"
    );
    let update = Sql::new("UPDATE t SET b = $1").bind(testbed::value("z"));
    assert_eq!(pool.execute(update).expect("works").affected(), 1);
    let delete = Sql::new("DELETE FROM t WHERE a > $1").bind(100);
    assert_eq!(pool.execute(delete).expect("works").affected(), 0);
    let row = &pool
        .execute(Sql::new("TABLE t"))
        .expect("works")
        .into_rows()[0];
    assert!(row.get::<i32>(7).is_err() && row.get::<i32>("nonesuch").is_err());
    assert_eq!(row.columns().collect::<Vec<_>>(), ["a", "b"]);
    let explained = pool.execute(Sql::new("EXPLAIN SELECT 1")).expect("works");
    assert!(!explained.rows().is_empty());
}

#[test]
fn costs_one_round_trip_after_the_first() {
    let manager = manager(&Server::shared().url(), 2);
    let mut conn = manager.connect().expect("connects");
    let mut trips = |sql: Sql| {
        let before = Postgres::traffic(&conn).statements;
        let reply = manager
            .execute(&mut conn, &sql, Deadline::NEVER)
            .expect("works");
        assert_eq!(text(&reply), Some("7"));
        Postgres::traffic(&conn)
            .statements
            .zip(before)
            .map(|(now, then)| now - then)
    };
    let texts = ["SELECT $1::int", "SELECT $1::int + 0", "SELECT $1::int - 0"];
    let [a, b, c] = texts.map(|sql| Sql::new(sql).bind(7));
    for (sql, expected) in [
        (&a, 2),
        (&a, 1),
        (&b, 2),
        (&a, 1),
        (&c, 2),
        (&a, 1),
        (&b, 2),
    ] {
        assert_eq!(trips(sql.clone()), Some(expected), "{sql:?}");
    }
    let row = conn.query_one(
        "SELECT count(*) FROM pg_prepared_statements WHERE from_sql",
        &[],
    );
    assert_eq!(
        row.expect("works").get::<_, i64>(0),
        2,
        "what is given up is given up there too"
    );
}

#[test]
fn what_the_server_forgot_or_changed_is_prepared_again() {
    let url = Server::shared().create_database("op_stale").expect("made");
    let pool = pool(&url, 8);
    let run = |sql: &'static str| pool.execute(Sql::new(sql)).expect("works");
    run("CREATE TABLE t AS SELECT 1 AS a");
    assert_eq!(run("SELECT * FROM t").rows()[0].len(), 1);
    run("DISCARD ALL");
    assert_eq!(run("SELECT * FROM t").rows()[0].len(), 1);
    run("ALTER TABLE t ADD b int");
    assert_eq!(run("SELECT * FROM t").rows()[0].len(), 2);

    let select = Sql::new("SELECT * FROM t");
    let mut lease = pool.get().expect("a connection");
    lease
        .batch_execute("ALTER TABLE t ADD c int")
        .expect("works");
    lease.batch_execute("BEGIN").expect("works");
    let error = PooledConnection::execute(&mut lease, &select).expect_err("plan changed");
    assert!(error.to_string().contains("cached plan"), "{error}");
    lease.batch_execute("ROLLBACK").expect("works");
    let reply = PooledConnection::execute(&mut lease, &select).expect("works");
    assert_eq!(reply.rows()[0].len(), 3);
}

#[test]
fn works_behind_a_pooler() {
    let server = Server::start().expect("starts");
    let bouncer = PgBouncer::start(&server).expect("starts");
    let pool = Pool::builder().max_size(4);
    let pool = pool.build(manager(&bouncer.url(), 0)).expect("opens");
    pool.execute(Sql::new("CREATE TABLE t (a int, b text[])"))
        .expect("made");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for number in 0..20 {
                    let sql = Sql::new("INSERT INTO t VALUES ($1, $2)").bind(thread * 100 + number);
                    pool.execute(sql.bind(vec!["a,b", "\"'\\"])).expect("works");
                }
            });
        }
    });
    let sql = "SELECT count(DISTINCT a), count(DISTINCT b) FROM t";
    assert_eq!(server.psql(sql).expect("works"), "80|1");
    let kept = server
        .psql("SELECT count(*) FROM pg_prepared_statements")
        .expect("works");
    assert_eq!(kept, "0");
}

#[test]
fn leaves_the_connection_clean_or_says_so() {
    let pool = pool(&Server::shared().url(), 8);
    let setting = Sql::new("SELECT current_setting('work_mem')");
    let usual = text(&pool.execute(&setting).expect("works")).map(str::to_owned);
    pool.execute(Sql::new("SET work_mem = '7MB'"))
        .expect("works");
    assert_eq!(
        text(&pool.execute(&setting).expect("works")),
        usual.as_deref()
    );
}

#[test]
fn a_deadline_that_is_over_sends_nothing() {
    let manager = manager(&Server::shared().url(), 8);
    let mut conn = manager.connect().expect("connects");
    let over = Deadline::within(Duration::ZERO);
    let error = manager
        .execute(&mut conn, &Sql::new("SELECT 1"), over)
        .expect_err("late");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(!error.outcome_unknown());
    assert_eq!(Postgres::traffic(&conn).statements, Some(0));
}

#[test]
fn a_lost_connection_leaves_the_outcome_open() {
    let server = Server::start().expect("starts");
    let pool = pool(&server.url(), 8);
    let sql = Sql::new("SELECT pg_terminate_backend(pg_backend_pid())");
    let error = pool
        .execute(sql.retry(millpond::RetryPolicy::never()))
        .expect_err("lost");
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert!(error.outcome_unknown(), "{error:?}");
    pool.execute(Sql::new("SELECT 1"))
        .expect("a new connection");
}

#[test]
fn arrays_of_any_depth_arrive() {
    let pool = pool(&Server::shared().url(), 8);
    for (value, sql, expected) in [
        (
            vec![Some("a"), None].into(),
            "SELECT ($1::text[])[2] IS NULL",
            "t",
        ),
        (
            vec![vec![1, 2], vec![3, 4]].into(),
            "SELECT ($1::int[])[2][1]",
            "3",
        ),
        (
            SqlValue::Array(vec![]),
            "SELECT cardinality($1::int[])",
            "0",
        ),
        (
            vec![b"\\\"".to_vec()].into(),
            "SELECT encode(($1::bytea[])[1], 'hex')",
            "5c22",
        ),
    ] {
        let reply = pool.execute(Sql::new(sql).bind(value)).expect("works");
        assert_eq!(text(&reply), Some(expected), "{sql}");
    }
}
