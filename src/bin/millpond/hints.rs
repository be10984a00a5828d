//! Which settings a message names, and where each of them comes from.

use std::collections::BTreeSet;

use millpond::config::{Setting, Source};
use serde::Serialize;

/// The variables of a backend, and the URL that may stand for them.
const URLS: [(&str, &str); 4] = [
    ("DB_", "DATABASE_URL"),
    ("REDIS_", "REDIS_URL"),
    ("MONGODB_", "MONGODB_URI"),
    ("HTTP_", "HTTP_BASE_URL"),
];

/// Variables that a pool of its own shares with all others unless it has them itself.
const COMMON: &str = "POOL_";

/// What a URL says too, behind the prefix.
const PARTS: [&str; 9] = [
    "HOST",
    "PORT",
    "NAME",
    "DB",
    "USER",
    "PASSWORD",
    "SSL",
    "SSL_MODE",
    "AUTH_SOURCE",
];

/// A setting that has to do with what went wrong.
#[derive(Serialize)]
pub(crate) struct Hint {
    pub(crate) variable: &'static str,
    /// `***` for a secret one.
    pub(crate) value: Option<String>,
    pub(crate) source: String,
    #[serde(skip)]
    is_set: bool,
}

/// The settings of one pool.
pub(crate) struct Settings<'a> {
    all: &'a [Setting],
    /// The pool's name, if it has settings of its own.
    pool: Option<&'a str>,
}

impl<'a> Settings<'a> {
    pub(crate) fn of(all: &'a [Setting], pool: &'a str) -> Self {
        let names = all.iter().filter_map(|setting| setting.pool.as_deref());
        // The pool of an endpoint has its fleet's.
        let is_own = |name: &&str| {
            let rest = pool.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
        };
        let pool = names.filter(is_own).max_by_key(|name| name.len());
        Self { all, pool }
    }

    fn find(&self, pool: Option<&str>, name: &str) -> Option<&'a Setting> {
        let mut all = self.all.iter();
        all.find(|setting| setting.pool.as_deref() == pool && setting.variable == name)
    }

    /// The setting as it counts for the pool.
    fn get(&self, name: &str) -> Option<Hint> {
        let shared = self.find(None, name)?;
        let own = self.pool.zip(key_of(name));
        // What pools have in common counts for those that say nothing of it.
        let is_common = name.starts_with(COMMON);
        let counts = match &own {
            Some((pool, _)) => self.find(Some(pool), name),
            None => Some(shared),
        };
        let counts = counts.or_else(|| is_common.then_some(shared));
        let source = counts.map_or(&Source::Default, |setting| &setting.source);
        let value = counts.and_then(|setting| setting.value.clone());
        let text = match (source, own) {
            (Source::Default, Some((pool, key))) if value.is_none() => {
                format!("not set: `{key}` in [pools.{pool}]")
            }
            (Source::Default, Some((pool, key))) => format!("default: `{key}` in [pools.{pool}]"),
            (Source::Default, None) if value.is_none() => "not set".to_owned(),
            (source, _) => source.to_string(),
        };
        Some(Hint {
            variable: shared.variable,
            is_set: *source != Source::Default && value.is_some(),
            value,
            source: text,
        })
    }

    fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(|hint| hint.is_set)
    }

    /// The settings that this message names. Where a URL sets them, that one.
    pub(crate) fn named_in(&self, message: &str) -> Vec<Hint> {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let words = message.split(|letter| !is_part(letter));
        let mut names: BTreeSet<&str> = words.filter(|word| word.contains('_')).collect();
        for (prefix, url) in URLS {
            let others = names
                .iter()
                .any(|name| name.starts_with(prefix) && *name != url);
            if self.is_set(url) && (others || names.contains(url)) {
                names.insert(url);
                names.retain(|name| {
                    let part = name.strip_prefix(prefix).unwrap_or_default();
                    !PARTS.contains(&part) || self.is_set(name)
                });
            } else if others {
                names.remove(url);
            }
        }
        names.iter().filter_map(|name| self.get(name)).collect()
    }
}

/// What a variable of a backend is called in a pool's own table.
fn key_of(name: &str) -> Option<String> {
    URLS.iter()
        .find_map(|(prefix, url)| {
            if name == *url && name != "HTTP_BASE_URL" {
                return Some("url".to_owned());
            }
            name.strip_prefix(prefix).map(str::to_ascii_lowercase)
        })
        .or_else(|| name.strip_prefix(COMMON).map(str::to_ascii_lowercase))
}
