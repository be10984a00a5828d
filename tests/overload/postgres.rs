//! Two pools that both want more connections than a PostgreSQL server has.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use millpond::{ErrorKind, Pool, Postgres, PostgresConfig, Sql};

use super::scripted::until;

const HAS: u32 = 12;

fn pool(server: &testbed::Postgres, adaptive: bool) -> Pool<Postgres> {
    let config = PostgresConfig::from_url(&server.url()).unwrap();
    Pool::builder()
        .max_size(10)
        .min_idle(Some(0))
        .adaptive(adaptive)
        .build(Postgres::new(config).unwrap())
        .unwrap()
}

/// Two pools under load for three seconds; what they got done, and how often a connect was
/// refused. One of them goes then, and the other has it all if it is to.
fn share(server: &testbed::Postgres, adaptive: bool) -> ([u64; 2], u64) {
    let pools = [pool(server, adaptive), pool(server, adaptive)];
    let over = [AtomicBool::new(false), AtomicBool::new(false)];
    let done = [AtomicU64::new(0), AtomicU64::new(0)];
    let failed = std::thread::scope(|scope| {
        for ((pool, over), done) in pools.iter().zip(&over).zip(&done) {
            for _ in 0..10 {
                scope.spawn(move || {
                    while !over.load(SeqCst) {
                        match pool.execute(Sql::new("SELECT pg_sleep(0.01)")) {
                            Ok(_) => done.fetch_add(1, SeqCst),
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                                break;
                            }
                        };
                    }
                });
            }
        }
        std::thread::sleep(Duration::from_secs(1));
        let failures = || pools.iter().map(|pool| pool.metrics().create_failed).sum();
        let before: u64 = failures();
        std::thread::sleep(Duration::from_secs(2));
        let failed = failures() - before;
        for pool in &pools {
            let state = pool.state();
            assert_eq!(state.limit < 10, adaptive, "{state}");
        }
        over[0].store(true, SeqCst);
        pools[0].close(Duration::from_secs(5)).unwrap();
        until("all ten", || pools[1].state().leased == 10);
        over[1].store(true, SeqCst);
        failed
    });
    (done.map(AtomicU64::into_inner), failed)
}

#[test]
fn two_pools_share_what_there_is() {
    let server = testbed::Postgres::builder()
        .setting("max_connections", &HAS.to_string())
        .setting("superuser_reserved_connections", "0")
        .start()
        .unwrap();
    let (fixed, refused) = share(&server, false);
    println!("fixed: {fixed:?} operations, {refused} connects refused in two seconds");
    let (adaptive, fewer) = share(&server, true);
    println!("adaptive: {adaptive:?} operations, {fewer} connects refused in two seconds");
    assert!(
        fewer <= refused,
        "{fewer} refused, and {refused} without a limit"
    );
    for done in adaptive {
        assert!(done > 100, "{adaptive:?}");
    }
}
