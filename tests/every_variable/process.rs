//! What concerns a whole process, and a real environment: a program of its own is started.

use std::process::Command;
use std::time::{Duration, Instant};

use millpond::{Config, Hub, Operation, Priority, Redis, RedisCommand};

const CHILD: &str = "EVERY_VARIABLE_CHILD";

/// A file with a pool `cache`; what is in `more` comes first.
fn file(name: &str, more: &str) -> std::path::PathBuf {
    let name = format!("millpond-{name}-{}.toml", std::process::id());
    let path = std::env::temp_dir().join(name);
    let port = testbed::Redis::shared().port();
    let text = format!(
        "{more}\n[pool]\nmin_connections = 0\nmax_connections = 3\n\
         [pools.cache]\nbackend = \"redis\"\nhost = \"127.0.0.1\"\nport = {port}\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// What the program says to standard output and standard error.
fn run(name: &str, more: &str, variables: &[(&str, &str)]) -> (String, String) {
    let file = file(name, more);
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "process::a_program_of_its_own", "--nocapture"])
        .env(CHILD, "1")
        .env("MILLPOND_CONFIG", &file)
        .envs(variables.iter().copied());
    let output = child.output().unwrap();
    std::fs::remove_file(file).unwrap();
    let (said, log) = (output.stdout, output.stderr);
    testbed::keep("standard output", &said);
    testbed::keep("log", &log);
    let (said, log) = (
        String::from_utf8(said).unwrap(),
        String::from_utf8(log).unwrap(),
    );
    assert!(output.status.success(), "{said}{log}");
    (said, log)
}

/// The program.
fn child() {
    millpond::logging::init_from_env().unwrap();
    let builder = Hub::builder()
        .sample_interval(Duration::from_millis(20))
        .log_interval(Duration::from_millis(100));
    let hub = builder.open(&Config::from_env().unwrap()).unwrap();
    let cache = hub.pool::<Redis>("cache").unwrap();
    println!("the pool has {} at most", cache.max_size());
    let echo = || {
        let echo = RedisCommand::new("ECHO").arg(testbed::value("text"));
        echo.priority(Priority::Low)
    };
    cache.execute(echo()).unwrap();
    let begun = Instant::now();
    // Busy, for the limit of processor time.
    while begun.elapsed() < Duration::from_millis(1800) {
        std::hint::spin_loop();
    }
    match cache.execute(echo()) {
        Ok(_) => println!("an operation of low priority is done"),
        Err(error) => println!("it is refused: {:?}", error.kind()),
    }
}

#[test]
fn a_program_of_its_own() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let (said, _) = run("file", "", &[]);
    assert!(said.contains("the pool has 3 at most"), "{said}");
    let (said, _) = run("everybody", "", &[("POOL_MAX_CONNECTIONS", "4")]);
    assert!(said.contains("the pool has 4 at most"), "{said}");
    let own = [
        ("POOL_MAX_CONNECTIONS", "4"),
        ("CACHE_POOL_MAX_CONNECTIONS", "5"),
    ];
    let (said, _) = run("own", "", &own);
    assert!(said.contains("the pool has 5 at most"), "{said}");
}

#[test]
pub(super) fn limits() {
    let (said, _) = run("free", "", &[]);
    assert!(said.contains("low priority is done"), "{said}");
    for limit in [
        "PERFORMANCE_MEMORY_LIMIT_MB",
        "PERFORMANCE_CPU_LIMIT_PERCENT",
    ] {
        let (said, _) = run(limit, "", &[(limit, "1")]);
        assert!(
            said.contains("it is refused: ResourceLimit"),
            "{limit}: {said}"
        );
    }
}

#[test]
pub(super) fn certificate_validation() {
    let ca = testbed::Ca::new();
    let postgres = testbed::Postgres::builder()
        .tls(&ca)
        .hba("host all all 127.0.0.1/32 trust")
        .start()
        .unwrap();
    let redis = testbed::Redis::builder().tls(&ca).start().unwrap();
    let mongo = testbed::Mongo::builder().tls(&ca).start().unwrap();
    let nginx = testbed::Nginx::builder().tls(&ca).start().unwrap();
    let url = format!("{}?sslmode=verify-full", postgres.url());
    let settings = super::config()
        .set("DATABASE_URL", url.as_str())
        .set("REDIS_URL", format!("rediss://127.0.0.1:{}", redis.port()))
        .set("MONGODB_ENABLED", true)
        .set("MONGODB_HOST", "127.0.0.1")
        .set("MONGODB_PORT", mongo.port())
        .set("MONGODB_SSL", true)
        .set("HTTP_ENABLED", true)
        .set("HTTP_BASE_URL", nginx.url())
        .set("POOL_CONNECTION_TIMEOUT", 3);
    let works = |hub: &Hub| {
        let ping = || RedisCommand::new("PING");
        let count = millpond::MongoOperation::count("t", mongodb::bson::doc! {}).database("d");
        [
            super::ask(hub, "SELECT 1").is_ok(),
            hub.pool::<Redis>("redis").unwrap().execute(ping()).is_ok(),
            hub.pool::<millpond::MongoDb>("mongodb")
                .unwrap()
                .execute(count)
                .is_ok(),
            hub.pool::<millpond::Http>("http")
                .unwrap()
                .execute(millpond::HttpRequest::get("/"))
                .is_ok(),
        ]
    };
    let checked = super::hub(&settings);
    assert_eq!(
        works(&checked),
        [false; 4],
        "the authority is not the system's"
    );
    let unchecked = super::hub(&settings.set("SECURITY_CERTIFICATE_VALIDATION", false));
    assert_eq!(works(&unchecked), [true; 4]);

    // Each start tells of it.
    let variables = [
        ("SECURITY_CERTIFICATE_VALIDATION", "false"),
        ("DATABASE_URL", &url),
        ("REDIS_URL", "rediss://127.0.0.1:1"),
        ("MONGODB_URI", "mongodb://127.0.0.1:1/?tls=true"),
        ("HTTP_ENABLED", "true"),
        ("HTTP_BASE_URL", "https://127.0.0.1:1"),
    ];
    for _ in 0..2 {
        let (_, log) = run("unchecked", "", &variables);
        for backend in ["PostgreSQL", "Redis", "MongoDB", "HTTP"] {
            let warned = log.lines().filter(|line| {
                line.contains("SECURITY_CERTIFICATE_VALIDATION=false") && line.contains(backend)
            });
            assert_eq!(warned.count(), 1, "{backend}: {log}");
        }
    }
}

#[test]
pub(super) fn log() {
    let (_, log) = run("usual", "", &[]);
    let is_of = |log: &str, target: &str| log.contains(&format!("\"target\":\"{target}\""));
    assert!(is_of(&log, "millpond::metrics"), "{log}");
    assert!(!is_of(&log, "millpond::connections"), "{log}");
    assert!(!is_of(&log, "millpond::operations"), "{log}");

    let more = "[connection_pool]\nlog_connections = true\nlog_operations = true\n\
                include_metrics = false\n";
    let (_, log) = run("loud", more, &[("CONNECTION_POOL_LOG_OPERATIONS", "false")]);
    assert!(is_of(&log, "millpond::connections"), "{log}");
    assert!(!is_of(&log, "millpond::operations"), "{log}");
    assert!(!is_of(&log, "millpond::metrics"), "{log}");
    let (_, log) = run("louder", more, &[]);
    assert!(is_of(&log, "millpond::operations"), "{log}");

    let (_, log) = run(
        "text",
        "",
        &[("CONNECTION_POOL_STRUCTURED_LOGGING", "false")],
    );
    assert!(log.contains("millpond::metrics]"), "{log}");
    let (_, log) = run("quiet", "", &[("CONNECTION_POOL_LOG_LEVEL", "error")]);
    assert!(!log.contains("millpond"), "{log}");
}
