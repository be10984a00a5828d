//! Copies under way when the connection, the server or the time is lost.

use std::thread;
use std::time::Instant;

use testbed::Proxy;

use super::*;

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
            let row = |n: i32| insert.clone().bind(testbed::number(n)).bind(b);
            (0..MANY).map(row).collect()
        };
        assert_all_done(&bed.twice(&rows(""), "TRUNCATE t").0);
        bed.psql("TRUNCATE t");
        let mut other = bed.manager.connect().expect("connects");
        let hold = "BEGIN; INSERT INTO t VALUES ('730194756283000007')";
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
