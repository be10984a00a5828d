//! Settings in layers.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::known::{SHARED, known, nearest};
use super::plan::Plan;
use super::source::Source;
use super::text::shown;
use super::vars::{Found, Mistake, Vars, refusal};
use crate::error::Error;
use crate::security::Secret;

/// The settings of a program: its pools, and all that belongs to them.
///
/// Values come from files, from the environment and from the program; what is added later
/// overrules what was added before. In a file, `max_connections` in `[pool]` is the variable
/// `POOL_MAX_CONNECTIONS`, `port` in `[db]` is `DB_PORT`, and so on; `database_url`, `redis_url`
/// and `mongodb_uri` are at the top. A table `[pools.NAME]` is a pool of this name, of which
/// `backend` says the kind, with settings of that backend and of `[pool]` and `[batch]` for
/// itself; in the environment these are `NAME_DB_PORT`, `NAME_POOL_MAX_CONNECTIONS`, and so on.
/// Where its `balance` (`POOL_BALANCE`) names a strategy, it is a
/// [fleet](crate::endpoints#from-a-configuration) of its servers.
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
///
/// [pools.cache]
/// backend = "redis"
/// host = ["cache1.internal", "cache2.internal:6380"]
/// ssl = true
/// balance = "peak-ewma"
/// ```
///
/// Nothing is opened and no file but these is read before [`validate`](Self::validate) or
/// [`Hub::from_config`](crate::Hub::from_config). Files and environment are read once, when they
/// are added, and count like this also for the endpoints that are found later; only passwords,
/// URLs and certificates that are in files of their own are read again.
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
    Environment(Arc<Environment>),
}

/// An environment as it was at one moment: what is read later, as for an endpoint that is found
/// then, is what was validated.
pub(super) struct Environment(BTreeMap<String, Option<Zeroizing<String>>>);

impl Environment {
    /// A variable whose name is not UTF-8 is none of ours.
    pub(super) fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables = variables.into_iter().filter_map(|(name, value)| {
            let value = value.into_string().ok().map(Zeroizing::new);
            Some((name.into_string().ok()?, value))
        });
        Self(variables.collect())
    }

    fn get(&self, name: &str) -> Option<Found> {
        let text = self.0.get(name)?.clone();
        Some(Found {
            text,
            source: Source::Environment(name.into()),
            rank: 0,
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
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

    /// Adds the process's environment as it is now: what becomes of it later changes nothing.
    #[must_use]
    pub fn with_env(self) -> Self {
        self.with_environment(Environment::of(std::env::vars_os()))
    }

    pub(super) fn with_environment(mut self, environment: Environment) -> Self {
        self.layers.push(Layer::Environment(Arc::new(environment)));
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

    pub(super) fn find_shared(&self, name: &str) -> Option<Found> {
        self.find(None, name, name)
    }

    pub(super) fn find_own(&self, pool: &str, name: &str) -> Option<Found> {
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
