//! Servers that die, freeze and come back.

use std::time::{Duration, Instant};

use millpond::{ConnectFailure, Error, ErrorKind, ManageConnection, Phase};
use mongodb::bson::doc;
use testbed::{Mongo, Proxy};

use super::{config, eventually, items, manager, timed, works};

/// A server that dies resets its sockets, then refuses new ones.
fn gone(error: &Error) -> bool {
    let refused = ErrorKind::Connect(ConnectFailure::Refused);
    [ErrorKind::ConnectionLost, refused].contains(&error.kind())
}

#[test]
fn a_frozen_server_holds_nobody_up() {
    let mongo = Mongo::start().expect("mongod");
    let connect_timeout = Duration::from_millis(600);
    let manager = manager(config(mongo.port()).connect_timeout(connect_timeout));
    let mut lease = manager.connect().expect("connects");
    works(&lease).expect("works");
    mongo.freeze();

    let check_timeout = Duration::from_millis(500);
    let (result, took) = timed(|| manager.is_valid(&mut lease));
    let error = result.expect_err("frozen");
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    assert_eq!(error.phase(), Phase::Validate);
    assert!(
        took >= check_timeout && took < check_timeout * 3 / 2,
        "{took:?}"
    );

    let (result, took) = timed(|| manager.connect());
    let error = result.expect_err("frozen");
    assert_eq!(
        error.kind(),
        ErrorKind::Connect(ConnectFailure::Timeout),
        "{error}"
    );
    assert!(
        took >= connect_timeout && took < connect_timeout * 3 / 2,
        "{took:?}"
    );

    let limit = Duration::from_millis(300);
    let (result, took) = timed(|| {
        lease.within(limit, async |client| {
            client
                .database("test")
                .run_command(doc! { "ping": 1 })
                .await
        })
    });
    assert_eq!(
        result.expect_err("frozen").kind(),
        ErrorKind::DeadlineExceeded
    );
    assert!(took >= limit && took < limit * 3 / 2, "{took:?}");

    let start = Instant::now();
    mongo.thaw();
    eventually(Duration::from_secs(1), "valid again", || {
        manager.connect().is_ok()
    });
    works(&lease).expect("works");
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn the_drivers_own_calls_return_when_its_monitor_notices() {
    let mongo = Mongo::start().expect("mongod");
    let config = config(mongo.port())
        .heartbeat(Duration::from_millis(500))
        .connect_timeout(Duration::from_millis(500))
        .server_selection_timeout(Duration::from_millis(500));
    let lease = manager(config).connect().expect("connects");
    works(&lease).expect("works");
    mongo.freeze();
    let (result, took) = timed(|| works(&lease));
    assert!(result.is_err());
    assert!(took < Duration::from_millis(2500), "{took:?}");
    mongo.thaw();
}

#[test]
fn after_a_restart_while_idle_every_lease_works() {
    let mongo = Mongo::start().expect("mongod");
    let manager = manager(config(mongo.port()));
    let pool = millpond::Pool::builder()
        .max_size(8)
        .build(manager)
        .expect("pool");
    let all: Vec<_> = (0..8).map(|_| pool.get().expect("a lease")).collect();
    std::thread::scope(|scope| {
        for lease in &all {
            scope.spawn(|| works(lease).expect("works"));
        }
    });
    drop(all);
    mongo.kill();
    mongo.restart().expect("restarted");
    for round in 0..100 {
        let lease = pool.get().expect("a lease");
        works(&lease).unwrap_or_else(|error| panic!("lease {round}: {error}"));
    }
}

#[test]
fn after_every_socket_was_cut_while_idle_every_lease_works() {
    let proxy = Proxy::start(Mongo::shared().port()).expect("proxy");
    let manager = manager(config(proxy.port()));
    let meter = manager.meter();
    let pool = millpond::Pool::builder()
        .max_size(8)
        .build(manager)
        .expect("pool");
    let all: Vec<_> = (0..8).map(|_| pool.get().expect("a lease")).collect();
    std::thread::scope(|scope| {
        for lease in &all {
            scope.spawn(|| works(lease).expect("works"));
        }
    });
    drop(all);
    proxy.cut();
    // Idle for longer than a pool hands out unchecked. Sooner, a write can meet a
    // dead socket before the driver's monitor does, and a standalone server has no
    // retryable writes.
    std::thread::sleep(Duration::from_millis(600));
    for round in 0..100 {
        let lease = pool.get().expect("a lease");
        works(&lease).unwrap_or_else(|error| panic!("lease {round}: {error}"));
    }
    let sockets = meter.read();
    assert!(sockets.clears >= 1 && sockets.open <= 8, "{sockets:?}");
}

#[test]
fn leases_work_within_a_second_of_the_servers_return() {
    let mongo = Mongo::start().expect("mongod");
    let manager = manager(config(mongo.port()));
    let mut lease = manager.connect().expect("connects");
    works(&lease).expect("works");
    mongo.kill();
    eventually(Duration::from_secs(2), "noticed", || {
        manager.sockets().clears > 0
    });
    assert!(manager.has_broken(&mut lease), "older than the failure");
    let error = manager.is_valid(&mut lease).expect_err("down");
    assert!(gone(&error), "{error}");
    // Long enough for the driver to look only as often as it must.
    std::thread::sleep(Duration::from_millis(1500));
    let back = std::thread::scope(|scope| {
        // A pool's own attempts, as they go on while the server is away.
        let attempts = scope.spawn(|| {
            loop {
                match manager.connect() {
                    Ok(lease) => break works(&lease).map(|()| Instant::now()),
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
            }
        });
        mongo.restart().expect("restarted");
        let ready = Instant::now();
        let worked = attempts.join().expect("no panic").expect("works");
        worked.saturating_duration_since(ready)
    });
    assert!(back < Duration::from_secs(1), "{back:?}");
    manager.is_valid(&mut lease).expect("valid again");
    assert!(
        !manager.has_broken(&mut lease),
        "a server has vouched for it"
    );
    works(&lease).expect("works");
}

#[test]
fn an_operation_that_meets_a_dead_server_says_so() {
    let mongo = Mongo::start().expect("mongod");
    let config = config(mongo.port()).server_selection_timeout(Duration::from_millis(500));
    let manager = manager(config);
    let mut lease = manager.connect().expect("connects");
    works(&lease).expect("works");
    mongo.kill();
    let failed = items(&lease, "dead")
        .insert_one(doc! {})
        .run()
        .expect_err("dead");
    let error = Error::from(failed);
    assert!(gone(&error), "{error}");
    // The driver tells of its sockets a moment later than of the error.
    eventually(Duration::from_secs(1), "noticed", || {
        manager.sockets().clears > 0
    });
    assert!(manager.has_broken(&mut lease));
}
