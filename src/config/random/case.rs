//! A case: a configuration, a URL or headers, at random.

use std::path::PathBuf;

use fastrand::Rng;

use super::CANARY;
use super::judge::{judge, judge_error, judge_url};
use super::texts::{FILE, PIECES, URLS};
use crate::config::Config;
use crate::config::known::{BACKENDS, KNOWN};

/// What is made from the number of a case, and how it is tried.
pub(super) struct Case {
    pub(super) rng: Rng,
    pub(super) folder: PathBuf,
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

    pub(super) fn run(&mut self) {
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
