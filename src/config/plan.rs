//! What a configuration comes to: the pools to open, and the settings of the process.

use super::known::BACKENDS;
use super::layers::{Config, Layer};
use super::sealed::Protection;
use super::vars::{Mistake, Vars};
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
        for (name, (backend, source)) in &named {
            if !BACKENDS.iter().any(|(known, ..)| known == backend) {
                mistakes.push(Mistake {
                    setting: format!("the backend of pool {name} ({source})"),
                    value: backend.clone(),
                    accepted: "postgres, redis, mongodb or http".to_owned(),
                });
                continue;
            }
            if taken.contains(&&**name) {
                mistakes.push(free(format!(
                    "pool {name} ({source}) has the name of the pool without a name"
                )));
            }
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
        #[cfg(feature = "batch")]
        crate::batch::check(&mut vars);
        #[cfg(feature = "exporter")]
        crate::exporter::check(&mut vars);
        #[cfg(feature = "logging")]
        crate::logging::check(&mut vars);
        mistakes.extend(vars.into_mistakes());
        // Shared settings are read once for each pool.
        let mut seen = Vec::new();
        mistakes.retain(|mistake| {
            let is_new = !seen.contains(mistake);
            if is_new {
                seen.push(mistake.clone());
            }
            is_new
        });
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Self {
            pools,
            limits,
            switches,
            mask,
        })
    }
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
    #[cfg(feature = "batch")]
    crate::batch::check(&mut vars);
    let found = vars.into_mistakes();
    let is_good = found.is_empty();
    mistakes.extend(found);
    let Some(service) = service else {
        let url = BACKENDS.iter().find(|(known, ..)| *known == backend);
        let url = url.map_or("", |(_, _, url)| url);
        mistakes.push(free(format!(
            "pool {name} has no server: set its host, or {url}"
        )));
        return None;
    };
    if !is_good {
        return None;
    }
    // The manager reads certificates and keys.
    match manager(service) {
        Ok(manager) => Some((builder, manager)),
        Err(error) => {
            let of = match scope {
                Scope::Everybody => String::new(),
                Scope::Pool(name) => format!("pool {name}: "),
            };
            mistakes.push(free(format!("{of}{}", error.message())));
            None
        }
    }
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
    fn backend(&self) -> &'static str {
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
