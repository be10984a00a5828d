//! What became of a group of PostgreSQL operations whose connection was lost while it was
//! being committed.

use std::process::Command;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::{
    Deadline, ErrorKind, ManageConnection, Outcome, Postgres, PostgresConfig, Sql, SqlReply,
};
use testbed::{Ca, Postgres as Server, Proxy};

/// A server whose commits of rows in `t` take a while, and a proxy to it.
fn slow_to_commit() -> (Server, Proxy) {
    let server = Server::start().expect("starts");
    for sql in [
        "CREATE TABLE t (a int PRIMARY KEY)",
        "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN IF new.a = 0 THEN PERFORM pg_sleep(0.5); END IF; RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER nap AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION nap()",
    ] {
        server.psql(sql).expect("works");
    }
    let proxy = Proxy::start(server.port()).expect("starts");
    (server, proxy)
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "waiting for {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_committing(server: &Server) -> bool {
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    server.psql(asleep).is_ok_and(|count| count == "1")
}

fn rows(server: &Server) -> String {
    server.psql("SELECT count(*) FROM t").unwrap_or_default()
}

/// Runs a group of four, and meanwhile what happens while it is being committed.
fn run(
    proxy: &Proxy,
    resolve: bool,
    more: &str,
    meanwhile: impl FnOnce() + Send,
) -> Vec<Outcome<SqlReply>> {
    let config = PostgresConfig::new().host("127.0.0.1").port(proxy.port());
    let config = config
        .user("test")
        .database("postgres")
        .resolve_unknown(resolve);
    let manager = Postgres::new(config).expect("good settings");
    let mut conn = manager.connect().expect("connects");
    let sql = format!("INSERT INTO t VALUES ($1) {more}");
    let operations: Vec<Sql> = (0..4).map(|n| Sql::new(sql.clone()).bind(n)).collect();
    let operations: Vec<&Sql> = operations.iter().collect();
    std::thread::scope(|scope| {
        scope.spawn(meanwhile);
        let deadline = Deadline::within(Duration::from_secs(20));
        manager.execute_batch(&mut conn, &operations, deadline)
    })
}

#[test]
fn is_unknown_unless_it_is_asked_for() {
    let (server, proxy) = slow_to_commit();
    let outcomes = run(&proxy, false, "", || {
        until("the commit", || is_committing(&server));
        proxy.cut();
    });
    for outcome in outcomes {
        assert!(matches!(outcome, Outcome::Unknown(error) if error.outcome_unknown()));
    }
}

#[test]
fn what_was_committed_is_done() {
    for more in ["", "RETURNING a"] {
        let (server, proxy) = slow_to_commit();
        let outcomes = run(&proxy, true, more, || {
            until("the commit", || is_committing(&server));
            proxy.cut();
        });
        for (n, outcome) in outcomes.into_iter().enumerate() {
            let reply = outcome.into_result().expect("done");
            assert_eq!(reply.affected(), 1);
            if !more.is_empty() {
                assert_eq!(reply.rows()[0].get::<usize>("a").expect("int"), n);
            }
        }
        assert_eq!(rows(&server), "4");
    }
}

fn assert_not_executed(outcomes: Vec<Outcome<SqlReply>>) {
    for outcome in outcomes {
        match outcome {
            Outcome::NotExecuted(error) => assert_eq!(error.kind(), ErrorKind::ConnectionLost),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_was_rolled_back_is_not_executed() {
    let (server, proxy) = slow_to_commit();
    let outcomes = run(&proxy, true, "", || {
        until("the commit", || is_committing(&server));
        proxy.cut();
        let kill =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        server.psql(kill).expect("works");
    });
    assert_not_executed(outcomes);
    assert_eq!(rows(&server), "0");
}

#[test]
fn what_a_crash_undid_is_not_executed() {
    let (server, proxy) = slow_to_commit();
    let outcomes = run(&proxy, true, "", || {
        until("the commit", || is_committing(&server));
        server.kill();
        server.restart().expect("starts again");
    });
    assert_not_executed(outcomes);
    assert_eq!(rows(&server), "0");
}

/// The number could have been handed out again, so nobody can tell.
#[test]
fn committed_in_an_earlier_life_of_the_server_stays_unknown() {
    for postmaster_dies in [true, false] {
        let (server, proxy) = slow_to_commit();
        let outcomes = run(&proxy, true, "", || {
            until("the commit", || is_committing(&server));
            proxy.black_hole(true);
            until("its end", || rows(&server) == "4");
            if postmaster_dies {
                server.kill();
                server.restart().expect("starts again");
            } else {
                let helper = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
                let before = server.psql(helper).expect("works");
                let committed = "SELECT pid FROM pg_stat_activity WHERE query = 'COMMIT'";
                let pid = server.psql(committed).expect("works");
                let status = Command::new("kill").args(["-9", &pid]).status();
                assert!(status.expect("runs").success());
                until("the recovery", || {
                    server
                        .psql(helper)
                        .is_ok_and(|now| !now.is_empty() && now != before)
                });
                until("all rows", || rows(&server) == "4");
            }
            proxy.cut();
            proxy.black_hole(false);
        });
        for outcome in outcomes {
            assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
        }
        assert_eq!(rows(&server), "4");
    }
}

#[test]
fn costs_what_it_says_and_needs_no_privilege() {
    let (server, proxy) = slow_to_commit();
    server
        .psql("CREATE ROLE app LOGIN; GRANT ALL ON t TO app")
        .expect("works");
    for (resolve, more, expected) in [
        (false, "", 1),
        (true, "", 3),
        (false, "RETURNING a", 1),
        (true, "RETURNING a", 2),
    ] {
        let config = PostgresConfig::new().host("127.0.0.1").port(proxy.port());
        let config = config
            .user("app")
            .database("postgres")
            .resolve_unknown(resolve);
        let manager = Postgres::new(config).expect("good settings");
        let mut conn = manager.connect().expect("connects");
        let sql = Sql::new(format!("INSERT INTO t VALUES ($1) {more}"));
        let mut trips = 0;
        for _ in 0..2 {
            let ops: Vec<Sql> = (1..9).map(|_| sql.clone().bind(new_key())).collect();
            let ops: Vec<&Sql> = ops.iter().collect();
            let before = Postgres::traffic(&conn).statements.expect("counted");
            for outcome in manager.execute_batch(&mut conn, &ops, Deadline::NEVER) {
                assert!(outcome.is_done(), "{outcome:?}");
            }
            trips = Postgres::traffic(&conn).statements.expect("counted") - before;
        }
        assert_eq!(trips, expected, "{resolve} {more}");
    }
}

/// A number that no other call gives.
fn new_key() -> i32 {
    use std::sync::atomic::{AtomicI32, Ordering};
    static NEXT: AtomicI32 = AtomicI32::new(100);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The driver reads before it writes, so it is known that nothing was sent.
#[test]
fn on_a_connection_that_was_ended_while_idle_nothing_is_in_doubt() {
    let ca = Ca::new();
    for server in [Server::builder(), Server::builder().tls(&ca)] {
        let server = server.start().expect("starts");
        server.psql("CREATE TABLE t (a int)").expect("works");
        let proxy = Proxy::start(server.port()).expect("starts");
        let config = PostgresConfig::new().host("127.0.0.1").port(proxy.port());
        let config = config.user("test").database("postgres");
        let manager = Postgres::new(config).expect("good settings");
        let terminate = || {
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE application_name = 'millpond'";
            server.psql(end).expect("ends them");
        };
        let ways: [&dyn Fn(); 2] = [&terminate, &|| proxy.cut()];
        for end in ways {
            // One operation, the first group, and one whose statement is merged already.
            for (group, is_merged) in [(false, false), (true, false), (true, true)] {
                let mut conn = manager.connect().expect("connects");
                let sql = Sql::new("INSERT INTO t VALUES ($1)").bind(1);
                let deadline = Deadline::within(Duration::from_secs(20));
                // So that it is prepared.
                let first = manager.execute(&mut conn, &sql, deadline);
                first.expect("works");
                if is_merged {
                    let outcomes = manager.execute_batch(&mut conn, &[&sql, &sql], deadline);
                    assert!(outcomes.iter().all(Outcome::is_done), "{outcomes:?}");
                }
                let before = rows(&server);
                end();
                std::thread::sleep(Duration::from_millis(50));
                let error = if group {
                    let outcomes = manager.execute_batch(&mut conn, &[&sql, &sql], deadline);
                    let mut errors = outcomes.into_iter().map(|one| match one {
                        Outcome::NotExecuted(error) => error,
                        other => panic!("{other:?}"),
                    });
                    errors.next().expect("two of them")
                } else {
                    let late = manager.execute(&mut conn, &sql, deadline);
                    late.expect_err("ended")
                };
                assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
                assert!(!error.outcome_unknown(), "{error}");
                assert!(manager.has_broken(&mut conn), "it is given up");
                assert_eq!(rows(&server), before);
            }
        }
    }
}
