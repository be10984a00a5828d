//! What looks like a mistake in a configuration, but may be meant.

use super::known::{BACKENDS, KNOWN, OF_PROCESS, SHARED, known, nearest};
use super::layers::{Config, Layer, prefix_of};
use super::text::shown;
#[cfg(feature = "redis")]
use super::vars::Vars;
#[cfg(feature = "redis")]
use crate::backend::redis::RedisConfig;
use crate::endpoints::{OF_FLEETS, is_wanted};

impl Config {
    /// What looks like a mistake, but may be meant: variables of the environment with our
    /// prefixes that nobody knows, settings of a backend that is not on, settings of fleets
    /// where there is none, and a socket of Redis beside a host.
    pub fn warnings(&self) -> Vec<String> {
        let prefixes: Vec<_> = self.pools().keys().map(|pool| prefix_of(pool)).collect();
        let mut warnings = Vec::new();
        let environments = self.layers.iter().filter_map(|layer| match layer {
            Layer::Environment(environment) => Some(environment),
            Layer::Values(_) => None,
        });
        for name in environments.flat_map(|environment| environment.names()) {
            if known(name).is_some() {
                continue;
            }
            let own = prefixes.iter().find_map(|prefix| {
                let rest = name.strip_prefix(prefix)?;
                has_our_prefix(rest).then_some(rest)
            });
            let variable = own.unwrap_or(name);
            if has_our_prefix(variable) && known(variable).is_none() && variable != "HTTP_PROXY" {
                let hint = nearest(variable).map(|near| format!("; is it {near}?"));
                let hint = hint.unwrap_or_default();
                let name = shown(name);
                warnings.push(format!("the variable {name} is not known{hint}"));
            }
        }
        warnings.extend(BACKENDS.iter().filter_map(|backend| self.unused(*backend)));
        warnings.extend(self.unused_of_fleets());
        #[cfg(feature = "redis")]
        warnings.extend(self.unused_sockets());
        warnings
    }

    /// Each pool of Redis that has a host, and a socket in its URL that is not used.
    #[cfg(feature = "redis")]
    fn unused_sockets(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut look = |vars: &mut Vars<'_>, pool: Option<&str>| {
            if RedisConfig::leaves_socket(vars) {
                let whose =
                    pool.map_or_else(String::new, |pool| format!(" for pool {}", shown(pool)));
                warnings.push(format!(
                    "REDIS_HOST is set{whose}, so the socket in REDIS_URL is not used: unset one of \
                     them"
                ));
            }
        };
        look(&mut self.vars(), None);
        for (pool, (backend, _)) in &self.pools() {
            if backend == "redis" {
                look(&mut self.vars_of(pool), Some(pool));
            }
        }
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

    /// The first setting of fleets that is everybody's while nobody is one, and the first of each
    /// pool's own that is none.
    fn unused_of_fleets(&self) -> Vec<String> {
        let pools = self.pools();
        let (fleets, single): (Vec<_>, Vec<_>) = pools
            .keys()
            .partition(|pool| is_wanted(&mut self.vars_of(pool)));
        let mut warnings = Vec::new();
        if fleets.is_empty() && !is_wanted(&mut self.vars()) {
            let mut vars = self.vars();
            let unused = OF_FLEETS.iter().find(|name| vars.text(name).is_some());
            warnings.extend(unused.map(|name| {
                format!("{name} is set, but no pool is a fleet: set POOL_BALANCE too")
            }));
        }
        for pool in single {
            let unused = OF_FLEETS
                .iter()
                .find(|name| self.find_own(pool, name).is_some());
            warnings.extend(unused.map(|name| {
                format!(
                    "{name} is set for pool {}, which is no fleet: set POOL_BALANCE for it too",
                    shown(pool)
                )
            }));
        }
        warnings
    }
}

fn has_our_prefix(name: &str) -> bool {
    let backends = BACKENDS.iter().map(|(_, prefix, _)| prefix);
    let all = backends.chain(&SHARED).chain(&OF_PROCESS);
    all.into_iter().any(|prefix| name.starts_with(prefix))
}
