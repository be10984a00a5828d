//! What counts, of several layers.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::super::known::{KNOWN, known};
use super::super::layers::Environment;
use super::super::{Config, Vars};
use crate::backend::http::HttpConfig;
use crate::backend::mongodb::MongoDbConfig;
use crate::backend::postgres::PostgresConfig;
use crate::backend::redis::RedisConfig;

mod mistakes;
mod secrets;

impl Config {
    pub(in crate::config) fn with_pretended(self, pairs: &[(&str, &str)]) -> Self {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        self.with_environment(Environment::of(pairs))
    }
}

const FILE: &str = r#"
database_url = "postgres://app:canary@db.internal/shop?sslmode=require"

[pool]
max_connections = 20
connection_timeout = 2.5

[pools.reports]
backend = "postgres"
host = ["a.internal", "b.internal"]
name = "shop"
password = "canary"
max_connections = 4
batch_size = 500

[pools.cache]
backend = "redis"
host = "localhost"
"#;

fn config(file: &str) -> Config {
    Config::new().with_toml("shop.toml", file).expect("TOML")
}

fn told(config: &Config) -> Vec<String> {
    config.mistakes().iter().map(ToString::to_string).collect()
}

fn value(config: &Config, pool: Option<&str>, variable: &str) -> (Option<String>, String) {
    let settings = config.settings();
    let found = settings
        .iter()
        .find(|setting| setting.pool.as_deref() == pool && setting.variable == variable);
    let found = found.unwrap_or_else(|| panic!("no {variable}: {settings:#?}"));
    (found.value.clone(), found.source.to_string())
}

#[test]
fn exactly_the_known_variables_are_read() {
    let asked = RefCell::new(BTreeSet::new());
    let read = |given: &[(&str, &str)]| {
        let lookup = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            let mut given = given.iter();
            given
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let mut vars = Vars::from_lookup(lookup);
        let _ = PostgresConfig::from_vars(&mut vars);
        let _ = RedisConfig::from_vars(&mut vars);
        let _ = MongoDbConfig::from_vars(&mut vars);
        let _ = HttpConfig::from_vars(&mut vars);
        let _ = crate::Builder::<crate::Redis>::from_vars(&mut vars);
        let _ = crate::endpoints::FleetSettings::from_vars(&mut vars, 1);
        let _ = crate::resources::Limits::from_vars(&mut vars);
        let _ = crate::logging::Switches::new().with_vars(&mut vars);
        let _ = super::super::sealed::Protection::from_vars(&mut vars);
        crate::batch::check(&mut vars);
        #[cfg(feature = "exporter")]
        crate::exporter::check(&mut vars);
        #[cfg(feature = "audit")]
        let _ = crate::audit::AuditBuilder::from_vars(&mut vars);
        #[cfg(feature = "logging")]
        {
            crate::logging::check(&mut vars);
            let _ = vars.text("CONNECTION_POOL_LOG_FILE");
        }
    };
    read(&[
        ("DB_HOST", "a"),
        ("REDIS_ENABLED", "1"),
        ("REDIS_SENTINELS", "a:1"),
        ("REDIS_SENTINEL_MASTER", "m"),
        ("REDIS_SENTINEL_PASSWORD", "x"),
        ("MONGODB_ENABLED", "1"),
        ("HTTP_ENABLED", "1"),
        ("HTTP_API_KEY", "x"),
    ]);
    let unknown: Vec<_> = asked
        .borrow()
        .iter()
        .filter(|name| known(name).is_none())
        .cloned()
        .collect();
    assert_eq!(unknown, [""; 0], "are read and not known");
    let optional = |name: &str| {
        name.starts_with("EXPORTER_") && cfg!(not(feature = "exporter"))
            || name.starts_with("AUDIT_") && cfg!(not(feature = "audit"))
            || name.starts_with("CONNECTION_POOL_") && cfg!(not(feature = "logging"))
    };
    let asked = asked.borrow();
    let unread: Vec<_> = KNOWN
        .iter()
        .map(|known| known.name)
        .filter(|name| !asked.contains(*name) && !optional(name))
        .collect();
    assert_eq!(unread, [""; 0], "are known and not read");
}

#[test]
fn a_file_says_what_variables_say() {
    let config = config(FILE);
    assert_eq!(told(&config), [""; 0]);
    let url = "postgres://app:***@db.internal/shop";
    assert_eq!(
        value(&config, None, "DATABASE_URL"),
        (Some("***".into()), "shop.toml, line 2".into()),
        "{url} would show it, but a query may hide a password"
    );
    let twenty = (Some("20".into()), "shop.toml, line 5".into());
    assert_eq!(value(&config, None, "POOL_MAX_CONNECTIONS"), twenty);
    let four = (Some("4".into()), "shop.toml, line 13".into());
    assert_eq!(
        value(&config, Some("reports"), "POOL_MAX_CONNECTIONS"),
        four
    );
    let hosts = (
        Some("a.internal,b.internal".into()),
        "shop.toml, line 10".into(),
    );
    assert_eq!(value(&config, Some("reports"), "DB_HOST"), hosts);
    assert_eq!(value(&config, None, "DB_SSL_MODE").1, "default");
    let in_url = (None, "shop.toml, line 2".into());
    assert_eq!(value(&config, None, "DB_PORT"), in_url, "the URL says it");
    let shown = format!("{config:?}{:?}", config.settings());
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn later_wins() {
    let config = config(FILE)
        .with_pretended(&[
            ("POOL_MAX_CONNECTIONS", "30"),
            ("POOL_IDLE_TIMEOUT", ""),
            ("REPORTS_POOL_MAX_CONNECTIONS", "5"),
            ("REPORTS_DB_HOST", "c.internal"),
            ("DB_HOST", "other.internal"),
        ])
        .set("POOL_MIN_CONNECTIONS", 1)
        .set_for("reports", "DB_NAME", "archive");
    assert_eq!(told(&config), [""; 0]);
    let of = |pool, variable| value(&config, pool, variable).0.expect("a value");
    assert_eq!(of(None, "POOL_MAX_CONNECTIONS"), "30");
    assert_eq!(of(None, "POOL_IDLE_TIMEOUT"), "300");
    assert_eq!(of(Some("reports"), "POOL_MAX_CONNECTIONS"), "5");
    assert_eq!(of(Some("reports"), "DB_HOST"), "c.internal");
    assert_eq!(of(Some("reports"), "DB_NAME"), "archive");
    let mut vars = config.vars_of("reports");
    // Everybody's server is nobody's by name, and what pools share is theirs too.
    assert_eq!(vars.text("DB_HOST").as_deref(), Some("c.internal"));
    assert_eq!(vars.text("DATABASE_URL"), None);
    assert_eq!(vars.text("POOL_CONNECTION_TIMEOUT").as_deref(), Some("2.5"));
    assert_eq!(vars.text("POOL_MIN_CONNECTIONS").as_deref(), Some("1"));
}

#[test]
fn a_url_overrules_parts_of_earlier_layers_only() {
    let file = "[db]\nhost = \"old.internal\"\nname = \"shop\"\n";
    let url = "postgres://u@new.internal/other";
    let read = |config: &Config| {
        let mut vars = config.vars();
        let endpoint = PostgresConfig::from_vars(&mut vars).expect("on");
        (format!("{endpoint:?}"), vars.into_mistakes())
    };
    let later = config(file).with_pretended(&[("DATABASE_URL", url)]);
    let (shown, mistakes) = read(&later);
    assert!(
        shown.contains("new.internal") && shown.contains("other"),
        "{shown}"
    );
    assert!(!shown.contains("old.internal"), "{shown}");
    assert_eq!(mistakes, []);
    let same = Config::new().with_pretended(&[("DATABASE_URL", url), ("DB_HOST", "own.internal")]);
    assert!(read(&same).0.contains("own.internal"));
}

#[test]
fn the_environment_is_kept_as_it_was() {
    // Nothing safe can change the process's own here: that what is found is a copy has to do.
    let path = std::env::var("PATH").expect("a path");
    let config = Config::new().with_env();
    let found = || {
        config
            .find_shared("PATH")
            .expect("set")
            .text
            .expect("UTF-8")
    };
    assert_eq!(*found(), path);
    let odd = OsString::from_vec(vec![b'x', 0xff]);
    let odd = Environment::of([("DB_HOST".into(), odd.clone()), (odd, "x".into())]);
    assert_eq!(odd.names().collect::<Vec<_>>(), ["DB_HOST"]);
    let config = Config::new().with_environment(odd);
    assert_eq!(told(&config), ["DB_HOST is `***`, accepted: UTF-8"]);
}
