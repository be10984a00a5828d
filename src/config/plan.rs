//! What a configuration comes to: the pools to open, and the settings of the process.

use std::collections::{BTreeMap, HashSet};

use super::known::{BACKENDS, is_of_pool, known};
use super::layers::{Config, Layer, is_name, prefix_of};
use super::sealed::Protection;
use super::text::{shown, shown_path};
use super::vars::{Mistake, Vars};
#[cfg(feature = "audit")]
use crate::audit::AuditBuilder;
#[cfg(feature = "http")]
use crate::backend::http::{Http, HttpConfig};
#[cfg(feature = "mongodb")]
use crate::backend::mongodb::{MongoDb, MongoDbConfig};
#[cfg(feature = "postgres")]
use crate::backend::postgres::{Postgres, PostgresConfig};
#[cfg(feature = "redis")]
use crate::backend::redis::{Redis, RedisConfig};
use crate::error::Error;
use crate::logging::Switches;
use crate::pool::Builder;
use crate::resources::Limits;

/// Everything that has to be opened and set.
pub(crate) struct Plan {
    pub(crate) pools: Vec<PoolPlan>,
    pub(crate) limits: Limits,
    pub(crate) switches: Switches,
    /// Whether values are masked, if anybody said so.
    pub(crate) mask: Option<bool>,
    #[cfg(feature = "audit")]
    pub(crate) audit: Option<AuditBuilder>,
}

/// A pool, ready to be opened.
pub(crate) enum PoolPlan {
    #[cfg(feature = "postgres")]
    Postgres(Builder<Postgres>, Postgres),
    #[cfg(feature = "redis")]
    Redis(Builder<Redis>, Redis),
    #[cfg(feature = "mongodb")]
    MongoDb(Builder<MongoDb>, MongoDb),
    #[cfg(feature = "http")]
    Http(Builder<Http>, Http),
}

/// The variables of one pool.
#[derive(Clone, Copy)]
enum Scope<'a> {
    /// Those of everybody: the pool is named after its backend.
    Everybody,
    /// Its own.
    Pool(&'a str),
}

impl Plan {
    /// Reads everything.
    pub(crate) fn of(config: &Config) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        for layer in &config.layers {
            if let Layer::Values(values) = layer {
                mistakes.extend(values.mistakes.clone());
            }
        }
        let mut pools = Vec::new();
        for (backend, ..) in BACKENDS {
            pools.extend(pool(config, Scope::Everybody, backend, &mut mistakes));
        }
        let taken: Vec<_> = pools.iter().map(PoolPlan::backend).collect();
        let named = config.pools();
        let mut prefixes = BTreeMap::new();
        for (name, (backend, source)) in &named {
            if let Err(problem) = is_name(name) {
                let shown = shown(name);
                mistakes.push(free(format!(
                    "the pool's name `{shown}` ({source}) {problem}"
                )));
                continue;
            }
            let prefix = prefix_of(name);
            if let Some(other) = prefixes.get(&prefix) {
                mistakes.push(free(format!(
                    "pool {name} ({source}) and pool {other} would both be set by variables that \
                     begin with {prefix}: rename one"
                )));
            }
            prefixes.insert(prefix, name);
            if !BACKENDS.iter().any(|(known, ..)| known == backend) {
                mistakes.push(Mistake {
                    setting: format!("the backend of pool {name} ({source})"),
                    value: shown(backend),
                    accepted: "postgres, redis, mongodb or http".to_owned(),
                });
                continue;
            }
            if taken.contains(&&**name) {
                mistakes.push(free(format!(
                    "pool {name} ({source}) has the name of the pool without a name"
                )));
            }
            mistakes.extend(strangers(config, name, backend));
            pools.extend(pool(config, Scope::Pool(name), backend, &mut mistakes));
        }
        for (name, source) in config.without_backend() {
            mistakes.push(free(format!(
                "pool {name} ({source}) has settings, but no `backend`: postgres, redis, mongodb \
                 or http"
            )));
        }
        let mut vars = config.vars();
        let limits = Limits::from_vars(&mut vars);
        let switches = Switches::new().with_vars(&mut vars);
        let mask = Protection::from_vars(&mut vars).mask;
        #[cfg(feature = "audit")]
        let audit = AuditBuilder::from_vars(&mut vars);
        #[cfg(not(feature = "audit"))]
        if let Some(path) = vars.text("AUDIT_FILE") {
            let accepted = "nothing: the feature `audit` of millpond is not on";
            vars.mistake("AUDIT_FILE", &path, accepted);
        }
        #[cfg(feature = "batch")]
        crate::batch::check(&mut vars);
        #[cfg(feature = "exporter")]
        crate::exporter::check(&mut vars);
        #[cfg(feature = "logging")]
        crate::logging::check(&mut vars);
        mistakes.extend(vars.into_mistakes());
        // Shared settings are read once for each pool.
        let mut seen = HashSet::new();
        mistakes.retain(|mistake| seen.insert(mistake.clone()));
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Self {
            pools,
            limits,
            switches,
            mask,
            #[cfg(feature = "audit")]
            audit,
        })
    }
}

/// Settings of this pool that mean nothing to its backend.
fn strangers(config: &Config, name: &str, backend: &str) -> Vec<Mistake> {
    let Some((_, prefix, url)) = BACKENDS.iter().find(|(known, ..)| *known == backend) else {
        return Vec::new();
    };
    let layers = config.layers.iter().filter_map(|layer| match layer {
        Layer::Values(values) => Some(&values.settings),
        Layer::Environment(_) => None,
    });
    let own = layers.flatten().filter(|((pool, variable), _)| {
        let is_known = known(variable).is_some();
        pool.as_deref() == Some(name) && is_known && !is_of_pool(variable, prefix, url)
    });
    own.map(|((_, variable), (_, source))| {
        free(format!(
            "{variable} ({source}) means nothing to pool {name}, which is one of {backend}"
        ))
    })
    .collect()
}

/// The pool of this scope, if there is to be one and nothing is wrong with it.
fn pool(
    config: &Config,
    scope: Scope<'_>,
    backend: &str,
    mistakes: &mut Vec<Mistake>,
) -> Option<PoolPlan> {
    match backend {
        #[cfg(feature = "postgres")]
        "postgres" => {
            let read = PostgresConfig::from_vars;
            let (builder, manager) =
                read_pool(config, scope, backend, read, Postgres::new, mistakes)?;
            Some(PoolPlan::Postgres(builder, manager))
        }
        #[cfg(feature = "redis")]
        "redis" => {
            let read = RedisConfig::from_vars;
            let (builder, manager) = read_pool(config, scope, backend, read, Redis::new, mistakes)?;
            Some(PoolPlan::Redis(builder, manager))
        }
        #[cfg(feature = "mongodb")]
        "mongodb" => {
            let read = MongoDbConfig::from_vars;
            let (builder, manager) =
                read_pool(config, scope, backend, read, MongoDb::new, mistakes)?;
            Some(PoolPlan::MongoDb(builder, manager))
        }
        #[cfg(feature = "http")]
        "http" => {
            let read = HttpConfig::from_vars;
            let (builder, manager) = read_pool(config, scope, backend, read, Http::new, mistakes)?;
            Some(PoolPlan::Http(builder, manager))
        }
        _ => {
            if let Scope::Pool(name) = scope {
                mistakes.push(free(format!(
                    "pool {name} needs the feature `{backend}` of millpond, which is not on"
                )));
            }
            None
        }
    }
}

fn read_pool<'a, C, M: r2d2::ManageConnection>(
    config: &'a Config,
    scope: Scope<'a>,
    backend: &'a str,
    read: impl FnOnce(&mut Vars<'a>) -> Option<C>,
    manager: impl FnOnce(C) -> Result<M, Error>,
    mistakes: &mut Vec<Mistake>,
) -> Option<(Builder<M>, M)> {
    let (mut vars, name) = match scope {
        Scope::Everybody => (config.vars(), backend),
        Scope::Pool(name) => (config.vars_of(name), name),
    };
    let service = read(&mut vars);
    if service.is_none() && matches!(scope, Scope::Everybody) {
        mistakes.extend(vars.into_mistakes());
        return None;
    }
    let builder = Builder::from_vars(&mut vars).name(name);
    let found = BACKENDS.iter().find(|(known, ..)| *known == backend);
    let (prefix, url) = found.map_or(("", ""), |(_, prefix, url)| (prefix, url));
    let is_off = vars.flag(&format!("{prefix}ENABLED")) == Some(false);
    #[cfg(feature = "batch")]
    crate::batch::check(&mut vars);
    let is_good = vars.is_good();
    let Some(service) = service else {
        mistakes.extend(vars.into_mistakes());
        if is_off {
            return None;
        }
        mistakes.push(free(format!(
            "pool {name} has no server: set its host, or {url}"
        )));
        return None;
    };
    // The manager reads certificates and keys.
    let manager = is_good.then(|| manager(service));
    if let Some(Err(error)) = &manager {
        match file_of(&mut vars, prefix, url, error.message()) {
            Some((variable, value)) => {
                let accepted = format!("PEM files ({})", error.message());
                vars.mistake(&variable, &value, &accepted);
            }
            None => mistakes.push(free(format!("pool {name}: {}", error.message()))),
        }
    }
    mistakes.extend(vars.into_mistakes());
    Some((builder, manager?.ok()?))
}

/// The variable that names the file of which this message tells, and its value.
fn file_of(
    vars: &mut Vars<'_>,
    prefix: &str,
    url: &str,
    message: &str,
) -> Option<(String, String)> {
    let files = ["SSL_CA_FILE", "SSL_CERT_FILE", "SSL_KEY_FILE"];
    let named = files.iter().find_map(|file| {
        let variable = format!("{prefix}{file}");
        let path = vars.text(&variable)?;
        message
            .contains(&shown_path(path.as_ref()))
            .then_some((variable, path))
    });
    let in_url = |vars: &mut Vars<'_>| {
        vars.secret_text(url)?;
        Some((url.to_owned(), "***".to_owned()))
    };
    named.or_else(|| in_url(vars))
}

fn free(text: String) -> Mistake {
    Mistake {
        setting: String::new(),
        value: String::new(),
        accepted: text,
    }
}

impl PoolPlan {
    /// The backend's name, which is the pool's unless it has one of its own.
    pub(super) fn backend(&self) -> &'static str {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(..) => "postgres",
            #[cfg(feature = "redis")]
            Self::Redis(..) => "redis",
            #[cfg(feature = "mongodb")]
            Self::MongoDb(..) => "mongodb",
            #[cfg(feature = "http")]
            Self::Http(..) => "http",
        }
    }
}
