//! Figures through the `metrics` facade, to a recorder as programs have.

use std::time::Duration;

use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use millpond::{Hub, Pool};
use r2d2_sqlite::SqliteConnectionManager;

#[test]
fn a_hub_passes_its_samples_on() {
    let recorder = DebuggingRecorder::new();
    let seen = recorder.snapshotter();
    recorder.install().expect("the only one");
    let pool = Pool::builder().max_size(2).name("orders");
    let pool = pool
        .build(SqliteConnectionManager::memory())
        .expect("opens");
    let builder = Hub::builder().sample_interval(Duration::from_millis(20));
    let hub = builder.metrics_facade(true).build();
    hub.watch(&pool);
    for _ in 0..3 {
        drop(pool.get().expect("a lease"));
    }
    std::thread::sleep(Duration::from_millis(300));
    let figures = seen.snapshot().into_vec();
    let find = |name: &str, kind, label: Option<(&str, &str)>| {
        let found = figures.iter().find(|(key, ..)| {
            let labels = || key.key().labels();
            key.kind() == kind
                && key.key().name() == name
                && labels().any(|label| label.value() == "orders")
                && label.is_none_or(|(name, value)| {
                    labels().any(|label| label.key() == name && label.value() == value)
                })
        });
        match found {
            Some((.., DebugValue::Counter(count))) => *count as f64,
            Some((.., DebugValue::Gauge(value))) => value.into_inner(),
            other => panic!("{name}: {other:?}"),
        }
    };
    let counter = MetricKind::Counter;
    assert!((find("millpond_pool_leases_total", counter, None) - 3.0).abs() < 0.1);
    let created = find(
        "db_client_connection_create_time_seconds_count",
        counter,
        None,
    );
    assert!((created - 2.0).abs() < 0.1);
    let max = find("db_client_connection_max", MetricKind::Gauge, None);
    assert!((max - 2.0).abs() < 0.1);
    let p99 = find(
        "db_client_connection_create_time_seconds",
        MetricKind::Gauge,
        Some(("quantile", "0.99")),
    );
    assert!(p99 > 0.0);
}
