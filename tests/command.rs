//! The command `millpond` as an operator meets it: the built program, a clean environment, real
//! servers, and what it prints.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use millpond::audit::Audit;
use millpond::{Pool, Redis, RedisCommand, RedisConfig};
use serde_json::Value;
use testbed::secret;

/// In every password and token of these tests, the right ones and the wrong ones.
const MARK: &str = testbed::MARK;

/// What the program printed, and how it ended.
struct Ran {
    out: String,
    err: String,
    code: i32,
}

impl Ran {
    #[track_caller]
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        for text in [&out, &err] {
            assert!(!text.contains(MARK), "a secret was printed:\n{text}");
            assert!(!text.contains('\x1b'), "colours in a pipe:\n{text}");
        }
        let code = output.status.code().expect("ended by itself");
        Self { out, err, code }
    }

    /// What was printed, without the breaks where lines were full.
    fn words(&self) -> String {
        self.out.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn says(&self, parts: &[&str]) {
        let text = self.words();
        for part in parts {
            assert!(text.contains(part), "no `{part}` in\n{}", self.out);
        }
    }

    #[track_caller]
    fn complains(&self, why: &str) {
        let text = self.err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(why), "no `{why}` in\n{}", self.err);
    }

    #[track_caller]
    fn ends_with(&self, code: i32) {
        assert_eq!(self.code, code, "\n{}\n{}", self.out, self.err);
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}:\n{}", self.out))
    }
}

/// Runs the command, and looks at what holds for whatever it prints.
#[track_caller]
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
    command.args(arguments).env_clear();
    command.envs(variables.iter().copied());
    let ran = Ran::of(&command.output().expect("runs"));
    if !arguments.contains(&"--json") {
        let long = ran.out.lines().find(|line| line.chars().count() > 100);
        assert_eq!(long, None, "a line that is too long");
    }
    ran
}

/// The same, with this on its standard input.
#[track_caller]
fn run_with(input: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
    command.args(arguments).env_clear();
    command.envs(variables.iter().copied());
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may have ended without reading.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    Ran::of(&child.wait_with_output().expect("ended"))
}

/// A file that is removed when the test ends.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("millpond-command-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).expect("a temporary file");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn four_urls() -> [(&'static str, String); 5] {
    [
        ("DATABASE_URL", testbed::Postgres::shared().url()),
        ("REDIS_URL", testbed::Redis::shared().url()),
        ("MONGODB_URI", testbed::Mongo::shared().uri()),
        ("HTTP_ENABLED", "true".to_owned()),
        ("HTTP_BASE_URL", testbed::Nginx::shared().url()),
    ]
}

fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    let all = variables.iter();
    all.map(|(name, value)| (*name, &**value)).collect()
}

#[test]
fn nothing_set_says_what_to_set() {
    let ran = run(&["check"], &[]);
    ran.ends_with(2);
    ran.says(&[
        "nothing is configured",
        "export DATABASE_URL=postgres://",
        "REDIS_URL",
        "MONGODB_URI",
        "HTTP_BASE_URL",
        "--config FILE",
        "[pools.shop]",
    ]);
    let nearly = run(&["check"], &[("REDIS_HOST", "localhost")]);
    nearly.ends_with(2);
    nearly.says(&["REDIS_HOST is set", "REDIS_ENABLED=true"]);
    let json = run(&["check", "--json"], &[]).json();
    assert_eq!(json["verdict"], "misconfigured");
    assert_eq!(json["exit_code"], 2);
}

#[test]
fn the_help_tells_the_exit_codes() {
    for arguments in [&["--help"][..], &["check", "--help"], &["config", "--help"]] {
        let ran = run(arguments, &[]);
        ran.ends_with(0);
        ran.says(&["Exit codes:", "0 all is well", "2 the configuration"]);
    }
    run(&["chekc"], &[]).ends_with(2);
    run(&["check", "--timeout", "soon"], &[]).ends_with(2);
}

#[test]
fn all_well() {
    let urls = four_urls();
    let ran = run(&["check"], &borrowed(&urls));
    ran.ends_with(0);
    ran.says(&[
        "POOL SERVER TLS VERSION ROLE LATENCY VERDICT",
        "primary",
        "standalone",
        "nginx/",
        "All 4 servers can be used.",
    ]);
    assert_eq!(ran.out.matches(" ms ").count(), 4, "{}", ran.out);
    let ran = run(&["check", "--json"], &borrowed(&urls));
    ran.ends_with(0);
    let json = ran.json();
    assert_eq!(json["verdict"], "ok");
    let pools = json["pools"].as_array().expect("pools");
    let names: Vec<_> = pools.iter().map(|pool| &pool["pool"]).collect();
    assert_eq!(names, ["postgres", "redis", "mongodb", "http"]);
    for pool in pools {
        assert_eq!(pool["health"], "up");
        assert!(pool["service"]["version"].is_string(), "{pool}");
        assert!(
            pool["service"]["latency_seconds"]
                .as_f64()
                .expect("a number")
                > 0.0
        );
        assert!(pool["reasons"].as_array().expect("reasons").is_empty());
    }
}

#[test]
fn a_wrong_password_is_told_with_where_it_is_set() {
    let postgres = testbed::Postgres::builder()
        .hba("host all all 127.0.0.1/32 scram-sha-256")
        .start()
        .expect("a server");
    let sql = format!("CREATE ROLE app LOGIN PASSWORD '{MARK} right'");
    postgres.psql(&sql).expect("a role");
    let redis = testbed::Redis::builder().password(MARK).start();
    let redis = redis.expect("a server");
    let file = File::new(
        "wrong.toml",
        &format!(
            "[pools.shop]\nbackend = \"postgres\"\nhost = \"127.0.0.1\"\nport = {}\nname = \
         \"postgres\"\nuser = \"app\"\npassword = \"{MARK} wrong\"\n\n\
         [pools.cache]\nbackend = \"redis\"\nhost = \"127.0.0.1\"\nport = {}\n",
            postgres.port(),
            redis.port(),
        ),
    );
    let variables = [("CACHE_REDIS_PASSWORD", secret!("wrong"))];
    let ran = run(&["check", "--config", file.path()], &variables);
    ran.ends_with(1);
    ran.says(&[
        "): authentication failed: password authentication failed for user \"app\"",
        "(DB_USER, DB_PASSWORD)",
        "cache (127.0.0.1:",
        "REDIS_PASSWORD *** environment, CACHE_REDIS_PASSWORD",
        "REDIS_USER - not set: `user` in [pools.cache]",
        "wrong.toml, line 7",
        "Of 2 servers, 2 cannot be used.",
    ]);
}

#[test]
fn a_server_that_is_down_is_told_beside_those_that_are_up() {
    let mut urls = four_urls();
    let port = testbed::refused_port();
    urls[1].1 = format!("redis://:{MARK}@127.0.0.1:{port}/3");
    let began = Instant::now();
    let ran = run(&["check"], &borrowed(&urls));
    assert!(began.elapsed() < Duration::from_secs(5), "one attempt");
    ran.ends_with(1);
    let server = format!("127.0.0.1:{port}/3");
    ran.says(&[
        &server,
        &format!("redis ({server}): connection refused:"),
        "that the server runs",
        &format!("REDIS_URL redis://:***@{server} environment, REDIS_URL"),
        "Of 4 servers, 1 cannot be used.",
    ]);
    assert_eq!(ran.out.matches(" ok").count(), 3, "{}", ran.out);
}

#[test]
fn each_endpoint_of_a_fleet_is_a_row_and_one_may_be_down() {
    let server = testbed::Redis::builder().password(MARK).start();
    let server = server.expect("a server");
    let (here, gone) = (server.port(), testbed::refused_port());
    let hosts = format!("127.0.0.1:{here},127.0.0.1:{gone}");
    let file = format!(
        "[pools.cache]\nbackend = \"redis\"\nhost = \"{hosts}\"\npassword = \"{MARK}\"\n\
         balance = \"peak-ewma\"\n"
    );
    let path = std::env::temp_dir().join(format!("millpond-fleet-{}.toml", std::process::id()));
    std::fs::write(&path, file).expect("written");
    let path = path.to_str().expect("UTF-8");
    let ran = run(&["check", "--config", path], &[]);
    ran.ends_with(3);
    ran.says(&[
        &format!("cache@127.0.0.1:{gone}/0 (127.0.0.1:{gone}/0): connection refused:"),
        &format!("REDIS_HOST {hosts} {path}, line 3"),
        "Of 2 servers, 1 is not as it should be.",
    ]);
    let shown = run(&["config", "--config", path], &[]);
    shown.ends_with(0);
    shown.says(&[
        &format!("cache@127.0.0.1:{here}/0 redis"),
        &format!("cache: POOL_BALANCE peak-ewma {path}, line 5"),
    ]);
    std::fs::remove_file(path).expect("removed");
}

#[test]
fn the_table_tells_how_each_connection_is_encrypted() {
    let ca = testbed::Ca::new();
    let postgres = testbed::Postgres::builder().tls(&ca).start();
    let postgres = postgres.expect("a server");
    let redis = testbed::Redis::builder().tls(&ca).start();
    let redis = redis.expect("a server");
    let mongo = testbed::Mongo::builder().tls(&ca).start();
    let mongo = mongo.expect("a server");
    let nginx = testbed::Nginx::builder().tls(&ca).start();
    let nginx = nginx.expect("a server");
    let path = ca.cert_path().to_str().expect("UTF-8");
    let variables = [
        ("DATABASE_URL", &*postgres.url()),
        ("DB_SSL_MODE", "verify-full"),
        ("DB_SSL_CA_FILE", path),
        ("REDIS_URL", &redis.url()),
        ("REDIS_SSL_CA_FILE", path),
        ("MONGODB_URI", &mongo.uri()),
        ("HTTP_ENABLED", "true"),
        ("HTTP_BASE_URL", &nginx.url()),
        ("HTTP_SSL_CA_FILE", path),
    ];
    let ran = run(&["check"], &variables);
    ran.ends_with(0);
    let encrypted = " to 2080-12-31";
    assert_eq!(ran.out.matches(encrypted).count(), 2, "{}", ran.out);
    assert_eq!(ran.out.matches("  yes   ").count(), 2, "{}", ran.out);
    let json = run(&["check", "--json"], &variables).json();
    assert_eq!(json["pools"][0]["service"]["encryption"], "tls13");
    assert_eq!(json["pools"][1]["service"]["encryption"], "tls");
    let url = postgres.url();
    let refused = [("DATABASE_URL", &*url), ("DB_SSL_MODE", "disable")];
    run(&["check"], &refused).says(&[
        "no encryption",
        "may want TLS (DB_SSL_MODE=require)",
        "DB_SSL_MODE disable environment, DB_SSL_MODE",
    ]);
    let plain = run(
        &["check"],
        &[("REDIS_URL", &testbed::Redis::shared().url())],
    );
    plain.says(&["none"]);
}

#[test]
fn a_token_that_is_refused_is_told() {
    let nginx = testbed::Nginx::builder()
        .directive(concat!(
            "if ($http_authorization != \"Bearer ",
            secret!("right"),
            "\") { return 401; }"
        ))
        .start()
        .expect("a server");
    let variables = [
        ("HTTP_ENABLED", "true"),
        ("HTTP_BASE_URL", &*nginx.url()),
        ("HTTP_BEARER_TOKEN", MARK),
    ];
    let ran = run(&["check"], &variables);
    ran.ends_with(1);
    ran.says(&[
        "): authentication failed: status 401",
        "HTTP_BEARER_TOKEN *** environment",
    ]);
    // Whoever shows no token may be meant for paths that need none.
    run(&["check"], &variables[..2]).ends_with(0);
}

#[test]
fn an_expired_certificate_is_told_as_that() {
    let ca = testbed::Ca::new();
    let expired = ca.issue().expired().server();
    let postgres = testbed::Postgres::builder().tls_identity(&ca, &expired);
    let postgres = postgres.start().expect("a server");
    let redis = testbed::Redis::builder().tls_identity(&ca, &expired);
    let redis = redis.start().expect("a server");
    let nginx = testbed::Nginx::builder().tls_identity(&ca, &expired);
    let nginx = nginx.start().expect("a server");
    let path = ca.cert_path().to_str().expect("UTF-8");
    let ran = run(
        &["check"],
        &[
            ("DATABASE_URL", &postgres.url()),
            ("DB_SSL_MODE", "verify-full"),
            ("DB_SSL_CA_FILE", path),
            ("REDIS_URL", &redis.url()),
            ("REDIS_SSL_CA_FILE", path),
            ("HTTP_ENABLED", "yes"),
            ("HTTP_BASE_URL", &nginx.url()),
            ("HTTP_SSL_CA_FILE", path),
        ],
    );
    ran.ends_with(1);
    for pool in ["postgres", "redis", "http"] {
        ran.says(&[&format!("{pool} (")]);
    }
    let told = "TLS failed: the server's certificate expired on 2001-12-31";
    assert_eq!(ran.words().matches(told).count(), 3, "{}", ran.out);
}

#[test]
fn a_read_only_server_is_told_unless_that_is_wanted() {
    let postgres = testbed::Postgres::builder().setting("default_transaction_read_only", "on");
    let postgres = postgres.start().expect("a server");
    let url = postgres.url();
    let ran = run(&["check"], &[("DATABASE_URL", &url)]);
    ran.ends_with(3);
    ran.says(&[
        "read-only",
        "takes no writes",
        "POOL_READ_ONLY false default",
        "not as it should be",
    ]);
    let wanted = [("DATABASE_URL", &*url), ("POOL_READ_ONLY", "true")];
    run(&["check"], &wanted).ends_with(0);
}

#[test]
fn frozen_servers_are_lines_in_the_table() {
    let postgres = testbed::Postgres::start().expect("a server");
    let redis = testbed::Redis::start().expect("a server");
    let mongo = testbed::Mongo::start().expect("a server");
    let nginx = testbed::Nginx::start().expect("a server");
    postgres.freeze();
    redis.freeze();
    mongo.freeze();
    nginx.freeze();
    let began = Instant::now();
    let ran = run(
        &["check", "--timeout", "1"],
        &[
            ("DATABASE_URL", &postgres.url()),
            ("REDIS_URL", &redis.url()),
            ("MONGODB_URI", &mongo.uri()),
            ("HTTP_ENABLED", "true"),
            ("HTTP_BASE_URL", &nginx.url()),
        ],
    );
    let took = began.elapsed();
    ran.ends_with(1);
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(
        ran.words().matches("within 1 s: the server hangs").count(),
        4,
        "{}",
        ran.out
    );
}

#[test]
fn mistakes_are_told_all_at_once_and_nothing_is_connected_to() {
    let variables = [
        ("DB_HOST", "db.internal"),
        ("DB_PORT", "99999"),
        ("DB_PASSWORD", MARK),
        ("POOL_MIN_CONNECTIONS", "many"),
        ("POOL_MAX_CONECTIONS", "20"),
    ];
    for command in ["check", "config"] {
        let ran = run(&[command], &variables);
        ran.ends_with(2);
        ran.says(&[
            "wrong: DB_PORT is `99999`, accepted: a port, 1 to 65535",
            "wrong: POOL_MIN_CONNECTIONS is `many`, accepted:",
            "warning: the variable POOL_MAX_CONECTIONS is not known; is it POOL_MAX_CONNECTIONS?",
        ]);
    }
    let json = run(&["check", "--json"], &variables).json();
    assert_eq!(json["mistakes"][0]["setting"], "DB_PORT");
    assert_eq!(json["mistakes"][0]["value"], "99999");
    assert_eq!(json["mistakes"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_file_that_cannot_be_used_is_told_with_its_line() {
    let text = format!("[pools.shop]\nbackend = \"postgres\"\npassword = \"{MARK}\n");
    let broken = File::new("broken.toml", &text);
    for command in ["check", "config"] {
        let ran = run(&[command, "--config", broken.path()], &[]);
        ran.ends_with(2);
        ran.says(&["broken.toml, line 3, is no TOML"]);
        let ran = run(&[command], &[("MILLPOND_CONFIG", "/nowhere/shop.toml")]);
        ran.ends_with(2);
        ran.says(&["/nowhere/shop.toml cannot be read: No such file"]);
    }
}

#[test]
fn config_shows_what_counts_and_who_said_so() {
    let text = format!(
        "redis_url = \"redis://app:{MARK}@localhost/2\"\n[pool]\nmax_connections = 20\n\
         [pools.reports]\nbackend = \"postgres\"\nhost = \"localhost\"\npassword = \"{MARK}\"\n"
    );
    let file = File::new("shown.toml", &text);
    let variables = [
        ("MILLPOND_CONFIG", file.path()),
        ("POOL_MAX_CONNECTIONS", "30"),
        ("REPORTS_DB_PORT", "6432"),
    ];
    let ran = run(&["config"], &variables);
    ran.ends_with(0);
    ran.says(&[
        "redis redis localhost:6379/2",
        "reports postgres localhost:6432",
        "REDIS_URL redis://app:***@localhost/2 /tmp",
        "POOL_MAX_CONNECTIONS 30 environment, POOL_MAX_CONNECTIONS",
        "reports: DB_PASSWORD ***",
        "reports: DB_PORT 6432 environment, REPORTS_DB_PORT",
        "shown.toml, line 7",
        "--all shows them",
    ]);
    assert!(!ran.out.contains("BATCH_SIZE"), "{}", ran.out);
    let all = run(&["config", "--all"], &variables);
    all.says(&["BATCH_SIZE 100 default"]);
    let json = run(&["config", "--json"], &variables).json();
    assert_eq!(json["pools"][1]["endpoint"], "localhost:6432");
    let settings = json["settings"].as_array().expect("settings");
    let port = settings
        .iter()
        .find(|setting| setting["pool"] == "reports" && setting["variable"] == "DB_PORT");
    assert_eq!(
        port.expect("there")["source"],
        "environment, REPORTS_DB_PORT"
    );
}

#[test]
fn a_watch_writes_a_line_each_time() {
    let url = testbed::Redis::shared().url();
    let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
    command.args(["check", "--watch", "0.1"]).env_clear();
    command.env("REDIS_URL", &url).stdout(Stdio::piped());
    let mut child = command.spawn().expect("runs");
    std::thread::sleep(Duration::from_secs(1));
    child.kill().expect("still runs");
    let output = child.wait_with_output().expect("ended");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.lines().count() >= 2, "{text}");
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        assert!(words[0].ends_with('Z') && words[0].len() == 20, "{line}");
        assert_eq!(&words[1..3], ["ok", "redis"], "{line}");
    }
}

#[test]
fn an_audit_log_is_verified() {
    let file = File::new("audit.jsonl", "");
    let long = format!("{MARK}, which is long enough");
    let key = File::new("audit.key", &long);
    let other = File::new("other.key", "another key than that one");
    std::fs::remove_file(&file.0).expect("there");
    let audit = Audit::builder(&file.0).key(&*long).install();
    let audit = audit.expect("a log");
    let config = RedisConfig::from_url(&testbed::Redis::shared().url()).expect("a good URL");
    let pool = Pool::new(Redis::new(config).expect("good settings")).expect("opens");
    for _ in 0..3 {
        pool.execute(RedisCommand::new("PING")).expect("answers");
    }
    drop(audit);

    let verify = |key: &File| {
        let arguments = ["audit", "verify", file.path(), "--key-file", key.path()];
        run(&arguments, &[])
    };
    let good = verify(&key);
    good.ends_with(0);
    good.says(&["lines in 1 file are right", "The log is as it was written."]);
    let by_variable = [("AUDIT_KEY_FILE", key.path())];
    run(&["audit", "verify", file.path()], &by_variable).ends_with(0);
    let sealing_key = run(&["seal", "--new-key"], &[]).out;
    let sealed_with = ("SECURITY_ENCRYPTION_KEY", sealing_key.trim_end());
    let sealed = run_with(&long, &["seal"], &[sealed_with]).out;
    let by_sealed = [sealed_with, ("AUDIT_KEY", sealed.trim_end())];
    run(&["audit", "verify", file.path()], &by_sealed).ends_with(0);
    let unopened = run(&["audit", "verify", file.path()], &by_sealed[1..]);
    unopened.ends_with(2);
    unopened.complains("SECURITY_ENCRYPTION_KEY");
    verify(&other).ends_with(1);
    run(&["audit", "verify", file.path()], &[]).ends_with(1);

    let text = std::fs::read_to_string(&file.0).expect("a log");
    let lines: Vec<_> = text.lines().collect();
    let without_the_second = [&lines[..1], &lines[2..]].concat().join("\n") + "\n";
    for changed in [text.replacen("PING", "PONG", 1), without_the_second] {
        assert_ne!(changed, text);
        std::fs::write(&file.0, changed).expect("written");
        let ran = verify(&key);
        ran.ends_with(1);
        ran.says(&["line 2:", "The log is not as it was written."]);
    }
    let json = run(&["audit", "verify", "--json", file.path()], &by_variable);
    let json = json.json();
    assert_eq!(json["verdict"], "failed");
    assert_eq!(json["fault"]["line"], 2);

    let missing = run(&["audit", "verify", "/nowhere/audit.jsonl"], &[]);
    missing.ends_with(2);
    missing.complains("/nowhere/audit.jsonl cannot be read");
}

#[test]
fn what_is_sealed_opens_a_server() {
    let key = run(&["seal", "--new-key"], &[]);
    key.ends_with(0);
    assert_ne!(key.out, run(&["seal", "--new-key"], &[]).out);
    let key = File::new("key", &key.out);
    let variables = [("SECURITY_ENCRYPTION_KEY_FILE", key.path())];
    let sealed = run_with(&format!("{MARK}\n"), &["seal"], &variables);
    sealed.ends_with(0);
    assert!(sealed.out.starts_with("sealed:v1:"), "{}", sealed.out);

    let redis = testbed::Redis::builder().password(MARK).start();
    let redis = redis.expect("a server");
    let url = format!("redis://127.0.0.1:{}", redis.port());
    let mut variables = vec![
        ("SECURITY_ENCRYPTION_KEY_FILE", key.path()),
        ("REDIS_URL", &url),
        ("REDIS_PASSWORD", sealed.out.trim_end()),
    ];
    run(&["check"], &variables).ends_with(0);
    run(&["config"], &variables).ends_with(0);
    variables.remove(0);
    let ran = run(&["check"], &variables);
    ran.ends_with(2);
    ran.says(&["REDIS_PASSWORD is `***`", "SECURITY_ENCRYPTION_KEY"]);
}

#[test]
fn what_cannot_be_sealed_is_told() {
    let without = run_with(MARK, &["seal"], &[]);
    without.ends_with(2);
    without.complains("`millpond seal --new-key > FILE` makes one");
    let bad = [("SECURITY_ENCRYPTION_KEY", MARK)];
    let bad = run_with(MARK, &["seal"], &bad);
    bad.ends_with(2);
    bad.complains("a key of 32 bytes");
    let key = run(&["seal", "--new-key"], &[]);
    let key = [("SECURITY_ENCRYPTION_KEY", key.out.trim_end())];
    for (input, why) in [("", "empty"), ("\n", "empty"), ("a\nb\n", "several lines")] {
        let ran = run_with(input, &["seal"], &key);
        ran.ends_with(2);
        ran.complains(why);
        assert_eq!(ran.out, "");
    }
}
