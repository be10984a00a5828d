use std::collections::HashMap;
use std::time::Duration;

use crate::backend::redis::config::{Address, Topology};
use crate::backend::redis::{Redis, RedisConfig};
use crate::config::Vars;
use crate::{Error, ErrorKind, Tls};

fn read(vars: &[(&str, &str)]) -> Result<Option<RedisConfig>, Error> {
    let vars: HashMap<String, String> = vars
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Vars::from_lookup(|name| vars.get(name).cloned()).read(RedisConfig::from_vars)
}

fn address(config: &RedisConfig) -> Option<&Address> {
    match &config.topology {
        Topology::Single(address) => Some(address),
        _ => None,
    }
}

#[test]
fn off_unless_enabled() {
    assert!(read(&[]).unwrap().is_none());
    assert!(read(&[("REDIS_HOST", "localhost")]).unwrap().is_none());
    assert!(
        read(&[
            ("REDIS_ENABLED", "false"),
            ("REDIS_URL", "redis://localhost")
        ])
        .unwrap()
        .is_none()
    );
}

#[test]
fn the_documented_defaults() {
    let config = read(&[("REDIS_ENABLED", "true")]).unwrap().unwrap();
    assert_eq!(
        address(&config),
        Some(&Address::Tcp("localhost".into(), 6379))
    );
    assert_eq!(
        (config.db, config.decode_responses, config.resp3),
        (0, true, false)
    );
    assert!(config.password.is_none() && config.tls.is_none());
}

#[test]
fn every_variable_is_read() {
    let config = read(&[
        ("REDIS_ENABLED", "1"),
        ("REDIS_HOST", "cache.internal"),
        ("REDIS_PORT", "6380"),
        ("REDIS_DB", "4"),
        ("REDIS_USER", "app"),
        ("REDIS_PASSWORD", "hunter2"),
        ("REDIS_SSL", "true"),
        ("REDIS_DECODE_RESPONSES", "false"),
        ("REDIS_PROTOCOL", "3"),
        ("REDIS_READ_TIMEOUT", "2.5"),
    ]);
    let config = config.unwrap().unwrap();
    assert_eq!(
        address(&config),
        Some(&Address::Tcp("cache.internal".into(), 6380))
    );
    assert_eq!(
        (config.db, config.decode_responses, config.resp3),
        (4, false, true)
    );
    assert_eq!(config.read_timeout, Some(Duration::from_millis(2500)));
    assert!(config.tls.is_some());
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn the_url_is_overruled_by_single_variables() {
    let config = read(&[
        ("REDIS_URL", "rediss://app:p%40ss@cache.internal:7000/5"),
        ("REDIS_DB", "6"),
    ]);
    let config = config.unwrap().unwrap();
    assert_eq!(
        address(&config),
        Some(&Address::Tcp("cache.internal".into(), 7000))
    );
    assert_eq!(config.db, 6);
    assert_eq!(config.password.unwrap().current().unwrap().expose(), "p@ss");
}

#[test]
fn all_mistakes_at_once_and_no_secret() {
    let error = read(&[
        ("REDIS_URL", "http://u:hunter2@h"),
        ("REDIS_PORT", "many"),
        ("REDIS_DB", "-1"),
        ("REDIS_SSL", "perhaps"),
    ]);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let text = error.to_string();
    for name in ["REDIS_URL", "REDIS_PORT", "REDIS_DB", "REDIS_SSL"] {
        assert!(text.contains(name), "{name} in {text}");
    }
    assert!(!text.contains("hunter2"));
}

#[test]
fn plaintext_to_another_host_needs_permission() {
    let error = read(&[("REDIS_ENABLED", "true"), ("REDIS_HOST", "cache.internal")]).unwrap_err();
    assert!(error.to_string().contains("REDIS_SSL"));
    let allowed = read(&[
        ("REDIS_ENABLED", "true"),
        ("REDIS_HOST", "cache.internal"),
        ("SECURITY_CONNECTION_ENCRYPTION", "false"),
    ]);
    assert!(allowed.unwrap().is_some());
    assert!(Redis::new(RedisConfig::new().host("10.0.0.1")).is_err());
    assert!(Redis::new(RedisConfig::new().host("127.0.0.2")).is_ok());
}

#[test]
fn topologies() {
    let config = read(&[
        ("REDIS_ENABLED", "true"),
        ("REDIS_SENTINELS", "localhost:5000, 127.0.0.1,[::1]:5001"),
        ("REDIS_SENTINEL_MASTER", "mymaster"),
    ]);
    let Topology::Sentinel(sentinels) = config.unwrap().unwrap().topology else {
        panic!("not Sentinel");
    };
    let expected = [("localhost", 5000), ("127.0.0.1", 26379), ("::1", 5001)];
    assert_eq!(
        sentinels.addresses,
        expected.map(|(host, port)| (host.to_owned(), port))
    );
    let nodes = [
        ("REDIS_ENABLED", "true"),
        ("REDIS_CLUSTER_NODES", "localhost:7000"),
        ("REDIS_DB", "2"),
    ];
    assert!(read(&nodes).unwrap_err().to_string().contains("REDIS_DB"));
}

#[test]
fn unix_sockets_need_no_encryption() {
    let config = RedisConfig::from_url("unix:///run/redis.sock?db=2&pass=x").unwrap();
    assert_eq!(
        address(&config),
        Some(&Address::Unix("/run/redis.sock".into()))
    );
    assert_eq!(config.db, 2);
}

#[test]
fn a_socket_in_the_url_gives_way_to_a_host() {
    for url in [
        "unix:///run/redis.sock?db=2",
        "redis+unix:///run/redis.sock?db=2",
    ] {
        let config = read(&[
            ("REDIS_URL", url),
            ("REDIS_HOST", "127.0.0.1"),
            ("REDIS_PORT", "6380"),
        ]);
        let config = config.unwrap().unwrap();
        let host = Address::Tcp("127.0.0.1".into(), 6380);
        assert_eq!((address(&config), config.db), (Some(&host), 2), "{url}");
    }
}

#[test]
fn a_socket_has_neither_port_nor_tls() {
    let url = ("REDIS_URL", "unix:///run/redis.sock");
    let socket = Address::Unix("/run/redis.sock".into());
    let config = read(&[url]).unwrap().unwrap();
    assert_eq!(address(&config), Some(&socket));
    for other in [("REDIS_PORT", "6380"), ("REDIS_SSL", "true")] {
        let error = read(&[url, other]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        for name in ["REDIS_URL", other.0] {
            assert!(error.message().contains(name), "{name} in {error}");
        }
    }
    let tls = RedisConfig::new()
        .unix_socket("/run/redis.sock")
        .tls(Tls::new());
    assert!(Redis::new(tls).is_err());
}

#[test]
fn an_address_in_a_zone_is_one_and_not_for_tls() {
    let config = RedisConfig::new().allow_plaintext(true);
    let in_zone = config.at("[fe80::1%2]:7".parse().unwrap());
    let expected = Address::Tcp("fe80::1%2".into(), 7);
    assert_eq!(address(&in_zone), Some(&expected));
    assert_eq!(in_zone.host_name(), None);
    let error = Redis::new(in_zone.tls(Tls::new())).unwrap_err();
    assert!(
        error.message().contains("REDIS_HOST is `fe80::1%2`"),
        "{error}"
    );
}
