//! `POOL_BALANCE`, and the variables of the fleet that it makes of several servers.

use std::time::Duration;

use millpond::endpoints::EndpointState;
use millpond::{Config, Fleet, Hub, Operation, Postgres, Redis, RedisCommand, Sql};

use super::pool::comes;
use super::{config, hub};

/// A fleet of these servers, which takes turns, and whose operations are tried once.
fn of(servers: &[&testbed::Redis]) -> Config {
    let hosts = servers
        .iter()
        .map(|server| format!("127.0.0.1:{}", server.port()));
    config()
        .set("REDIS_ENABLED", true)
        .set("REDIS_HOST", hosts.collect::<Vec<_>>().join(","))
        .set("POOL_BALANCE", "round-robin")
        .set("POOL_MIN_CONNECTIONS", 1)
        .set("POOL_RETRY_ATTEMPTS", 1)
}

fn two() -> [testbed::Redis; 2] {
    [(); 2].map(|()| testbed::Redis::start().unwrap())
}

/// The fleet, each of whose endpoints has a connection.
fn warm(config: &Config) -> (Hub, Fleet<Redis>) {
    let hub = hub(config);
    let fleet = hub.fleet::<Redis>("redis").unwrap();
    comes("a connection to each", || {
        let endpoints = fleet.endpoints();
        endpoints.iter().all(|one| one.state.idle_connections > 0)
    });
    (hub, fleet)
}

/// How many of ten operations each server got.
fn shares(config: &Config, servers: &[testbed::Redis; 2]) -> [u32; 2] {
    for server in servers {
        server.cli(&["SET", "n", "0"]).unwrap();
    }
    let (_hub, fleet) = warm(config);
    for _ in 0..10 {
        fleet.execute(RedisCommand::new("INCR").arg("n")).unwrap();
    }
    [0, 1].map(|number: usize| servers[number].cli(&["GET", "n"]).unwrap().parse().unwrap())
}

#[test]
pub(super) fn balance_and_weights() {
    let servers = two();
    let both = of(&[&servers[0], &servers[1]]);
    assert_eq!(shares(&both, &servers), [5, 5]);
    let weighted = both
        .clone()
        .set("POOL_BALANCE", "weighted")
        .set("POOL_WEIGHTS", "4,1");
    let [first, second] = shares(&weighted, &servers);
    assert!((7..=9).contains(&first), "{first} and {second}");
    for strategy in ["random", "least-connections", "power-of-two", "peak-ewma"] {
        let config = both.clone().set("POOL_BALANCE", strategy);
        let (_hub, fleet) = warm(&config);
        fleet.execute(RedisCommand::new("PING")).unwrap();
        let shown = format!("{fleet:?}").to_lowercase();
        assert!(shown.contains(&strategy.replace('-', "")), "{shown}");
    }
    let none = both.set("POOL_BALANCE", "none");
    let error = Hub::from_config(&none).unwrap_err().to_string();
    assert!(
        error.contains("REDIS_HOST") && error.contains("POOL_BALANCE"),
        "{error}"
    );
    let one = of(&[&servers[0]]);
    assert!(hub(&one).pool::<Redis>("redis").is_err());
    let single = hub(&one.set("POOL_BALANCE", "none"));
    single.pool::<Redis>("redis").unwrap();
}

#[test]
pub(super) fn attempt_timeout() {
    let failures = |configure: &dyn Fn(Config) -> Config| {
        let servers = two();
        let (_hub, fleet) = warm(&configure(
            of(&[&servers[0], &servers[1]]).set("POOL_RETRY_ATTEMPTS", 2),
        ));
        servers[0].freeze();
        let read = || {
            let get = RedisCommand::new("GET").arg("key").idempotent(true);
            fleet.execute(get.deadline(Duration::from_secs(1)))
        };
        let failures = [read(), read()].iter().filter(|one| one.is_err()).count();
        servers[0].thaw();
        failures
    };
    assert_eq!(failures(&|usual| usual), 1, "of two, one waits in vain");
    let short = |usual: Config| usual.set("POOL_ATTEMPT_TIMEOUT", 0.1);
    assert_eq!(failures(&short), 0, "both go on elsewhere");
}

#[test]
pub(super) fn replica_lag_limit() {
    let primary = testbed::Postgres::start().unwrap();
    let replica = primary.replica().unwrap();
    let url = format!(
        "postgres://test@127.0.0.1:{},127.0.0.1:{}/postgres",
        primary.port(),
        replica.port()
    );
    let read_from_replica = |limit: f64| {
        let config = config()
            .set("DATABASE_URL", &*url)
            .set("POOL_BALANCE", "power-of-two")
            .set("POOL_REPLICA_LAG_LIMIT", limit);
        let hub = hub(&config);
        let fleet = hub.fleet::<Postgres>("postgres").unwrap();
        let view = fleet.read();
        // While no primary is known, reads go to whoever is in service.
        comes("what they are", || {
            let endpoints = fleet.endpoints();
            let is_known = |one: &EndpointState| one.lag.is_some() || one.writable == Some(true);
            endpoints.iter().all(is_known)
        });
        let reply = view
            .execute(Sql::new("SELECT pg_is_in_recovery()::text"))
            .unwrap();
        reply.rows()[0].text(0) == Some("true")
    };
    primary.psql("CREATE TABLE t (n int)").unwrap();
    comes("the table", || {
        replica.psql("SELECT count(*) FROM t").is_ok()
    });
    // Which is how old the last transaction is.
    std::thread::sleep(Duration::from_millis(300));
    assert!(read_from_replica(3600.0));
    assert!(!read_from_replica(0.1));
}

/// Has it refuse writes for want of so many replicas, which counts against a server.
fn want_replicas(server: &testbed::Redis, count: &str) {
    let wanted = ["CONFIG", "SET", "min-replicas-to-write", count];
    server.cli(&wanted).unwrap();
}

/// The first of two servers after ten writes, of which it gets five and refuses them.
fn refused(configure: impl Fn(Config) -> Config) -> (Hub, Fleet<Redis>, [testbed::Redis; 2]) {
    let servers = two();
    let (hub, fleet) = warm(&configure(of(&[&servers[0], &servers[1]])));
    want_replicas(&servers[0], "1");
    for _ in 0..10 {
        let _ = fleet.execute(RedisCommand::new("SET").arg("key").arg("value"));
    }
    (hub, fleet, servers)
}

fn first(fleet: &Fleet<Redis>) -> EndpointState {
    fleet.endpoints().swap_remove(0)
}

#[test]
pub(super) fn ejection_failures() {
    let ejected = |failures: u32| {
        let (_hub, fleet, _servers) =
            refused(|usual| usual.set("POOL_EJECTION_FAILURES", failures));
        first(&fleet)
    };
    assert!(ejected(3).ejected.is_some());
    let patient = ejected(100);
    assert!(
        patient.ejected.is_none() && patient.failures >= 4,
        "{patient:?}"
    );
}

#[test]
pub(super) fn ejection_time() {
    let left = |time: f64, longest: f64| {
        let (_hub, fleet, _servers) = refused(|usual| {
            usual
                .set("POOL_EJECTION_FAILURES", 2)
                .set("POOL_EJECTION_TIME", time)
                .set("POOL_EJECTION_MAX_TIME", longest)
        });
        first(&fleet).ejected.unwrap().as_secs_f64()
    };
    let (short, long) = (left(5.0, 60.0), left(100.0, 120.0));
    assert!(short > 1.0 && short <= 5.0, "{short}");
    assert!(long > 60.0 && long <= 100.0, "{long}");
}

#[test]
pub(super) fn slow_start() {
    let share = |seconds: u32| {
        let (_hub, fleet, servers) = refused(|usual| {
            usual
                .set("POOL_EJECTION_FAILURES", 2)
                .set("POOL_EJECTION_TIME", 0.05)
                .set("POOL_SLOW_START", seconds)
        });
        want_replicas(&servers[0], "0");
        comes("its return", || {
            let first = first(&fleet);
            first.ejections > 0 && first.ejected.is_none()
        });
        first(&fleet).share
    };
    assert!((share(0) - 1.0).abs() < 1e-9);
    let slow = share(60);
    assert!(slow < 0.5, "{slow}");
}

#[test]
pub(super) fn resolve_interval() {
    let server = testbed::Redis::start().unwrap();
    let named = config()
        .set("REDIS_ENABLED", true)
        .set("REDIS_HOST", "localhost")
        .set("REDIS_PORT", server.port())
        .set("POOL_BALANCE", "power-of-two");
    let endpoints = |hub: &Hub| {
        let fleet = hub.fleet::<Redis>("redis").unwrap();
        let endpoints = fleet.endpoints();
        let names = endpoints.iter().map(|one| one.endpoint.to_string());
        names.collect::<Vec<_>>()
    };
    let by_name = format!("localhost:{}/0", server.port());
    assert_eq!(endpoints(&hub(&named)), [by_name]);
    let looked_up = hub(&named.set("POOL_RESOLVE_INTERVAL", 0.05));
    let address = format!("127.0.0.1:{}/0", server.port());
    comes("its address", || endpoints(&looked_up).contains(&address));
    let fleet = looked_up.fleet::<Redis>("redis").unwrap();
    fleet.execute(RedisCommand::new("PING")).unwrap();
}
