//! PostgreSQL on real servers: connecting, its errors, statements.

use std::time::{Duration, Instant};

use millpond::backend::Backend as _;
use millpond::backend::Role;
use millpond::backend::postgres::TargetSession;
use millpond::{
    ConnectFailure, ErrorKind, ManageConnection, Phase, Pool, Postgres, PostgresConfig,
};
use testbed::{PgBouncer, Postgres as Server, Proxy, Silent, refused_port, secret};

fn config(server: &Server) -> PostgresConfig {
    PostgresConfig::from_url(&server.url()).expect("a good URL")
}

fn connect_error(config: PostgresConfig) -> millpond::Error {
    let manager = Postgres::new(config).expect("good settings");
    manager.connect().map(|_| ()).expect_err("must not connect")
}

fn connected(config: PostgresConfig) -> millpond::PostgresConnection {
    Postgres::new(config)
        .expect("good settings")
        .connect()
        .expect("connects")
}

#[test]
fn a_pool_leases_working_connections() {
    let server = Server::shared();
    let manager = Postgres::new(config(server)).expect("good settings");
    let pool = Pool::builder().max_size(3).build(manager).expect("opens");
    std::thread::scope(|scope| {
        for number in 0..6_i32 {
            let pool = &pool;
            scope.spawn(move || {
                for _ in 0..20 {
                    let mut lease = pool.get().expect("a connection");
                    let row = lease
                        .query_one("SELECT $1::int * 2", &[&number])
                        .expect("works");
                    assert_eq!(row.get::<_, i32>(0), number * 2);
                }
            });
        }
    });
    assert_eq!(pool.state().connections, 3);
    assert_eq!(pool.metrics().leases, 120);
    let lease = pool.get().expect("a connection");
    let info = millpond::PooledConnection::info(&lease);
    assert!(info.traffic.statements.expect("counted") > 0);
}

#[test]
fn the_unix_socket_works() {
    let server = Server::shared();
    let folder = server.socket_dir().display().to_string();
    let config = PostgresConfig::new()
        .host(folder)
        .port(server.port())
        .user("test")
        .database("postgres");
    let mut conn = connected(config);
    let row = conn
        .query_one("SELECT inet_client_addr() IS NULL", &[])
        .expect("works");
    assert!(row.get::<_, bool>(0));
}

#[test]
fn a_wrong_password_is_an_authentication_error() {
    let server = Server::builder()
        .hba("local all all trust\nhost all test 127.0.0.1/32 trust\nhost all app 127.0.0.1/32 scram-sha-256\n")
        .start()
        .expect("starts");
    server
        .psql(concat!(
            "CREATE ROLE app LOGIN PASSWORD '",
            secret!("right"),
            "'"
        ))
        .expect("created");
    let config = config(&server).user("app");
    let mut conn = connected(config.clone().password(secret!("right")));
    conn.query_one("SELECT 1", &[]).expect("works");
    let error = connect_error(config.password(secret!("hunter2")));
    assert_eq!(
        (error.kind(), error.phase()),
        (ErrorKind::Authentication, Phase::Connect)
    );
    let text = format!("{error} {error:?}");
    assert!(
        text.contains("DB_PASSWORD") && !text.contains("hunter2"),
        "{text}"
    );
    assert!(
        std::error::Error::source(&error)
            .is_some_and(<dyn std::error::Error>::is::<postgres::Error>)
    );
}

#[test]
fn an_unknown_database_is_a_configuration_error_at_once() {
    let config = config(Server::shared()).database("nonesuch");
    let manager = Postgres::new(config).expect("good settings");
    let start = Instant::now();
    let pool = Pool::builder().min_idle(Some(0)).build_unchecked(manager);
    let error = pool.get().expect_err("no such database");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        (error.kind(), error.phase()),
        (ErrorKind::Configuration, Phase::Connect)
    );
    assert!(error.to_string().contains("DB_NAME"), "{error}");
}

#[test]
fn a_refused_port_is_retried_until_the_deadline() {
    let config = PostgresConfig::new()
        .host("127.0.0.1")
        .port(refused_port())
        .user("test");
    let manager = Postgres::new(config).expect("good settings");
    let pool = Pool::builder().min_idle(Some(0)).build_unchecked(manager);
    let start = Instant::now();
    let error = pool
        .get_timeout(Duration::from_millis(700))
        .expect_err("nobody there");
    assert!(start.elapsed() >= Duration::from_millis(700));
    assert_eq!(error.kind(), ErrorKind::Connect(ConnectFailure::Refused));
    assert!(pool.metrics().create_failed > 1, "{:?}", pool.metrics());
}

#[test]
fn a_silent_server_does_not_hold_the_connect() {
    let silent = Silent::start().expect("listens");
    let config = PostgresConfig::new()
        .host("127.0.0.1")
        .port(silent.port())
        .user("test")
        .connect_timeout(Duration::from_millis(300));
    let start = Instant::now();
    let error = connect_error(config);
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(error.kind(), ErrorKind::Connect(ConnectFailure::Timeout));
    assert!(error.to_string().contains("DB_CONNECT_TIMEOUT"), "{error}");
}

#[test]
fn an_unknown_host_is_a_dns_error() {
    let error = connect_error(PostgresConfig::new().host("nonesuch.invalid").user("test"));
    assert_eq!(error.kind(), ErrorKind::Connect(ConnectFailure::Dns));
    assert!(error.to_string().contains("DB_HOST"), "{error}");
}

#[test]
fn a_kept_statement_costs_one_round_trip() {
    let server = Server::shared();
    let proxy = Proxy::start(server.port()).expect("starts");
    let mut conn = connected(
        PostgresConfig::new()
            .host("127.0.0.1")
            .port(proxy.port())
            .user("test")
            .database("postgres"),
    );
    conn.query_one("SELECT 1", &[]).expect("prepares");
    let delay = Duration::from_millis(50);
    proxy.latency(delay);
    let start = Instant::now();
    conn.query_one("SELECT 1", &[]).expect("works");
    // The proxy delays each direction by `delay` at most twice per round trip.
    let one = start.elapsed();
    let start = Instant::now();
    conn.prepare("SELECT 2").expect("prepares");
    conn.simple_query("SELECT 1").expect("works");
    let two = start.elapsed();
    assert!(one >= delay, "{one:?}");
    assert!(
        two > one.mul_f64(1.5),
        "one round trip took {one:?}, two took {two:?}"
    );
}

#[test]
fn a_changed_table_and_a_forgotten_statement_are_prepared_again() {
    let server = Server::shared();
    let database = server.create_database("changed_table").expect("created");
    let mut conn = connected(PostgresConfig::from_url(&database).expect("a good URL"));
    conn.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
        .expect("created");
    assert_eq!(
        conn.query_one("SELECT * FROM t", &[]).expect("works").len(),
        1
    );
    conn.batch_execute("ALTER TABLE t ADD b int")
        .expect("altered");
    assert_eq!(
        conn.query_one("SELECT * FROM t", &[])
            .expect("prepares again")
            .len(),
        2
    );
    conn.batch_execute("DEALLOCATE ALL").expect("forgotten");
    assert_eq!(
        conn.query_one("SELECT * FROM t", &[])
            .expect("prepares again")
            .len(),
        2
    );
    let mut transaction = conn.transaction().expect("begins");
    transaction
        .batch_execute("ALTER TABLE t ADD c int")
        .expect("altered");
    transaction.commit().expect("commits");
    conn.batch_execute("BEGIN").expect("begins");
    let error = conn
        .query("SELECT * FROM t", &[])
        .expect_err("the transaction is over");
    assert_eq!(
        error.code().map(postgres::error::SqlState::code),
        Some("0A000")
    );
}

#[test]
fn the_cache_is_bounded() {
    let mut conn = connected(config(Server::shared()).statement_cache(4));
    for number in 0..20 {
        conn.query_one(&*format!("SELECT {number}"), &[])
            .expect("works");
    }
    let sql = "SELECT count(*) FROM pg_prepared_statements";
    let count: i64 = conn.query_one(sql, &[]).expect("works").get(0);
    assert!(count <= 5, "{count} statements are prepared");
}

#[test]
fn a_service_says_what_it_is() {
    let primary = Server::start().expect("starts");
    let replica = primary.replica().expect("starts");
    let check = |server: &Server| {
        let manager = Postgres::new(config(server)).expect("good settings");
        let mut conn = manager.connect().expect("connects");
        manager.check(&mut conn).expect("answers")
    };
    let service = check(&primary);
    assert_eq!(
        (service.role, service.writable),
        (Role::Primary, Some(true))
    );
    assert!(service.version.is_some() && service.latency > Duration::ZERO);
    let service = check(&replica);
    assert_eq!(
        (service.role, service.writable),
        (Role::Replica, Some(false))
    );

    let both = || {
        PostgresConfig::new()
            .host("127.0.0.1")
            .port(replica.port())
            .host("127.0.0.1")
            .port(primary.port())
            .user("test")
            .database("postgres")
    };
    let port = |target| {
        let mut conn = connected(both().target_session(target));
        conn.query_one("SELECT inet_server_port()", &[])
            .expect("works")
            .get::<_, i32>(0)
    };
    assert_eq!(port(TargetSession::Any), i32::from(replica.port()));
    assert_eq!(port(TargetSession::ReadOnly), i32::from(replica.port()));
    assert_eq!(port(TargetSession::ReadWrite), i32::from(primary.port()));
    let mut conn = connected(config(&replica));
    let error = conn
        .execute("CREATE TABLE t (a int)", &[])
        .expect_err("read-only");
    assert_eq!(millpond::Error::from(error).kind(), ErrorKind::WrongRole);
    replica.promote().expect("promotes");
}

#[test]
fn behind_pgbouncer_in_transaction_mode() {
    let server = Server::start().expect("starts");
    let bouncer = PgBouncer::start(&server).expect("starts");
    let config = PostgresConfig::from_url(&bouncer.url())
        .expect("a good URL")
        .statement_cache(0);
    let pool = Pool::builder()
        .max_size(4)
        .build(Postgres::new(config).expect("good settings"))
        .expect("opens");
    std::thread::scope(|scope| {
        for number in 0..8_i32 {
            let pool = &pool;
            scope.spawn(move || {
                for _ in 0..50 {
                    let mut lease = pool.get().expect("a connection");
                    let row = lease
                        .query_one("SELECT $1::int", &[&number])
                        .expect("works");
                    assert_eq!(row.get::<_, i32>(0), number);
                    lease.query_one("SELECT 1", &[]).expect("works");
                }
            });
        }
    });
}
