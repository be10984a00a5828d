//! Redis behind Sentinel, and Redis Cluster, on real ones.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use millpond::backend::redis::SentinelRole;
use millpond::backend::{Backend, Role};
use millpond::{ErrorKind, ManageConnection, Redis, RedisConfig, Reset};
use redis::{Commands, cmd};
use testbed::{RedisCluster, RedisSentinel};

const SECOND: Duration = Duration::from_secs(1);

fn sentinel(set: &RedisSentinel) -> RedisConfig {
    let sentinels = set
        .sentinels()
        .iter()
        .map(|node| ("127.0.0.1", node.port()));
    RedisConfig::new().sentinel(set.master_name(), sentinels.collect::<Vec<_>>())
}

fn cluster(nodes: &RedisCluster) -> RedisConfig {
    let nodes = nodes.nodes().iter().map(|node| ("127.0.0.1", node.port()));
    RedisConfig::new().cluster(nodes.collect::<Vec<_>>())
}

#[test]
fn sentinel_names_primary_and_replica() {
    let set = RedisSentinel::start().unwrap();
    let manager = Redis::new(sentinel(&set)).unwrap();
    let mut conn = manager.connect().unwrap();
    let () = conn.set("k", "v").unwrap();
    assert_eq!(set.master().cli(&["GET", "k"]).unwrap(), "v");
    assert_eq!(manager.check(&mut conn).unwrap().role, Role::Primary);
    manager.is_valid(&mut conn).unwrap();

    let config = sentinel(&set).sentinel_role(SentinelRole::Replica);
    let readers = Redis::new(config).unwrap();
    let mut conn = readers.connect().unwrap();
    readers.is_valid(&mut conn).unwrap();
    let service = readers.check(&mut conn).unwrap();
    assert_eq!(
        (service.role, service.writable),
        (Role::Replica, Some(false))
    );
    assert!(service.lag.is_some());
}

#[test]
fn an_unknown_name_and_dead_sentinels() {
    let set = RedisSentinel::start().unwrap();
    let port = set.sentinels()[0].port();
    let config = RedisConfig::new().sentinel("nobody", [("127.0.0.1", port)]);
    let error = Redis::new(config).unwrap().connect().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(
        error.to_string().contains("REDIS_SENTINEL_MASTER"),
        "{error}"
    );
    // The first two do not answer: the third is enough.
    set.sentinels()[0].kill();
    set.sentinels()[1].freeze();
    let manager = Redis::new(sentinel(&set).connect_timeout(2 * SECOND)).unwrap();
    let start = Instant::now();
    manager.connect().unwrap();
    assert!(start.elapsed() < 2 * SECOND);
    set.sentinels()[2].freeze();
    let start = Instant::now();
    assert!(manager.connect().is_err());
    assert!(start.elapsed() < 2 * SECOND + SECOND / 4);
}

#[test]
fn after_a_failover_the_new_primary_is_found() {
    let set = RedisSentinel::start().unwrap();
    let manager = Redis::new(sentinel(&set).check_timeout(SECOND).connect_timeout(SECOND)).unwrap();
    let mut conn = manager.connect().unwrap();
    let () = conn.set("k", "v").unwrap();
    set.master().kill();
    let deadline = Instant::now() + 15 * SECOND;
    let mut found = loop {
        assert!(manager.is_valid(&mut conn).is_err());
        if let Ok(found) = manager.connect() {
            break found;
        }
        assert!(Instant::now() < deadline, "no new primary");
        std::thread::sleep(SECOND / 10);
    };
    let () = found.set("k", "w").unwrap();
    assert_eq!(set.replica().cli(&["GET", "k"]).unwrap(), "w");
    manager.is_valid(&mut found).unwrap();
}

#[test]
fn a_demoted_primary_is_given_up() {
    let set = RedisSentinel::start().unwrap();
    let manager = Redis::new(sentinel(&set)).unwrap();
    let mut conn = manager.connect().unwrap();
    let mut writer = manager.connect().unwrap();
    let port = set.replica().port().to_string();
    set.master()
        .cli(&["REPLICAOF", "127.0.0.1", &port])
        .unwrap();
    // A PING would still be answered.
    let error = manager.is_valid(&mut conn).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongRole, "{error}");
    assert!(manager.has_broken(&mut conn));
    let error = millpond::Error::from(writer.set::<_, _, ()>("k", "v").unwrap_err());
    assert_eq!(error.kind(), ErrorKind::WrongRole, "{error}");
    assert!(manager.has_broken(&mut writer));
}

#[test]
fn a_cluster_takes_keys_of_all_slots() {
    let nodes = RedisCluster::start().unwrap();
    let manager = Redis::new(cluster(&nodes)).unwrap();
    let mut conn = manager.connect().unwrap();
    for key in 0..100 {
        let () = conn.set(format!("key:{key}"), key).unwrap();
    }
    for key in 0..100 {
        assert_eq!(conn.get::<_, i32>(format!("key:{key}")).unwrap(), key);
    }
    let filled = nodes
        .nodes()
        .iter()
        .filter(|node| node.cli(&["DBSIZE"]).unwrap() != "0");
    assert_eq!(filled.count(), 3);
    let many: Vec<i32> = conn.mget(&["key:1", "key:2", "key:3"]).unwrap();
    assert_eq!(many, [1, 2, 3]);
    manager.is_valid(&mut conn).unwrap();
    assert!(manager.is_clean(&conn, Reset::Fast));
    let service = manager.check(&mut conn).unwrap();
    assert_eq!(
        (service.role, service.writable),
        (Role::Primary, Some(true))
    );
    let mut pipe = redis::cluster::cluster_pipe();
    pipe.get("key:1").get("key:2");
    let both: (i32, i32) = pipe.query(conn.cluster_mut().unwrap().unwrap()).unwrap();
    assert_eq!(both, (1, 2));
    assert!(!manager.is_clean(&conn, Reset::Fast));
    manager.reset(&mut conn, Reset::Fast).unwrap();
    assert!(manager.is_clean(&conn, Reset::Fast));
    assert_eq!(conn.get::<_, i32>("key:5").unwrap(), 5);
}

#[test]
fn a_moved_slot_is_followed() {
    let nodes = RedisCluster::start().unwrap();
    let manager = Redis::new(cluster(&nodes)).unwrap();
    let mut conn = manager.connect().unwrap();
    let () = conn.set("key", 1).unwrap();
    let slot = nodes.nodes()[0]
        .cli(&["CLUSTER", "KEYSLOT", "key"])
        .unwrap();
    let count =
        |node: &testbed::Redis| node.cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot]).unwrap() != "0";
    let owner = nodes.nodes().iter().position(count).unwrap();
    let heir = &nodes.nodes()[(owner + 1) % 3];
    let heir_id = heir.cli(&["CLUSTER", "MYID"]).unwrap();
    nodes.nodes()[owner].cli(&["DEL", "key"]).unwrap();
    heir.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &heir_id])
        .unwrap();
    for node in nodes.nodes() {
        node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &heir_id])
            .unwrap();
    }
    let () = conn.set("key", 2).unwrap();
    assert_eq!(heir.cli(&["GET", "key"]).unwrap(), "2");
    assert!(!manager.has_broken(&mut conn));
    // The stale map is replaced before the next lease.
    assert!(!manager.is_clean(&conn, Reset::Fast));
    manager.reset(&mut conn, Reset::Fast).unwrap();
    assert_eq!(conn.get::<_, i32>("key").unwrap(), 2);
    assert!(manager.is_clean(&conn, Reset::Fast));
}

#[test]
fn a_frozen_cluster_holds_nobody() {
    let nodes = RedisCluster::start().unwrap();
    let limit = SECOND / 2;
    let config = cluster(&nodes).connect_timeout(limit).check_timeout(limit);
    let manager = Redis::new(config.read_timeout(limit)).unwrap();
    let mut conn = manager.connect().unwrap();
    let mut writer = manager.connect().unwrap();
    let () = writer.set("k", 0).unwrap();
    nodes.freeze();
    let late = limit + SECOND / 4;
    let start = Instant::now();
    assert!(manager.connect().is_err());
    assert!(start.elapsed() < late, "connect: {:?}", start.elapsed());
    let start = Instant::now();
    assert!(manager.is_valid(&mut conn).is_err());
    assert!(start.elapsed() < late, "check: {:?}", start.elapsed());
    // Nothing is sent twice.
    let start = Instant::now();
    let error = millpond::Error::from(writer.incr::<_, _, i64>("k", 1).unwrap_err());
    assert!(start.elapsed() < late, "write: {:?}", start.elapsed());
    assert!(error.outcome_unknown() && manager.has_broken(&mut writer));
    nodes.thaw();
    let mut conn = manager.connect().unwrap();
    assert_eq!(conn.get::<_, i64>("k").unwrap(), 1);
    assert!(cmd("PING").exec(&mut conn).is_ok());
}
