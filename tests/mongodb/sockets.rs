//! The real sockets: counted, bounded, gone in the end.

use std::time::Duration;

use millpond::{ErrorKind, ManageConnection};
use mongodb::bson::doc;
use testbed::{Mongo, Proxy};

use super::{config, eventually, items, manager, works};

/// What the driver's monitors take of a server.
const MONITORS: usize = 2;

#[test]
fn sockets_are_bounded_by_the_pool_and_counted() {
    let proxy = Proxy::start(Mongo::shared().port()).expect("proxy");
    let manager = manager(config(proxy.port()).max_sockets(4));
    let meter = manager.meter();
    assert_eq!(meter.read().open, 0);
    let pool = millpond::Pool::builder()
        .max_size(4)
        .build(manager)
        .expect("pool");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    works(&pool.get().expect("a lease")).expect("works");
                    let sockets = meter.read();
                    assert!(sockets.open <= 4 && sockets.in_use <= 4, "{sockets:?}");
                    assert!(proxy.open() <= 4 + MONITORS);
                }
            });
        }
    });
    let lease = pool.get().expect("a lease");
    eventually(Duration::from_secs(1), "all given back", || {
        lease.sockets().in_use == 0
    });
    let sockets = lease.sockets();
    assert_eq!((sockets.closed, sockets.clears), (0, 0), "{sockets:?}");
    assert!(
        (1..=4).contains(&sockets.open) && sockets.peak <= 4,
        "{sockets:?}"
    );
    assert_eq!(sockets.created, sockets.open);
    let open = usize::try_from(sockets.open).expect("few");
    eventually(Duration::from_secs(2), "as many at the server", || {
        proxy.open() == open + MONITORS
    });
}

/// The driver learns a little late that a socket is free, so without a bound there
/// are a few more than leases; never more than two for each.
#[test]
fn sockets_follow_the_leases_in_use() {
    let manager = manager(config(Mongo::shared().port()));
    let meter = manager.meter();
    let pool = millpond::Pool::builder()
        .max_size(4)
        .build(manager)
        .expect("pool");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    works(&pool.get().expect("a lease")).expect("works");
                }
            });
        }
    });
    let sockets = meter.read();
    assert!(sockets.peak <= 8, "{sockets:?}");
}

#[test]
fn an_operation_under_way_is_counted_as_in_use() {
    let manager = manager(config(Mongo::shared().port()));
    let lease = manager.connect().expect("connects");
    items(&lease, "in_use")
        .insert_one(doc! {})
        .run()
        .expect("inserted");
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            let filter = doc! { "$where": "sleep(300) || true" };
            items(&lease, "in_use").find_one(filter).run()
        });
        eventually(Duration::from_secs(2), "in use", || {
            manager.sockets().in_use == 1
        });
        slow.join().expect("no panic").expect("found");
    });
    eventually(Duration::from_secs(1), "given back", || {
        manager.sockets().in_use == 0
    });
    // An operation that gave up costs its socket, and is not counted for ever.
    for _ in 0..5 {
        let _ = lease.within(Duration::from_millis(20), async |client| {
            let command = doc! { "sleep": 1, "millis": 300, "lock": "none" };
            client.database("admin").run_command(command).await
        });
    }
    eventually(Duration::from_secs(2), "given back", || {
        manager.sockets().in_use == 0
    });
    works(&lease).expect("works");
}

#[test]
fn more_leases_than_sockets_are_refused() {
    let manager = manager(config(Mongo::shared().port()).max_sockets(2));
    let first = manager.connect().expect("one");
    let _second = manager.connect().expect("two");
    let error = manager.connect().expect_err("three");
    assert_eq!(error.kind(), ErrorKind::ResourceLimit);
    assert!(error.to_string().contains("MONGODB_MAX_SOCKETS"), "{error}");
    drop(first);
    manager.connect().expect("two again");
}

#[test]
fn a_manager_that_goes_takes_its_sockets_along() {
    let proxy = Proxy::start(Mongo::shared().port()).expect("proxy");
    let heartbeat = Duration::from_secs(1);
    let manager = manager(config(proxy.port()).heartbeat(heartbeat));
    let lease = manager.connect().expect("connects");
    works(&lease).expect("works");
    let meter = manager.meter();
    let start = std::time::Instant::now();
    drop(manager);
    works(&lease).expect("a lease outlives its manager");
    drop(lease);
    assert!(
        start.elapsed() < Duration::from_millis(300),
        "{:?}",
        start.elapsed()
    );
    let limit = Duration::from_secs(1);
    eventually(limit, "no socket of the pool's", || meter.read().open == 0);
    // The monitor that measures round trips looks up once per heartbeat.
    eventually(heartbeat + limit, "no socket at the server", || {
        proxy.open() == 0
    });
}

#[test]
fn dropping_a_manager_of_a_frozen_server_blocks_nobody() {
    let mongo = Mongo::start().expect("mongod");
    let manager = manager(config(mongo.port()));
    let lease = manager.connect().expect("connects");
    works(&lease).expect("works");
    mongo.freeze();
    let start = std::time::Instant::now();
    drop(lease);
    drop(manager);
    assert!(
        start.elapsed() < Duration::from_millis(100),
        "{:?}",
        start.elapsed()
    );
    mongo.thaw();
}
