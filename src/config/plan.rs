//! What a configuration comes to: the pools to open, and the settings of the process.

use std::collections::{BTreeMap, HashSet};

use super::known::{BACKENDS, is_of_pool, known};
use super::layers::{Config, Layer, is_name, prefix_of};
use super::pools::{PoolPlan, Scope};
use super::sealed::Protection;
use super::text::shown;
use super::vars::Mistake;
#[cfg(feature = "audit")]
use crate::audit::AuditBuilder;
use crate::logging::Switches;
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
            pools.extend(PoolPlan::read(
                config,
                Scope::Everybody,
                backend,
                &mut mistakes,
            ));
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
            let scope = Scope::Pool(name);
            pools.extend(PoolPlan::read(config, scope, backend, &mut mistakes));
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

pub(super) fn free(text: String) -> Mistake {
    Mistake {
        setting: String::new(),
        value: String::new(),
        accepted: text,
    }
}
