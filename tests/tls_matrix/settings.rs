//! What the variables about TLS do to a program: `SECURITY_CERTIFICATE_VALIDATION=false` works and
//! warns on every start, and the oldest version is kept to, or refused.

use std::sync::Mutex;

use log::{Level, Log, Metadata, Record};
use millpond::{Config, Http, HttpRequest, Hub, MongoDb, Postgres, Redis, RedisCommand, Sql};
use testbed::Nginx;

use super::ca;

struct Warnings(Mutex<Vec<String>>);

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

impl Log for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if record.level() <= Level::Warn {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[test]
fn any_certificate_will_do_and_each_start_warns() {
    testbed::listen(&WARNINGS);
    let flawed = ca().issue().wrong_host().server();
    let (postgres, mongo) = (super::postgres::elsewhere(), super::mongodb::elsewhere());
    let redis = testbed::Redis::builder().tls_identity(ca(), &flawed);
    let redis = redis.start().unwrap();
    let nginx = Nginx::builder()
        .tls_identity(ca(), &flawed)
        .start()
        .unwrap();
    let config = Config::new()
        .set("POOL_MIN_CONNECTIONS", "0")
        .set("DB_HOST", "127.0.0.1")
        .set("DB_PORT", postgres.port())
        .set("DB_NAME", "postgres")
        .set("DB_USER", "test")
        .set("DB_SSL_MODE", "verify-full")
        .set("REDIS_ENABLED", "true")
        .set("REDIS_PORT", redis.port())
        .set("REDIS_SSL", "true")
        .set("MONGODB_ENABLED", "true")
        .set("MONGODB_PORT", mongo.port())
        .set("MONGODB_DB", "test")
        .set("MONGODB_SSL", "true")
        .set("HTTP_ENABLED", "true")
        .set("HTTP_BASE_URL", nginx.url());
    let unchecked = config
        .clone()
        .set("SECURITY_CERTIFICATE_VALIDATION", "false");
    let told = || {
        let warnings = WARNINGS.0.lock().unwrap();
        ["PostgreSQL", "Redis", "MongoDB", "HTTP"].map(|backend| {
            let start = format!("millpond: {backend}: certificate validation is off");
            warnings
                .iter()
                .filter(|text| text.starts_with(&start))
                .count()
        })
    };
    let before = told();
    for start in 1..=2 {
        let hub = Hub::from_config(&unchecked).unwrap();
        let told = told();
        for (now, before) in told.iter().zip(before) {
            assert!(*now >= before + start, "{told:?}");
        }
        let pool = hub.pool::<Postgres>("postgres").unwrap();
        pool.execute(Sql::new("SELECT 1")).unwrap();
        let pool = hub.pool::<Redis>("redis").unwrap();
        pool.execute(RedisCommand::new("PING")).unwrap();
        let pool = hub.pool::<MongoDb>("mongodb").unwrap();
        drop(pool.get().unwrap());
        let pool = hub.pool::<Http>("http").unwrap();
        pool.execute(HttpRequest::get("/")).unwrap();
    }
    let checked = Hub::from_config(&config).unwrap();
    assert!(checked.pool::<Postgres>("postgres").unwrap().get().is_err());
    assert!(checked.pool::<Http>("http").unwrap().get().is_err());
}

#[test]
fn the_oldest_version_is_kept_to_or_refused() {
    let limit = "ssl_protocols TLSv1.2";
    let nginx = Nginx::builder().tls(ca()).directive(limit).start().unwrap();
    let config = |version: &str| {
        Config::new()
            .set("POOL_MIN_CONNECTIONS", "0")
            .set("HTTP_ENABLED", "true")
            .set("HTTP_BASE_URL", nginx.url())
            .set("HTTP_SSL_CA_FILE", ca().cert_path().display().to_string())
            .set("HTTP_SSL_MIN_VERSION", version)
    };
    let connect = |version| {
        let hub = Hub::from_config(&config(version)).unwrap();
        let pool = hub.pool::<Http>("http").unwrap();
        pool.get().map(drop)
    };
    connect("1.2").unwrap();
    let error = connect("1.3").unwrap_err();
    assert!(error.message().contains("HTTP_SSL_MIN_VERSION"), "{error}");
    let refused = config("1.1")
        .set("DB_HOST", "localhost")
        .set("DB_SSL_MIN_VERSION", "new")
        .set("REDIS_ENABLED", "true")
        .set("REDIS_SSL", "true")
        .set("REDIS_SSL_MIN_VERSION", "1.3")
        .set("MONGODB_ENABLED", "true")
        .set("MONGODB_SSL_MIN_VERSION", "1.3");
    let error = refused.validate().unwrap_err();
    for part in [
        "HTTP_SSL_MIN_VERSION (the program) is `1.1`, accepted: 1.2 or 1.3",
        "DB_SSL_MIN_VERSION (the program) is `new`, accepted: 1.2 or 1.3",
        "REDIS_SSL_MIN_VERSION (the program) is `1.3`, accepted: 1.2,",
        "MONGODB_SSL_MIN_VERSION (the program) is `1.3`, accepted: 1.2,",
    ] {
        assert!(error.message().contains(part), "no `{part}` in: {error}");
    }
}
