//! Alerts of a real server that dies and comes back, to functions and to a real HTTP service.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millpond::alerts::{Alert, HandleAlert as _, Rule, Signal, Webhook};
use millpond::{Http, HttpConfig, Hub, Pool, Postgres, PostgresConfig};

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(15), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_server_that_dies_fires_once_and_resolves_once() {
    let server = testbed::Postgres::start().expect("starts");
    let config = PostgresConfig::from_url(&server.url()).expect("a good URL");
    let pool = Pool::builder()
        .max_size(2)
        .name("orders")
        .health_check_interval(Some(Duration::from_millis(200)))
        .build(Postgres::new(config).expect("good settings"))
        .expect("opens");
    let service = testbed::Nginx::builder()
        .directive("location = /hook { return 204; }")
        .start()
        .expect("starts");
    let service = HttpConfig::new(format!("http://127.0.0.1:{}", service.port()));
    let webhook = Arc::new(Webhook::new(service, "/hook").expect("good settings"));
    let posted = Arc::new(AtomicU64::new(0));
    let (post, count) = (Arc::clone(&webhook), Arc::clone(&posted));
    let rule = Rule::new("down", Signal::Health)
        .above(0.75)
        .lasting(Duration::from_millis(200))
        .clear_after(Duration::from_millis(200));
    let told: Arc<Mutex<Vec<Alert>>> = Arc::default();
    let tell = Arc::clone(&told);
    let hub = Hub::builder()
        .sample_interval(Duration::from_millis(50))
        .alerts([rule])
        .on_alert(|_: &Alert| panic!("a handler's own mistake"))
        .on_alert(move |alert: &Alert| {
            post.handle(alert);
            count.fetch_add(1, SeqCst);
        })
        .on_alert(move |alert: &Alert| tell.lock().expect("no poison").push(alert.clone()))
        .build();
    hub.watch(&pool);
    std::thread::sleep(Duration::from_millis(500));
    assert!(hub.alerts().firing.is_empty(), "{:?}", hub.alerts());
    server.kill();
    until("fires", || hub.alerts().firing.len() == 1);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(told.lock().expect("no poison").len(), 1);
    server.restart().expect("restarts");
    until("resolves", || hub.alerts().firing.is_empty());
    until("both are told", || {
        told.lock().expect("no poison").len() == 2
    });
    std::thread::sleep(Duration::from_millis(500));
    let told = told.lock().expect("no poison");
    let [fired, resolved] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(fired.is_firing() && !resolved.is_firing());
    assert_eq!(&*fired.subject, "orders");
    assert!(fired.message.starts_with("the pool is down; "), "{fired}");
    assert_eq!(hub.alerts().past.len(), 1);
    assert_eq!((posted.load(SeqCst), webhook.given_up()), (2, 0));
}

/// A hub with an alert that fires at once, posted to this path of the service.
fn alarmed(service: &testbed::Nginx, path: &str) -> (Hub, Arc<Webhook>, Arc<AtomicU64>) {
    let service = HttpConfig::new(format!("http://127.0.0.1:{}", service.port()));
    let webhook = Arc::new(Webhook::new(service, path).expect("good settings"));
    let over = Arc::new(AtomicU64::new(0));
    let (post, count) = (Arc::clone(&webhook), Arc::clone(&over));
    let hub = Hub::builder()
        .sample_interval(Duration::from_millis(50))
        .alerts([Rule::new("always", Signal::Cpu).above(-1.0)])
        .on_alert(move |alert: &Alert| {
            post.handle(alert);
            count.fetch_add(1, SeqCst);
        })
        .build();
    // So that there is something to watch.
    let http = Http::new(HttpConfig::new("http://127.0.0.1:1")).expect("good settings");
    hub.watch(&Pool::builder().min_idle(Some(0)).build_unchecked(http));
    (hub, webhook, over)
}

#[test]
fn an_alert_waits_for_a_service_that_is_down_but_not_for_one_that_refuses_it() {
    let service = testbed::Nginx::builder()
        .directive("location = /hook { return 204; }")
        .start()
        .expect("starts");
    service.kill();
    let (_hub, webhook, over) = alarmed(&service, "/hook");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((over.load(SeqCst), webhook.given_up()), (0, 0));
    service.restart().expect("restarts");
    until("delivered", || over.load(SeqCst) == 1);
    assert_eq!(webhook.given_up(), 0);

    let (_hub, webhook, over) = alarmed(&service, "/no-such-hook");
    until("given up", || over.load(SeqCst) == 1);
    assert_eq!(webhook.given_up(), 1);
}
