//! Managers as others publish them, in a Millpond pool: `r2d2_sqlite`,
//! `r2d2_postgres` and `redis::Client`.

use std::error::Error as _;
use std::time::Duration;

use millpond::{ConnectFailure, ErrorKind, ManageConnection, Pool};
use postgres::NoTls;
use r2d2_postgres::PostgresConnectionManager;
use r2d2_sqlite::SqliteConnectionManager;
use r2d2_sqlite::rusqlite;
use redis::Commands as _;

/// Eight threads use four connections, two hundred times each.
fn under_load<M: ManageConnection>(pool: &Pool<M>, work: impl Fn(&mut M::Connection, i64) + Sync) {
    let before = pool.metrics().leases;
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let work = &work;
            scope.spawn(move || {
                for turn in 0..200 {
                    let mut lease = pool.get().expect("a connection");
                    work(&mut lease, thread * 200 + turn);
                }
            });
        }
    });
    let state = pool.state();
    assert!(state.connections <= 4 && state.leased == 0, "{state}");
    assert_eq!(pool.metrics().leases - before, 1600);
}

#[test]
fn sqlite() {
    let folder = std::env::temp_dir().join(format!("millpond-sqlite-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let manager = SqliteConnectionManager::file(folder.join("test.db")).with_init(
        |conn: &mut rusqlite::Connection| {
            conn.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA busy_timeout = 10000",
            )
        },
    );
    let pool = Pool::builder().max_size(4).build(manager).expect("opens");
    pool.get()
        .expect("a connection")
        .execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)", [])
        .expect("created");
    under_load(&pool, |conn, number| {
        conn.execute("INSERT INTO numbers VALUES (?1)", [number])
            .expect("inserted");
    });
    let count: i64 = pool
        .get()
        .expect("a connection")
        .query_row("SELECT count(*) FROM numbers", [], |row| row.get(0))
        .expect("counted");
    assert_eq!(count, 1600);
    pool.close(Duration::from_secs(5)).expect("all come back");
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn r2d2_postgres_as_published() {
    let server = testbed::Postgres::shared();
    let config: postgres::Config = server.url().parse().expect("a good URL");
    let manager = PostgresConnectionManager::new(config, NoTls);
    let pool = Pool::builder().max_size(4).build(manager).expect("opens");
    under_load(&pool, |conn, number| {
        let row = conn.query_one("SELECT $1::bigint", &[&number]);
        assert_eq!(row.expect("answered").get::<_, i64>(0), number);
    });

    let mut nobody = postgres::Config::new();
    nobody
        .host("127.0.0.1")
        .port(testbed::refused_port())
        .user("nobody");
    let error = Pool::builder()
        .connection_timeout(Duration::from_millis(300))
        .build(PostgresConnectionManager::new(nobody, NoTls))
        .expect_err("nobody listens");
    // Found in the error's chain of causes: the manager says nothing of kinds.
    assert_eq!(
        error.kind(),
        ErrorKind::Connect(ConnectFailure::Refused),
        "{error:?}"
    );
    assert!(error.source().is_some());
}

#[test]
fn redis_client() {
    let client = redis::Client::open(testbed::Redis::shared().url()).expect("a good URL");
    let pool = Pool::builder().max_size(4).build(client).expect("opens");
    under_load(&pool, |conn, number| {
        let key = format!("foreign:{number}");
        let () = conn.set(&key, number).expect("set");
        assert_eq!(conn.get::<_, i64>(&key).expect("got"), number);
    });
}
