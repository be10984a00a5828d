//! What holds for whatever a configuration says.

use super::CANARY;
use crate::config::known::KNOWN;
use crate::config::{Config, Mistake};
use crate::error::Error;
use crate::{
    Http, HttpConfig, MongoDb, MongoDbConfig, Postgres, PostgresConfig, Redis, RedisConfig,
};

/// A mistake is not longer than this.
const LONGEST: usize = 2_000;

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

pub(super) fn judge_error(error: &Error) {
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

pub(super) fn judge(config: &Config) {
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
pub(super) fn judge_url(url: &str) {
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
