//! The pools and fleets that a configuration names, read and ready to be opened.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::known::BACKENDS;
use super::layers::Config;
use super::plan::free;
use super::service::Service;
use super::text::shown_path;
use super::vars::{Mistake, Vars};
use crate::backend::Backend;
#[cfg(feature = "http")]
use crate::backend::http::{Http, HttpConfig};
#[cfg(feature = "mongodb")]
use crate::backend::mongodb::{MongoDb, MongoDbConfig};
#[cfg(feature = "postgres")]
use crate::backend::postgres::{Postgres, PostgresConfig};
#[cfg(feature = "redis")]
use crate::backend::redis::{Redis, RedisConfig};
use crate::endpoints::{self, FleetBuilder, FleetSettings};
use crate::error::Error;
use crate::pool::Builder;

/// A pool or a fleet of one of the backends.
pub(crate) enum PoolPlan {
    #[cfg(feature = "postgres")]
    Postgres(Opening<Postgres>),
    #[cfg(feature = "redis")]
    Redis(Opening<Redis>),
    #[cfg(feature = "mongodb")]
    MongoDb(Opening<MongoDb>),
    #[cfg(feature = "http")]
    Http(Opening<Http>),
}

/// Calls a function with the [`Opening`], whatever the backend.
macro_rules! on_backend {
    ($plan:expr, |$opening:pat_param| $call:expr) => {
        match $plan {
            #[cfg(feature = "postgres")]
            $crate::config::PoolPlan::Postgres($opening) => $call,
            #[cfg(feature = "redis")]
            $crate::config::PoolPlan::Redis($opening) => $call,
            #[cfg(feature = "mongodb")]
            $crate::config::PoolPlan::MongoDb($opening) => $call,
            #[cfg(feature = "http")]
            $crate::config::PoolPlan::Http($opening) => $call,
        }
    };
}
pub(crate) use on_backend;

/// What is to be opened.
pub(crate) enum Opening<B: Backend> {
    Pool(Box<Builder<B>>, B),
    Fleet(FleetPlan<B>),
}

/// A fleet, ready to be opened.
pub(crate) struct FleetPlan<B: Backend> {
    pub(crate) name: Arc<str>,
    settings: FleetSettings,
    servers: Vec<Server<B>>,
    /// The settings of each server's pool.
    pool: Box<dyn Fn() -> Builder<B> + Send + Sync>,
}

/// One of its servers, or those that have this name.
struct Server<B> {
    manager: B,
    /// The name and how to make a manager for one of its addresses, if it is looked up.
    lookup: Option<(String, Make<B>)>,
}

type Make<B> = Box<dyn Fn(SocketAddr) -> Result<B, Error> + Send + Sync>;

impl<B: Backend> FleetPlan<B> {
    pub(crate) fn open(self) -> FleetBuilder<B> {
        let pool = self.pool;
        let every = self.settings.resolve;
        let (builder, weights) = self.settings.builder();
        let mut builder = builder.name(self.name).pool(move |_| pool());
        for (server, weight) in self.servers.into_iter().zip(weights) {
            builder = match (server.lookup, every) {
                (Some((name, make)), Some(every)) => builder.resolve(name, every, make),
                _ => builder.weighted(server.manager, weight),
            };
        }
        builder
    }

    /// Whether it is meant for reading only.
    pub(super) fn is_read_only(&self) -> bool {
        (self.pool)().is_read_only()
    }

    /// A manager for each server.
    pub(super) fn managers(self) -> impl Iterator<Item = B> {
        self.servers.into_iter().map(|server| server.manager)
    }
}

/// The variables of one pool.
#[derive(Clone, Copy)]
pub(super) enum Scope<'a> {
    /// Those of everybody: the pool is named after its backend.
    Everybody,
    /// Its own.
    Pool(&'a str),
}

impl<'a> Scope<'a> {
    fn vars(self, config: &'a Config) -> Vars<'a> {
        match self {
            Self::Everybody => config.vars(),
            Self::Pool(name) => config.vars_of(name),
        }
    }
}

impl PoolPlan {
    /// The pool of this scope, if there is to be one and nothing is wrong with it.
    pub(super) fn read(
        config: &Config,
        scope: Scope<'_>,
        backend: &str,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Self> {
        match backend {
            #[cfg(feature = "postgres")]
            "postgres" => read::<PostgresConfig>(config, scope, mistakes).map(Self::Postgres),
            #[cfg(feature = "redis")]
            "redis" => read::<RedisConfig>(config, scope, mistakes).map(Self::Redis),
            #[cfg(feature = "mongodb")]
            "mongodb" => read::<MongoDbConfig>(config, scope, mistakes).map(Self::MongoDb),
            #[cfg(feature = "http")]
            "http" => read::<HttpConfig>(config, scope, mistakes).map(Self::Http),
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

    /// The backend's name, which is the pool's unless it has one of its own.
    pub(super) fn backend(&self) -> &'static str {
        fn name<B: Backend>(_: &Opening<B>) -> &'static str {
            B::NAME
        }
        on_backend!(self, |opening| name(opening))
    }
}

fn read<S: Service>(
    config: &Config,
    scope: Scope<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Opening<S::Manager>> {
    let backend = S::Manager::NAME;
    let name = match scope {
        Scope::Everybody => backend,
        Scope::Pool(name) => name,
    };
    let mut vars = scope.vars(config);
    let services = if endpoints::is_wanted(&mut vars) {
        S::each(&mut vars)
    } else {
        S::one(&mut vars).map(|one| vec![one])
    };
    if services.is_none() && matches!(scope, Scope::Everybody) {
        mistakes.extend(vars.into_mistakes());
        return None;
    }
    let builder = Builder::from_vars(&mut vars).name(name);
    let found = BACKENDS.iter().find(|(known, ..)| *known == backend);
    let (prefix, url) = found.map_or(("", ""), |(_, prefix, url)| (prefix, url));
    let is_off = vars.flag(&format!("{prefix}ENABLED")) == Some(false);
    #[cfg(feature = "batch")]
    crate::batch::check(&mut vars);
    let Some(services) = services else {
        mistakes.extend(vars.into_mistakes());
        if is_off {
            return None;
        }
        mistakes.push(free(format!(
            "pool {name} has no server: set its host, or {url}"
        )));
        return None;
    };
    let settings = FleetSettings::from_vars(&mut vars, services.len());
    let resolves = settings.as_ref().and_then(|settings| settings.resolve);
    let servers = servers(
        services,
        resolves.is_some(),
        &mut vars,
        (name, prefix, url),
        mistakes,
    );
    mistakes.extend(vars.into_mistakes());
    let mut servers = servers?;
    let Some(settings) = settings else {
        return Some(Opening::Pool(Box::new(builder), servers.pop()?.manager));
    };
    let mut addresses = HashSet::new();
    for server in &servers {
        let address = server.manager.endpoint();
        if !addresses.insert(address.clone()) {
            mistakes.push(free(format!(
                "pool {name} has {address} twice among its servers"
            )));
        }
    }
    // Read again for each server: a builder may have hooks, so there is no copy of one.
    let (config, name) = (config.clone(), Arc::<str>::from(name));
    let is_named = matches!(scope, Scope::Pool(_));
    let of_pool = Arc::clone(&name);
    let pool = move || {
        let scope = if is_named {
            Scope::Pool(&of_pool)
        } else {
            Scope::Everybody
        };
        Builder::from_vars(&mut scope.vars(&config))
    };
    Some(Opening::Fleet(FleetPlan {
        name,
        settings,
        servers,
        pool: Box::new(pool),
    }))
}

/// The managers of these services, unless something is wrong with them, or was already.
fn servers<S: Service>(
    services: Vec<S>,
    resolves: bool,
    vars: &mut Vars<'_>,
    (name, prefix, url): (&str, &str, &str),
    mistakes: &mut Vec<Mistake>,
) -> Option<Vec<Server<S::Manager>>> {
    if resolves && !services.iter().any(|service| service.host_name().is_some()) {
        let text = vars.text("POOL_RESOLVE_INTERVAL").unwrap_or_default();
        let accepted = "none unless a server of PostgreSQL or Redis has a host name, which is \
                        looked up";
        vars.mistake("POOL_RESOLVE_INTERVAL", &text, accepted);
    }
    if !vars.is_good() {
        return None;
    }
    let mut servers = Vec::new();
    for service in services {
        let lookup = service.host_name().filter(|_| resolves).map(|name| {
            let service = service.clone();
            let make = move |address| service.at(address).manager();
            (name, Box::new(make) as Make<S::Manager>)
        });
        // The manager reads certificates and keys.
        match service.manager() {
            Ok(manager) => servers.push(Server { manager, lookup }),
            Err(error) => match file_of(vars, prefix, url, error.message()) {
                Some((variable, value)) => {
                    let accepted = format!("PEM files ({})", error.message());
                    vars.mistake(&variable, &value, &accepted);
                }
                None => mistakes.push(free(format!("pool {name}: {}", error.message()))),
            },
        }
    }
    Some(servers)
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
        vars.written(url)?;
        Some((url.to_owned(), "***".to_owned()))
    };
    named.or_else(|| in_url(vars))
}

#[cfg(all(
    test,
    feature = "postgres",
    feature = "redis",
    feature = "mongodb",
    feature = "http",
    feature = "batch",
    feature = "toml"
))]
mod tests;
