//! What looks like a mistake in a configuration, but may be meant.

use super::known::{BACKENDS, KNOWN, OF_PROCESS, SHARED, known, nearest};
use super::layers::{Config, Layer, prefix_of};
use super::text::shown;

impl Config {
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
}

fn has_our_prefix(name: &str) -> bool {
    let backends = BACKENDS.iter().map(|(_, prefix, _)| prefix);
    let all = backends.chain(&SHARED).chain(&OF_PROCESS);
    all.into_iter().any(|prefix| name.starts_with(prefix))
}
