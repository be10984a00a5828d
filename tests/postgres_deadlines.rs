//! Deadlines on PostgreSQL: a server that is slow, frozen or silent holds nobody longer.

use std::thread;
use std::time::{Duration, Instant};

use millpond::backend::Backend as _;
use millpond::backend::postgres::SslMode;
use millpond::{
    ConnectFailure, Deadline, ErrorKind, ManageConnection, Phase, Pool, Postgres, PostgresConfig,
    PostgresConnection, Reset,
};
use testbed::{BlackHole, Ca, PgBouncer, Postgres as Server, Proxy, Silent};

const LIMIT: Duration = Duration::from_millis(200);
/// What an end may be late on a machine that has much else to do.
const LATE: Duration = Duration::from_secs(1);
/// What it may be late on one that has not.
const PUNCTUAL: Duration = Duration::from_millis(100);

fn config(server: &Server) -> PostgresConfig {
    PostgresConfig::from_url(&server.url()).expect("a good URL")
}

fn manager(config: PostgresConfig) -> Postgres {
    Postgres::new(config).expect("good settings")
}

fn connected(config: PostgresConfig) -> PostgresConnection {
    manager(config).connect().expect("connects")
}

/// Runs this, and says how long it took.
fn timed<R>(run: impl FnOnce() -> R) -> (R, Duration) {
    let start = Instant::now();
    let result = run();
    (result, start.elapsed())
}

fn pid(conn: &mut PostgresConnection) -> i32 {
    let row = conn.query_one("SELECT pg_backend_pid()", &[]);
    row.expect("works").get(0)
}

/// The error of a statement that takes too long, which must come in time.
fn too_slow(conn: &mut PostgresConnection, sql: &str) -> millpond::Error {
    let (result, took) = timed(|| {
        conn.within_deadline(Deadline::within(LIMIT), |conn| conn.query(sql, &[]))
            .map(drop)
    });
    let error = result.expect_err("takes too long");
    assert!(took >= LIMIT && took < LIMIT + LATE, "{took:?}: {error}");
    assert_eq!(
        (error.kind(), error.phase()),
        (ErrorKind::DeadlineExceeded, Phase::Operation),
        "{error}"
    );
    error
}

/// A slow statement is cancelled, and the connection lives on; it is returned. On a machine that
/// has much else to do a cancel request may take longer than a connection is waited for: that one
/// is given up, and another one has to show it.
fn is_cancelled_and_goes_on(server: &Server, manager: &Postgres) -> PostgresConnection {
    for _ in 0..10 {
        let mut conn = manager.connect().expect("connects");
        if (0..3).all(|_| goes_on_when_cancelled(server, manager, &mut conn)) {
            return conn;
        }
    }
    panic!("ten connections were given up");
}

fn goes_on_when_cancelled(
    server: &Server,
    manager: &Postgres,
    conn: &mut PostgresConnection,
) -> bool {
    let before = pid(conn);
    let error = too_slow(conn, "SELECT pg_sleep(30)");
    if manager.has_broken(conn) {
        return false;
    }
    assert!(!error.outcome_unknown(), "{error}");
    assert_eq!(pid(conn), before);
    let state = format!("SELECT state FROM pg_stat_activity WHERE pid = {before}");
    assert_eq!(server.psql(&state).expect("answers"), "idle");
    true
}

#[test]
fn a_slow_statement_is_cancelled_and_the_connection_goes_on() {
    let server = Server::start().expect("starts");
    let mut conn = is_cancelled_and_goes_on(&server, &manager(config(&server)));
    // In time, nothing happens.
    for _ in 0..100 {
        let soon = Deadline::within(Duration::from_secs(20));
        conn.within_deadline(soon, |conn| conn.query_one("SELECT 1", &[]))
            .expect("in time");
    }
    // A deadline that is over sends nothing; none at all is no deadline.
    let over = Deadline::at(Instant::now());
    let error = conn
        .within_deadline(over, |conn| conn.execute("CREATE TABLE t (a int)", &[]))
        .expect_err("over");
    assert!(!error.outcome_unknown(), "{error}");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    conn.within_deadline(Deadline::NEVER, |conn| {
        conn.execute("CREATE TABLE t (a int)", &[])
    })
    .expect("there is none yet");
}

#[test]
fn a_pooled_connection_survives_its_deadline() {
    let server = Server::start().expect("starts");
    let pool = Pool::builder()
        .max_size(1)
        .build(manager(config(&server)))
        .expect("opens");
    let mut pids = Vec::new();
    for _ in 0..3 {
        let mut lease = pool.get().expect("a connection");
        pids.push(pid(&mut lease));
        too_slow(&mut lease, "SELECT pg_sleep(30)");
    }
    pids.dedup();
    assert_eq!(pids.len(), 1, "{pids:?}");
}

#[test]
fn somebody_elses_cancel_is_a_cancel() {
    let server = Server::start().expect("starts");
    let mut conn = connected(config(&server));
    let own = pid(&mut conn);
    let error = thread::scope(|scope| {
        scope.spawn(|| {
            let busy = format!(
                "SELECT pg_cancel_backend({own}) FROM pg_stat_activity \
                 WHERE pid = {own} AND state = 'active' AND query LIKE '%sleep%'"
            );
            while server.psql(&busy).expect("answers").is_empty() {
                thread::yield_now();
            }
        });
        let later = Deadline::within(Duration::from_secs(20));
        conn.within_deadline(later, |conn| conn.query("SELECT pg_sleep(30)", &[]))
            .map(drop)
            .expect_err("cancelled")
    });
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(!error.outcome_unknown(), "{error}");
    assert_eq!(pid(&mut conn), own);
}

#[test]
fn the_deadline_ends_an_endless_result_and_an_endless_upload() {
    let server = Server::start().expect("starts");
    too_slow(
        &mut connected(config(&server)),
        "SELECT g FROM generate_series(1, 1000000000) g",
    );
    let mut conn = connected(config(&server));
    conn.batch_execute("CREATE TABLE t (a text)")
        .expect("works");
    let (result, took) = timed(|| {
        conn.within_deadline(Deadline::within(LIMIT), |conn| {
            let mut upload = conn.copy_in("COPY t FROM STDIN")?;
            while std::io::Write::write_all(&mut upload, b"some line\n").is_ok() {}
            upload.finish()
        })
    });
    let error = result.expect_err("endless");
    assert!(took < LIMIT + LATE, "{took:?}: {error}");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
}

/// Freezes the server under a statement; thaws it when this returns.
fn is_left_when_frozen(server: &Server, conn: &mut PostgresConnection) {
    conn.query("SELECT 1", &[]).expect("works");
    server.freeze();
    let error = too_slow(conn, "SELECT 1");
    assert!(error.outcome_unknown(), "{error}");
    // All that follows fails at once, and so does the good-bye.
    let (result, took) = timed(|| conn.query("SELECT 1", &[]).map(drop));
    assert!(result.is_err() && took < LATE, "{took:?}: {result:?}");
}

#[test]
fn a_frozen_server_is_left_at_the_deadline() {
    let server = Server::start().expect("starts");
    let manager = manager(config(&server));
    let mut conn = manager.connect().expect("connects");
    is_left_when_frozen(&server, &mut conn);
    assert!(manager.has_broken(&mut conn));
    let ((), took) = timed(|| drop(conn));
    assert!(took < LATE, "the drop took {took:?}");
    server.thaw();
    connected(config(&server));
}

#[test]
fn a_frozen_server_is_left_within_a_tenth_of_a_second() {
    let server = Server::start().expect("starts");
    let mut conns: Vec<_> = (0..5).map(|_| connected(config(&server))).collect();
    server.freeze();
    let best = conns
        .iter_mut()
        .map(|conn| timed(|| too_slow(conn, "SELECT 1")).1)
        .min();
    assert!(best.expect("five") < LIMIT + PUNCTUAL, "{best:?}");
    server.thaw();
}

#[test]
fn a_frozen_server_holds_no_reset_check_or_drop() {
    let server = Server::start().expect("starts");
    let config = config(&server).connect_timeout(LIMIT).check_timeout(LIMIT);
    let manager = manager(config);
    let mut conns: Vec<_> = (0..4)
        .map(|_| manager.connect().expect("connects"))
        .collect();
    server.freeze();
    let mut in_time = |run: fn(&Postgres, &mut PostgresConnection) -> Option<ErrorKind>| {
        let mut conn = conns.pop().expect("enough");
        let (kind, took) = timed(|| run(&manager, &mut conn));
        assert_eq!(kind, Some(ErrorKind::DeadlineExceeded));
        assert!(took < LIMIT + LATE, "{took:?}");
        assert!(manager.has_broken(&mut conn));
        let ((), took) = timed(|| drop(conn));
        assert!(took < LATE, "the drop took {took:?}");
    };
    in_time(|manager, conn| manager.reset(conn, Reset::Fast).err().map(|e| e.kind()));
    in_time(|manager, conn| manager.reset(conn, Reset::Full).err().map(|e| e.kind()));
    in_time(|manager, conn| manager.check(conn).err().map(|e| e.kind()));
    // An idle one says good-bye and waits for nothing.
    let ((), took) = timed(|| drop(conns));
    assert!(took < LATE, "the drop took {took:?}");
    server.thaw();
}

#[test]
fn a_login_ends_by_the_connect_timeout() {
    let server = Server::start().expect("starts");
    let silent = Silent::start().expect("listens");
    let hole = BlackHole::start().expect("listens");
    server.freeze();
    for (what, port) in [
        ("silent", silent.port()),
        ("black hole", hole.port()),
        ("frozen", server.port()),
    ] {
        for mode in [SslMode::Disable, SslMode::Prefer, SslMode::Require] {
            let config = PostgresConfig::new()
                .host("127.0.0.1")
                .port(port)
                .user("test")
                .ssl_mode(mode)
                .connect_timeout(LIMIT);
            let manager = manager(config);
            let (result, took) = timed(|| manager.connect().map(drop));
            let error = result.expect_err("nobody answers");
            assert!(took < LIMIT + LATE, "{what}, {mode:?}: {took:?}");
            assert_eq!(
                (error.kind(), error.phase()),
                (ErrorKind::Connect(ConnectFailure::Timeout), Phase::Connect),
                "{what}, {mode:?}: {error}"
            );
            assert!(error.to_string().contains("DB_CONNECT_TIMEOUT"), "{error}");
        }
    }
    server.thaw();
}

#[test]
fn a_server_that_stops_in_the_middle_of_the_login_does_not_hold_it() {
    let server = Server::start().expect("starts");
    let proxy = Proxy::start(server.port()).expect("starts");
    // The first answer, on TLS, may come in time; the second one does not.
    proxy.latency(LIMIT * 3 / 10);
    let config = PostgresConfig::new()
        .host("127.0.0.1")
        .port(proxy.port())
        .user("test")
        .connect_timeout(LIMIT);
    let manager = manager(config);
    let (result, took) = timed(|| manager.connect().map(drop));
    let error = result.expect_err("too late");
    assert!(took < LIMIT + LATE, "{took:?}");
    assert_eq!(error.kind(), ErrorKind::Connect(ConnectFailure::Timeout));
}

#[test]
fn deadlines_hold_under_tls() {
    let ca = Ca::new();
    let server = Server::builder().tls(&ca).start().expect("starts");
    let config = config(&server)
        .ca_file(ca.cert_path())
        .ssl_mode(SslMode::VerifyFull);
    let mut conn = is_cancelled_and_goes_on(&server, &manager(config));
    is_left_when_frozen(&server, &mut conn);
    server.thaw();
}

#[test]
fn a_server_without_tls_will_do_where_it_is_only_preferred() {
    let server = Server::shared();
    connected(config(server).ssl_mode(SslMode::Prefer));
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        let ca = Ca::new();
        let config = config(server).ca_file(ca.cert_path()).ssl_mode(mode);
        let error = manager(config).connect().map(drop).expect_err("has no TLS");
        assert_eq!(error.kind(), ErrorKind::Connect(ConnectFailure::Tls));
        assert!(error.to_string().contains("does not offer TLS"), "{error}");
    }
}

#[test]
fn deadlines_hold_behind_pgbouncer() {
    let server = Server::start().expect("starts");
    let bouncer = PgBouncer::start(&server).expect("starts");
    let config = PostgresConfig::from_url(&bouncer.url())
        .expect("a good URL")
        .statement_cache(0);
    let mut conn = is_cancelled_and_goes_on(&server, &manager(config));
    bouncer.freeze();
    let error = too_slow(&mut conn, "SELECT 1");
    assert!(error.outcome_unknown(), "{error}");
    bouncer.thaw();
}

#[test]
fn a_unix_socket_is_cancelled_at_the_deadline_and_given_up() {
    let server = Server::start().expect("starts");
    let config = PostgresConfig::new()
        .host(server.socket_dir().display().to_string())
        .port(server.port())
        .user("test")
        .database("postgres");
    let manager = manager(config);
    let mut conn = manager.connect().expect("connects");
    let error = too_slow(&mut conn, "SELECT pg_sleep(30)");
    assert!(!error.outcome_unknown(), "{error}");
    // The driver does not say when the request was dealt with.
    assert!(manager.has_broken(&mut conn));
}

#[test]
fn cancel_requests_to_a_frozen_server_hold_up_no_other() {
    let frozen = Server::start().expect("starts");
    let live = Server::start().expect("starts");
    let mut stuck: Vec<_> = (0..8).map(|_| connected(config(&frozen))).collect();
    let mut slow = connected(config(&live));
    frozen.freeze();
    thread::scope(|scope| {
        for conn in &mut stuck {
            scope.spawn(|| assert!(too_slow(conn, "SELECT 1").outcome_unknown()));
        }
        // After the others' requests were made, before they have ended.
        thread::sleep(LIMIT / 4);
        let error = too_slow(&mut slow, "SELECT pg_sleep(30)");
        assert!(!error.outcome_unknown(), "{error}");
    });
    frozen.thaw();
}

/// Threads and open files of this process.
fn census() -> (usize, usize) {
    let count = |folder| std::fs::read_dir(folder).expect("Linux").count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

/// In a process of its own, so that only its threads are counted.
#[test]
fn nothing_is_left_behind() {
    const ALONE: &str = "MILLPOND_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let program = std::env::current_exe().expect("this program");
        let status = std::process::Command::new(program)
            .args(["--exact", "nothing_is_left_behind", "--nocapture"])
            .env(ALONE, "1")
            .status();
        assert!(status.expect("starts").success());
        return;
    }
    let server = Server::start().expect("starts");
    let config = config(&server)
        .connect_timeout(Duration::from_secs(1))
        .check_timeout(LIMIT);
    // The first runtime of a process opens what all of them share.
    drop(connected(config.clone()));
    let before = census();
    let pool = Pool::builder()
        .max_size(4)
        .build(manager(config))
        .expect("opens");
    let mut leases: Vec<_> = (0..4).map(|_| pool.get().expect("a connection")).collect();
    server.freeze();
    thread::scope(|scope| {
        for lease in &mut leases {
            scope.spawn(|| assert!(too_slow(lease, "SELECT 1").outcome_unknown()));
        }
    });
    drop(leases);
    server.thaw();
    let mut lease = pool
        .get_timeout(Duration::from_secs(10))
        .expect("works again");
    pid(&mut lease);
    drop(lease);
    drop(pool);
    let end = Instant::now() + Duration::from_secs(10);
    while census() != before {
        assert!(Instant::now() < end, "{before:?} became {:?}", census());
        thread::sleep(Duration::from_millis(20));
    }
}
