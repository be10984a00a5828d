//! Redis says that it takes no more for now in several ways, of which one is too many clients.

use std::time::{Duration, Instant};

use millpond::{ErrorKind, Pool, Redis, RedisCommand, RedisConfig};
use redis::cmd;

use super::scripted::until;

const SIZE: u32 = 6;

fn server(args: &[&str]) -> testbed::Redis {
    let args = [&["--enable-debug-command", "yes"], args].concat();
    let builder = args
        .into_iter()
        .fold(testbed::Redis::builder(), testbed::RedisBuilder::arg);
    builder.start().unwrap()
}

/// A pool of which two connections are open.
fn pool(server: &testbed::Redis) -> Pool<Redis> {
    let config = RedisConfig::new().host("127.0.0.1").port(server.port());
    let pool = Pool::builder()
        .max_size(SIZE)
        .min_idle(Some(2))
        .retry_attempts(1)
        .breaker(None)
        .build(Redis::new(config).unwrap())
        .unwrap();
    until("two are open", || pool.state().idle_connections == 2);
    pool
}

fn client(server: &testbed::Redis) -> redis::Connection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_connection().unwrap()
}

/// An operation is refused like this.
fn is_refused(pool: &Pool<Redis>, says: &str) {
    let error = pool.execute(RedisCommand::new("GET").arg("k"));
    let error = error.expect_err("it takes nothing");
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn a_script_that_runs_for_long_is_no_reason_for_fewer_connections() {
    let server = server(&["--busy-reply-threshold", "10"]);
    let pool = pool(&server);
    std::thread::scope(|scope| {
        let mut other = client(&server);
        let endless = move || {
            let script = cmd("EVAL").arg("while true do end").arg(0).exec(&mut other);
            script.expect_err("it is killed")
        };
        let running = scope.spawn(endless);
        until("the script", || server.cli(&["PING"]).is_err());
        is_refused(&pool, "BUSY");
        let limit = pool.state().limit;
        server.cli(&["SCRIPT", "KILL"]).unwrap();
        running.join().unwrap();
        assert_eq!(limit, SIZE);
    });
}

#[test]
fn reading_its_data_from_disk_is_none_either() {
    let server = server(&["--loading-process-events-interval-bytes", "1024"]);
    let populate = ["DEBUG", "POPULATE", "2000", "k", "1024"];
    server.cli(&populate).unwrap();
    let pool = pool(&server);
    std::thread::scope(|scope| {
        let mut other = client(&server);
        let slow = ["CONFIG", "SET", "key-load-delay", "500"];
        server.cli(&slow).unwrap();
        let reload = scope.spawn(move || cmd("DEBUG").arg("RELOAD").exec(&mut other));
        until("the loading", || {
            let told = server.cli(&["INFO", "persistence"]);
            told.is_ok_and(|told| told.contains("\nloading:1"))
        });
        is_refused(&pool, "loading");
        let of_operation = pool.state().limit;
        let leases = [pool.get().unwrap(), pool.get().unwrap()];
        // A connect fails as well.
        let third = pool.get_timeout(Duration::from_millis(300));
        let of_connect = pool.state().limit;
        let quick = ["CONFIG", "SET", "key-load-delay", "0"];
        server.cli(&quick).unwrap();
        reload.join().unwrap().unwrap();
        let third = third.expect_err("it is refused").to_string();
        assert!(third.contains("loading"), "{third}");
        assert_eq!((of_operation, of_connect), (SIZE, SIZE));
        drop(leases);
    });
    let start = Instant::now();
    until("it is done", || {
        pool.execute(RedisCommand::new("GET").arg("k")).is_ok()
    });
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn too_many_clients_are() {
    let server = server(&["--maxclients", "4"]);
    let pool = pool(&server);
    let _leases = [pool.get().unwrap(), pool.get().unwrap()];
    let others: Vec<_> = (0..2).map(|_| client(&server)).collect();
    let third = pool.get_timeout(Duration::from_millis(300));
    let third = third.expect_err("there is no room").to_string();
    assert!(third.contains("max number of clients"), "{third}");
    assert_eq!(pool.state().limit, 2);
    drop(others);
}
