//! PgBouncer in transaction mode, with nothing set for it: whatever happens to it, results are
//! right, the ledger is true, and what it does to prepared statements reaches nobody.

#[path = "../book/mod.rs"]
mod book;
mod load;
#[path = "../traced/mod.rs"]
mod traced;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use millpond::{ErrorKind, Operation as _, Pool, Postgres, PostgresConfig, Sql};
use testbed::{PgBouncer, Postgres as Server};

use book::Book;
use load::while_working;

const LEDGER: &str = "CREATE TABLE ledger (key bigint NOT NULL)";

fn bed() -> (Server, PgBouncer) {
    traced::traced();
    let server = Server::start().expect("starts");
    server.psql(LEDGER).expect("creates");
    let bouncer = PgBouncer::start(&server).expect("starts");
    (server, bouncer)
}

fn pool_of(config: PostgresConfig) -> Pool<Postgres> {
    let manager = Postgres::new(config).expect("good settings");
    let pool = Pool::builder().max_size(8);
    let pool = pool.retry_delay(Duration::from_millis(20)).build(manager);
    pool.expect("opens")
}

/// By TCP, where it is noticed.
fn noticed(bouncer: &PgBouncer) -> Pool<Postgres> {
    pool_of(PostgresConfig::from_url(&bouncer.url()).expect("a good URL"))
}

/// By a Unix socket, where it is not.
fn unnoticed(bouncer: &PgBouncer) -> Pool<Postgres> {
    let config = PostgresConfig::new()
        .host(bouncer.socket_dir().display().to_string())
        .port(bouncer.port())
        .user("test")
        .database("postgres");
    pool_of(config)
}

/// How often each key is there.
fn ledger(server: &Server) -> HashMap<i32, u64> {
    let sql = "SELECT key, count(*) FROM ledger GROUP BY key";
    let rows = server.psql(sql).expect("reads");
    let parse = |row: &str| {
        let (key, times) = row.split_once('|').expect("two columns");
        (
            testbed::which(key.parse().expect("a key"))
                .try_into()
                .expect("ours"),
            times.parse().expect("a number"),
        )
    };
    rows.lines().map(parse).collect()
}

/// Whether the book agrees with the ledger, and no error is about prepared statements.
fn check(book: &Book, server: &Server) {
    let about = ["26000", "42P05", "08P01", "prepared statement"];
    book.check(&ledger(server), |error| {
        !about.iter().any(|what| error.contains(what))
    });
}

/// How many statements are prepared on this connection's server.
fn kept(pool: &Pool<Postgres>) -> i64 {
    let mut lease = pool.get().expect("a connection");
    let count = "SELECT count(*) FROM pg_prepared_statements";
    for n in 0..10 {
        let row = lease.query_one("SELECT $1::int", &[&n]).expect("works");
        assert_eq!(row.get::<_, i32>(0), n);
    }
    lease.query_one(count, &[]).expect("works").get(0)
}

#[test]
fn is_noticed_and_a_server_is_not_taken_for_one() {
    let (server, bouncer) = bed();
    assert_eq!(kept(&noticed(&bouncer)), 0);
    let proxy = testbed::Proxy::start(server.port()).expect("starts");
    for port in [server.port(), proxy.port()] {
        let url = format!("postgres://test@127.0.0.1:{port}/postgres");
        let config = PostgresConfig::from_url(&url).expect("a good URL");
        assert_eq!(kept(&pool_of(config.clone())), 2);
        assert_eq!(kept(&pool_of(config.statement_cache(0))), 0);
    }
    // Whoever says how many is believed.
    let config = PostgresConfig::from_url(&bouncer.url()).expect("a good URL");
    assert_eq!(kept(&pool_of(config.statement_cache(8))), 2);
}

#[test]
fn restarted() {
    let (server, bouncer) = bed();
    let pool = noticed(&bouncer);
    let book = Arc::new(Book::new());
    while_working(&pool, &book, || {
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(400));
            bouncer.kill();
            thread::sleep(Duration::from_millis(100));
            bouncer.restart().expect("restarts");
        }
        thread::sleep(Duration::from_millis(400));
    });
    println!("restarted: {book}");
    check(&book, &server);
    assert!(book.done() > 500, "it got on: {book}");
}

#[test]
fn restarted_while_it_is_not_noticed() {
    let (server, bouncer) = bed();
    let pool = unnoticed(&bouncer);
    let book = Arc::new(Book::new());
    while_working(&pool, &book, || {
        for _ in 0..2 {
            thread::sleep(Duration::from_millis(500));
            bouncer.kill();
            bouncer.restart().expect("restarts");
        }
        thread::sleep(Duration::from_millis(500));
    });
    println!("not noticed: {book}");
    check(&book, &server);
    assert!(book.done() > 500, "it got on: {book}");
}

#[test]
fn paused() {
    let (server, bouncer) = bed();
    let pool = noticed(&bouncer);
    let book = Arc::new(Book::new());
    while_working(&pool, &book, || {
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(200));
            bouncer.pause().expect("pauses");
            thread::sleep(Duration::from_millis(300));
            bouncer.resume().expect("goes on");
        }
        thread::sleep(Duration::from_millis(200));
    });
    println!("paused: {book}");
    // A pause is no error.
    book.check(&ledger(&server), |_| false);
}

#[test]
fn deadlines_hold_while_it_is_paused() {
    let (server, bouncer) = bed();
    let pool = noticed(&bouncer);
    let insert = |key: i32| Sql::new("INSERT INTO ledger VALUES ($1)").bind(testbed::number(key));
    pool.execute(insert(0)).expect("works");
    bouncer.pause().expect("pauses");
    let book = Arc::new(Book::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let key = book.open();
                let start = Instant::now();
                let insert = insert(key).deadline(Duration::from_millis(200));
                let error = pool.execute(insert).expect_err("it is paused");
                assert!(start.elapsed() < Duration::from_secs(1), "{error}");
                assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
                book.enter(key, Some(&error));
            });
        }
    });
    bouncer.resume().expect("goes on");
    let start = Instant::now();
    let mut done = 0;
    while done < 20 {
        let key = book.open();
        let result = pool.execute(insert(key));
        if let Err(error) = &result {
            // PgBouncer may have closed connections meanwhile that nobody has looked at since.
            assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
            assert!(start.elapsed() < Duration::from_secs(10), "{error}");
        }
        done += u32::from(result.is_ok());
        book.enter(key, result.as_ref().err());
    }
    println!("deadlines while paused: {book}");
    check(&book, &server);
}

/// Another program has left statements on every server connection, under names that the driver
/// would take too.
#[test]
fn what_another_program_prepared_is_not_run() {
    let (_server, bouncer) = bed();
    let mut others: Vec<_> = (0..5)
        .map(|_| {
            let mut other =
                postgres::Client::connect(&bouncer.url(), postgres::NoTls).expect("connects");
            other
                .batch_execute("BEGIN")
                .expect("has a server of its own");
            other
        })
        .collect();
    for other in &mut others {
        let prepare = "DO $$ BEGIN FOR n IN 0..6000 BY 3 LOOP \
             EXECUTE format('PREPARE s%s (int) AS SELECT -1', n); END LOOP; END $$";
        other.batch_execute(prepare).expect("prepares");
        other.batch_execute("COMMIT").expect("works");
    }
    for pool in [noticed(&bouncer), unnoticed(&bouncer)] {
        for n in 0..60_i32 {
            let mut lease = pool.get().expect("a connection");
            let sql = format!("SELECT $1::int + {}", n % 7);
            let row = lease.query_one(sql.as_str(), &[&n]).expect("works");
            assert_eq!(row.get::<_, i32>(0), n + n % 7);
        }
    }
}

/// In and out of transactions that the library does not see.
#[test]
fn by_the_drivers_own_interface() {
    let (server, bouncer) = bed();
    let pool = noticed(&bouncer);
    thread::scope(|scope| {
        for thread in 0..8_i32 {
            let pool = &pool;
            scope.spawn(move || {
                for number in 0..20 {
                    let key = testbed::number(thread * 100 + number);
                    let mut lease = pool.get().expect("a connection");
                    lease.batch_execute("SELECT 1").expect("works");
                    let row = lease
                        .query_one("SELECT $1::bigint", &[&key])
                        .expect("works");
                    assert_eq!(row.get::<_, i64>(0), key);
                    lease.batch_execute("BEGIN").expect("works");
                    let insert = "INSERT INTO ledger VALUES ($1)";
                    lease.execute(insert, &[&key]).expect("works");
                    let end = if number % 2 == 0 {
                        "COMMIT"
                    } else {
                        "ROLLBACK"
                    };
                    lease.batch_execute(end).expect("works");
                }
            });
        }
    });
    let sql = "SELECT count(*), count(DISTINCT key), max(key % 2) FROM ledger";
    assert_eq!(server.psql(sql).expect("reads"), "80|80|0");
}
