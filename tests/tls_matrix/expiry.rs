//! The end of a certificate is seen coming.

use std::time::{Duration, Instant, SystemTime};

use millpond::alerts::Rule;
use millpond::backend::Backend;
use millpond::backend::postgres::SslMode;
use millpond::health::{CertificateOf, Concern, PoolHealth};
use millpond::{
    Health, Http, HttpConfig, Hub, Pool, Postgres, PostgresConfig, Redis, RedisConfig, Tls,
};
use testbed::{Ca, Nginx};

const DAY: Duration = Duration::from_secs(86_400);

/// A pool whose server is checked now and then, and a hub that watches it.
fn watched<M: Backend>(manager: M) -> (Pool<M>, Hub) {
    let pool = Pool::builder()
        .max_size(1)
        .min_idle(Some(1))
        .health_check_interval(Some(Duration::from_millis(100)))
        .build(manager)
        .unwrap();
    let sample = Duration::from_millis(50);
    let hub = Hub::builder()
        .sample_interval(sample)
        .alerts(Rule::defaults())
        .build();
    hub.watch(&pool);
    (pool, hub)
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: not yet");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn checked<M: Backend>(pool: &Pool<M>) -> PoolHealth {
    eventually("a check", || pool.health().service.is_some());
    pool.health()
}

/// Days until these expire.
fn days(health: &PoolHealth) -> Vec<(CertificateOf, f64)> {
    let certificates = health.service.as_ref().unwrap().certificates.iter();
    let left = |at: SystemTime| at.duration_since(SystemTime::now()).unwrap_or_default();
    let days = |at| left(at).as_secs_f64() / DAY.as_secs_f64();
    certificates
        .map(|one| (one.of, days(one.expires_at)))
        .collect()
}

fn fires(hub: &Hub, words: &str) {
    let fires = || {
        let firing = hub.alerts().firing;
        let mut named = firing
            .iter()
            .filter(|alert| &*alert.rule == "certificate_expiring");
        named.any(|alert| alert.message.contains(words))
    };
    eventually(words, fires);
}

#[test]
fn in_its_last_week_a_pool_is_degraded() {
    let ca = Ca::new();
    let identity = ca.issue().expiring_in(DAY * 3 + DAY / 2).server();
    let server = testbed::Postgres::builder()
        .tls_identity(&ca, &identity)
        .start()
        .unwrap();
    let config = PostgresConfig::from_url(&server.url()).unwrap();
    let config = config.ssl_mode(SslMode::VerifyFull).ca_file(ca.cert_path());
    let (pool, hub) = watched(Postgres::new(config).unwrap());
    let health = checked(&pool);
    assert_eq!(health.health, Health::Degraded, "{health:?}");
    assert_eq!(health.reasons[0].concern, Concern::Certificate);
    let text = &health.reasons[0].text;
    assert!(
        text.contains("the server's certificate expires on"),
        "{text}"
    );
    assert!(text.contains("in 3.5 days: renew it"), "{text}");
    let days = days(&health);
    assert_eq!(days[0].0, CertificateOf::Server);
    assert!((3.4..3.5).contains(&days[0].1), "{days:?}");
    assert_eq!(days[1].0, CertificateOf::Authority);
    fires(&hub, "a certificate expires in 3.5 days");

    let snapshot = hub.metrics();
    let prometheus = snapshot.prometheus();
    let line = prometheus
        .lines()
        .find(|line| {
            line.starts_with("millpond_certificate_expiry_timestamp_seconds{")
                && line.contains("certificate=\"server\"")
        })
        .unwrap_or_else(|| panic!("{prometheus}"));
    let moment: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!(
        (moment - now.as_secs_f64() - 3.5 * 86_400.0).abs() < 60.0,
        "{line}"
    );
    let json = serde_json::to_value(&snapshot).unwrap();
    assert_eq!(json["pools"][0]["certificates"][0]["of"], "server");
    assert!(json["pools"][0]["certificates"][0]["expires_at"].is_number());
}

#[test]
fn in_its_last_fortnight_an_alert_fires() {
    let ca = Ca::new();
    let identity = ca.issue().expiring_in(DAY * 10).server();
    let nginx = Nginx::builder()
        .tls_identity(&ca, &identity)
        .start()
        .unwrap();
    let tls = Tls::new().ca_file(ca.cert_path());
    let (pool, hub) = watched(Http::new(HttpConfig::new(nginx.url()).tls(tls)).unwrap());
    let health = checked(&pool);
    assert_eq!(health.health, Health::Up, "{health:?}");
    fires(&hub, "a certificate expires in 10.0 days");
}

#[test]
fn of_redis_the_files_are_watched() {
    let ca = Ca::new();
    let server = testbed::Redis::builder()
        .tls(&ca)
        .client_certificates(true)
        .start()
        .unwrap();
    let client = ca.issue().expiring_in(DAY * 2).client("app");
    let tls = Tls::new().ca_file(ca.cert_path());
    let tls = tls.client_certificate(client.cert_path(), client.key_path());
    let config = RedisConfig::new()
        .host("127.0.0.1")
        .port(server.port())
        .tls(tls);
    let (pool, hub) = watched(Redis::new(config).unwrap());
    let health = checked(&pool);
    assert_eq!(health.health, Health::Degraded, "{health:?}");
    let text = &health.reasons[0].text;
    assert!(
        text.contains("the client's certificate expires on"),
        "{text}"
    );
    let of: Vec<_> = days(&health).iter().map(|(of, _)| *of).collect();
    assert_eq!(of, [CertificateOf::Client, CertificateOf::Authority]);
    fires(&hub, "a certificate expires in 2.0 days");
}

#[test]
fn where_nothing_is_checked_nothing_expires() {
    let server = super::postgres::expired();
    let config = PostgresConfig::from_url(&server.url())
        .unwrap()
        .ssl_mode(SslMode::Require);
    let (pool, _hub) = watched(Postgres::new(config).unwrap());
    let health = checked(&pool);
    assert_eq!(health.health, Health::Up, "{health:?}");
    assert!(days(&health).is_empty());
}
