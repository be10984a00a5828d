//! A program's pools from its configuration, on real servers.

use std::time::{Duration, Instant};

use millpond::backend::{Encryption, Role};
use millpond::{
    Config, ConnectFailure, ErrorKind, Health, Http, HttpRequest, Hub, MongoDb, MongoOperation,
    Outcome, Postgres, Redis, RedisCommand, Sql,
};

/// A file with four pools on servers that run.
fn file() -> String {
    let (postgres, redis) = (testbed::Postgres::shared(), testbed::Redis::shared());
    let (mongo, nginx) = (testbed::Mongo::shared(), testbed::Nginx::shared());
    format!(
        r#"
        database_url = "{}"

        [pool]
        min_connections = 0
        max_connections = 3

        [pools.cache]
        backend = "redis"
        host = "127.0.0.1"
        port = {}
        max_connections = 2

        [pools.documents]
        backend = "mongodb"
        host = ["127.0.0.1:{}"]
        db = "configured"

        [pools.prices]
        backend = "http"
        url = "http://127.0.0.1:{}"

        [batch]
        size = 7
        "#,
        postgres.url(),
        redis.port(),
        mongo.port(),
        nginx.port(),
    )
}

fn config() -> Config {
    Config::new().with_toml("test.toml", &file()).expect("TOML")
}

#[test]
fn four_pools_are_opened_and_found_by_name() {
    let hub = Hub::from_config(&config()).expect("good settings");
    let shop = hub.pool::<Postgres>("postgres").expect("there");
    let one = shop.execute(Sql::new("SELECT 1")).expect("answers");
    assert_eq!(one.rows().len(), 1);
    assert_eq!(shop.max_size(), 3);
    let cache = hub.pool::<Redis>("cache").expect("there");
    cache.execute(RedisCommand::new("PING")).expect("answers");
    assert_eq!(cache.max_size(), 2);
    let documents = hub.pool::<MongoDb>("documents").expect("there");
    let count = MongoOperation::count("nothing", mongodb::bson::doc! {});
    documents.execute(count).expect("answers");
    let prices = hub.pool::<Http>("prices").expect("there");
    prices.execute(HttpRequest::get("/")).expect("answers");

    let names: Vec<_> = hub
        .metrics()
        .pools
        .iter()
        .map(|pool| pool.name.to_string())
        .collect();
    assert_eq!(names, ["postgres", "cache", "documents", "prices"]);
    assert_eq!(hub.health().health, Health::Up, "{}", hub.health());

    let error = hub.pool::<Redis>("nothing").expect_err("none");
    let told = error.to_string();
    assert!(
        told.contains("no pool `nothing`; there are postgres, cache, documents, prices"),
        "{told}"
    );
    let error = hub.pool::<Redis>("prices").expect_err("another backend");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(
        error.to_string().contains("`prices` is none of redis"),
        "{error}"
    );
}

#[test]
fn a_hub_shuts_down_in_order_and_says_who_is_late() {
    let hub = Hub::from_config(&config()).expect("good settings");
    let batch = hub
        .batch::<Postgres>("postgres")
        .expect("there")
        .build()
        .expect("starts");
    hub.watch_batch(&batch);
    let tickets: Vec<_> = (0..50)
        .map(|n| {
            batch
                .submit(Sql::new("SELECT $1::int").bind(n))
                .expect("room")
        })
        .collect();
    let cache = hub.pool::<Redis>("cache").expect("there");
    let lease = cache.get().expect("a lease");

    let left = hub.shut_down(Duration::from_millis(500));
    assert!(!left.is_complete());
    assert_eq!(left.held.len(), 1);
    let told = left.to_string();
    assert!(told.contains("cache") && told.contains(file!()), "{told}");
    assert_eq!(left.batches[0].1.done, 50, "what was queued is done first");
    assert!(
        left.batches[0].1.largest_group <= 7,
        "{}",
        left.batches[0].1
    );
    assert!(
        tickets
            .into_iter()
            .all(|ticket| matches!(ticket.wait(), Outcome::Done(_)))
    );
    assert_eq!(cache.get().expect_err("closed").kind(), ErrorKind::Closed);
    drop(lease);
    assert!(hub.shut_down(Duration::from_secs(1)).is_complete());
}

#[test]
fn a_server_that_is_down_keeps_nobody_from_starting() {
    let config = config()
        .pool("late", "redis")
        .set_for("late", "REDIS_HOST", "127.0.0.1");
    let config = config.set_for("late", "REDIS_PORT", testbed::refused_port());
    let hub = Hub::from_config(&config).expect("good settings");
    hub.pool::<Postgres>("postgres")
        .and_then(|pool| pool.execute(Sql::new("SELECT 1")))
        .expect("answers");
    let late = hub.pool::<Redis>("late").expect("there");
    let error = late
        .get_timeout(Duration::from_millis(300))
        .expect_err("refused");
    assert!(error.to_string().contains("REDIS_HOST"), "{error}");
    assert!(!hub.health().is_ready(), "{}", hub.health());
}

#[test]
fn a_certificate_that_cannot_be_read_is_a_mistake_before_anything_starts() {
    let config = config()
        .set("DB_SSL_CA_FILE", "/nowhere/ca.pem")
        .set("DB_SSL_MODE", "verify-full");
    let error = config.validate().expect_err("no such file").to_string();
    assert!(error.contains("/nowhere/ca.pem"), "{error}");
    assert!(Hub::from_config(&config).is_err());
}

#[test]
fn a_check_asks_every_server_once_and_within_its_time() {
    let planned = config().plan().expect("good settings");
    let names: Vec<_> = planned.iter().map(|pool| &*pool.pool).collect();
    assert_eq!(names, ["postgres", "cache", "documents", "prices"]);
    assert_eq!(planned[1].backend, "redis");

    let report = config()
        .check(Duration::from_secs(10))
        .expect("good settings");
    assert_eq!(report.health, Health::Up, "{report}");
    let service = |number: usize| report.pools[number].service.as_ref().expect("answered");
    assert_eq!(service(0).encryption, Encryption::None);
    assert_eq!(service(2).role, Role::Standalone);

    // One says nothing and one is not there; the others do not wait for them.
    let silent = testbed::Silent::start().expect("listens");
    let config = config()
        .pool("silent", "redis")
        .set_for("silent", "REDIS_HOST", "127.0.0.1")
        .set_for("silent", "REDIS_PORT", silent.port())
        .pool("gone", "postgres")
        .set_for("gone", "DB_HOST", "127.0.0.1")
        .set_for("gone", "DB_PORT", testbed::refused_port());
    let began = Instant::now();
    let report = config.check(Duration::from_secs(1)).expect("good settings");
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert!(!report.is_ready());
    let down: Vec<_> = report
        .pools
        .iter()
        .filter(|pool| pool.health == Health::Down)
        .map(|pool| (&*pool.pool, pool.reasons[0].error.expect("a kind")))
        .collect();
    let refused = ErrorKind::Connect(ConnectFailure::Refused);
    let late = ErrorKind::Connect(ConnectFailure::Timeout);
    assert_eq!(down, [("gone", refused), ("silent", late)]);

    let wrong = config.set("POOL_MAX_CONNECTIONS", "many");
    let error = wrong.check(Duration::from_secs(1)).expect_err("a mistake");
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

/// A file with two fleets and a single pool.
fn fleets(
    primary: &testbed::Postgres,
    replica: &testbed::Postgres,
    sites: &[testbed::Nginx; 2],
) -> String {
    format!(
        r#"
        [pool]
        min_connections = 1

        [batch]
        size = 1

        [pools.shop]
        backend = "postgres"
        host = ["127.0.0.1:{}", "127.0.0.1"]
        port = {}
        name = "postgres"
        user = "test"
        balance = "power-of-two"
        ejection_time = 0.1

        [pools.sites]
        backend = "http"
        url = ["{}", "{}"]
        balance = "round-robin"

        [pools.single]
        backend = "http"
        url = "{}"
        "#,
        replica.port(),
        primary.port(),
        sites[0].url(),
        sites[1].url(),
        sites[0].url(),
    )
}

#[test]
fn several_servers_are_a_fleet() {
    let primary = testbed::Postgres::start().expect("starts");
    let replica = primary.replica().expect("a replica");
    let sites = [(); 2].map(|()| testbed::Nginx::start().expect("starts"));
    let file = fleets(&primary, &replica, &sites);
    let config = Config::new().with_toml("test.toml", &file).expect("TOML");
    let hub = Hub::from_config(&config).expect("good settings");
    let shop = hub.fleet::<Postgres>("shop").expect("a fleet");
    let create = Sql::new("CREATE TABLE orders (id int)");
    shop.write().execute(create).expect("the primary takes it");
    let refused = hub.batch::<Postgres>("shop").expect_err("where to?");
    assert!(refused.to_string().contains("Hub::fleet"), "{refused}");
    let batch = hub.batch_over("shop", shop.write()).expect("good settings");
    let batch = batch.build().expect("threads");
    let insert = Sql::new("INSERT INTO orders VALUES ($1)");
    let tickets = (0..50).map(|id| batch.submit(insert.clone().bind(id)).expect("room"));
    let tickets: Vec<_> = tickets.collect();
    for ticket in tickets {
        let outcome = ticket.wait();
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    }
    assert_eq!(batch.metrics().largest_group, 1);
    let sites_fleet = hub.fleet::<Http>("sites").expect("a fleet");
    for _ in 0..4 {
        let reply = sites_fleet.execute(HttpRequest::get("/")).expect("answers");
        assert!(reply.is_success());
    }

    // Each endpoint is watched; replicas are as they should be.
    let names = |number: usize, server: u16| {
        let metrics = hub.metrics();
        let name = metrics.pools[number].name.to_string();
        assert!(name.contains(&format!(":{server}")), "{name}");
        name
    };
    let shop_names = [names(0, replica.port()), names(1, primary.port())];
    assert!(
        shop_names[0].starts_with("shop@127.0.0.1:"),
        "{shop_names:?}"
    );
    let begun = Instant::now();
    let checked = |hub: &Hub| {
        let pools = hub.health().pools;
        pools.iter().all(|pool| pool.service.is_some())
    };
    while !checked(&hub) && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(hub.health().health, Health::Up, "{}", hub.health());

    // One is a pool, the other is none, and both say so.
    let told = |error: millpond::Error| error.to_string();
    let error = told(hub.pool::<Postgres>("shop").expect_err("a fleet"));
    assert!(error.contains("Hub::fleet"), "{error}");
    let error = told(hub.pool::<Postgres>(&shop_names[0]).expect_err("one's"));
    assert!(error.contains("an endpoint of the fleet `shop`"), "{error}");
    let error = told(hub.fleet::<Http>("single").expect_err("a pool"));
    assert!(error.contains("Hub::pool"), "{error}");
    let error = told(hub.fleet::<Http>("shop").expect_err("another backend"));
    assert!(error.contains("`shop` is none of http"), "{error}");
    let error = told(hub.fleet::<Http>("nothing").expect_err("none"));
    assert!(error.contains("there are single, shop, sites"), "{error}");

    // A check has a row for each, and does without one of two.
    sites[1].kill();
    let report = config
        .check(Duration::from_secs(10))
        .expect("good settings");
    let rows: Vec<_> = report.pools.iter().map(|pool| pool.health).collect();
    let expected = [
        Health::Up,
        Health::Up,
        Health::Up,
        Health::Up,
        Health::Degraded,
    ];
    assert_eq!(rows, expected, "{report}");
    assert!(report.is_ready());
    assert_eq!(*report.pools[0].pool, *shop_names[0]);

    assert!(hub.shut_down(Duration::from_secs(5)).is_complete());
    let late = shop
        .get_timeout(Duration::from_millis(100))
        .expect_err("closed");
    assert_eq!(late.kind(), ErrorKind::Closed, "{late}");
}
