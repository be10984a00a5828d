//! Every variable changes what a program does: shown on real servers, through a configuration.
//!
//! What is about the log is shown in `tests/logging.rs` too, which starts programs of its own.
#![allow(clippy::unwrap_used, missing_docs)]

mod batch;
mod fleet;
mod http;
mod mongodb;
mod pool;
mod postgres;
mod process;
mod redis;

use std::collections::BTreeSet;

use millpond::{Config, Hub, Sql};

/// The variables of the documentation, with their defaults.
const DOCUMENTED: &[(&str, &str)] = &[
    ("DB_HOST", "localhost"),
    ("DB_PORT", "5432"),
    ("DB_NAME", ""),
    ("DB_USER", ""),
    ("DB_PASSWORD", ""),
    ("DB_SSL_MODE", "prefer"),
    ("DB_APPLICATION_NAME", "millpond"),
    ("REDIS_ENABLED", "false"),
    ("REDIS_HOST", "localhost"),
    ("REDIS_PORT", "6379"),
    ("REDIS_DB", "0"),
    ("REDIS_PASSWORD", ""),
    ("REDIS_SSL", "false"),
    ("REDIS_DECODE_RESPONSES", "true"),
    ("MONGODB_ENABLED", "false"),
    ("MONGODB_HOST", "localhost"),
    ("MONGODB_PORT", "27017"),
    ("MONGODB_DB", ""),
    ("MONGODB_USER", ""),
    ("MONGODB_PASSWORD", ""),
    ("MONGODB_AUTH_SOURCE", "admin"),
    ("MONGODB_SSL", "false"),
    ("HTTP_ENABLED", "false"),
    ("HTTP_BASE_URL", ""),
    ("HTTP_TIMEOUT", "30"),
    ("HTTP_MAX_REDIRECTS", "10"),
    (
        "HTTP_USER_AGENT",
        concat!("millpond/", env!("CARGO_PKG_VERSION")),
    ),
    ("HTTP_HEADERS", ""),
    ("POOL_MAX_CONNECTIONS", "10"),
    ("POOL_MIN_CONNECTIONS", "2"),
    ("POOL_CONNECTION_TIMEOUT", "30"),
    ("POOL_IDLE_TIMEOUT", "300"),
    ("POOL_RETRY_ATTEMPTS", "3"),
    ("POOL_RETRY_DELAY", "1"),
    ("POOL_HEALTH_CHECK_INTERVAL", "60"),
    ("POOL_ADAPTIVE_LIMIT", "true"),
    ("POOL_BALANCE", "none"),
    ("POOL_WEIGHTS", ""),
    ("POOL_ATTEMPT_TIMEOUT", ""),
    ("POOL_REPLICA_LAG_LIMIT", ""),
    ("POOL_EJECTION_FAILURES", "5"),
    ("POOL_EJECTION_TIME", "1"),
    ("POOL_EJECTION_MAX_TIME", "60"),
    ("POOL_SLOW_START", "10"),
    ("POOL_RESOLVE_INTERVAL", ""),
    ("BATCH_SIZE", "100"),
    ("BATCH_TIMEOUT", "1"),
    ("BATCH_MAX_OPERATIONS", "1000"),
    ("BATCH_PARALLEL_WORKERS", "4"),
    ("PERFORMANCE_METRICS_ENABLED", "true"),
    ("PERFORMANCE_RESPONSE_TIME_WINDOW", "1000"),
    ("PERFORMANCE_ERROR_RATE_WINDOW", "1000"),
    ("PERFORMANCE_MEMORY_LIMIT_MB", ""),
    ("PERFORMANCE_CPU_LIMIT_PERCENT", ""),
    ("SECURITY_CONNECTION_ENCRYPTION", "true"),
    ("SECURITY_CERTIFICATE_VALIDATION", "true"),
    ("CONNECTION_POOL_LOG_LEVEL", "INFO"),
    ("CONNECTION_POOL_STRUCTURED_LOGGING", "true"),
    ("CONNECTION_POOL_INCLUDE_METRICS", "true"),
    ("CONNECTION_POOL_LOG_CONNECTIONS", "false"),
    ("CONNECTION_POOL_LOG_OPERATIONS", "false"),
    ("DATABASE_URL", ""),
    ("REDIS_URL", ""),
    ("MONGODB_URI", ""),
];

/// A test, and the variables that it shows.
type Shown = (fn(), &'static [&'static str]);

/// Where each is shown.
const SHOWN: &[Shown] = &[
    (postgres::host_and_port, &["DB_HOST", "DB_PORT"]),
    (
        postgres::name_and_application_name,
        &["DB_NAME", "DB_APPLICATION_NAME"],
    ),
    (postgres::user_and_password, &["DB_USER", "DB_PASSWORD"]),
    (postgres::ssl_mode, &["DB_SSL_MODE"]),
    (postgres::url, &["DATABASE_URL"]),
    (redis::enabled, &["REDIS_ENABLED", "REDIS_URL"]),
    (redis::host_and_port, &["REDIS_HOST", "REDIS_PORT"]),
    (redis::db, &["REDIS_DB"]),
    (redis::password, &["REDIS_PASSWORD"]),
    (redis::ssl, &["REDIS_SSL"]),
    (redis::decode_responses, &["REDIS_DECODE_RESPONSES"]),
    (
        mongodb::enabled_host_port_and_db,
        &[
            "MONGODB_ENABLED",
            "MONGODB_HOST",
            "MONGODB_PORT",
            "MONGODB_DB",
            "MONGODB_URI",
        ],
    ),
    (
        mongodb::login,
        &["MONGODB_USER", "MONGODB_PASSWORD", "MONGODB_AUTH_SOURCE"],
    ),
    (mongodb::ssl, &["MONGODB_SSL"]),
    (
        http::enabled_and_base_url,
        &["HTTP_ENABLED", "HTTP_BASE_URL"],
    ),
    (http::timeout, &["HTTP_TIMEOUT"]),
    (http::max_redirects, &["HTTP_MAX_REDIRECTS"]),
    (
        http::user_agent_and_headers,
        &["HTTP_USER_AGENT", "HTTP_HEADERS"],
    ),
    (
        pool::sizes,
        &["POOL_MAX_CONNECTIONS", "POOL_MIN_CONNECTIONS"],
    ),
    (pool::connection_timeout, &["POOL_CONNECTION_TIMEOUT"]),
    (pool::idle_timeout, &["POOL_IDLE_TIMEOUT"]),
    (pool::retries, &["POOL_RETRY_ATTEMPTS"]),
    (pool::retry_delay, &["POOL_RETRY_DELAY"]),
    (pool::health_check_interval, &["POOL_HEALTH_CHECK_INTERVAL"]),
    (pool::adaptive_limit, &["POOL_ADAPTIVE_LIMIT"]),
    (pool::metrics_enabled, &["PERFORMANCE_METRICS_ENABLED"]),
    (
        pool::windows,
        &[
            "PERFORMANCE_RESPONSE_TIME_WINDOW",
            "PERFORMANCE_ERROR_RATE_WINDOW",
        ],
    ),
    (pool::encryption, &["SECURITY_CONNECTION_ENCRYPTION"]),
    (
        fleet::balance_and_weights,
        &["POOL_BALANCE", "POOL_WEIGHTS"],
    ),
    (fleet::attempt_timeout, &["POOL_ATTEMPT_TIMEOUT"]),
    (fleet::replica_lag_limit, &["POOL_REPLICA_LAG_LIMIT"]),
    (fleet::ejection_failures, &["POOL_EJECTION_FAILURES"]),
    (
        fleet::ejection_time,
        &["POOL_EJECTION_TIME", "POOL_EJECTION_MAX_TIME"],
    ),
    (fleet::slow_start, &["POOL_SLOW_START"]),
    (fleet::resolve_interval, &["POOL_RESOLVE_INTERVAL"]),
    (batch::size_and_timeout, &["BATCH_SIZE", "BATCH_TIMEOUT"]),
    (batch::max_operations, &["BATCH_MAX_OPERATIONS"]),
    (batch::parallel_workers, &["BATCH_PARALLEL_WORKERS"]),
    (
        process::certificate_validation,
        &["SECURITY_CERTIFICATE_VALIDATION"],
    ),
    (
        process::limits,
        &[
            "PERFORMANCE_MEMORY_LIMIT_MB",
            "PERFORMANCE_CPU_LIMIT_PERCENT",
        ],
    ),
    (
        process::log,
        &[
            "CONNECTION_POOL_LOG_LEVEL",
            "CONNECTION_POOL_STRUCTURED_LOGGING",
            "CONNECTION_POOL_INCLUDE_METRICS",
            "CONNECTION_POOL_LOG_CONNECTIONS",
            "CONNECTION_POOL_LOG_OPERATIONS",
        ],
    ),
];

/// Nothing is opened but what a test asks for.
fn config() -> Config {
    Config::new().set("POOL_MIN_CONNECTIONS", 0)
}

fn hub(config: &Config) -> Hub {
    Hub::from_config(config).unwrap_or_else(|error| panic!("{error}"))
}

/// The one value of this statement.
fn ask(hub: &Hub, sql: &'static str) -> Result<String, millpond::Error> {
    let pool = hub.pool::<millpond::Postgres>("postgres")?;
    let reply = pool.execute(Sql::new(sql))?;
    Ok(reply.rows()[0].text(0).unwrap_or_default().to_owned())
}

#[test]
fn every_documented_variable_is_shown_and_has_its_default() {
    let documented: BTreeSet<_> = DOCUMENTED.iter().map(|(name, _)| *name).collect();
    let shown: BTreeSet<_> = SHOWN
        .iter()
        .flat_map(|(_, names)| names.iter().copied())
        .collect();
    assert_eq!(documented, shown);
    let settings = Config::new().settings();
    for (name, default) in DOCUMENTED {
        let setting = settings.iter().find(|setting| setting.variable == *name);
        let setting = setting.unwrap_or_else(|| panic!("{name} is not known"));
        assert_eq!(
            setting.value.as_deref().unwrap_or_default(),
            *default,
            "{name}"
        );
    }
}
