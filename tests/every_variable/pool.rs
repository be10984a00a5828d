//! `POOL_*`, and of `PERFORMANCE_*` and `SECURITY_*` what concerns each pool.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use millpond::{
    Config, Health, Http, HttpRequest, Hub, Pool, PooledConnection, Postgres, Redis, RedisCommand,
    Sql,
};

use super::{config, hub};

fn redis(hub: &Hub) -> Pool<Redis> {
    hub.pool("redis").unwrap()
}

fn here() -> Config {
    config().set("REDIS_URL", testbed::Redis::shared().url())
}

/// Waits for what comes within ten seconds at most.
pub(super) fn comes(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{what} does not come"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn leases(pool: &Pool<Redis>, count: usize) -> Vec<PooledConnection<Redis>> {
    (0..count).map(|_| pool.get().unwrap()).collect()
}

#[test]
pub(super) fn sizes() {
    let hub = hub(&here()
        .set("POOL_MAX_CONNECTIONS", 3)
        .set("POOL_MIN_CONNECTIONS", 1));
    let pool = redis(&hub);
    comes("the one that is kept ready", || {
        pool.state().idle_connections == 1
    });
    let held = leases(&pool, 3);
    assert!(pool.get_timeout(Duration::from_millis(50)).is_err());
    assert_eq!(pool.state().connections, 3);
    drop(held);
}

#[test]
pub(super) fn connection_timeout() {
    let settings = here()
        .set("POOL_MAX_CONNECTIONS", 1)
        .set("POOL_CONNECTION_TIMEOUT", 0.2);
    let hub = hub(&settings);
    let pool = redis(&hub);
    let _held = pool.get().unwrap();
    let begun = Instant::now();
    // On another thread, as this one waiting for itself would be told at once.
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| pool.get().map(drop));
        assert!(waiter.join().unwrap().is_err());
    });
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(200) && took < Duration::from_secs(3),
        "{took:?}"
    );
}

#[test]
pub(super) fn idle_timeout() {
    let short = hub(&here().set("POOL_IDLE_TIMEOUT", 0.2));
    let long = hub(&here());
    for hub in [&short, &long] {
        drop(leases(&redis(hub), 2));
    }
    comes("the end of the idle ones", || {
        redis(&short).state().connections == 0
    });
    assert_eq!(redis(&long).state().connections, 2);
}

/// When the server saw each attempt at a request that is answered with 429: a datagram for each
/// line of its log.
fn attempts(settings: &Config) -> Vec<Instant> {
    let log = UdpSocket::bind("127.0.0.1:0").unwrap();
    log.set_read_timeout(Some(Duration::from_millis(250)))
        .unwrap();
    let port = log.local_addr().unwrap().port();
    let to_log = format!("access_log syslog:server=127.0.0.1:{port}");
    let server = testbed::Nginx::builder()
        .directive(&to_log)
        .start()
        .unwrap();
    let settings = settings.clone().set("HTTP_ENABLED", true);
    let hub = hub(&settings.set("HTTP_BASE_URL", server.url()));
    let pool = hub.pool::<Http>("http").unwrap();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| pool.execute(HttpRequest::get("/status/429")));
        let mut seen = Vec::new();
        let mut line = [0; 1024];
        loop {
            match log.recv(&mut line) {
                // The pool's checks of the server are none.
                Ok(length) if String::from_utf8_lossy(&line[..length]).contains("/429") => {
                    seen.push(Instant::now());
                }
                Err(_) if client.is_finished() => break,
                _ => {}
            }
        }
        client.join().unwrap().unwrap_err();
        seen
    })
}

#[test]
pub(super) fn retries() {
    for wanted in [1, 2] {
        let settings = config()
            .set("POOL_RETRY_ATTEMPTS", wanted)
            .set("POOL_RETRY_DELAY", 0.01);
        assert_eq!(attempts(&settings).len(), wanted);
    }
}

/// Pauses double up to the delay; half of each is certain where the server is overloaded, and
/// the rest is random.
#[test]
pub(super) fn retry_delay() {
    let pauses = |delay: f64| -> Vec<Duration> {
        let settings = config()
            .set("POOL_RETRY_ATTEMPTS", 6)
            .set("POOL_RETRY_DELAY", delay);
        let seen = attempts(&settings);
        assert_eq!(seen.len(), 6);
        seen.windows(2).map(|pair| pair[1] - pair[0]).collect()
    };
    // What a busy machine adds to one of them, and takes from the next, is not the pool's.
    let slack = Duration::from_millis(100);
    let is_within = |pause: Duration, most: u64| {
        let most = Duration::from_millis(most);
        pause + slack >= most / 2 && pause <= most + slack
    };
    let (short, long) = (pauses(0.02), pauses(0.6));
    assert!(short.iter().all(|pause| is_within(*pause, 20)), "{short:?}");
    let mosts = [50, 100, 200, 400, 600];
    let all_within = long
        .iter()
        .zip(mosts)
        .all(|(pause, most)| is_within(*pause, most));
    assert!(all_within, "{long:?}");
    let longest = |pauses: &[Duration]| pauses.iter().max().copied().unwrap();
    assert!(
        longest(&long) > 2 * longest(&short),
        "{long:?} and {short:?}"
    );
}

#[test]
pub(super) fn adaptive_limit() {
    let limit = |adaptive: bool| {
        let settings = config()
            .set("HTTP_ENABLED", true)
            .set("HTTP_BASE_URL", testbed::Nginx::shared().url())
            .set("POOL_RETRY_ATTEMPTS", 1)
            .set("POOL_ADAPTIVE_LIMIT", adaptive);
        let pool = hub(&settings).pool::<Http>("http").unwrap();
        pool.execute(HttpRequest::get("/status/429")).unwrap_err();
        pool.state().limit
    };
    assert_eq!((limit(true), limit(false)), (1, 10));
}

#[test]
pub(super) fn health_check_interval() {
    let server = testbed::Redis::start().unwrap();
    let watched = |seconds: f64| {
        let settings = config()
            .set("REDIS_URL", server.url())
            .set("POOL_MIN_CONNECTIONS", 1)
            .set("POOL_HEALTH_CHECK_INTERVAL", seconds);
        let hub = hub(&settings);
        comes("the server", || redis(&hub).state().idle_connections == 1);
        hub
    };
    let (often, seldom) = (watched(0.1), watched(3600.0));
    // Each check is a command or two of the server's.
    let asked = || {
        let info = server.cli(&["INFO", "commandstats"]).unwrap();
        let line = info.lines().find(|line| line.starts_with("cmdstat_ping:"));
        let calls = line.and_then(|line| line.split_once("calls=")?.1.split_once(','));
        calls.map_or(0, |(calls, _)| calls.parse::<u64>().unwrap())
    };
    let before = asked();
    comes("checks of the idle one", || asked() >= before + 3);
    drop(often);
    std::thread::sleep(Duration::from_millis(300));
    let quiet = asked();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(
        asked(),
        quiet,
        "and none of the pool that is seldom checked"
    );
    assert_eq!(seldom.health().health, Health::Up);
}

#[test]
pub(super) fn metrics_enabled() {
    let counted = |on: bool| {
        let hub = hub(&here().set("PERFORMANCE_METRICS_ENABLED", on));
        let pool = redis(&hub);
        pool.execute(RedisCommand::new("PING")).unwrap();
        hub.metrics().pools[0].operations.response_time.count()
    };
    assert_eq!((counted(true), counted(false)), (1, 0));
}

#[test]
pub(super) fn windows() {
    let url = testbed::Postgres::shared().url();
    let settings = config()
        .set("DATABASE_URL", url)
        .set("PERFORMANCE_RESPONSE_TIME_WINDOW", 2)
        .set("PERFORMANCE_ERROR_RATE_WINDOW", 4);
    let hub = hub(&settings);
    let pool = hub.pool::<Postgres>("postgres").unwrap();
    let recent = || hub.metrics().pools[0].operations.recent;
    pool.execute(Sql::new("SELECT pg_sleep(0.2)")).unwrap();
    assert!(recent().longest >= Duration::from_millis(200));
    pool.execute(Sql::new("SELECT nothing")).unwrap_err();
    assert!((recent().error_rate - 0.5).abs() < 1e-9, "{:?}", recent());
    for _ in 0..3 {
        pool.execute(Sql::new("SELECT 1")).unwrap();
    }
    // The slow one is beyond the last two, the wrong one among the last four.
    assert!(
        recent().longest < Duration::from_millis(200),
        "{:?}",
        recent()
    );
    assert!((recent().error_rate - 0.25).abs() < 1e-9, "{:?}", recent());
    pool.execute(Sql::new("SELECT 1")).unwrap();
    assert!(recent().error_rate < 1e-9, "{:?}", recent());
}

#[test]
pub(super) fn encryption() {
    let remote = [
        ("DB_HOST", "DB_SSL_MODE", "disable"),
        ("REDIS_HOST", "REDIS_ENABLED", "true"),
        ("MONGODB_HOST", "MONGODB_SSL", "false"),
        ("HTTP_BASE_URL", "HTTP_ENABLED", "true"),
    ];
    for (host, name, value) in remote {
        let address = if host == "HTTP_BASE_URL" {
            "http://db.internal"
        } else {
            "db.internal"
        };
        let plain = config()
            .set("MONGODB_ENABLED", host == "MONGODB_HOST")
            .set(host, address)
            .set(name, value);
        let error = plain.validate().expect_err(host).to_string();
        assert!(
            error.contains("SECURITY_CONNECTION_ENCRYPTION=false"),
            "{error}"
        );
        let allowed = plain.set("SECURITY_CONNECTION_ENCRYPTION", false);
        allowed
            .validate()
            .unwrap_or_else(|error| panic!("{host}: {error}"));
    }
}
