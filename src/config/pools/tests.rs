use crate::{Config, SealingKey, Secret};

/// With plaintext allowed to everywhere.
fn with(pairs: &[(&str, &str)]) -> Config {
    let plaintext = [("SECURITY_CONNECTION_ENCRYPTION", "false")];
    Config::new().with_pretended(&[&plaintext, pairs].concat())
}

/// The names of the pools that are planned.
fn planned(config: &Config) -> Vec<String> {
    let pools = config.plan().unwrap_or_else(|error| panic!("{error}"));
    pools.iter().map(|pool| pool.pool.to_string()).collect()
}

#[track_caller]
fn is(pairs: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(planned(&with(pairs)), expected);
}

#[track_caller]
fn is_wrong(pairs: &[(&str, &str)], parts: &[&str]) {
    let mistakes = with(pairs).mistakes();
    let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    for part in parts {
        assert!(
            told.iter().any(|one| one.contains(part)),
            "no `{part}` in {told:#?}"
        );
    }
    assert_eq!(told.len(), parts.len(), "{told:#?}");
}

const BALANCE: (&str, &str) = ("POOL_BALANCE", "peak-ewma");
const REDIS: (&str, &str) = ("REDIS_ENABLED", "true");
const HTTP: (&str, &str) = ("HTTP_ENABLED", "true");

#[test]
fn each_server_is_an_endpoint() {
    let hosts = ("DB_HOST", "a,b:5434,/run");
    is(
        &[BALANCE, hosts, ("DB_PORT", "5432,5433,1")],
        &["postgres@a:5432", "postgres@b:5434", "postgres@/run:1"],
    );
    let url = ("DATABASE_URL", "postgres://u:p@a:5432,b:5433/db");
    is(
        &[BALANCE, url],
        &["postgres@a:5432/db", "postgres@b:5433/db"],
    );
    let hosts = ("REDIS_HOST", "a:6380,[::1]");
    is(
        &[BALANCE, REDIS, hosts],
        &["redis@a:6380/0", "redis@[::1]:6379/0"],
    );
    let urls = ("HTTP_BASE_URL", "https://a/v1, https://u:p@b/x,y");
    is(
        &[BALANCE, HTTP, urls],
        &["http@https://a/v1", "http@https://b/x,y"],
    );
}

#[test]
fn one_server_is_a_fleet_of_one_so_that_their_number_changes_no_program() {
    is(&[BALANCE, ("DB_HOST", "a")], &["postgres@a:5432"]);
}

#[test]
fn without_a_strategy_several_servers_are_the_drivers_business_or_a_mistake() {
    for none in [("POOL_BALANCE", "none"), ("POOL_BALANCE", "")] {
        is(&[none, ("DB_HOST", "a,b")], &["postgres"]);
        let redis = [none, REDIS, ("REDIS_HOST", "a,b")];
        is_wrong(&redis, &["REDIS_HOST is `a,b`, accepted: one server"]);
        let http = [none, HTTP, ("HTTP_BASE_URL", "https://a,https://b")];
        is_wrong(&http, &["HTTP_BASE_URL is `***`, accepted: one URL"]);
    }
}

#[test]
fn a_file_has_lists() {
    let file = r#"
[security]
connection_encryption = false
[pools.cache]
backend = "redis"
host = ["a", "b:1"]
port = [5, 6]
balance = "weighted"
weights = [2, 0.5]
[pools.prices]
backend = "http"
url = ["https://a", "https://b"]
balance = "random"
"#;
    let config = Config::new().with_toml("x", file).expect("TOML");
    let pools = planned(&config);
    let prices = ["prices@https://a", "prices@https://b"];
    assert_eq!(pools[..2], ["cache@a:5/0", "cache@b:1/0"]);
    assert_eq!(pools[2..], prices);
}

#[test]
fn every_mistake_is_told() {
    let hosts = ("DB_HOST", "a,b");
    is_wrong(
        &[
            hosts,
            ("POOL_BALANCE", "fair"),
            ("POOL_WEIGHTS", "1,2"),
            ("POOL_EJECTION_FAILURES", "0"),
            ("POOL_EJECTION_TIME", "2"),
            ("POOL_EJECTION_MAX_TIME", "1"),
            ("POOL_SLOW_START", "-1"),
            ("POOL_ATTEMPT_TIMEOUT", "0"),
            ("POOL_REPLICA_LAG_LIMIT", "little"),
        ],
        &[
            "POOL_BALANCE is `fair`, accepted: none, round-robin, random, weighted,",
            "POOL_WEIGHTS is `1,2`, accepted: none unless POOL_BALANCE=weighted",
            "POOL_EJECTION_FAILURES is `0`, accepted: a number from 1",
            "POOL_EJECTION_TIME is `2`, accepted: at most POOL_EJECTION_MAX_TIME, which is 1",
            "POOL_SLOW_START is `-1`, accepted: seconds, 0 or more",
            "POOL_ATTEMPT_TIMEOUT is `0`, accepted: seconds, more than 0",
            "POOL_REPLICA_LAG_LIMIT is `little`",
        ],
    );
    let weighted = ("POOL_BALANCE", "weighted");
    for weights in [
        "",
        "1",
        "1,2,3",
        "1,0",
        "1,x",
        "1,inf",
        "1,nan",
        "1e308,1e308",
        "1,1e-10",
    ] {
        let told = format!("POOL_WEIGHTS is `{weights}`, accepted: a number from 1e-9 to 1e9");
        is_wrong(&[hosts, weighted, ("POOL_WEIGHTS", weights)], &[&told]);
    }
    let twice = ("DB_HOST", "a,b,a");
    is_wrong(&[twice, BALANCE], &["pool postgres has a:5432 twice"]);
    let resolve = ("POOL_RESOLVE_INTERVAL", "5");
    let addresses = ("DB_HOST", "10.0.0.1,[::1]");
    is_wrong(
        &[addresses, BALANCE, resolve],
        &["POOL_RESOLVE_INTERVAL is `5`"],
    );
}

#[test]
fn who_balances_itself_is_not_balanced() {
    let sentinels = [
        ("REDIS_SENTINELS", "a,b"),
        ("REDIS_SENTINEL_MASTER", "m"),
        REDIS,
    ];
    is(&sentinels, &["redis"]);
    let because = "POOL_BALANCE is `peak-ewma`, accepted: none with REDIS_SENTINELS, which say";
    is_wrong(&[&[BALANCE], &sentinels[..]].concat(), &[because]);
    let cluster = [("REDIS_CLUSTER_NODES", "a,b"), REDIS, BALANCE];
    is_wrong(&cluster, &["accepted: none with REDIS_CLUSTER_NODES"]);
    let mongodb = [("MONGODB_URI", "mongodb://a,b/d"), BALANCE];
    let because = "accepted: none for MongoDB, whose driver balances";
    is_wrong(&mongodb, &[because]);
}

#[test]
fn a_list_of_urls_is_opened_and_shown_like_one() {
    let key = SealingKey::generate();
    let sealed = key.seal(&Secret::from("canary"));
    let urls = format!("https://u:{sealed}@a, https://b,https://v:{sealed}@c/v1");
    let config = Config::new()
        .set("SECURITY_ENCRYPTION_KEY", key.to_text())
        .set("HTTP_ENABLED", true)
        .set("POOL_BALANCE", "random");
    let endpoints = ["http@https://a", "http@https://b", "http@https://c/v1"];
    for text in [urls.clone(), key.seal(&Secret::from(&*urls))] {
        let config = config.clone().set("HTTP_BASE_URL", text);
        assert_eq!(planned(&config), endpoints);
    }
    let shown = |urls: &str| {
        let config = Config::new().set("HTTP_BASE_URL", urls);
        let settings = config.settings();
        let mut settings = settings.into_iter();
        let found = settings.find(|setting| setting.variable == "HTTP_BASE_URL");
        found.and_then(|setting| setting.value).expect("a value")
    };
    assert_eq!(
        shown("https://u:canary@a, https://b"),
        "https://u:***@a,https://b"
    );
    assert_eq!(shown("https://a,https://u:canary/@b"), "***");
}

#[test]
fn settings_of_a_fleet_where_there_is_none_are_warned_of() {
    let settings = [("DB_HOST", "a,b"), ("POOL_ATTEMPT_TIMEOUT", "1")];
    let warned = "POOL_ATTEMPT_TIMEOUT is set, but no pool is a fleet: set POOL_BALANCE too";
    assert_eq!(with(&settings).warnings(), [warned]);
    let none = [&settings[..], &[("POOL_BALANCE", "none")]].concat();
    assert_eq!(with(&none).warnings(), [warned]);
    let of_one = with(&settings).pool("reports", "postgres");
    let of_one = of_one.set_for("reports", "POOL_BALANCE", "random");
    assert_eq!(of_one.warnings(), [""; 0]);
    let fleet = [&settings[..], &[BALANCE]].concat();
    assert_eq!(with(&fleet).warnings(), [""; 0]);
    let own = with(&settings[..1]).pool("cache", "redis");
    let own = own.set_for("cache", "POOL_SLOW_START", 5);
    assert_eq!(
        own.warnings(),
        ["POOL_SLOW_START is set for pool cache, which is no fleet: set POOL_BALANCE for it too"]
    );
}

#[test]
fn a_socket_that_gives_way_to_a_host_is_warned_about() {
    let url = ("REDIS_URL", "unix:///run/redis.sock");
    let host = ("REDIS_HOST", "a");
    is(&[url, host], &["redis"]);
    let warned = "REDIS_HOST is set, so the socket in REDIS_URL is not used: unset one of them";
    assert_eq!(with(&[url, host]).warnings(), [warned]);
    assert_eq!(with(&[url]).warnings(), [""; 0]);
    // Of two layers the later one is meant.
    let later = with(&[host]).set(url.0, url.1);
    assert_eq!(later.warnings(), [""; 0]);
    assert_eq!(&*later.plan().unwrap()[0].endpoint, "/run/redis.sock/0");
    let own = Config::new()
        .pool("cache", "redis")
        .set_for("cache", url.0, url.1)
        .set_for("cache", "REDIS_HOST", "localhost");
    let warned = "REDIS_HOST is set for pool cache, so the socket in REDIS_URL is not used: unset \
                  one of them";
    assert_eq!(own.warnings(), [warned]);
    // A fleet of those hosts, and none of a socket and a host.
    is(
        &[url, BALANCE, ("REDIS_HOST", "a,b")],
        &["redis@a:6379/0", "redis@b:6379/0"],
    );
}
