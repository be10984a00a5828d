//! PostgreSQL starts, answers and suffers as told.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use testbed::{Ca, PgBouncer, Postgres};

/// Logs in over TCP, without TLS; whether the server let us in.
fn login(port: u16, timeout: Duration) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(timeout))?;
    let mut hello = vec![0, 0, 0, 38, 0, 3, 0, 0];
    hello.extend_from_slice(b"user\0test\0database\0postgres\0\0");
    hello[3] = u8::try_from(hello.len()).expect("a short greeting");
    stream.write_all(&hello)?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    match kind {
        [b'R'] => Ok(stream),
        _ => Err(ErrorKind::PermissionDenied.into()),
    }
}

#[test]
fn starts_and_answers() {
    let postgres = Postgres::start().expect("PostgreSQL");
    assert_eq!(postgres.psql("SELECT 1, 'x'").expect("rows"), "1|x");
    assert_eq!(postgres.host(), "127.0.0.1");
    let url = postgres.create_database("mine").expect("a database");
    assert!(url.ends_with("/mine"), "{url}");
    let name = postgres.psql_in("mine", "SELECT current_database()");
    assert_eq!(name.expect("a name"), "mine");
    login(postgres.port(), Duration::from_secs(5)).expect("a login over TCP");
    let error = postgres
        .psql("SELECT nonsense")
        .expect_err("no such column");
    assert!(error.to_string().contains("42703"), "{error}");
}

#[test]
fn settings_are_in_force() {
    let postgres = Postgres::builder()
        .fsync(true)
        .setting("max_connections", "7")
        .start()
        .expect("PostgreSQL");
    let show = |name| postgres.psql(&format!("SHOW {name}")).expect(name);
    assert_eq!(show("fsync"), "on");
    assert_eq!(show("max_connections"), "7");
}

#[test]
fn a_frozen_server_keeps_its_backends_from_answering() {
    let postgres = Postgres::start().expect("PostgreSQL");
    let mut stream = login(postgres.port(), Duration::from_millis(200)).expect("a login");
    let mut rest = [0; 1024];
    // Up to and including "ready for query".
    while !rest.ends_with(b"I") {
        let length = stream.read(&mut rest).expect("the rest of the greeting");
        if rest[..length].ends_with(b"Z\0\0\0\x05I") {
            break;
        }
    }
    postgres.freeze();
    stream
        .write_all(b"Q\0\0\0\x0dSELECT 1\0")
        .expect("room in the socket");
    let error = stream.read(&mut rest).expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    postgres.thaw();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    assert!(stream.read(&mut rest).expect("an answer") > 0);
}

#[test]
fn a_killed_server_comes_back_on_the_same_port_with_its_data() {
    let postgres = Postgres::builder().fsync(true).start().expect("PostgreSQL");
    postgres
        .psql("CREATE TABLE t AS SELECT 42 AS x")
        .expect("a table");
    let port = postgres.port();
    postgres.kill();
    assert_eq!(postgres.pid(), None);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    postgres.restart().expect("PostgreSQL, again");
    assert_eq!(postgres.port(), port);
    assert_eq!(postgres.psql("SELECT x FROM t").expect("the row"), "42");
    postgres.stop();
    postgres.restart().expect("PostgreSQL, a third time");
    assert_eq!(postgres.psql("SELECT x FROM t").expect("the row"), "42");
}

#[test]
fn a_standby_follows_and_takes_over() {
    let primary = Postgres::start().expect("PostgreSQL");
    primary.psql("CREATE TABLE t (x int)").expect("a table");
    let standby = primary.replica().expect("a standby");
    assert_eq!(
        standby
            .psql("SELECT pg_is_in_recovery()")
            .expect("an answer"),
        "t"
    );
    primary.psql("INSERT INTO t VALUES (7)").expect("a row");
    let deadline = Instant::now() + Duration::from_secs(20);
    while standby.psql("SELECT x FROM t").expect("an answer") != "7" {
        assert!(Instant::now() < deadline, "the row did not arrive");
    }
    primary.kill();
    standby.promote().expect("a promotion");
    standby.psql("INSERT INTO t VALUES (8)").expect("a row");
}

#[test]
fn tls_takes_the_place_of_plain_text() {
    let ca = Ca::new();
    let postgres = Postgres::builder().tls(&ca).start().expect("PostgreSQL");
    assert_eq!(postgres.psql("SHOW ssl").expect("an answer"), "on");
    let refusal = login(postgres.port(), Duration::from_secs(5)).expect_err("a refusal");
    assert_eq!(refusal.kind(), ErrorKind::PermissionDenied);
    let other = Postgres::builder()
        .tls(&ca)
        .client_certificates(true)
        .start()
        .expect("PostgreSQL");
    let rules = "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'cert'";
    assert_eq!(other.psql(rules).expect("an answer"), "1");
}

#[test]
fn pgbouncer_lets_logins_through() {
    let postgres = Postgres::start().expect("PostgreSQL");
    let pooler = PgBouncer::start(&postgres).expect("PgBouncer");
    login(pooler.port(), Duration::from_secs(10)).expect("a login through PgBouncer");
    pooler.kill();
    pooler.restart().expect("PgBouncer, again");
    login(pooler.port(), Duration::from_secs(10)).expect("a login through PgBouncer");
}
