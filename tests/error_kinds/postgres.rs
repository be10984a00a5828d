//! PostgreSQL's.

use std::thread;
use std::time::Duration;

use millpond::backend::Backend as _;
use millpond::backend::postgres::{SslMode, TargetSession};
use millpond::{
    Deadline, Error, ErrorKind as Kind, ManageConnection as _, Postgres, PostgresConfig,
    PostgresConnection, Sql,
};
use testbed::{BlackHole, Postgres as Server, Proxy, Silent, refused_port, secret};

use super::Then::{Final, InDoubt, Later};
use super::{DNS, LIMIT, REFUSED, Row, TIMEOUT, TLS, check, connect, operation, until};

const SCHEMA: &str = "
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE t (id int PRIMARY KEY, parent int REFERENCES parent, n int CHECK (n > 0),
                    name varchar(3) NOT NULL DEFAULT '', span int4range,
                    EXCLUDE USING gist (span WITH &&));
    INSERT INTO t (id, n, span) VALUES (1, 1, '[1,5)'), (2, 1, NULL);
    CREATE ROLE app LOGIN;
    CREATE ROLE few LOGIN CONNECTION LIMIT 0;
    CREATE ROLE barred NOLOGIN;
    CREATE DATABASE secret;
    REVOKE CONNECT ON DATABASE secret FROM public;
    CREATE DATABASE shut ALLOW_CONNECTIONS false;";

struct Servers {
    primary: Server,
    replica: Server,
    /// A small one, to be frozen and stopped.
    spare: Server,
}

impl Servers {
    fn start() -> Self {
        let login = "host all app 127.0.0.1/32 scram-sha-256\n\
                     host all turned_away 127.0.0.1/32 reject\n\
                     host all all 127.0.0.1/32 trust";
        let builder = Server::builder()
            .hba(login)
            .setting("deadlock_timeout", "20ms");
        let primary = builder.start().expect("starts");
        for statement in SCHEMA.split_inclusive(';') {
            primary.psql(statement).expect("made");
        }
        let password = concat!("ALTER ROLE app PASSWORD '", secret!("right"), "'");
        primary.psql(password).expect("set");
        let small = Server::builder().setting("max_connections", "4");
        let small = small.setting("superuser_reserved_connections", "0");
        Self {
            replica: primary.replica().expect("starts"),
            spare: small
                .setting("max_wal_senders", "0")
                .start()
                .expect("starts"),
            primary,
        }
    }

    fn config(&self) -> PostgresConfig {
        config(self.primary.port())
    }

    fn open(&self) -> PostgresConnection {
        open(self.config())
    }

    /// What an operation comes to.
    fn run(&self, sql: &'static str) -> Error {
        run(self.config(), sql)
    }

    /// What the last of these statements comes to, each sent by itself.
    fn last(&self, statements: &[&str]) -> Error {
        last(&mut self.open(), statements)
    }
}

fn config(port: u16) -> PostgresConfig {
    let config = PostgresConfig::new().host("127.0.0.1").port(port);
    config.user("test").database("postgres")
}

fn open(config: PostgresConfig) -> PostgresConnection {
    let manager = Postgres::new(config).expect("good settings");
    manager.connect().expect("connects")
}

fn run(config: PostgresConfig, sql: &'static str) -> Error {
    let manager = Postgres::new(config).expect("good settings");
    let mut conn = manager.connect().expect("connects");
    let result = manager.execute(&mut conn, &Sql::new(sql), Deadline::NEVER);
    result.expect_err(sql)
}

fn last(conn: &mut PostgresConnection, statements: &[&str]) -> Error {
    let (last, before) = statements.split_last().expect("some");
    for statement in before {
        conn.batch_execute(statement).expect("works");
    }
    conn.batch_execute(last).expect_err(last).into()
}

fn refused(config: PostgresConfig) -> Error {
    let manager = Postgres::new(config).expect("good settings");
    manager.connect().expect_err("must not connect")
}

fn pid(conn: &mut PostgresConnection) -> i32 {
    let row = conn.query_one("SELECT pg_backend_pid()", &[]);
    row.expect("works").get(0)
}

/// What a statement that sleeps comes to when this function is called on its process.
fn interrupted(servers: &Servers, function: &str) -> Error {
    let mut conn = servers.open();
    let own = pid(&mut conn);
    thread::scope(|scope| {
        scope.spawn(|| {
            let busy = format!(
                "SELECT {function}({own}) FROM pg_stat_activity WHERE pid = {own} \
                 AND state = 'active' AND wait_event = 'PgSleep'"
            );
            until("the sleep", || {
                !servers.primary.psql(&busy).expect("answers").is_empty()
            });
        });
        let later = Deadline::within(Duration::from_secs(20));
        let sleep = conn.within_deadline(later, |conn| conn.query("SELECT pg_sleep(15)", &[]));
        sleep.map(drop).expect_err("interrupted")
    })
}

fn deadlock(servers: &Servers) -> Error {
    let (mut a, mut b) = (servers.open(), servers.open());
    for (conn, id) in [(&mut a, 1), (&mut b, 2)] {
        let lock = format!("BEGIN; UPDATE t SET n = n WHERE id = {id}");
        conn.batch_execute(&lock).expect("works");
    }
    let errors = thread::scope(|scope| {
        let other = scope.spawn(|| b.batch_execute("UPDATE t SET n = n WHERE id = 1"));
        let own = a.batch_execute("UPDATE t SET n = n WHERE id = 2");
        let _ = a.batch_execute("ROLLBACK");
        [own.err(), other.join().expect("no panic").err()]
    });
    errors
        .into_iter()
        .flatten()
        .next()
        .expect("one gives way")
        .into()
}

fn serialization(servers: &Servers) -> Error {
    let mut conn = servers.open();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t";
    conn.batch_execute(begin).expect("works");
    servers
        .primary
        .psql("UPDATE t SET n = n + 1 WHERE id = 1")
        .expect("works");
    last(&mut conn, &["UPDATE t SET n = n + 1 WHERE id = 1"])
}

fn too_many(servers: &Servers) -> Error {
    let port = servers.spare.port();
    let _all: Vec<_> = (0..4).map(|_| open(config(port))).collect();
    refused(config(port))
}

/// A server that was told to stop, and waits for its client.
fn stopping(servers: &Servers) -> Error {
    let server = &servers.spare;
    let _client = open(config(server.port()));
    let pid = server.pid().expect("runs").to_string();
    let told = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status();
    assert!(told.expect("runs").success());
    // The signal may be on its way yet.
    let manager = Postgres::new(config(server.port())).expect("good settings");
    loop {
        match manager.connect() {
            Ok(_) => thread::sleep(Duration::from_millis(2)),
            Err(error) => return error,
        }
    }
}

fn frozen(servers: &Servers) -> Error {
    let server = &servers.spare;
    let manager = Postgres::new(config(server.port())).expect("good settings");
    let mut conn = manager.connect().expect("connects");
    let select = Sql::new("SELECT 1");
    // Prepared now, so that the next time it is sent at once.
    let first = manager.execute(&mut conn, &select, Deadline::NEVER);
    first.expect("works");
    server.freeze();
    let result = manager.execute(&mut conn, &select, Deadline::within(LIMIT));
    server.thaw();
    result.expect_err("frozen")
}

/// A connection that is cut before, or while a statement runs.
fn cut(servers: &Servers, running: bool) -> Error {
    let proxy = Proxy::start(servers.primary.port()).expect("starts");
    let manager = Postgres::new(config(proxy.port())).expect("good settings");
    let mut conn = manager.connect().expect("connects");
    let sleep = Sql::new("SELECT pg_sleep(9) AS cut");
    thread::scope(|scope| {
        if running {
            scope.spawn(|| {
                let busy = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
                until("the sleep", || {
                    !servers.primary.psql(busy).expect("answers").is_empty()
                });
                proxy.cut();
            });
        } else {
            proxy.cut();
        }
        let result = manager.execute(&mut conn, &sleep, Deadline::NEVER);
        result.expect_err("cut")
    })
}

#[rustfmt::skip]
fn statements() -> Vec<Row<Servers>> {
    vec![
        operation("syntax error", Kind::InvalidOperation, Final, &["42601", "syntax error"], |s: &Servers| s.run("SELEC 1")),
        operation("undefined column", Kind::InvalidOperation, Final, &["42703", "at character 20"], |s: &Servers| s.run("   /*é*/ SELECT 1, nonesuch FROM t")),
        operation("ambiguous column", Kind::InvalidOperation, Final, &["42702"], |s: &Servers| s.run("SELECT id FROM t, parent")),
        operation("grouping error", Kind::InvalidOperation, Final, &["42803"], |s: &Servers| s.run("SELECT id, count(*) FROM t GROUP BY n")),
        operation("wrong types", Kind::InvalidOperation, Final, &["42804"], |s: &Servers| s.run("UPDATE t SET n = true")),
        operation("undefined table", Kind::NotFound, Final, &["42P01", "search_path"], |s: &Servers| s.run("SELECT * FROM nonesuch")),
        operation("undefined function", Kind::NotFound, Final, &["42883", "hint"], |s: &Servers| s.run("SELECT nonesuch(1)")),
        operation("undefined type", Kind::NotFound, Final, &["42704"], |s: &Servers| s.run("SELECT 1::nonesuch")),
        operation("undefined schema", Kind::NotFound, Final, &["3F000"], |s: &Servers| s.run("CREATE TABLE nonesuch.t ()")),
        operation("undefined database", Kind::NotFound, Final, &["3D000"], |s: &Servers| s.run("DROP DATABASE nonesuch")),
        operation("prepared statement missing", Kind::NotFound, Final, &["26000"], |s: &Servers| s.last(&["EXECUTE nonesuch"])),
        operation("cursor missing", Kind::NotFound, Final, &["34000"], |s: &Servers| s.last(&["BEGIN", "FETCH nonesuch"])),
        operation("savepoint missing", Kind::NotFound, Final, &["3B001"], |s: &Servers| s.last(&["BEGIN", "ROLLBACK TO nonesuch"])),
        operation("no row", Kind::NotFound, Final, &["P0002"], |s: &Servers| s.last(&["DO $$ DECLARE x int; BEGIN SELECT id INTO STRICT x FROM t WHERE id = 0; END $$"])),
        operation("file missing", Kind::NotFound, Final, &["58P01"], |s: &Servers| s.last(&["COPY t FROM '/nonesuch'"])),
        operation("parameters too few", Kind::InvalidOperation, Final, &["42601"], |s: &Servers| s.last(&["PREPARE p AS SELECT $1::int", "EXECUTE p"])),
        operation("unique violation", Kind::Constraint, Final, &["23505", "t_pkey"], |s: &Servers| s.run("INSERT INTO t (id, n) VALUES (1, 1)")),
        operation("foreign key violation", Kind::Constraint, Final, &["23503"], |s: &Servers| s.run("INSERT INTO t (id, parent) VALUES (9, 9)")),
        operation("check violation", Kind::Constraint, Final, &["23514"], |s: &Servers| s.run("INSERT INTO t (id, n) VALUES (9, -1)")),
        operation("not null violation", Kind::Constraint, Final, &["23502"], |s: &Servers| s.run("INSERT INTO t (id, name) VALUES (9, NULL)")),
        operation("exclusion violation", Kind::Constraint, Final, &["23P01"], |s: &Servers| s.run("INSERT INTO t (id, span) VALUES (9, '[4,6)')")),
        operation("table exists", Kind::Constraint, Final, &["42P07"], |s: &Servers| s.run("CREATE TABLE t ()")),
        operation("role exists", Kind::Constraint, Final, &["42710"], |s: &Servers| s.run("CREATE ROLE app")),
        operation("others depend on it", Kind::Constraint, Final, &["2BP01", "CASCADE"], |s: &Servers| s.run("DROP TABLE parent")),
        operation("raise exception", Kind::Constraint, Final, &["P0001", "no more than three"], |s: &Servers| s.last(&["DO $$ BEGIN RAISE EXCEPTION 'no more than three'; END $$"])),
        operation("raised with a code of its own", Kind::Other, Final, &["MP001"], |s: &Servers| s.last(&["DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'MP001'; END $$"])),
        operation("too many rows", Kind::InvalidOperation, Final, &["P0003"], |s: &Servers| s.last(&["DO $$ DECLARE x int; BEGIN SELECT id INTO STRICT x FROM t; END $$"])),
        operation("assertion", Kind::InvalidOperation, Final, &["P0004"], |s: &Servers| s.last(&["DO $$ BEGIN ASSERT false; END $$"])),
        operation("division by zero", Kind::InvalidOperation, Final, &["22012"], |s: &Servers| s.run("SELECT 1/0")),
        operation("invalid text", Kind::InvalidOperation, Final, &["22P02"], |s: &Servers| s.run(concat!("SELECT '", secret!("x"), "'::int"))),
        operation("number out of range", Kind::InvalidOperation, Final, &["22003"], |s: &Servers| s.run("SELECT 730194756283000001::int")),
        operation("string too long", Kind::InvalidOperation, Final, &["22001"], |s: &Servers| s.run(concat!("UPDATE t SET name = '", secret!("long"), "'"))),
        operation("bad date", Kind::InvalidOperation, Final, &["22008"], |s: &Servers| s.run("SELECT '2026-02-30'::date")),
        operation("more than one row", Kind::InvalidOperation, Final, &["21000"], |s: &Servers| s.run("SELECT (SELECT id FROM t)")),
        operation("not supported", Kind::InvalidOperation, Final, &["0A000"], |s: &Servers| s.run("SELECT count(*) FROM t FOR UPDATE")),
        operation("failed transaction", Kind::InvalidOperation, Final, &["25P02", "roll the transaction back"], |s: &Servers| { let mut conn = s.open(); last(&mut conn, &["BEGIN", "SELECT 1/0"]); last(&mut conn, &["SELECT 1"]) }),
        operation("not in a transaction", Kind::InvalidOperation, Final, &["25001"], |s: &Servers| s.last(&["BEGIN", "VACUUM"])),
        operation("not in this state", Kind::InvalidOperation, Final, &["55000"], |s: &Servers| s.last(&["CREATE TEMP SEQUENCE q", "SELECT currval('q')"])),
        operation("stack too deep", Kind::InvalidOperation, Final, &["54001"], |s: &Servers| s.last(&["CREATE FUNCTION pg_temp.f(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN pg_temp.f($1) + 1; END'", "SET max_stack_depth = '100kB'", "SELECT pg_temp.f(1)"])),
        operation("permission denied", Kind::Permission, Final, &["42501", "DB_USER"], |s: &Servers| run(s.config().user("app").password(secret!("right")), "SELECT * FROM t")),
        operation("read-only transaction", Kind::WrongRole, Later, &["25006", "DB_TARGET_SESSION_ATTRS"], |s: &Servers| s.last(&["BEGIN READ ONLY", "INSERT INTO parent VALUES (1)"])),
        operation("write to a replica", Kind::WrongRole, Later, &["25006", "primary"], |s: &Servers| run(config(s.replica.port()), "INSERT INTO parent VALUES (1)")),
        operation("deadlock", Kind::Conflict, Later, &["40P01", "run again"], deadlock),
        operation("serialization failure", Kind::Conflict, Later, &["40001", "rolled back"], serialization),
        operation("lock timeout", Kind::Conflict, Later, &["55P03"], |s: &Servers| { let mut a = s.open(); a.batch_execute("BEGIN; LOCK t").expect("works"); s.last(&["BEGIN", "SET LOCAL lock_timeout = '20ms'", "LOCK t"]) }),
        operation("lock not available", Kind::Conflict, Later, &["55P03"], |s: &Servers| { let mut a = s.open(); a.batch_execute("BEGIN; LOCK t").expect("works"); s.last(&["BEGIN", "LOCK t NOWAIT"]) }),
        operation("object in use", Kind::Conflict, Later, &["55006"], |s: &Servers| s.run("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")),
        operation("temporary files too large", Kind::ResourceLimit, Later, &["53400", "limits"], |s: &Servers| s.last(&["SET work_mem = '64kB'; SET temp_file_limit = '64kB'", "SELECT count(*) FROM (SELECT g FROM generate_series(1, 100000) g ORDER BY g DESC OFFSET 1) s"])),
        operation("statement timeout", Kind::DeadlineExceeded, Later, &["57014", "DB_STATEMENT_TIMEOUT"], |s: &Servers| run(s.config().statement_timeout(Duration::from_millis(30)), "SELECT pg_sleep(9)")),
    ]
}

#[rustfmt::skip]
fn connections() -> Vec<Row<Servers>> {
    vec![
        operation("cancelled by somebody", Kind::Cancelled, Final, &["57014", "user request"], |s: &Servers| interrupted(s, "pg_cancel_backend")),
        operation("terminated by somebody", Kind::ConnectionLost, InDoubt, &[], |s: &Servers| interrupted(s, "pg_terminate_backend")),
        operation("idle in transaction for too long", Kind::ConnectionLost, InDoubt, &["25P03", "idle_in_transaction_session_timeout"], |s: &Servers| { let mut conn = s.open(); conn.batch_execute("SET idle_in_transaction_session_timeout = '20ms'; BEGIN").expect("works"); thread::sleep(Duration::from_millis(150)); last(&mut conn, &["SELECT 1"]) }),
        operation("idle for too long", Kind::ConnectionLost, InDoubt, &["57P05", "POOL_IDLE_TIMEOUT"], |s: &Servers| { let mut conn = s.open(); conn.batch_execute("SET idle_session_timeout = '20ms'").expect("works"); thread::sleep(Duration::from_millis(150)); last(&mut conn, &["SELECT 1"]) }),
        operation("connection cut before", Kind::ConnectionLost, Later, &["connection closed"], |s: &Servers| cut(s, false)),
        operation("connection cut while it runs", Kind::ConnectionLost, InDoubt, &["connection closed"], |s: &Servers| cut(s, true)),
        operation("server frozen", Kind::DeadlineExceeded, InDoubt, &["deadline"], frozen),
        operation("cancelled at the deadline", Kind::DeadlineExceeded, Later, &["at the deadline"], |s: &Servers| { let mut conn = s.open(); let soon = Deadline::within(Duration::from_millis(50)); conn.within_deadline(soon, |conn| conn.query("SELECT pg_sleep(9)", &[])).map(drop).expect_err("cancelled") }),
        connect("wrong password", Kind::Authentication, Final, &["28P01", "DB_PASSWORD"], |s: &Servers| refused(s.config().user("app").password(secret!("wrong")))),
        connect("no password", Kind::Authentication, Final, &["DB_PASSWORD"], |s: &Servers| refused(s.config().user("app"))),
        connect("unknown user", Kind::Authentication, Final, &["28000", "DB_USER"], |s: &Servers| refused(s.config().user("nobody"))),
        connect("user may not log in", Kind::Authentication, Final, &["28000", "not permitted to log in"], |s: &Servers| refused(s.config().user("barred"))),
        connect("rejected by pg_hba.conf", Kind::Authentication, Final, &["28000", "pg_hba.conf"], |s: &Servers| refused(s.config().user("turned_away"))),
        connect("unknown database", Kind::Configuration, Final, &["3D000", "DB_NAME"], |s: &Servers| refused(s.config().database("nonesuch"))),
        connect("no right to connect", Kind::Permission, Final, &["42501", "CONNECT"], |s: &Servers| refused(s.config().database("secret").user("app").password(secret!("right")))),
        connect("unknown option", Kind::Configuration, Final, &["42704", "DB_OPTIONS"], |s: &Servers| refused(s.config().options("-c nonesuch=1"))),
        connect("bad value of an option", Kind::Configuration, Final, &["22023", "DB_OPTIONS"], |s: &Servers| refused(s.config().options("-c work_mem=much"))),
        connect("database takes no connections", REFUSED, Later, &["55000"], |s: &Servers| refused(s.config().database("shut"))),
        connect("role's limit of connections", Kind::Overloaded, Later, &["53300", "POOL_MAX_CONNECTIONS"], |s: &Servers| refused(s.config().user("few"))),
        connect("too many connections", Kind::Overloaded, Later, &["53300", "max_connections"], too_many),
        connect("replica, and a primary is asked for", Kind::WrongRole, Later, &["DB_TARGET_SESSION_ATTRS"], |s: &Servers| refused(config(s.replica.port()).target_session(TargetSession::ReadWrite))),
        connect("nothing listens", REFUSED, Later, &["DB_HOST", "server runs"], |_| refused(config(refused_port()))),
        connect("no such host", DNS, Final, &["DB_HOST"], |_| refused(PostgresConfig::new().host("nonesuch.invalid").user("test"))),
        connect("no answer to the handshake", TIMEOUT, Later, &["DB_CONNECT_TIMEOUT"], |_| { let hole = BlackHole::start().expect("starts"); refused(config(hole.port()).connect_timeout(LIMIT)) }),
        connect("no answer to the login", TIMEOUT, Later, &["DB_CONNECT_TIMEOUT"], |_| { let silent = Silent::start().expect("starts"); refused(config(silent.port()).connect_timeout(LIMIT)) }),
        connect("TLS asked for, and none there", TLS, Final, &["DB_SSL_MODE"], |s: &Servers| refused(s.config().ssl_mode(SslMode::Require))),
        connect("server is stopping", REFUSED, Later, &["57P03", "tried again"], stopping),
    ]
}

#[test]
fn each_condition_has_its_kind() {
    let servers = Servers::start();
    check("postgres", 40, &servers, &statements());
    check("postgres", 20, &servers, &connections());
}
