//! Every variable there is, with its default. A test sees to it that exactly these are read.

/// A variable.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    /// As text; empty for none.
    pub(crate) default: &'static str,
    /// Never shown, and also read from the file that `NAME_FILE` names.
    pub(crate) secret: bool,
}

const fn plain(name: &'static str, default: &'static str) -> Known {
    Known {
        name,
        default,
        secret: false,
    }
}

const fn secret(name: &'static str) -> Known {
    Known {
        name,
        default: "",
        secret: true,
    }
}

/// Those of each backend, after which its pools are named unless they have a name.
pub(crate) const BACKENDS: [(&str, &str, &str); 4] = [
    ("postgres", "DB_", "DATABASE_URL"),
    ("redis", "REDIS_", "REDIS_URL"),
    ("mongodb", "MONGODB_", "MONGODB_URI"),
    ("http", "HTTP_", "HTTP_BASE_URL"),
];

/// What the URL of this name says too, and overrules where it is in a later layer.
pub(crate) fn parts(url: &str) -> &'static [&'static str] {
    match url {
        "DATABASE_URL" => &["DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD"],
        "REDIS_URL" => &[
            "REDIS_HOST",
            "REDIS_PORT",
            "REDIS_DB",
            "REDIS_USER",
            "REDIS_PASSWORD",
            "REDIS_SSL",
        ],
        "MONGODB_URI" => &[
            "MONGODB_HOST",
            "MONGODB_PORT",
            "MONGODB_DB",
            "MONGODB_USER",
            "MONGODB_PASSWORD",
            "MONGODB_AUTH_SOURCE",
            "MONGODB_SSL",
        ],
        _ => &[],
    }
}

/// What URLs of servers begin with.
pub(crate) const SCHEMES: [&str; 12] = [
    "postgres",
    "postgresql",
    "redis",
    "rediss",
    "valkey",
    "valkeys",
    "unix",
    "redis+unix",
    "valkey+unix",
    "mongodb",
    "http",
    "https",
];

/// Prefixes of the variables that a pool of its own shares with all others.
pub(crate) const SHARED: [&str; 4] = ["POOL_", "BATCH_", "PERFORMANCE_", "SECURITY_"];

/// Those of the process.
pub(crate) const OF_PROCESS: [&str; 3] = ["CONNECTION_POOL_", "EXPORTER_", "AUDIT_"];

/// No name is longer than this.
const LONGEST_NAME: usize = 40;

/// Whether a pool may have this variable for itself.
pub(crate) fn is_of_pool(name: &str, prefix: &str, url: &str) -> bool {
    let limits = name.starts_with("PERFORMANCE_") && name.contains("_LIMIT_");
    let shared = SHARED.iter().any(|prefix| name.starts_with(prefix));
    name.starts_with(prefix)
        || name.strip_suffix("_FILE").unwrap_or(name) == url
        || shared && !limits
}

/// The variable of this name.
pub(crate) fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| {
        let file = || known.secret && name.strip_suffix("_FILE") == Some(known.name);
        known.name == name || file()
    })
}

/// The name nearest to one that is not known, if any is near.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    nearest_of(name, KNOWN.iter().map(|known| known.name))
}

/// The nearest of these names, if any is near.
pub(crate) fn nearest_of<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 2 * LONGEST_NAME {
        return None;
    }
    let distance = |known: &str| strsim::damerau_levenshtein(known, name);
    let near = all.map(|known| (distance(known), known)).min()?;
    (near.0 <= 1 + name.len() / 5).then_some(near.1)
}

pub(crate) const KNOWN: &[Known] = &[
    secret("DATABASE_URL"),
    plain("DB_HOST", "localhost"),
    plain("DB_PORT", "5432"),
    plain("DB_NAME", ""),
    plain("DB_USER", ""),
    secret("DB_PASSWORD"),
    plain("DB_SSL_MODE", "prefer"),
    plain("DB_SSL_MIN_VERSION", "1.2"),
    plain("DB_SSL_CA_FILE", ""),
    plain("DB_SSL_CERT_FILE", ""),
    plain("DB_SSL_KEY_FILE", ""),
    plain("DB_APPLICATION_NAME", "millpond"),
    plain("DB_OPTIONS", ""),
    plain("DB_TARGET_SESSION_ATTRS", "any"),
    plain("DB_CONNECT_TIMEOUT", "10"),
    plain("DB_CHECK_TIMEOUT", "3"),
    plain("DB_STATEMENT_TIMEOUT", ""),
    plain("DB_STATEMENT_CACHE", "256"),
    plain("DB_RESOLVE_UNKNOWN", "false"),
    secret("REDIS_URL"),
    plain("REDIS_ENABLED", "false"),
    plain("REDIS_HOST", "localhost"),
    plain("REDIS_PORT", "6379"),
    plain("REDIS_DB", "0"),
    plain("REDIS_USER", ""),
    secret("REDIS_PASSWORD"),
    plain("REDIS_SSL", "false"),
    plain("REDIS_SSL_MIN_VERSION", "1.2"),
    plain("REDIS_SSL_CA_FILE", ""),
    plain("REDIS_SSL_CERT_FILE", ""),
    plain("REDIS_SSL_KEY_FILE", ""),
    plain("REDIS_DECODE_RESPONSES", "true"),
    plain("REDIS_PROTOCOL", "2"),
    plain("REDIS_CLIENT_NAME", "millpond"),
    plain("REDIS_CONNECT_TIMEOUT", "10"),
    plain("REDIS_READ_TIMEOUT", "30"),
    plain("REDIS_WRITE_TIMEOUT", "30"),
    plain("REDIS_CHECK_TIMEOUT", "3"),
    plain("REDIS_SENTINELS", ""),
    plain("REDIS_SENTINEL_MASTER", ""),
    plain("REDIS_SENTINEL_ROLE", "master"),
    plain("REDIS_SENTINEL_USER", ""),
    secret("REDIS_SENTINEL_PASSWORD"),
    plain("REDIS_CLUSTER_NODES", ""),
    secret("MONGODB_URI"),
    plain("MONGODB_ENABLED", "false"),
    plain("MONGODB_HOST", "localhost"),
    plain("MONGODB_PORT", "27017"),
    plain("MONGODB_DB", ""),
    plain("MONGODB_USER", ""),
    secret("MONGODB_PASSWORD"),
    plain("MONGODB_AUTH_SOURCE", "admin"),
    plain("MONGODB_SSL", "false"),
    plain("MONGODB_SSL_MIN_VERSION", "1.2"),
    plain("MONGODB_SSL_CA_FILE", ""),
    plain("MONGODB_SSL_CERT_FILE", ""),
    plain("MONGODB_REPLICA_SET", ""),
    plain("MONGODB_APP_NAME", "millpond"),
    plain("MONGODB_READ_PREFERENCE", "primary"),
    plain("MONGODB_WRITE_CONCERN", ""),
    plain("MONGODB_RETRY_READS", "true"),
    plain("MONGODB_RETRY_WRITES", "true"),
    plain("MONGODB_MAX_SOCKETS", "100"),
    plain("MONGODB_CONNECT_TIMEOUT", "5"),
    plain("MONGODB_CHECK_TIMEOUT", "3"),
    plain("MONGODB_SERVER_SELECTION_TIMEOUT", "15"),
    plain("HTTP_ENABLED", "false"),
    secret("HTTP_BASE_URL"),
    plain("HTTP_TIMEOUT", "30"),
    plain("HTTP_CONNECT_TIMEOUT", "10"),
    plain("HTTP_READ_TIMEOUT", ""),
    plain("HTTP_CHECK_TIMEOUT", "3"),
    plain("HTTP_MAX_REDIRECTS", "10"),
    plain("HTTP_MAX_BODY_BYTES", "16777216"),
    plain(
        "HTTP_USER_AGENT",
        concat!("millpond/", env!("CARGO_PKG_VERSION")),
    ),
    secret("HTTP_HEADERS"),
    secret("HTTP_BEARER_TOKEN"),
    plain("HTTP_USER", ""),
    secret("HTTP_PASSWORD"),
    secret("HTTP_API_KEY"),
    plain("HTTP_API_KEY_HEADER", "X-API-Key"),
    plain("HTTP_SSL_MIN_VERSION", "1.2"),
    plain("HTTP_SSL_CA_FILE", ""),
    plain("HTTP_SSL_CERT_FILE", ""),
    plain("HTTP_SSL_KEY_FILE", ""),
    plain("HTTP_KEEP_ALIVE", "true"),
    plain("HTTP_HEALTH_PATH", ""),
    plain("POOL_MAX_CONNECTIONS", "10"),
    plain("POOL_MIN_CONNECTIONS", "2"),
    plain("POOL_CONNECTION_TIMEOUT", "30"),
    plain("POOL_IDLE_TIMEOUT", "300"),
    plain("POOL_RETRY_ATTEMPTS", "3"),
    plain("POOL_RETRY_DELAY", "1"),
    plain("POOL_HEALTH_CHECK_INTERVAL", "60"),
    plain("POOL_BREAKER_FAILURES", "10"),
    plain("POOL_BREAKER_RATE", "0.5"),
    plain("POOL_BREAKER_SLOW_TIME", ""),
    plain("POOL_ADAPTIVE_LIMIT", "true"),
    plain("POOL_READ_ONLY", "false"),
    plain("POOL_BALANCE", "none"),
    plain("POOL_WEIGHTS", ""),
    plain("POOL_ATTEMPT_TIMEOUT", ""),
    plain("POOL_REPLICA_LAG_LIMIT", ""),
    plain("POOL_EJECTION_FAILURES", "5"),
    plain("POOL_EJECTION_TIME", "1"),
    plain("POOL_EJECTION_MAX_TIME", "60"),
    plain("POOL_SLOW_START", "10"),
    plain("POOL_RESOLVE_INTERVAL", ""),
    plain("BATCH_SIZE", "100"),
    plain("BATCH_TIMEOUT", "1"),
    plain("BATCH_MAX_OPERATIONS", "1000"),
    plain("BATCH_MAX_BYTES", "67108864"),
    plain("BATCH_PARALLEL_WORKERS", "4"),
    plain("PERFORMANCE_METRICS_ENABLED", "true"),
    plain("PERFORMANCE_RESPONSE_TIME_WINDOW", "1000"),
    plain("PERFORMANCE_ERROR_RATE_WINDOW", "1000"),
    plain("PERFORMANCE_MEMORY_LIMIT_MB", ""),
    plain("PERFORMANCE_CPU_LIMIT_PERCENT", ""),
    secret("SECURITY_ENCRYPTION_KEY"),
    plain("SECURITY_ENCRYPT_PASSWORDS", "true"),
    plain("SECURITY_MASK_SENSITIVE_DATA", "true"),
    plain("SECURITY_CONNECTION_ENCRYPTION", "true"),
    plain("SECURITY_CERTIFICATE_VALIDATION", "true"),
    plain("CONNECTION_POOL_LOG_LEVEL", "INFO"),
    plain("CONNECTION_POOL_STRUCTURED_LOGGING", "true"),
    plain("CONNECTION_POOL_LOG_FILE", ""),
    plain("CONNECTION_POOL_INCLUDE_METRICS", "true"),
    plain("CONNECTION_POOL_LOG_CONNECTIONS", "false"),
    plain("CONNECTION_POOL_LOG_OPERATIONS", "false"),
    plain("EXPORTER_BIND", "127.0.0.1:9464"),
    secret("EXPORTER_TOKEN"),
    plain("EXPORTER_ALLOW_REMOTE", "false"),
    plain("AUDIT_FILE", ""),
    plain("AUDIT_MAX_BYTES", "67108864"),
    plain("AUDIT_KEEP", "10"),
    secret("AUDIT_KEY"),
];
