//! The configuration with marked and with sealed secrets, and its mistakes.

use millpond::config::Config;
use millpond::{HttpConfig, Hub, MongoDbConfig, PostgresConfig, RedisConfig, SealingKey, Secret};
use testbed::Nginx;

use super::databases::Servers;
use super::{MARK, marked, show, show_error};

/// Three of the pools have sealed passwords, which their servers accept.
pub(super) fn hub(servers: &Servers, service: &Nginx) -> Hub {
    let key = SealingKey::generate();
    show("key", &key);
    let seal = |what: &str| key.seal(&Secret::from(marked(what)));
    let web = service.port();
    let file = format!(
        r#"
        [security]
        encryption_key = "{}"

        [connection_pool]
        log_operations = true
        log_connections = true

        [pool]
        min_connections = 0
        connection_timeout = 5

        [pools.pg]
        backend = "postgres"
        url = "postgres://app:{}@127.0.0.1:{}/postgres"

        [pools.cache]
        backend = "redis"
        host = "127.0.0.1"
        port = {}
        password = "{}"

        [pools.documents]
        backend = "mongodb"
        url = "mongodb://app:{}@127.0.0.1:{}/test?authSource=admin"

        [pools.basic]
        backend = "http"
        url = "http://app:{}@127.0.0.1:{web}"

        [pools.token]
        backend = "http"
        url = "http://127.0.0.1:{web}"
        bearer_token = "{}"
        headers = "X-Tenant:{}"

        [pools.key]
        backend = "http"
        url = "http://127.0.0.1:{web}"
        api_key = "{}"
        "#,
        key.to_text().expose(),
        seal("pg").replace(':', "%3A"),
        servers.postgres.port(),
        servers.redis.port(),
        seal("redis"),
        marked("mongodb"),
        servers.mongodb.port(),
        seal("basic"),
        marked("bearer"),
        seal("header"),
        seal("key"),
    );
    let config = Config::new().with_toml("canary.toml", &file).expect("TOML");
    show_config(&config);
    show_config(&config.clone().set("SECURITY_ENCRYPT_PASSWORDS", false));
    let lost = config
        .clone()
        .set("SECURITY_ENCRYPTION_KEY", SealingKey::generate().to_text());
    show_config(&lost);
    assert!(lost.mistakes().len() >= 4, "{:?}", lost.mistakes());
    Hub::from_config(&config).unwrap_or_else(|error| panic!("{error}"))
}

fn show_config(config: &Config) {
    show("config", config);
    show("settings", &config.settings());
    show("mistakes", &config.mistakes());
    let settings = serde_json::to_string(&config.settings()).expect("JSON");
    println!("{settings}");
    if let Err(error) = config.validate() {
        show_error("config", &error);
    }
}

/// Everything that can be wrong around a secret.
pub(super) fn mistakes() {
    for (name, value) in [
        (
            "DATABASE_URL",
            format!("postgres://app:{MARK}@h:many/d?sslmode=odd"),
        ),
        ("DATABASE_URL", format!("postgres://app:x/{MARK}@h/d")),
        ("DATABASE_URL", format!("postgres://app:x?{MARK}@h/d")),
        ("DATABASE_URL", format!("postgres://app:x@y/{MARK}@h/d")),
        ("DATABASE_URL", MARK.to_owned()),
        ("DATABASE_URL", format!("sealed:v1:{MARK}")),
        ("REDIS_URL", format!("{MARK}:x")),
        ("REDIS_URL", format!("redis://:{MARK}@h:many/x")),
        ("REDIS_URL", format!("redis://:x/{MARK}@h")),
        ("REDIS_URL", format!("redis://:x?{MARK}@h")),
        ("REDIS_URL", format!("redis://:x#{MARK}@h")),
        ("MONGODB_URI", format!("mongodb://app:x/{MARK}@h")),
        ("MONGODB_URI", format!("mongodb://app:{MARK}@h/?odd={MARK}")),
        ("MONGODB_URI", MARK.to_owned()),
        ("HTTP_BASE_URL", format!("http://app:{MARK}@h:many")),
        ("HTTP_BASE_URL", format!("{MARK}://app@h")),
        ("HTTP_BASE_URL", format!("http://h/?{MARK}")),
        ("HTTP_HEADERS", MARK.to_owned()),
        ("HTTP_BEARER_TOKEN", format!("{MARK}\n")),
        ("DB_PASSWORD", format!("sealed:v1:{MARK}")),
        ("DB_PASSWORD_FILE", MARK.to_owned()),
        ("HTTP_BEARER_TOKEN_FILE", MARK.to_owned()),
        ("DB_NAME", format!("postgres://app:{MARK}@h/d")),
        ("MONGODB_DB", format!("mongodb://app:{MARK}@h/d")),
        (
            "DB_SSL_CA_FILE",
            format!("-----BEGIN PRIVATE KEY-----\n{MARK}"),
        ),
        ("SECURITY_ENCRYPTION_KEY", MARK.to_owned()),
        ("EXPORTER_TOKEN", format!("{MARK} {MARK}")),
    ] {
        let config = Config::new()
            .set("DB_HOST", "localhost")
            .set("REDIS_ENABLED", true)
            .set("MONGODB_ENABLED", true)
            .set("HTTP_ENABLED", true)
            .set("HTTP_API_KEY", marked("key"))
            .set("POOL_MAX_CONNECTIONS", "many")
            .set(name, value.clone());
        assert!(config.validate().is_err(), "{name}");
        show_config(&config);
        let keyed = config.set("SECURITY_ENCRYPTION_KEY", SealingKey::generate().to_text());
        show_config(&keyed);
        let of_url = [
            PostgresConfig::from_url(&value).map(|it| show("from a URL", &it)),
            RedisConfig::from_url(&value).map(|it| show("from a URL", &it)),
            MongoDbConfig::from_url(&value).map(|it| show("from a URL", &it)),
            HttpConfig::from_url(&value).map(|it| show("from a URL", &it)),
        ];
        for error in of_url.into_iter().filter_map(Result::err) {
            show_error("from a URL", &error);
        }
    }
    let file = format!("[db]\npassword = \"{MARK}\npassword = 1\n");
    let error = Config::new().with_toml("canary.toml", &file);
    show_error("TOML", &error.expect_err("no TOML"));
    let file = format!("[db]\npassword = {{ is = \"{MARK}\" }}\npasword = \"{MARK}\"\n");
    show_config(&Config::new().with_toml("canary.toml", &file).expect("TOML"));
    for sealed in [MARK, &format!("sealed:v1:{MARK}")] {
        let error = SealingKey::generate().open(sealed);
        show_error("sealed", &error.expect_err("not sealed"));
    }
    show("secret", &Secret::from(MARK));
}
