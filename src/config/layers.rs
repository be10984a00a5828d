//! Settings in layers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::known::{BACKENDS, KNOWN, OF_PROCESS, SHARED, known, nearest, parts};
use super::plan::Plan;
use super::sealed::{self, KEY, Protection};
use super::source::Source;
use super::text::{PEM, shown};
use super::vars::{Found, Mistake, Vars, refusal};
use crate::error::Error;
use crate::security::{SealingKey, Secret};

/// The settings of a program: its pools, and all that belongs to them.
///
/// Values come from files, from the environment and from the program; what is added later
/// overrules what was added before. In a file, `max_connections` in `[pool]` is the variable
/// `POOL_MAX_CONNECTIONS`, `port` in `[db]` is `DB_PORT`, and so on; `database_url`, `redis_url`
/// and `mongodb_uri` are at the top. A table `[pools.NAME]` is a pool of this name, of which
/// `backend` says the kind, with settings of that backend and of `[pool]` and `[batch]` for
/// itself; in the environment these are `NAME_DB_PORT`, `NAME_POOL_MAX_CONNECTIONS`, and so on.
///
/// ```text
/// database_url = "postgres://app@db.internal/shop?sslmode=verify-full"
///
/// [pool]
/// max_connections = 20
///
/// [pools.reports]
/// backend = "postgres"
/// host = "replica.internal"
/// name = "shop"
/// user = "reports"
/// password_file = "/run/secrets/reports"
/// max_connections = 4
/// ```
///
/// Nothing is opened and no file but these is read before [`validate`](Self::validate) or
/// [`Hub::from_config`](crate::Hub::from_config).
///
/// ```
/// # fn main() -> Result<(), millpond::Error> {
/// let config = millpond::Config::new()
///     .set("REDIS_URL", "redis://localhost")
///     .set("POOL_MAX_CONNECTIONS", 4);
/// config.validate()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Config {
    pub(super) layers: Vec<Layer>,
}

#[derive(Clone)]
pub(super) enum Layer {
    Values(Arc<Values>),
    Environment(Arc<dyn Environment>),
}

/// An environment.
pub(super) trait Environment: Send + Sync {
    fn get(&self, name: &str) -> Option<Found>;
    fn names(&self) -> Vec<String>;
}

struct Process;

impl Environment for Process {
    fn get(&self, name: &str) -> Option<Found> {
        super::environment(name)
    }

    fn names(&self) -> Vec<String> {
        let all = std::env::vars_os();
        all.filter_map(|(name, _)| name.into_string().ok())
            .collect()
    }
}

/// The pool, if it is one pool's, and the variable.
pub(super) type Key = (Option<Arc<str>>, String);

/// The values of a file, or what the program set.
#[derive(Clone, Default)]
pub(super) struct Values {
    pub(super) settings: BTreeMap<Key, (Secret, Source)>,
    /// The backends of pools that have a name.
    pub(super) backends: BTreeMap<Arc<str>, (String, Source)>,
    pub(super) mistakes: Vec<Mistake>,
    /// Whether it is what the program set, and not a file.
    is_programs: bool,
}

/// A value that a program sets: a text, a number, true or false, or a secret.
#[derive(Clone, Debug)]
pub struct Value(Secret);

macro_rules! values {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Value {
            fn from(value: $kind) -> Self {
                Self(Secret::from(value.to_string()))
            }
        }
    )*};
}

values!(&str, String, bool, u16, u32, u64, i32, usize, f64);

impl From<Secret> for Value {
    fn from(value: Secret) -> Self {
        Self(value)
    }
}

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
    /// Nothing but defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The file that `MILLPOND_CONFIG` names, if it is set, and the environment.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) if the file cannot be read.
    pub fn from_env() -> Result<Self, Error> {
        // A path need not be UTF-8.
        let path = std::env::var_os("MILLPOND_CONFIG");
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            return Ok(Self::new().with_env());
        };
        #[cfg(feature = "toml")]
        return Ok(Self::new().with_file(path)?.with_env());
        #[cfg(not(feature = "toml"))]
        {
            let accepted = "nothing: the feature `toml` of millpond is not on";
            let mut vars = Vars::process();
            vars.mistake("MILLPOND_CONFIG", &path.to_string_lossy(), accepted);
            vars.finish().map(|()| Self::new())
        }
    }

    /// Adds the process's environment.
    #[must_use]
    pub fn with_env(mut self) -> Self {
        self.layers.push(Layer::Environment(Arc::new(Process)));
        self
    }

    /// Sets a variable. A name that is not known is a mistake that
    /// [`validate`](Self::validate) reports.
    #[must_use]
    pub fn set(self, variable: &str, value: impl Into<Value>) -> Self {
        self.put(None, variable, value.into())
    }

    /// Sets a variable for the pool of this name alone.
    #[must_use]
    pub fn set_for(self, pool: &str, variable: &str, value: impl Into<Value>) -> Self {
        self.put(Some(pool.into()), variable, value.into())
    }

    /// Adds a pool of this name; its backend is `postgres`, `redis`, `mongodb` or `http`.
    #[must_use]
    pub fn pool(self, name: &str, backend: &str) -> Self {
        let entry = (backend.to_owned(), Source::Program);
        self.edit(|values| {
            values.backends.insert(name.into(), entry);
        })
    }

    fn put(self, pool: Option<Arc<str>>, variable: &str, value: Value) -> Self {
        self.edit(|values| {
            if known(variable).is_none() {
                values.mistakes.push(unknown(variable, &Source::Program));
            }
            let entry = (value.0, Source::Program);
            values.settings.insert((pool, variable.to_owned()), entry);
        })
    }

    /// Changes what the program sets. That is a layer of its own each time that another layer
    /// came between.
    fn edit(mut self, change: impl FnOnce(&mut Values)) -> Self {
        let mut values = match self.layers.pop() {
            Some(Layer::Values(values)) if values.is_programs => values,
            other => {
                self.layers.extend(other);
                Arc::new(Values {
                    is_programs: true,
                    ..Values::default()
                })
            }
        };
        change(Arc::make_mut(&mut values));
        self.layers.push(Layer::Values(values));
        self
    }

    /// Reads everything and opens nothing: whether a program can start with it. Certificates,
    /// keys and password files are read too.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) with [all mistakes](Self::mistakes).
    pub fn validate(&self) -> Result<(), Error> {
        match Plan::of(self) {
            Ok(_) => Ok(()),
            Err(mistakes) => Err(refusal(&mistakes)),
        }
    }

    /// All mistakes: each with the variable and where it is set, the value unless it is secret,
    /// and what is accepted.
    ///
    /// ```
    /// let config = millpond::Config::new()
    ///     .set("REDIS_URL", "redis://localhost")
    ///     .set("POOL_MAX_CONNECTIONS", "many")
    ///     .set("POOL_MIN_CONECTIONS", 1);
    /// let mistakes = config.mistakes();
    /// assert_eq!(mistakes.len(), 2);
    /// assert!(mistakes[0].to_string().contains("is it POOL_MIN_CONNECTIONS?"));
    /// ```
    pub fn mistakes(&self) -> Vec<Mistake> {
        Plan::of(self).err().unwrap_or_default()
    }

    /// What looks like a mistake, but may be meant: variables of the environment with our
    /// prefixes that nobody knows, and settings of a backend that is not on.
    pub fn warnings(&self) -> Vec<String> {
        let prefixes: Vec<_> = self.pools().keys().map(|pool| prefix_of(pool)).collect();
        let mut warnings = Vec::new();
        let environments = self.layers.iter().filter_map(|layer| match layer {
            Layer::Environment(environment) => Some(environment),
            Layer::Values(_) => None,
        });
        for name in environments.flat_map(|environment| environment.names()) {
            if known(&name).is_some() {
                continue;
            }
            let own = prefixes.iter().find_map(|prefix| {
                let rest = name.strip_prefix(prefix)?;
                has_our_prefix(rest).then_some(rest)
            });
            let variable = own.unwrap_or(&name);
            if has_our_prefix(variable) && known(variable).is_none() && variable != "HTTP_PROXY" {
                let hint = nearest(variable).map(|near| format!("; is it {near}?"));
                let hint = hint.unwrap_or_default();
                let name = shown(&name);
                warnings.push(format!("the variable {name} is not known{hint}"));
            }
        }
        warnings.extend(BACKENDS.iter().filter_map(|backend| self.unused(*backend)));
        warnings
    }

    /// The first setting of a backend that nothing switches on, nor off.
    fn unused(&self, (backend, prefix, url): (&str, &str, &str)) -> Option<String> {
        let is_set = |name: &str| self.find_shared(name).is_some();
        let secret_is_set = |name: &str| is_set(name) || is_set(&format!("{name}_FILE"));
        let (switched, how) = match backend {
            "postgres" => (
                secret_is_set(url) || is_set("DB_HOST") || is_set("DB_NAME"),
                format!("DB_HOST, DB_NAME or {url}"),
            ),
            "http" => (
                is_set("HTTP_ENABLED"),
                "HTTP_ENABLED=true and HTTP_BASE_URL".to_owned(),
            ),
            _ => (
                secret_is_set(url) || is_set(&format!("{prefix}ENABLED")),
                format!("{prefix}ENABLED=true or {url}"),
            ),
        };
        if switched {
            return None;
        }
        let mut own = KNOWN.iter().filter(|known| known.name.starts_with(prefix));
        let unused = own.find(|known| secret_is_set(known.name))?.name;
        Some(format!(
            "{unused} is set, but no {backend} pool is: set {how} too"
        ))
    }

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

    /// The pools that have a name, with their backends.
    pub(super) fn pools(&self) -> BTreeMap<Arc<str>, (String, Source)> {
        let mut pools = BTreeMap::new();
        for layer in &self.layers {
            if let Layer::Values(values) = layer {
                pools.extend(values.backends.clone());
            }
        }
        pools
    }

    /// Whether there is a pool of this name.
    #[cfg(feature = "batch")]
    pub(crate) fn has_pool(&self, name: &str) -> bool {
        self.pools().contains_key(name)
    }

    /// Pools that have settings, but no backend.
    pub(super) fn without_backend(&self) -> BTreeMap<Arc<str>, Source> {
        let pools = self.pools();
        let mut missing = BTreeMap::new();
        for layer in &self.layers {
            if let Layer::Values(values) = layer {
                for ((pool, _), (_, source)) in &values.settings {
                    if let Some(pool) = pool.as_ref().filter(|pool| !pools.contains_key(*pool)) {
                        missing
                            .entry(Arc::clone(pool))
                            .or_insert_with(|| source.clone());
                    }
                }
            }
        }
        missing
    }

    /// The variables of everybody.
    pub(crate) fn vars(&self) -> Vars<'_> {
        Vars::new(|name| self.find_shared(name))
    }

    /// The variables as they count for this pool: its own, and everybody's of those that pools
    /// share.
    pub(crate) fn vars_of<'a>(&'a self, pool: &'a str) -> Vars<'a> {
        Vars::new(move |name| {
            let shared = || SHARED.iter().any(|prefix| name.starts_with(prefix));
            // Who has a name is on.
            let on = || {
                name.ends_with("_ENABLED").then(|| Found {
                    text: Some("true".to_owned().into()),
                    source: Source::Default,
                    rank: 0,
                })
            };
            self.find_own(pool, name)
                .or_else(|| shared().then(|| self.find_shared(name)).flatten())
                .or_else(on)
        })
    }

    fn find_shared(&self, name: &str) -> Option<Found> {
        self.find(None, name, name)
    }

    fn find_own(&self, pool: &str, name: &str) -> Option<Found> {
        self.find(Some(pool), name, &format!("{}{name}", prefix_of(pool)))
    }

    fn find(&self, pool: Option<&str>, name: &str, in_environment: &str) -> Option<Found> {
        let layers = self.layers.iter().enumerate().rev();
        let found = |(rank, layer): (usize, &Layer)| match layer {
            Layer::Environment(environment) => {
                let found = environment.get(in_environment);
                // Empty is the same as unset, and overrules nothing.
                let set =
                    found.filter(|found| found.text.as_ref().is_none_or(|text| !text.is_empty()));
                set.map(|found| Found { rank, ..found })
            }
            Layer::Values(values) => {
                let key = (pool.map(Arc::from), name.to_owned());
                let (value, source) = values.settings.get(&key)?;
                Some(Found {
                    text: Some(value.expose().to_owned().into()),
                    source: source.clone(),
                    rank,
                })
            }
        };
        layers.into_iter().find_map(found)
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

/// A mistake: this variable is not known.
pub(super) fn unknown(variable: &str, source: &Source) -> Mistake {
    let hint = match nearest(variable) {
        Some(near) => format!("is it {near}?"),
        None => "is it for something else?".to_owned(),
    };
    Mistake {
        setting: String::new(),
        value: String::new(),
        accepted: format!("{} ({source}) is not known; {hint}", shown(variable)),
    }
}

/// The URL that says what this variable says.
fn parts_of(variable: &str) -> Option<&'static str> {
    let mut urls = BACKENDS.iter().map(|(_, _, url)| *url);
    urls.find(|url| parts(url).contains(&variable))
}

/// Whether a pool may be called so: its name is in variables, metrics and threads.
pub(super) fn is_name(pool: &str) -> Result<(), &'static str> {
    if pool.is_empty() {
        return Err("is empty");
    }
    if pool.len() > 100 {
        return Err("is longer than 100 bytes");
    }
    if pool.contains(char::is_control) {
        return Err("has a control character");
    }
    Ok(())
}

/// What the names of a pool's own variables begin with in the environment.
pub(super) fn prefix_of(pool: &str) -> String {
    let upper = pool.to_ascii_uppercase();
    let fits = |letter: char| letter.is_ascii_alphanumeric();
    let upper = upper.replace(|letter| !fits(letter), "_");
    format!("{upper}_")
}

fn has_our_prefix(name: &str) -> bool {
    let backends = BACKENDS.iter().map(|(_, prefix, _)| prefix);
    let all = backends.chain(&SHARED).chain(&OF_PROCESS);
    all.into_iter().any(|prefix| name.starts_with(prefix))
}

/// The value of a variable that is not secret, unless somebody put a URL with a password there.
fn plain(variable: &str, text: &str) -> String {
    let is_secret = text.contains('@') || text.contains("://") || text.contains(PEM);
    if is_secret && variable != "HTTP_USER_AGENT" {
        return "***".to_owned();
    }
    text.to_owned()
}
