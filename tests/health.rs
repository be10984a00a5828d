//! Health on real servers that die, freeze, become read-only, or change a password: it changes
//! with the right reason within a check interval or at the first operation that fails, and
//! changes back; the right alert fires once and resolves once.

use std::time::{Duration, Instant};

use millpond::alerts::{Alert, Rule};
use millpond::backend::{Backend, Role};
use millpond::health::{Concern, PoolHealth};
use millpond::{
    ConnectFailure, ErrorKind, Health, Hub, ManageConnection, Pool, Postgres, PostgresConfig,
    Redis, RedisConfig, Sql,
};
use testbed::secret;

use subjects::{CHECK, Outcome, Subject};

mod subjects;

const INTERVAL: Duration = Duration::from_millis(200);
/// What threads and timers may add on a busy machine.
const LEEWAY: Duration = Duration::from_millis(600);

fn pool<M: Backend>(manager: M) -> Pool<M> {
    Pool::builder()
        .max_size(3)
        .min_idle(Some(1))
        .validation_timeout(CHECK)
        .health_check_interval(Some(INTERVAL))
        .build(manager)
        .expect("opens")
}

/// The pool's health once it is like this, which must be soon.
#[track_caller]
fn becomes<M: ManageConnection>(
    pool: &Pool<M>,
    limit: Duration,
    what: &str,
    like: impl Fn(&PoolHealth) -> bool,
) -> PoolHealth {
    let start = Instant::now();
    loop {
        let health = pool.health();
        if like(&health) {
            return health;
        }
        assert!(start.elapsed() < limit, "not {what}: {health:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
fn becomes_up<M: ManageConnection>(pool: &Pool<M>) -> PoolHealth {
    // A second until the next check of a server in doubt.
    let limit = Duration::from_secs(1) + CHECK + LEEWAY;
    becomes(pool, limit, "up", |health| {
        health.health == Health::Up && health.service.is_some()
    })
}

/// Watches the pool with the default rules, faster than by default.
fn watch<M: ManageConnection>(pool: &Pool<M>) -> Hub {
    let ms = Duration::from_millis;
    let faster = |rule: Rule| rule.lasting(ms(100)).clear_after(ms(400));
    let hub = Hub::builder()
        .sample_interval(ms(50))
        .alerts(Rule::defaults().into_iter().map(faster))
        .build();
    hub.watch(pool);
    hub
}

/// Alerts about pools: what the machine's load does to the process is not the matter here.
fn of_pools(mut alerts: Vec<Alert>) -> Vec<Alert> {
    alerts.retain(|alert| &*alert.subject != "process");
    alerts
}

/// An alert of this name fires.
#[track_caller]
fn fires(hub: &Hub, rule: &str) {
    let start = Instant::now();
    loop {
        let firing = of_pools(hub.alerts().firing);
        if firing.iter().any(|alert| &*alert.rule == rule) {
            return;
        }
        assert!(start.elapsed() < 2 * LEEWAY, "no {rule}: {firing:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All is over, and alerts fired exactly once: this one, and of the others those that may.
#[track_caller]
fn fired_once(hub: &Hub, rule: &str, others: &[&str]) {
    let start = Instant::now();
    while !of_pools(hub.alerts().firing).is_empty() {
        assert!(start.elapsed() < 4 * LEEWAY, "{:#?}", hub.alerts());
        std::thread::sleep(Duration::from_millis(5));
    }
    // Time for it to fire again, if it should be so foolish.
    std::thread::sleep(LEEWAY);
    let log = hub.alerts();
    let (firing, past) = (of_pools(log.firing), of_pools(log.past));
    assert!(firing.is_empty(), "{firing:#?}");
    let mut names: Vec<_> = past.iter().map(|alert| &*alert.rule).collect();
    assert_eq!(
        names.iter().filter(|name| **name == rule).count(),
        1,
        "{past:#?}"
    );
    names.retain(|name| *name != rule && !others.contains(name));
    assert!(names.is_empty(), "{past:#?}");
}

fn use_one<S: Subject>(pool: &Pool<S::Manager>) -> Outcome {
    let mut lease = pool.get()?;
    S::work(&mut lease)
}

fn kinds(health: &PoolHealth) -> Vec<ErrorKind> {
    health
        .reasons
        .iter()
        .filter_map(|reason| reason.error)
        .collect()
}

fn killed<S: Subject>() {
    let server = S::start();
    let pool = pool(server.manager());
    use_one::<S>(&pool).expect("works");
    becomes_up(&pool);
    let hub = watch(&pool);
    server.kill();
    // Nobody uses it.
    let limit = INTERVAL + Duration::from_secs(1) + LEEWAY;
    let health = becomes(&pool, limit, "down", |health| health.health == Health::Down);
    let gone = |kind: &ErrorKind| {
        matches!(
            kind,
            ErrorKind::Connect(ConnectFailure::Refused) | ErrorKind::ConnectionLost
        )
    };
    assert!(kinds(&health).iter().any(gone), "{health:#?}");
    fires(&hub, "pool_down");
    server.restart();
    let health = becomes_up(&pool);
    assert!(health.reasons.is_empty(), "{health:#?}");
    use_one::<S>(&pool).expect("works again");
    fired_once(&hub, "pool_down", &["pool_degraded", "connects_fail"]);
}

fn frozen<S: Subject>() {
    let server = S::start();
    let pool = pool(server.manager());
    use_one::<S>(&pool).expect("works");
    becomes_up(&pool);
    let hub = watch(&pool);
    server.freeze();
    // The check's own timeout first, then that of a new connection.
    let limit = INTERVAL + 2 * CHECK + Duration::from_secs(1) + LEEWAY;
    becomes(&pool, limit, "down", |health| health.health == Health::Down);
    fires(&hub, "pool_down");
    server.thaw();
    becomes_up(&pool);
    use_one::<S>(&pool).expect("works again");
    fired_once(&hub, "pool_down", &["pool_degraded", "connects_fail"]);
}

macro_rules! subjects {
    ($($backend:ident: $server:ty;)*) => {$(
        mod $backend {
            #[test]
            fn killed() {
                super::killed::<$server>();
            }
            #[test]
            fn frozen() {
                super::frozen::<$server>();
            }
        }
    )*};
}

subjects! {
    postgres: testbed::Postgres;
    redis: testbed::Redis;
    mongodb: testbed::Mongo;
    http: testbed::Nginx;
}

fn postgres(server: &testbed::Postgres) -> Postgres {
    let config = PostgresConfig::from_url(&server.url()).expect("a good URL");
    Postgres::new(config.check_timeout(CHECK)).expect("good settings")
}

#[test]
fn the_first_operation_that_fails_puts_the_server_in_doubt() {
    let server = testbed::Postgres::start().expect("starts");
    let pool = Pool::builder()
        .max_size(2)
        .min_idle(Some(1))
        .retry_attempts(1)
        .validation_bypass(Duration::from_secs(60))
        // Longer than the test.
        .health_check_interval(Some(Duration::from_secs(60)))
        .keepalive_interval(None)
        .build(postgres(&server))
        .expect("opens");
    pool.execute(Sql::new("SELECT 1")).expect("works");
    assert_eq!(pool.health().health, Health::Up);
    server.kill();
    pool.execute(Sql::new("SELECT 1")).expect_err("it is gone");
    let health = pool.health();
    assert_ne!(health.health, Health::Up, "{health:#?}");
    let limit = Duration::from_secs(1) + LEEWAY;
    becomes(&pool, limit, "down", |health| health.health == Health::Down);
    server.restart().expect("restarts");
    becomes_up(&pool);
}

#[test]
fn a_primary_that_takes_no_writes_is_not_up_for_writing() {
    let server = testbed::Postgres::start().expect("starts");
    let writers = pool(postgres(&server));
    let readers = Pool::builder()
        .max_size(1)
        .read_only(true)
        .health_check_interval(Some(INTERVAL))
        .build(postgres(&server))
        .expect("opens");
    let service = becomes_up(&writers).service.expect("asked");
    assert_eq!(
        (service.role, service.writable),
        (Role::Primary, Some(true))
    );
    becomes_up(&readers);
    let hub = watch(&writers);
    hub.watch(&readers);
    let set = |on: &str| {
        let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {on}");
        server.psql(&sql).expect("sets");
        server.psql("SELECT pg_reload_conf()").expect("reloads");
    };
    set("on");
    let limit = INTERVAL + LEEWAY;
    let health = becomes(&writers, limit, "degraded", |health| {
        health.health == Health::Degraded
    });
    assert_eq!(health.reasons[0].concern, Concern::ReadOnly);
    assert_eq!(health.reasons[0].error, Some(ErrorKind::WrongRole));
    assert_eq!(readers.health().health, Health::Up);
    fires(&hub, "server_read_only");
    set("off");
    becomes(&writers, limit, "up", |health| health.health == Health::Up);
    fired_once(&hub, "server_read_only", &["pool_degraded"]);
}

#[test]
fn a_password_that_was_changed_is_told_as_such() {
    let server = testbed::Postgres::builder()
        .hba("host all app 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust")
        .start()
        .expect("starts");
    let password = |password: &str| {
        let sql = format!("ALTER ROLE app PASSWORD '{password}'");
        server.psql(&sql).expect("alters");
    };
    server.psql("CREATE ROLE app LOGIN").expect("creates");
    password(secret!("first"));
    let config = PostgresConfig::from_url(&server.url()).expect("a good URL");
    let config = config
        .user("app")
        .password(secret!("first"))
        .check_timeout(CHECK);
    let pool = pool(Postgres::new(config).expect("good settings"));
    becomes_up(&pool);
    let hub = watch(&pool);
    password(secret!("second"));
    server
        .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        .expect("ends sessions");
    let limit = INTERVAL + Duration::from_secs(1) + LEEWAY;
    let health = becomes(&pool, limit, "refused", |health| {
        health.health == Health::Down && kinds(health).contains(&ErrorKind::Authentication)
    });
    let told = health.reasons.iter().map(ToString::to_string);
    assert!(
        told.clone()
            .any(|text| text.contains("DB_PASSWORD") || text.contains("password"))
    );
    assert!(told.clone().all(|text| !text.contains(secret!("first"))));
    fires(&hub, "login_refused");
    password(secret!("first"));
    pool.clear();
    becomes_up(&pool);
    let others = ["pool_down", "pool_degraded", "connects_fail"];
    fired_once(&hub, "login_refused", &others);
}

#[test]
fn a_redis_server_that_becomes_a_replica_is_noticed() {
    let server = testbed::Redis::start().expect("starts");
    let config = RedisConfig::new().host("127.0.0.1").port(server.port());
    let pool = pool(Redis::new(config).expect("good settings"));
    assert_eq!(
        becomes_up(&pool).service.map(|service| service.role),
        Some(Role::Primary)
    );
    let run = |arguments: [&str; 2]| {
        let mut lease = pool.get().expect("a lease");
        let mut command = ::redis::cmd("REPLICAOF");
        command
            .arg(&arguments[..])
            .query::<()>(&mut *lease)
            .expect("runs");
    };
    run(["127.0.0.1", &testbed::refused_port().to_string()]);
    let limit = INTERVAL + LEEWAY;
    let health = becomes(&pool, limit, "degraded", |health| {
        health.health == Health::Degraded
    });
    assert_eq!(health.reasons[0].concern, Concern::ReadOnly, "{health:#?}");
    run(["NO", "ONE"]);
    becomes(&pool, limit, "up", |health| health.health == Health::Up);
}

#[test]
fn one_report_tells_of_all_pools() {
    let (good, bad) = (
        testbed::Redis::start().expect("starts"),
        testbed::Postgres::start().expect("starts"),
    );
    let config = RedisConfig::new().host("127.0.0.1").port(good.port());
    let redis = pool(Redis::new(config).expect("good settings"));
    let postgres = pool(postgres(&bad));
    let hub = Hub::new();
    hub.watch(&redis);
    hub.watch(&postgres);
    becomes_up(&redis);
    becomes_up(&postgres);
    assert!(hub.health().is_ready());
    bad.kill();
    let limit = INTERVAL + Duration::from_secs(1) + LEEWAY;
    becomes(&postgres, limit, "down", |health| {
        health.health == Health::Down
    });
    let report = hub.health();
    assert_eq!(report.health, Health::Down);
    assert!(!report.is_ready());
    assert_eq!(report.pools[0].health, Health::Up, "{report}");
    let text = report.to_string();
    assert!(text.contains("postgres: down; "), "{text}");
}
