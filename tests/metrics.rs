//! The numbers of pools: that they add up while everything happens at once, what the windows
//! and settings do, and that Prometheus' own tool has nothing to say against them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use millpond::metrics::{FamilyKind, Snapshot, Value};
use millpond::{Error, ErrorKind, Hub, Phase, Pool, PoolMetrics, PooledConnection};

use scripted::{Act, Manager};

mod scripted;

const MS: Duration = Duration::from_millis(1);

fn failure(kind: ErrorKind) -> Error {
    Error::new(kind, Phase::Operation, "as the test wants it")
}

/// What must hold in every snapshot, and between one and the next.
fn check(before: Option<&PoolMetrics>, now: &PoolMetrics) {
    let state = &now.state;
    assert_eq!(
        state.connections,
        state.idle_connections + state.leased + state.in_care
    );
    let closed: u64 = now.closed.iter().map(|(_, count)| count).sum();
    assert_eq!(
        now.created - closed,
        u64::from(state.connections),
        "{now:?}"
    );
    assert!(state.connections <= state.max_size);
    let operations = &now.operations;
    assert_eq!(operations.succeeded, operations.response_time.count());
    let failures: u64 = now.connect_failures.iter().map(|(_, count)| count).sum();
    assert_eq!(now.create_failed, failures);
    let Some(before) = before else {
        return;
    };
    for (what, before, now) in [
        ("leases", before.leases, now.leases),
        ("created", before.created, now.created),
        ("waits", before.waits, now.waits),
        (
            "succeeded",
            before.operations.succeeded,
            operations.succeeded,
        ),
        (
            "failed",
            before.operations.failures(),
            operations.failures(),
        ),
        ("held", before.use_time.count(), now.use_time.count()),
    ] {
        assert!(now >= before, "{what} went from {before} to {now}");
    }
}

#[test]
fn figures_add_up_while_everything_happens_at_once() {
    let manager = Manager::new();
    let script = manager.script();
    let pool = Pool::builder()
        .max_size(4)
        .retry_delay(MS)
        .build(manager)
        .expect("opens");
    let (stop, leases) = (AtomicBool::new(false), AtomicU64::new(0));
    let (good, bad) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..6_u64 {
            let (pool, stop, leases, good, bad) = (&pool, &stop, &leases, &good, &bad);
            scope.spawn(move || {
                let mut number = thread;
                while !stop.load(Relaxed) {
                    number += 1;
                    let Ok(mut lease) = pool.get_timeout(50 * MS) else {
                        continue;
                    };
                    leases.fetch_add(1, Relaxed);
                    if number % 3 == 0 {
                        let error = failure(ErrorKind::Constraint);
                        PooledConnection::record(&lease, MS, Err(&error));
                        bad.fetch_add(1, Relaxed);
                    } else {
                        PooledConnection::record(&lease, MS, Ok(()));
                        good.fetch_add(1, Relaxed);
                    }
                    match number % 101 {
                        50 => lease.broken = true,
                        100 => lease.discard(),
                        _ => {}
                    }
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                script.set(|script| &script.at_connect, Act::Refuse);
                std::thread::sleep(3 * MS);
                pool.clear();
            }
        });
        let mut last = None;
        let start = std::time::Instant::now();
        let mut looks = 0;
        while start.elapsed() < 700 * MS {
            let now = pool.metrics();
            check(last.as_ref(), &now);
            last = Some(now);
            looks += 1;
        }
        stop.store(true, Relaxed);
        assert!(looks > 100, "{looks} looks");
    });
    let metrics = pool.metrics();
    check(None, &metrics);
    assert_eq!(metrics.leases, leases.load(Relaxed));
    assert_eq!(metrics.operations.succeeded, good.load(Relaxed));
    assert_eq!(
        metrics.operations.failed,
        [(ErrorKind::Constraint, bad.load(Relaxed))]
    );
    assert_eq!(metrics.wait_time.count(), metrics.leases.max(metrics.waits));
    pool.close(Duration::from_secs(5)).expect("closes");
    check(None, &pool.metrics());
    assert_eq!(pool.metrics().state.connections, 0);
}

#[test]
fn the_windows_are_of_as_many_requests_as_configured() {
    let pool = Pool::builder()
        .max_size(1)
        .response_time_window(10)
        .error_rate_window(4)
        .build(Manager::new())
        .expect("opens");
    let lease = pool.get().expect("a lease");
    for _ in 0..100 {
        let error = failure(ErrorKind::Other);
        PooledConnection::record(&lease, 100 * MS, Err(&error));
    }
    let recent = pool.metrics().operations.recent;
    assert_eq!((recent.requests, recent.error_rate), (4, 1.0));
    for _ in 0..3 {
        PooledConnection::record(&lease, MS, Ok(()));
    }
    let recent = pool.metrics().operations.recent;
    assert!((recent.error_rate - 0.25).abs() < 1e-9, "{recent:?}");
    // Seven of 100 ms and three of one.
    let mean = recent.response_time.as_secs_f64();
    assert!((mean - 0.0703).abs() < 1e-4, "{recent:?}");
    PooledConnection::record(&lease, MS, Ok(()));
    let recent = pool.metrics().operations.recent;
    assert!(recent.error_rate < 1e-9, "{recent:?}");
}

#[test]
fn times_are_measured() {
    let manager = Manager::new();
    manager.script().connect_takes(20 * MS);
    let pool = Pool::builder().max_size(1).build(manager).expect("opens");
    for _ in 0..20 {
        let lease = pool.get().expect("a lease");
        std::thread::sleep(5 * MS);
        drop(lease);
    }
    std::thread::scope(|scope| {
        let lease = pool.get().expect("a lease");
        let waiter = scope.spawn(|| drop(pool.get().expect("in its turn")));
        std::thread::sleep(30 * MS);
        drop(lease);
        waiter.join().expect("no panic");
    });
    let metrics = pool.metrics();
    let (created, used, waited) = (
        metrics.create_time.quantile(0.5),
        metrics.use_time.quantile(0.5),
        metrics.wait_time.max(),
    );
    // At most an eighth off.
    assert!((0.018..0.2).contains(&created), "{created}");
    assert!((0.0044..0.05).contains(&used), "{used}");
    assert!((0.015..0.3).contains(&waited), "{waited}");
    // Slow as they are, all leases are timed.
    assert_eq!(metrics.use_time.count(), metrics.leases);
    assert_eq!((metrics.leases, metrics.waits), (22, 1));
    assert!(metrics.wait_time.quantile(0.5) < 1e-4);
}

#[test]
fn metrics_that_are_off_cost_and_say_nothing() {
    let builder = Pool::builder().max_size(1).metrics(false);
    let pool = builder.build(Manager::new()).expect("opens");
    let lease = pool.get().expect("a lease");
    PooledConnection::record(&lease, MS, Ok(()));
    drop(lease);
    let metrics = pool.metrics();
    assert_eq!(metrics.operations.total(), 0);
    assert_eq!(metrics.use_time.count(), 0);
    // These cost nothing.
    assert_eq!((metrics.leases, metrics.created), (1, 1));
}

/// A snapshot in which something of everything happened.
fn eventful() -> Snapshot {
    let manager = Manager::new();
    let builder = Pool::builder()
        .max_size(2)
        .name("a \"quoted\"\nname \\ here");
    let pool = builder.build(manager).expect("opens");
    let hub = Hub::new();
    hub.watch(&pool);
    let lease = pool.get().expect("a lease");
    PooledConnection::record(&lease, 3 * MS, Ok(()));
    let error = failure(ErrorKind::ConnectionLost);
    PooledConnection::record(&lease, MS, Err(&error));
    let second = pool.get().expect("another");
    pool.get_timeout(MS).expect_err("none is left");
    second.discard();
    drop(lease);
    pool.pause();
    hub.metrics()
}

#[test]
fn prometheus_has_nothing_to_say_against_the_text() {
    let text = eventful().prometheus();
    let said = testbed::promtool(&text).expect("runs");
    assert!(said.is_empty(), "{said}\n{text}");
    // That the tool would notice.
    let said = testbed::promtool("# TYPE a counter\na 1\n").expect("runs");
    assert!(said.contains("_total"), "{said}");
}

#[test]
fn every_name_is_in_the_readme() {
    let readme = include_str!("../README.md");
    eventful().visit(|sample| {
        let name = format!("| `{}` |", sample.family.name);
        assert!(readme.contains(&name), "{name}");
    });
}

#[test]
fn a_snapshot_is_a_table_json_and_figures() {
    let snapshot = eventful();
    let table = snapshot.to_string();
    assert!(table.contains("down"), "{table}");
    let json = serde_json::to_value(&snapshot).expect("serialises");
    let pool = &json["pools"][0];
    assert_eq!(pool["operations"]["succeeded"], 1);
    assert_eq!(pool["operations"]["failed"][0][0], "connection_lost");
    assert_eq!(pool["operations"]["response_time"]["count"], 1);
    assert_eq!(
        json["health"]["pools"][0]["reasons"][0]["concern"],
        "stopped"
    );
    let mut failed = None;
    snapshot.visit(|sample| {
        if sample.family.name == "millpond_pool_operation_errors_total" {
            assert_eq!(sample.family.kind, FamilyKind::Counter);
            assert!(sample.labels.contains(&("error_type", "connection_lost")));
            if let Value::Number(number) = sample.value {
                failed = Some(number);
            }
        }
    });
    assert_eq!(failed, Some(1.0));
}
