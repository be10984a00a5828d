//! PostgreSQL servers that freeze, die and come back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millpond::{Pool, Postgres, PostgresConfig};
use testbed::Postgres as Server;

fn pool_on(server: &Server, size: u32) -> Pool<Postgres> {
    let config = PostgresConfig::from_url(&server.url())
        .expect("a good URL")
        .connect_timeout(Duration::from_secs(1))
        .check_timeout(Duration::from_millis(500));
    let manager = Postgres::new(config).expect("good settings");
    Pool::builder()
        .max_size(size)
        .validation_timeout(Duration::from_millis(500))
        .build(manager)
        .expect("opens")
}

fn works(pool: &Pool<Postgres>) -> bool {
    let Ok(mut lease) = pool.get_timeout(Duration::from_secs(10)) else {
        return false;
    };
    lease.query_one("SELECT 1", &[]).is_ok()
}

#[test]
fn connections_killed_while_idle_are_replaced_unnoticed() {
    let server = Server::start().expect("starts");
    let pool = pool_on(&server, 5);
    assert!(works(&pool));
    server
        .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'millpond'")
        .expect("killed");
    // After the bypass window every connection is checked before it is leased.
    std::thread::sleep(Duration::from_millis(700));
    for turn in 0..100 {
        assert!(works(&pool), "lease {turn} works");
    }
    assert!(pool.state().connections <= 5);
}

#[test]
fn inside_the_bypass_window_there_is_one_error_per_connection_at_most() {
    let server = Server::start().expect("starts");
    let pool = pool_on(&server, 5);
    let leases: Vec<_> = (0..5).map(|_| pool.get().expect("a connection")).collect();
    drop(leases);
    server
        .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'millpond'")
        .expect("killed");
    let errors = (0..100).filter(|_| !works(&pool)).count();
    assert!(errors <= 5, "{errors} errors on 5 connections");
}

#[test]
fn a_frozen_server_keeps_nobody_beyond_the_deadline() {
    let server = Server::start().expect("starts");
    let pool = pool_on(&server, 2);
    assert!(works(&pool));
    server.freeze();
    // Past the bypass window, so that a check is needed, which hangs.
    std::thread::sleep(Duration::from_millis(600));
    let limit = Duration::from_millis(300);
    for _ in 0..5 {
        let start = Instant::now();
        let got = pool.get_timeout(limit);
        let took = start.elapsed();
        assert!(got.is_err(), "a connection that nobody could check");
        assert!(took < limit + Duration::from_millis(50), "{took:?}");
    }
    server.thaw();
    let back = Instant::now();
    assert!(works(&pool), "works again");
    assert!(back.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_lease_on_a_frozen_server_can_be_returned() {
    let server = Server::start().expect("starts");
    let pool = pool_on(&server, 2);
    let mut lease = pool.get().expect("a connection");
    // Used through the driver's own interface: it needs a reset, which hangs.
    lease.batch_execute("SELECT 1").expect("works");
    server.freeze();
    let start = Instant::now();
    drop(lease);
    assert!(
        start.elapsed() < Duration::from_millis(50),
        "{:?}",
        start.elapsed()
    );
    server.thaw();
    assert!(works(&pool));
}

#[test]
fn after_a_restart_under_load_traffic_is_back_within_a_second() {
    let server = Server::start().expect("starts");
    let pool = pool_on(&server, 4);
    let (stop, served) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(mut lease) = pool.get_timeout(Duration::from_millis(500)) else {
                        continue;
                    };
                    if lease.query_one("SELECT 1", &[]).is_ok() {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        server.kill();
        std::thread::sleep(Duration::from_millis(500));
        server.restart().expect("restarts");
        let back = Instant::now();
        let before = served.load(Ordering::Relaxed);
        while served.load(Ordering::Relaxed) == before && back.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let took = back.elapsed();
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        assert!(
            took < Duration::from_secs(1),
            "traffic was back after {took:?}"
        );
    });
    let state = pool.state();
    assert!(state.connections <= 4 && state.leased == 0, "{state}");
    let metrics = pool.metrics();
    let closed: u64 = metrics.closed.iter().map(|(_, count)| count).sum();
    pool.close(Duration::from_secs(5))
        .expect("everything comes back");
    let metrics_after = pool.metrics();
    let closed_after: u64 = metrics_after.closed.iter().map(|(_, count)| count).sum();
    assert!(closed <= closed_after);
    assert_eq!(
        metrics_after.created, closed_after,
        "no connection is lost or doubled"
    );
}
