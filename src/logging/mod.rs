//! What Millpond writes to the log, and a logger for programs that have none.
//!
//! Records go through the [`log`] facade to whatever logger the program has, each with its
//! facts as key-values (`pool`, `connection`, ...) beside the text. Beyond troubles, which are
//! always told, there are three kinds that a program switches on and off with [`Switches`]:
//!
//! | target | one record for each | by default |
//! |---|---|---|
//! | `millpond::connections` | connection established or closed | off |
//! | `millpond::operations` | operation that is over: what, where, outcome, time; no values | off |
//! | `millpond::metrics` | minute, pool and batch that a [`Hub`](crate::Hub) watches | on |
//!
//! All are of level `info`. What is switched off costs one relaxed load.
//!
//! [`init_from_env`] (feature `logging`) installs a logger: text or a JSON object per line, to
//! standard error or to a file. A program that has a logger needs nothing of it.
//!
//! # Drivers
//!
//! Drivers log through the same facade, and below `info` some print what must not be in a log:
//! `tokio_postgres` statements and their parameters, `ureq` addresses with their queries,
//! `ureq_proto` heads of requests with logins and tokens, `rustls` what was said in a handshake.
//! The logger of [`init_from_env`] writes nothing of drivers below `info`. In a program with a
//! logger of its own Millpond has no say: give that logger a filter which keeps these targets at
//! `info`, as with `env_logger`
//!
//! ```text
//! RUST_LOG=debug,bson=info,mongodb=info,postgres=info,r2d2=info,redis=info,rustls=info,tokio_postgres=info,ureq=info,ureq_proto=info
//! ```
//!
//! or build it without them: `log`'s feature `release_max_level_info` leaves records below `info`
//! out of a release altogether. What Millpond itself logs, under targets that begin with
//! `millpond`, has no value and no secret at any level; see [`security`](crate::security).
//!
//! # Switches
//!
//! ```
//! use millpond::logging::Switches;
//!
//! Switches::new().connections(true).apply();
//! # Switches::new().apply();
//! ```

#[cfg(feature = "logging")]
mod logger;
mod records;

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::config::Vars;
use crate::error::Error;
use crate::record;

#[cfg(all(feature = "logging", feature = "_net"))]
pub(crate) use self::logger::check;
#[cfg(feature = "logging")]
pub use self::logger::init_from_env;
pub(crate) use self::records::{closed, established, operation, summary, wants_operations};

const CONNECTIONS: u8 = 1;
const OPERATIONS: u8 = 2;
const METRICS: u8 = 4;

/// What is switched on, for the whole process, as loggers are.
static ON: AtomicU8 = AtomicU8::new(METRICS);

/// Which records Millpond makes beyond troubles, in the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "switches do nothing before `apply`"]
pub struct Switches(u8);

impl Default for Switches {
    fn default() -> Self {
        Self::new()
    }
}

impl Switches {
    /// Those by default, whatever was applied before.
    pub fn new() -> Self {
        Self(METRICS)
    }

    /// A record for each connection that is established or closed
    /// (`CONNECTION_POOL_LOG_CONNECTIONS`); `false` by default.
    pub fn connections(self, on: bool) -> Self {
        self.set(CONNECTIONS, on)
    }

    /// A record for each operation that is over, without its values
    /// (`CONNECTION_POOL_LOG_OPERATIONS`); `false` by default.
    pub fn operations(self, on: bool) -> Self {
        self.set(OPERATIONS, on)
    }

    /// A record each minute for each pool and batch that a hub watches
    /// (`CONNECTION_POOL_INCLUDE_METRICS`); `true` by default. The interval is the hub's
    /// ([`HubBuilder::log_interval`](crate::hub::HubBuilder::log_interval)).
    pub fn metrics(self, on: bool) -> Self {
        self.set(METRICS, on)
    }

    fn set(self, which: u8, on: bool) -> Self {
        Self(if on { self.0 | which } else { self.0 & !which })
    }

    /// Takes what the environment says: `CONNECTION_POOL_LOG_CONNECTIONS`,
    /// `CONNECTION_POOL_LOG_OPERATIONS`, `CONNECTION_POOL_INCLUDE_METRICS`.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration), naming each mistake.
    pub fn with_env(self) -> Result<Self, Error> {
        let mut vars = Vars::process();
        let switches = self.with_vars(&mut vars);
        vars.finish()?;
        Ok(switches)
    }

    pub(crate) fn with_vars(mut self, vars: &mut Vars<'_>) -> Self {
        let variables = [
            ("CONNECTION_POOL_LOG_CONNECTIONS", CONNECTIONS),
            ("CONNECTION_POOL_LOG_OPERATIONS", OPERATIONS),
            ("CONNECTION_POOL_INCLUDE_METRICS", METRICS),
        ];
        for (name, which) in variables {
            if let Some(on) = vars.flag(name) {
                self = self.set(which, on);
            }
        }
        self
    }

    /// From now on, everywhere in the process.
    pub fn apply(self) {
        ON.store(self.0, Relaxed);
        record::want(record::LOG, self.0 & OPERATIONS != 0);
    }
}

/// Whether records of this kind are wanted, and anybody takes them.
fn wants(which: u8, target: &str) -> bool {
    ON.load(Relaxed) & which != 0 && log::log_enabled!(target: target, log::Level::Info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_set_one_by_one() {
        let vars = [
            ("CONNECTION_POOL_LOG_OPERATIONS", "yes"),
            ("CONNECTION_POOL_INCLUDE_METRICS", "off"),
        ];
        let lookup = |name: &str| {
            let found = vars.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut vars = Vars::from_lookup(lookup);
        let switches = Switches::new().connections(true).with_vars(&mut vars);
        vars.finish().expect("no mistakes");
        let expected = Switches::new().connections(true).operations(true);
        assert_eq!(switches, expected.metrics(false));
        assert_eq!(
            Switches::new().metrics(false).metrics(true),
            Switches::new()
        );
    }

    #[test]
    fn a_mistake_names_its_variable() {
        let mut vars = Vars::from_lookup(|name| {
            (name == "CONNECTION_POOL_LOG_CONNECTIONS").then(|| "perhaps".into())
        });
        let _ = Switches::new().with_vars(&mut vars);
        let error = vars.finish().expect_err("no flag").to_string();
        assert!(error.contains("CONNECTION_POOL_LOG_CONNECTIONS is `perhaps`"));
    }
}
