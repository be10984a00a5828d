//! The configuration: what every setting is, and who said so.
//!
//! Settings are variables with a name such as `POOL_MAX_CONNECTIONS`. [`Config`] finds their
//! values in layers, of which a later one overrules an earlier one: files, the environment, and
//! what the program sets, each as it was when it was added. Backends, the pool's builder, batches, the exporter and the logger read
//! their own variables, from a `Config` or from the bare environment.
//!
//! Invariants: all mistakes are reported at once, each with its variable, the value (never a
//! secret one), what is accepted, and where it is set; a secret is never printed, whatever the
//! mistake, unless sealed; what was read of one is wiped; every variable that is read is in the
//! table of `known.rs`.

#[cfg(feature = "_net")]
mod check;
#[cfg(all(feature = "toml", feature = "_net"))]
mod file;
#[cfg(any(feature = "postgres", feature = "redis", feature = "http"))]
mod hosts;
#[cfg(feature = "_net")]
mod known;
#[cfg(feature = "_net")]
mod layers;
#[cfg(feature = "_net")]
mod plan;
#[cfg(feature = "_net")]
mod pools;
#[cfg(all(
    test,
    feature = "postgres",
    feature = "redis",
    feature = "mongodb",
    feature = "http",
    feature = "batch",
    feature = "toml"
))]
mod random;
#[cfg(feature = "_net")]
mod sealed;
#[cfg(feature = "_net")]
mod service;
#[cfg(feature = "_net")]
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod text;
#[cfg(feature = "_net")]
mod url;
mod vars;
#[cfg(feature = "_net")]
mod warnings;

#[cfg(feature = "_net")]
pub use self::check::PlannedPool;
#[cfg(feature = "postgres")]
pub(crate) use self::known::nearest_of;
#[cfg(feature = "_net")]
pub use self::layers::{Config, Value};
#[cfg(feature = "_net")]
pub(crate) use self::plan::Plan;
#[cfg(feature = "_net")]
pub(crate) use self::pools::{Opening, PoolPlan, on_backend};
#[cfg(feature = "_net")]
pub use self::settings::Setting;
pub use self::source::Source;
#[cfg(any(feature = "postgres", feature = "redis", feature = "http"))]
pub(crate) use self::text::ESCAPED;
#[cfg(any(feature = "mongodb", all(feature = "exporter", feature = "_net")))]
pub(crate) use self::text::bare;
#[cfg(any(
    feature = "postgres",
    feature = "redis",
    feature = "mongodb",
    all(feature = "exporter", feature = "_net")
))]
pub(crate) use self::text::is_host;
#[cfg(feature = "mongodb")]
pub(crate) use self::text::shown;
#[cfg(feature = "_net")]
pub(crate) use self::text::{Login, Plain, login, shown_path};
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) use self::text::{host_of, is_address};
pub use self::vars::Mistake;
#[cfg(feature = "_net")]
pub(crate) use self::vars::refusal;
pub(crate) use self::vars::{Found, Vars};

use zeroize::Zeroizing;

/// What the process's environment says of a variable.
fn environment(name: &str) -> Option<Found> {
    let value = std::env::var_os(name)?;
    Some(Found {
        text: value.into_string().ok().map(Zeroizing::new),
        source: Source::Environment(name.into()),
        rank: 0,
    })
}
