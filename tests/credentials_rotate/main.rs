//! Passwords that change on the server and in the file that they come from, alone or in a URL: it
//! works again without a restart, soon, and no account is locked meanwhile.

mod redis_sets;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::{
    Config, ErrorKind, Http, HttpConfig, Hub, ManageConnection, MongoDb, MongoDbConfig, Pool,
    Postgres, PostgresConfig, Redis, RedisConfig,
};
use mongodb::bson::{Document, doc};
use testbed::secret;

const THREADS: usize = 16;
/// How long the server has another password than the file.
const MEANWHILE: Duration = Duration::from_secs(4);
/// The pool looks four times a second; the rest is for slow machines.
const SOON: Duration = Duration::from_secs(5);

/// A file with a secret in it.
struct Secret(PathBuf);

impl Secret {
    fn new(text: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, SeqCst);
        let name = format!("millpond-rotate-{}-{number}", std::process::id());
        let secret = Self(std::env::temp_dir().join(name));
        secret.write(text);
        secret
    }

    /// As those do it who do it well: a new file in the place of the old one.
    fn write(&self, text: &str) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{text}\n")).expect("writes");
        std::fs::rename(&new, &self.0).expect("renames");
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What the file says of this password: itself, or a URL with it.
type Written = fn(password: &str, port: u16) -> String;

fn bare(password: &str, _: u16) -> String {
    password.to_owned()
}

/// A pool of those whose URL is in this file.
fn by_url<M: Backend>(variable: &str, file: &Secret) -> Pool<M> {
    let config = Config::new()
        .set(variable, &*file.0.to_string_lossy())
        .set("POOL_MAX_CONNECTIONS", 8)
        .set("POOL_MIN_CONNECTIONS", 8);
    let hub = Hub::from_config(&config).expect("opens");
    let pool = hub.pool::<M>(M::NAME).expect("a pool");
    // None is to log in while the password changes.
    let start = Instant::now();
    while pool.state().connections < 8 {
        assert!(start.elapsed() < SOON, "{:?}", pool.state());
        std::thread::sleep(Duration::from_millis(5));
    }
    pool
}

/// Sixteen threads ask all the time, while the password changes on the server first.
fn rotates<M: ManageConnection<Error = millpond::Error>>(
    pool: &Pool<M>,
    ask: impl Fn(&Pool<M>) -> Result<(), Box<dyn std::error::Error>> + Sync,
    on_the_server: impl FnOnce(),
    in_the_file: impl FnOnce(),
    refused_logins: impl Fn() -> u64,
) {
    ask(pool).expect("works");
    let over = AtomicBool::new(false);
    let answers: Vec<_> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
    let errors = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for answers in &answers {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    match ask(pool) {
                        Ok(()) => {
                            answers.fetch_add(1, SeqCst);
                        }
                        Err(error) => errors.lock().expect("no poison").push(error.to_string()),
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
        on_the_server();
        std::thread::sleep(MEANWHILE);
        let (refused, failed) = (refused_logins(), errors.lock().expect("no poison").len());
        in_the_file();
        let changed = Instant::now();
        let before: Vec<_> = answers.iter().map(|answers| answers.load(SeqCst)).collect();
        let all_served = || {
            let now = answers.iter().map(|answers| answers.load(SeqCst));
            now.zip(&before).all(|(now, before)| now > before + 1)
        };
        while !all_served() {
            let errors = errors.lock().expect("no poison");
            assert!(
                changed.elapsed() < Duration::from_secs(20),
                "{:?}",
                errors.last()
            );
            drop(errors);
            std::thread::sleep(Duration::from_millis(5));
        }
        let took = changed.elapsed();
        over.store(true, SeqCst);
        let refused_in_all = refused_logins();
        println!(
            "{refused} logins refused and {failed} callers told in {MEANWHILE:?}, {refused_in_all} \
             refused in all; all served {took:?} after the file changed"
        );
        assert!(failed > 0, "the old password went on working");
        assert!((1..=3).contains(&refused), "{refused} refused logins");
        assert!(refused_in_all <= 3, "{refused_in_all} refused logins");
        assert!(took < SOON, "{took:?}");
    });
    let errors = errors.into_inner().expect("no poison");
    assert!(
        !errors.iter().any(|text| text.contains("hunter")),
        "{errors:?}"
    );
    // In our words, or in those of a driver that was called directly.
    let is_refusal = |text: &String| text.to_lowercase().contains("authentication failed");
    assert!(errors.iter().any(is_refusal), "{errors:?}");
    assert!(pool.state().connections > 0);
}

#[test]
fn postgres() {
    postgres_with(bare, |file, port| {
        let config = PostgresConfig::new()
            .host("127.0.0.1")
            .port(port)
            .database("postgres")
            .user("app")
            .password_file(&file.0);
        Pool::builder()
            .max_size(8)
            .build(Postgres::new(config).expect("good settings"))
            .expect("opens")
    });
}

#[test]
fn postgres_in_a_url() {
    let url = |password: &str, port| format!("postgres://app:{password}@127.0.0.1:{port}/postgres");
    postgres_with(url, |file, _| by_url("DATABASE_URL_FILE", file));
}

fn postgres_with(written: Written, pool: impl FnOnce(&Secret, u16) -> Pool<Postgres>) {
    let server = testbed::Postgres::builder()
        .hba("local all all trust\nhost all app 127.0.0.1/32 scram-sha-256\n")
        .start()
        .expect("starts");
    server
        .psql(concat!(
            "CREATE USER app PASSWORD '",
            secret!("hunter1"),
            "'"
        ))
        .expect("creates");
    let file = Secret::new(&written(secret!("hunter1"), server.port()));
    let pool = pool(&file, server.port());
    let log = server.data_dir().parent().expect("a folder").join("log");
    rotates(
        &pool,
        |pool| {
            pool.get()?.query_one("SELECT 1", &[])?;
            Ok(())
        },
        || {
            let change = concat!("ALTER USER app PASSWORD '", secret!("hunter2"), "'");
            server.psql(change).expect("changes");
            let end =
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'";
            server.psql(end).expect("ends them");
        },
        || file.write(&written(secret!("hunter2"), server.port())),
        || {
            let log = std::fs::read_to_string(&log).expect("a log");
            let refused = "password authentication failed for user \"app\"";
            log.lines()
                .filter(|line| line.contains("FATAL") && line.contains(refused))
                .count() as u64
        },
    );
}

#[test]
fn redis() {
    redis_with(bare, |file, port| {
        let config = RedisConfig::new()
            .host("127.0.0.1")
            .port(port)
            .user("app")
            .password_file(&file.0);
        Pool::builder()
            .max_size(8)
            .build(Redis::new(config).expect("good settings"))
            .expect("opens")
    });
}

#[test]
fn redis_in_a_url() {
    let url = |password: &str, port| format!("redis://app:{password}@127.0.0.1:{port}");
    redis_with(url, |file, _| by_url("REDIS_URL_FILE", file));
}

fn redis_with(written: Written, pool: impl FnOnce(&Secret, u16) -> Pool<Redis>) {
    let server = testbed::Redis::start().expect("starts");
    let user = |password: &str| {
        let password = format!(">{password}");
        server
            .cli(&[
                "ACL",
                "SETUSER",
                "app",
                "resetpass",
                "on",
                "~*",
                "+@all",
                &password,
            ])
            .expect("changes");
    };
    user(secret!("hunter1"));
    let file = Secret::new(&written(secret!("hunter1"), server.port()));
    let pool = pool(&file, server.port());
    rotates(
        &pool,
        |pool| {
            ::redis::cmd("GET")
                .arg("key")
                .query::<Option<String>>(&mut *pool.get()?)?;
            Ok(())
        },
        || {
            user(secret!("hunter2"));
            server
                .cli(&["CLIENT", "KILL", "USER", "app"])
                .expect("ends them");
        },
        || file.write(&written(secret!("hunter2"), server.port())),
        || {
            let info = server.cli(&["INFO", "errorstats"]).expect("tells");
            let count = info
                .lines()
                .find_map(|line| line.strip_prefix("errorstat_WRONGPASS:count="));
            count.map_or(0, |count| count.trim().parse().expect("a number"))
        },
    );
}

#[test]
fn mongodb() {
    mongodb_with(bare, |file, port| {
        let config = MongoDbConfig::new()
            .host(format!("127.0.0.1:{port}"))
            .user("app")
            .password_file(&file.0)
            .database("test");
        Pool::builder()
            .max_size(8)
            .build(MongoDb::new(config).expect("good settings"))
            .expect("opens")
    });
}

#[test]
fn mongodb_in_a_url() {
    let url = |password: &str, port| {
        format!("mongodb://app:{password}@127.0.0.1:{port}/test?authSource=admin")
    };
    mongodb_with(url, |file, _| by_url("MONGODB_URI_FILE", file));
}

fn mongodb_with(written: Written, pool: impl FnOnce(&Secret, u16) -> Pool<MongoDb>) {
    let server = testbed::Mongo::builder().auth().start().expect("starts");
    let admin = || ::mongodb::sync::Client::with_uri_str(server.uri()).expect("a client");
    let run = |command: Document| {
        let client = admin();
        client
            .database("admin")
            .run_command(command)
            .run()
            .expect("runs")
    };
    run(doc! { "createUser": "app", "pwd": secret!("hunter1"), "roles": ["readWriteAnyDatabase"] });
    let file = Secret::new(&written(secret!("hunter1"), server.port()));
    let pool = pool(&file, server.port());
    let log = server.members()[0].log_path();
    rotates(
        &pool,
        |pool| {
            pool.get()?.db()?.run_command(doc! { "ping": 1 }).run()?;
            Ok(())
        },
        || {
            run(doc! { "updateUser": "app", "pwd": secret!("hunter2") });
            // Ends every connection.
            server.restart().expect("restarts");
        },
        || file.write(&written(secret!("hunter2"), server.port())),
        || {
            let log = std::fs::read_to_string(&log).expect("a log");
            let is_refusal =
                |line: &&str| line.contains("\"app\"") && line.contains("AuthenticationFailed");
            log.lines().filter(is_refusal).count() as u64
        },
    );
}

#[test]
fn http() {
    let server = testbed::Nginx::start().expect("starts");
    let file = Secret::new(secret!("hunter1"));
    let config = HttpConfig::new(format!("http://127.0.0.1:{}", server.port()));
    let pool = |config| {
        let http = Http::new(config).expect("good settings");
        Pool::builder().max_size(2).build(http).expect("opens")
    };
    // The service takes its token, and the file does not say so yet.
    let bearer = pool(config.clone().bearer_token_file(&file.0));
    let ask = || {
        bearer
            .get()
            .expect("a connection")
            .get("/bearer")
            .expect("an answer")
    };
    let refused = ask();
    assert_eq!(refused.status(), 401);
    let error = refused.error_for_status().expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Authentication);
    file.write(testbed::Nginx::TOKEN);
    // The very request that finds out is sent again.
    assert_eq!(ask().status(), 200);
    assert_eq!(ask().status(), 200);
    // What is in the file counts once the service refuses what it said before.
    file.write(secret!("hunter2"));
    assert_eq!(ask().status(), 200);

    // A pool whose health check is refused connects again by itself.
    let late = config.health_path("/bearer").bearer_token_file(&file.0);
    let pool = Pool::builder()
        .max_size(2)
        .build_unchecked(Http::new(late).expect("good settings"));
    let error = pool.get().expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    file.write(testbed::Nginx::TOKEN);
    let start = Instant::now();
    while pool.get().is_err() {
        assert!(start.elapsed() < SOON, "not lifted");
        std::thread::sleep(Duration::from_millis(10));
    }
}
