use super::*;
use crate::hub::Hub;
use r2d2_sqlite::SqliteConnectionManager;

/// Snapshots of a pool that did `leases` leases each second.
fn snapshots(pools: usize) -> impl FnMut(u64, u64) -> Snapshot {
    let hub = Hub::builder().build();
    for _ in 0..pools {
        let builder = crate::Pool::builder().max_size(1);
        let pool = builder.build(SqliteConnectionManager::memory());
        hub.watch(&pool.expect("a pool"));
    }
    let mut template = hub.metrics();
    move |second, leases| {
        template.uptime = Duration::from_secs(second);
        for pool in &mut template.pools {
            pool.leases += leases;
            pool.operations.succeeded += leases;
        }
        template.clone()
    }
}

#[test]
fn points_hold_what_came_in_addition_and_trends_its_rate() {
    let mut snapshot = snapshots(1);
    let mut history = History::new(Duration::from_secs(1), Duration::from_secs(10), 100);
    for second in 0..=100 {
        history.push(&snapshot(second, if second <= 50 { 10 } else { 30 }));
    }
    let trend = history.trend(0, Duration::from_secs(900)).expect("a trend");
    assert!((trend.seconds - 100.0).abs() < 0.01, "{trend:?}");
    assert!((trend.leases_per_second - 20.0).abs() < 0.01, "{trend:?}");
    assert!((trend.operations_growth - 20.0).abs() < 0.01, "{trend:?}");
    // The long ring has one for each ten seconds.
    assert_eq!(history.points(Duration::from_secs(3600)).count(), 10);
    assert!(history.trend(1, Duration::from_secs(900)).is_none());
}

#[test]
fn a_day_of_ten_pools_fits_in_sixteen_mebibytes() {
    let mut snapshot = snapshots(10);
    let mut history = History::new(Duration::from_secs(1), Duration::from_secs(10), 8640);
    for second in 0..=86_500 {
        // The rings look at the time first, so most of these cost nothing.
        if second % 10 == 0 || second > 86_500 - 900 {
            history.push(&snapshot(second, 5));
        }
    }
    assert_eq!(history.points(Duration::from_secs(86_400)).count(), 8640);
    let mebibytes = history.bytes() as f64 / f64::from(1 << 20);
    assert!((4.0..16.0).contains(&mebibytes), "{mebibytes} MiB");
}
