//! What each setting comes to, and who said so: for people, so no secret is in it.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::known::{BACKENDS, KNOWN, known, parts};
use super::layers::Config;
use super::sealed::{self, KEY, Protection};
use super::source::Source;
use super::text::{is_torn, shown};
use super::vars::Found;
use crate::security::SealingKey;

/// A setting as it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Setting {
    /// The pool whose setting it is, unless it is everybody's.
    pub pool: Option<Arc<str>>,
    /// The variable.
    pub variable: &'static str,
    /// Its value; sealed or `***` for a secret one; `None` for none, and where a URL says it.
    pub value: Option<String>,
    /// Where that comes from.
    pub source: Source,
}

impl Config {
    /// Every setting as it counts: those of everybody, and those of each pool with a name that
    /// are set for it.
    ///
    /// Secrets, and of URLs the passwords, are sealed with `SECURITY_ENCRYPTION_KEY`, and so are
    /// others at each call; without a key, or with `SECURITY_ENCRYPT_PASSWORDS=false`, they are
    /// `***`. The key itself, and what is in the file that a `NAME_FILE` names, are always that.
    pub fn settings(&self) -> Vec<Setting> {
        let key = Protection::from_vars(&mut self.vars()).key;
        self.settings_with(key.as_ref())
    }

    fn settings_with(&self, key: Option<&SealingKey>) -> Vec<Setting> {
        let everybody = KNOWN
            .iter()
            .map(|known| self.setting(None, known.name, key));
        let mut settings: Vec<_> = everybody.collect();
        for pool in self.pools().into_keys() {
            let own = KNOWN
                .iter()
                .filter(|known| self.find_own(&pool, known.name).is_some());
            settings.extend(own.map(|known| self.setting(Some(&pool), known.name, key)));
        }
        settings
    }

    fn setting(
        &self,
        pool: Option<&Arc<str>>,
        variable: &'static str,
        key: Option<&SealingKey>,
    ) -> Setting {
        let key = key.filter(|_| variable != KEY);
        let known = known(variable);
        let is_secret = known.is_some_and(|known| known.secret);
        let default = known.map_or("", |known| known.default);
        // Empty is unset, whoever says so.
        let find = |name: &str| {
            let found = match pool {
                Some(pool) => self.find_own(pool, name),
                None => self.find_shared(name),
            };
            found.filter(|found| found.text.as_ref().is_none_or(|text| !text.is_empty()))
        };
        let given = find(variable);
        let said = parts_of(variable).and_then(|url| {
            let given = find(url).or_else(|| find(&format!("{url}_FILE")))?;
            Some((given.rank, given.source))
        });
        let file = is_secret
            .then(|| find(&format!("{variable}_FILE")))
            .flatten();
        let rank = |found: &Option<Found>| found.as_ref().map(|found| found.rank);
        let own = rank(&given).max(rank(&file));
        let said = said.filter(|(rank, _)| own < Some(*rank));
        let (value, source) = if let Some((_, url)) = said {
            (None, Some(url))
        } else if rank(&file) > rank(&given) {
            (Some("***".to_owned()), file.map(|file| file.source))
        } else if let Some(found) = given {
            let text = found.text.unwrap_or_default();
            let is_url = BACKENDS.iter().any(|(_, _, url)| *url == variable);
            let value = match (is_secret, is_url) {
                (true, true) => sealed::shown_url(&text, key),
                (true, false) => sealed::shown(&text, key),
                (false, _) => plain(variable, &text),
            };
            (Some(value), Some(found.source))
        } else {
            (Some(default.to_owned()), None)
        };
        Setting {
            pool: pool.cloned(),
            variable,
            value: value.filter(|value| !value.is_empty()),
            source: source.unwrap_or(Source::Default),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |setting: &Setting| setting.source != Source::Default;
        let said: Vec<_> = self.settings_with(None).into_iter().filter(said).collect();
        // What a torn line makes a backend need not be one.
        let mut pools = self.pools();
        for (backend, _) in pools.values_mut() {
            *backend = shown(backend);
        }
        f.debug_struct("Config")
            .field("pools", &pools)
            .field("settings", &said)
            .finish()
    }
}

/// The URL that says what this variable says.
fn parts_of(variable: &str) -> Option<&'static str> {
    let mut urls = BACKENDS.iter().map(|(_, _, url)| *url);
    urls.find(|url| parts(url).contains(&variable))
}

/// The value of a variable that is not secret, unless somebody put a URL with a password there, or
/// the end of one that was torn.
fn plain(variable: &str, text: &str) -> String {
    let is_secret = text.contains('@') || is_torn(text);
    if is_secret && variable != "HTTP_USER_AGENT" {
        return "***".to_owned();
    }
    text.to_owned()
}
