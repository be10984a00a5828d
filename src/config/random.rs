//! Random and mutated configurations, URLs and headers: nothing panics or hangs, each mistake says
//! where it is, and no secret is told.
//!
//! A case is made from its number alone, so that a failure can be run again:
//! `MILLPOND_RANDOM_FIRST=number MILLPOND_RANDOM_CASES=1`. CI runs a share; as many as wanted run
//! with `MILLPOND_RANDOM_CASES`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::known::{BACKENDS, KNOWN};
use super::{Config, Mistake};
use crate::error::Error;
use crate::{
    Http, HttpConfig, MongoDb, MongoDbConfig, Postgres, PostgresConfig, Redis, RedisConfig,
};

/// What no text may contain, in any writing.
const CANARY: &str = "kanarienvogel";

/// Longer than any case may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A mistake is not longer than this.
const LONGEST: usize = 2_000;

const FILE: &str = r#"
database_url = "postgres://app:kanarienvogel@db.internal/shop?sslmode=require"
[pool]
max_connections = 20
connection_timeout = 2.5
[db]
host = ["a.internal", "b.internal"]
password = "kanarienvogel"
ssl_mode = "verify-full"
[redis]
enabled = true
url = "rediss://:kanarienvogel@localhost:6380/3?protocol=resp3"
[http]
enabled = true
base_url = "https://app:kanarienvogel@api.internal/v1"
headers = ["Accept:text/plain", "X-Key:kanarienvogel"]
[mongodb]
user = "app"
password = "kanarienvogel"
[batch]
size = 100
[security]
certificate_validation = false
[exporter]
bind = "127.0.0.1:9464"
[pools.reports]
backend = "postgres"
host = "localhost"
password = "kanarienvogel"
max_connections = 4
[pools.cache]
backend = "redis"
host = "localhost"
db = 3
[pools.documents]
backend = "mongodb"
url = "mongodb://app:kanarienvogel@localhost:27017/shop?authSource=admin&w=majority"
[pools.prices]
backend = "http"
url = "http://localhost:8080/v1"
bearer_token = "kanarienvogel"
[pools.nodes]
backend = "redis"
host = ["localhost:6379", "[::1]", "127.0.0.1"]
port = [6380, 6381, 6382]
password = "kanarienvogel"
balance = "weighted"
weights = [1, 2.5, 1e3]
ejection_time = 0.5
slow_start = 0
[pools.shops]
backend = "http"
url = ["https://app:kanarienvogel@a.internal/v1", "https://b:kanarienvogel@b.internal"]
balance = "peak-ewma"
attempt_timeout = 1
[pools.replicas]
backend = "postgres"
url = "postgres://app:kanarienvogel@localhost:5433,127.0.0.1/d"
balance = "round-robin"
replica_lag_limit = 5
resolve_interval = 30
"#;

const URLS: [&str; 15] = [
    "postgres://app:kanarienvogel@db1:5433,[::1],%2Frun%2Fpg/d%20b?sslmode=verify-full&connect_timeout=7",
    "postgresql://app:kanarienvogel@localhost/app?target_session_attrs=read-write&application_name=x",
    "postgres:///app?host=/run/postgresql&user=app&password=kanarienvogel&options=-c%20a=b",
    "postgres://localhost:5432/app?keepalives_idle=30&tcp_user_timeout=1000&sslrootcert=/ca.pem",
    "redis://app:kanarienvogel@localhost:6379/3",
    "rediss://:kanarienvogel@cache.internal:7000/5?protocol=resp3#insecure",
    "redis://[::1]/?client_name=x&user=app&password=kanarienvogel",
    "unix:///run/redis.sock?db=2&pass=kanarienvogel",
    "mongodb://app:kanarienvogel@db1:27017,db2/shop?authSource=admin&replicaSet=rs0&w=majority",
    "mongodb://app:kanarienvogel@localhost/?tls=true&tlsCAFile=/ca.pem&readPreference=nearest",
    "mongodb://localhost:27017/shop?retryWrites=false&maxPoolSize=7&connectTimeoutMS=100",
    "https://app:kanarienvogel@api.example.com:8443/v1/",
    "http://localhost:8080",
    "http://[::1]/a%20b",
    "https://app:kanarienvogel@a.internal:8443/v1, http://u:kanarienvogel@localhost,https://b",
];

/// What is put into texts and values.
const PIECES: [&str; 67] = [
    "",
    " ",
    "\0",
    "\n",
    "\r\n",
    "\t",
    "\u{1b}[31m",
    "\u{feff}",
    "ü",
    "🐦",
    "%",
    "%00",
    "%zz",
    "%40",
    "@",
    "/",
    "//",
    "://",
    "?",
    "#",
    "&",
    "=",
    ":",
    ",",
    ";",
    "[",
    "]",
    "[[",
    "[::1]",
    "{",
    "}",
    "\"",
    "\"\"\"",
    "'",
    "\\",
    "\\u0000",
    ".",
    "..",
    "-",
    "-1",
    "0",
    "1",
    "65535",
    "65536",
    "4294967295",
    "18446744073709551616",
    "1e400",
    "1e-400",
    "1e-12",
    "1e18",
    "NaN",
    "inf",
    "-inf",
    "true",
    "maybe",
    "localhost",
    ",http://",
    ",localhost:1",
    "none",
    "weighted",
    "round-robin",
    "1,2",
    "a=1\n",
    "[pools.x]\n",
    "backend=\"http\"\n",
    "tls=true",
    "loadBalanced=true",
];

struct Case {
    rng: Rng,
    folder: PathBuf,
}

impl Case {
    fn any<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.rng.usize(..all.len())]
    }

    /// The text with a few things changed. Where that leaves nothing by which a secret could be
    /// told from any other word, there is none.
    fn mutated(&mut self, text: &str) -> String {
        let mut letters: Vec<char> = text.chars().collect();
        for _ in 0..self.rng.usize(..6) {
            let at = self.rng.usize(..=letters.len());
            let piece = self.any(&PIECES);
            match self.rng.u8(..6) {
                0 | 1 => {
                    letters.splice(at..at, piece.chars());
                }
                2 => letters.truncate(at),
                3 => {
                    let end = (at + self.rng.usize(..9)).min(letters.len());
                    letters.drain(at..end);
                }
                4 => {
                    let end = (at + self.rng.usize(..40)).min(letters.len());
                    let copy = letters[at..end].to_vec();
                    let to = self.rng.usize(..=letters.len());
                    letters.splice(to..to, copy);
                }
                _ => {
                    let end = (at + 1).min(letters.len());
                    letters.splice(at..end, piece.chars());
                }
            }
        }
        let text: String = letters.into_iter().collect();
        // As a parser of URLs reads it, in case that makes a canary of two pieces.
        let read = text.replace(['\t', '\r', '\n'], "");
        let pieced = read.matches(CANARY).count() > text.matches(CANARY).count();
        without_strays(if pieced { &read } else { &text })
    }

    fn value(&mut self) -> String {
        match self.rng.u8(..20) {
            0 => self.any(&PIECES).repeat(self.rng.usize(..20_000)),
            1..=3 => {
                let url = self.any(&URLS);
                self.mutated(url)
            }
            4 => self.path(),
            5 => self.rng.i64(..).to_string(),
            6 => format!("{:e}", f64::from_bits(self.rng.u64(..))),
            7 => "localhost:1,[::1]:2".to_owned(),
            8 => (0..self.rng.usize(..30))
                .map(|_| self.rng.char(..))
                .collect(),
            _ => {
                let mut text = String::new();
                for _ in 0..self.rng.usize(1..4) {
                    text.push_str(self.any(&PIECES));
                }
                text
            }
        }
    }

    fn path(&mut self) -> String {
        let name = self.any(&["pipe", "good.pem", "empty", "garbage.pem", "secret", "none"]);
        match self.rng.u8(..8) {
            0 => "/dev/zero".to_owned(),
            1 => "/".to_owned(),
            2 => "x/".repeat(5_000),
            3 => "a\0b".to_owned(),
            _ => self.folder.join(name).display().to_string(),
        }
    }

    /// A variable, or a name near one.
    fn name(&mut self) -> String {
        let known = &KNOWN[self.rng.usize(..KNOWN.len())];
        match self.rng.u8(..12) {
            0 => self.mutated(known.name),
            1 if known.secret => format!("{}_FILE", known.name),
            2 => format!("{}_FILE", known.name),
            3 => format!("REPORTS_{}", known.name),
            _ => known.name.to_owned(),
        }
    }

    /// A value for this variable; a secret one has the canary in it.
    fn value_of(&mut self, name: &str) -> String {
        let file = name.ends_with("_FILE");
        let secret = KNOWN
            .iter()
            .any(|known| known.secret && name.ends_with(known.name));
        if file {
            self.path()
        } else if secret {
            self.secret(name)
        } else {
            // A whole URL is masked wherever it is; what is left of one is not known as such.
            let value = self.value();
            if value.contains("://") && !name.contains("USER_AGENT") {
                value
            } else {
                value.replace(CANARY, "sparrow")
            }
        }
    }

    fn secret(&mut self, name: &str) -> String {
        let is_url = BACKENDS.iter().any(|(_, _, url)| name.ends_with(url));
        if is_url {
            let url = self.any(&URLS);
            return self.mutated(url);
        }
        let (before, after) = (self.value(), self.value());
        if name.ends_with("HTTP_HEADERS") {
            return format!("{before}A:{CANARY}{after}");
        }
        format!("{before}{CANARY}{after}")
    }

    fn pairs(&mut self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for switch in [
            "REDIS_ENABLED",
            "MONGODB_ENABLED",
            "HTTP_ENABLED",
            "DB_NAME",
        ] {
            if self.rng.bool() {
                pairs.push((switch.to_owned(), "true".to_owned()));
            }
        }
        if self.rng.bool() {
            let all = ["weighted", "random", "peak-ewma", "none"];
            pairs.push(("POOL_BALANCE".to_owned(), self.any(&all).to_owned()));
            let hosts = ["DB_HOST", "REDIS_HOST", "REDIS_SENTINELS"];
            let hosts = self.any(&hosts).to_owned();
            let list = self.mutated("localhost,127.0.0.1:5433,[::1]:1,::2");
            pairs.push((hosts, list));
        }
        for _ in 0..self.rng.usize(..12) {
            let name = self.name();
            let value = self.value_of(&name);
            pairs.push((name, value));
        }
        pairs
    }

    fn config(&mut self) -> Config {
        let mut config = Config::new();
        if self.rng.bool() {
            let text = self.mutated(FILE);
            match config.clone().with_toml("shop.toml", &text) {
                Ok(read) => config = read,
                Err(error) => {
                    assert!(error.to_string().contains("shop.toml, line"), "{error}");
                    judge_error(&error);
                }
            }
        }
        if self.rng.bool() {
            let pairs = self.pairs();
            let pairs: Vec<_> = pairs.iter().map(|(a, b)| (&**a, &**b)).collect();
            config = config.with_pretended(&pairs);
        }
        if self.rng.u8(..4) == 0 {
            for (name, value) in self.pairs() {
                config = match self.rng.u8(..3) {
                    0 => config.set(&name, value),
                    1 => config.set_for("reports", &name, value),
                    _ => {
                        let pool = self.any(&["", "db", "pool", "X-y", "x_Y", "connection", "\0"]);
                        let all = ["postgres", "redis", "mongodb", "http", "oracle"];
                        let backend = self.any(&all);
                        config.pool(pool, backend).set_for(pool, &name, value)
                    }
                };
            }
        }
        config
    }

    fn run(&mut self) {
        match self.rng.u8(..3) {
            0 => {
                let config = self.config();
                judge(&config);
            }
            1 => {
                let url = self.any(&URLS);
                let url = self.mutated(url);
                judge_url(&url);
            }
            _ => {
                let mut pairs = vec![
                    ("HTTP_ENABLED".to_owned(), "true".to_owned()),
                    ("HTTP_BASE_URL".to_owned(), "http://localhost".to_owned()),
                ];
                let secret = self.secret("HTTP_HEADERS");
                let text = self.mutated("Accept:text/plain, X-Time:12:30");
                pairs.push(("HTTP_HEADERS".to_owned(), format!("{text},{secret}")));
                if self.rng.bool() {
                    let name = self.any(&["HTTP_BEARER_TOKEN", "HTTP_API_KEY", "HTTP_PASSWORD"]);
                    pairs.push((name.to_owned(), self.secret(name)));
                }
                if self.rng.bool() {
                    let user = self.value_of("HTTP_USER");
                    pairs.push(("HTTP_USER".to_owned(), user));
                }
                let pairs: Vec<_> = pairs.iter().map(|(a, b)| (&**a, &**b)).collect();
                judge(&Config::new().with_pretended(&pairs));
            }
        }
    }
}

/// The text with another word for each canary that nobody could know to be a secret: there is no
/// login, no setting and no line of a secret around it.
fn without_strays(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(CANARY) {
        kept.push_str(before);
        let known = is_secret_between(&kept, after);
        kept.push_str(if known { CANARY } else { "sparrow" });
        rest = after;
    }
    kept + rest
}

/// Whether what stands between these two is a secret, as far as anybody can tell.
fn is_secret_between(before: &str, after: &str) -> bool {
    let odd =
        |letter: char| letter.is_whitespace() || letter.is_control() || "\"',".contains(letter);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let word = before.rsplit(odd).next().unwrap_or_default();
    let in_line = ["password = \"", "bearer_token = \"", "headers = ["]
        .iter()
        .any(|key| line.starts_with(key));
    let setting = word.rsplit(['?', '&']).next().unwrap_or_default();
    let in_setting = ["pass=", "password="]
        .iter()
        .any(|key| setting.starts_with(key));
    let authority = word.rsplit('/').next().unwrap_or_default();
    let end = after.find(|letter| odd(letter) || "/?#".contains(letter));
    let after = &after[..end.unwrap_or(after.len())];
    let in_login = authority.contains(':') && !authority.contains('@') && after.contains('@');
    // Its `@` was lost.
    let in_port = word.split_once("://").is_some_and(|(scheme, rest)| {
        let is_scheme = scheme.chars().all(|letter| letter.is_ascii_alphanumeric());
        is_scheme && rest.contains(':') && !rest.contains(['/', '?', '#', '@'])
    });
    in_line || in_setting || in_login || in_port
}

fn keeps_secrets(text: &str) {
    if let Some((before, after)) = text.split_once(CANARY) {
        let before: String = before.chars().rev().take(200).collect();
        let before: String = before.chars().rev().collect();
        let after: String = after.chars().take(100).collect();
        panic!("a secret: ...{before}{CANARY}{after}...");
    }
}

/// A text that a user may read.
fn judge_text(text: &str) {
    keeps_secrets(text);
    assert!(
        !text.contains(char::is_control),
        "control characters: {text:?}"
    );
    assert!(text.len() < LONGEST, "{} bytes: {text}", text.len());
}

fn judge_error(error: &Error) {
    assert_eq!(error.kind(), crate::ErrorKind::Configuration);
    judge_text(error.message());
    judge_text(&error.to_string());
    keeps_secrets(&format!("{error:?}"));
}

fn judge_mistake(mistake: &Mistake) {
    judge_text(&mistake.to_string());
    let known = KNOWN
        .iter()
        .any(|known| mistake.to_string().contains(known.name));
    let text = mistake.to_string();
    let placed = text.contains("pool")
        || text.contains("shop.toml, line")
        || text.contains("] in shop.toml")
        || text.contains("(the program) is not known");
    assert!(known || placed, "names nothing: {mistake}");
}

fn judge(config: &Config) {
    let mistakes = config.mistakes();
    mistakes.iter().for_each(judge_mistake);
    assert_eq!(config.validate().is_err(), !mistakes.is_empty());
    config
        .warnings()
        .iter()
        .for_each(|warning| judge_text(warning));
    keeps_secrets(&format!("{config:?} {:?}", config.settings()));
}

/// Each backend gets each URL, of another one too.
fn judge_url(url: &str) {
    macro_rules! judge {
        ($($config:ty, $manager:ty;)*) => {$(
            match <$config>::from_url(url) {
                Ok(config) => {
                    keeps_secrets(&format!("{config:?}"));
                    if let Err(error) = <$manager>::new(config) {
                        judge_error(&error);
                    }
                }
                Err(error) => judge_error(&error),
            }
        )*};
    }
    judge! {
        PostgresConfig, Postgres;
        RedisConfig, Redis;
        MongoDbConfig, MongoDb;
        HttpConfig, Http;
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("millpond-random-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).expect("written");
    };
    write("empty", "");
    write("secret", "kanarienvogel\n");
    write(
        "garbage.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let ca = testbed::Ca::new();
    write("good.pem", &ca.client("app").combined_pem());
    let pipe = folder.join("pipe");
    if !pipe.exists() {
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|made| made.success()), "mkfifo");
    }
    folder
}

#[test]
fn nothing_panics_hangs_or_tells_a_secret() {
    let cases = number("MILLPOND_RANDOM_CASES").unwrap_or(2_500);
    let first = number("MILLPOND_RANDOM_FIRST").unwrap_or(0);
    let folder = folder();
    let threads = 2;
    let run = &|thread: u64| {
        let (mut slowest, mut failed) = ((Duration::ZERO, 0), Vec::new());
        for number in (first + thread..first + cases).step_by(threads) {
            let rng = Rng::with_seed(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut case = Case {
                rng,
                folder: folder.clone(),
            };
            let begun = Instant::now();
            let ended = catch_unwind(AssertUnwindSafe(|| case.run()));
            let took = begun.elapsed();
            if ended.is_err() || took >= PATIENCE {
                failed.push((number, took));
            }
            slowest = slowest.max((took, number));
        }
        (slowest, failed)
    };
    let begun = Instant::now();
    let ended: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads as u64)
            .map(|thread| scope.spawn(move || run(thread)))
            .collect();
        all.into_iter()
            .map(|thread| thread.join().expect("what a case panics with is caught"))
            .collect()
    });
    let _ = std::fs::remove_dir_all(&folder);
    println!(
        "{cases} cases in {:?}, the slowest {:?}",
        begun.elapsed(),
        ended.iter().map(|(slowest, _)| slowest).max()
    );
    let failed: Vec<_> = ended.iter().flat_map(|(_, failed)| failed).collect();
    assert!(
        failed.is_empty(),
        "cases that failed, see above: {failed:?}"
    );
}
