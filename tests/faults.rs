//! Servers that freeze, die and come back: the same faults for all four backends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use millpond::Pool;
use millpond::backend::Backend;
use testbed::Pace;

use subjects::{CHECK, Outcome, Subject};

mod subjects;

/// Longer than a connection is leased unchecked.
const BYPASS_OVER: Duration = Duration::from_millis(700);

fn pool<S: Subject>(server: &S, size: u32) -> Pool<S::Manager> {
    Pool::builder()
        .max_size(size)
        .validation_timeout(CHECK)
        .build(server.manager())
        .expect("opens")
}

fn use_one<S: Subject>(pool: &Pool<S::Manager>) -> Outcome {
    let mut lease = pool.get_timeout(Duration::from_secs(10))?;
    S::work(&mut lease)
}

/// Uses every connection once.
fn use_all<S: Subject>(pool: &Pool<S::Manager>) {
    let leases = (0..pool.max_size()).map(|_| pool.get().expect("a connection"));
    for mut lease in leases.collect::<Vec<_>>() {
        S::work(&mut lease).expect("works");
    }
    let start = Instant::now();
    // Those that are being cleaned come back.
    while pool.state().idle_connections < pool.max_size() && start.elapsed() < CHECK {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[track_caller]
fn in_vain<M: Backend<Error = millpond::Error>>(pool: &Pool<M>) {
    let limit = Duration::from_millis(300);
    let (got, took) = Pace::start().time(|| pool.get_timeout(limit));
    assert!(got.is_err(), "a connection that nobody could check");
    assert!(took < limit + Duration::from_millis(50), "{took:?}");
}

fn frozen_before_a_lease<S: Subject>() {
    let (server, healthy) = (S::start(), S::start());
    let frozen = Pool::builder()
        .max_size(2)
        .validation_timeout(CHECK)
        .keepalive_interval(Some(Duration::from_millis(100)))
        .build(server.manager())
        .expect("opens");
    let neighbour = Pool::builder()
        .max_size(2)
        .test_on_check_out(true)
        .build(healthy.manager())
        .expect("opens");
    use_all::<S>(&frozen);
    server.freeze();
    // Meanwhile its pings hang, and it is checked.
    std::thread::sleep(BYPASS_OVER);
    let mut slowest = Duration::ZERO;
    for _ in 0..4 {
        in_vain(&frozen);
        let (used, took) = Pace::start().time(|| use_one::<S>(&neighbour));
        used.expect("a healthy server");
        slowest = slowest.max(took);
    }
    assert!(
        slowest < Duration::from_millis(150),
        "a frozen server delayed another pool by {slowest:?}"
    );
    server.thaw();
    let back = Instant::now();
    use_one::<S>(&frozen).expect("works again");
    assert!(
        back.elapsed() < Duration::from_secs(2),
        "{:?}",
        back.elapsed()
    );
}

fn frozen_during_a_lease<S: Subject>() {
    let server = S::start();
    let pool = pool(&server, 1);
    let mut lease = pool.get().expect("a connection");
    S::work(&mut lease).expect("works");
    server.freeze();
    in_vain(&pool);
    let ((), took) = Pace::start().time(|| drop(lease));
    assert!(took < Duration::from_millis(50), "returned after {took:?}");
    std::thread::sleep(BYPASS_OVER);
    in_vain(&pool);
    server.thaw();
    use_one::<S>(&pool).expect("works again");
}

fn killed_while_idle<S: Subject>() {
    let server = S::start();
    let pool = pool(&server, 5);
    use_all::<S>(&pool);
    server.kill();
    server.restart();
    std::thread::sleep(BYPASS_OVER);
    for turn in 0..100 {
        if let Err(error) = use_one::<S>(&pool) {
            panic!("lease {turn}: {error}");
        }
    }
    assert!(pool.state().connections <= 5);

    use_all::<S>(&pool);
    server.kill();
    server.restart();
    let errors = (0..100).filter(|_| use_one::<S>(&pool).is_err()).count();
    assert!(errors <= 5, "{errors} errors on 5 connections");
}

fn killed_and_restarted_under_load<S: Subject>() {
    let server = S::start();
    let pool = pool(&server, 4);
    let (stop, served) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let Ok(mut lease) = pool.get_timeout(Duration::from_millis(500)) else {
                        continue;
                    };
                    if S::work(&mut lease).is_ok() {
                        served.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        server.kill();
        std::thread::sleep(Duration::from_millis(500));
        let before = served.load(Relaxed);
        server.restart();
        let back = Instant::now();
        while served.load(Relaxed) == before && back.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let took = back.elapsed();
        stop.store(true, Relaxed);
        assert!(before > 0, "there was load");
        assert!(
            took < Duration::from_secs(1),
            "leases worked again after {took:?}"
        );
    });
    use_one::<S>(&pool).expect("works");
    let state = pool.state();
    assert!(state.connections <= 4 && state.leased == 0, "{state}");
    pool.close(Duration::from_secs(5))
        .expect("everything comes back");
    let metrics = pool.metrics();
    let closed: u64 = metrics.closed.iter().map(|(_, count)| count).sum();
    assert_eq!(metrics.created, closed, "no connection is lost or doubled");
}

macro_rules! faults {
    ($($backend:ident: $server:ty;)*) => {$(
        mod $backend {
            #[test]
            fn frozen_before_a_lease() {
                super::frozen_before_a_lease::<$server>();
            }
            #[test]
            fn frozen_during_a_lease() {
                super::frozen_during_a_lease::<$server>();
            }
            #[test]
            fn killed_while_idle() {
                super::killed_while_idle::<$server>();
            }
            #[test]
            fn killed_and_restarted_under_load() {
                super::killed_and_restarted_under_load::<$server>();
            }
        }
    )*};
}

faults! {
    postgres: testbed::Postgres;
    redis: testbed::Redis;
    mongodb: testbed::Mongo;
    http: testbed::Nginx;
}
