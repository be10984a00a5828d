//! Telling somebody before the users do.
//!
//! A [`Rule`] watches one [`Signal`] of each pool, each batch, or the process. A
//! [`Hub`](crate::Hub) judges its rules at each sample: when a signal has been beyond the
//! rule's threshold for as long as the rule says, the alert *fires*, once; when it has been back
//! beyond the threshold for clearing for as long, it *resolves*, once. What comes of it is told
//! to the [handlers](HandleAlert): the log by default, a function, or a [`Webhook`].
//!
//! Time is the hub's own age, so a clock that is set harms nobody. Rates and percentiles are
//! of the last ten samples.
//!
//! ```
//! use std::time::Duration;
//! use millpond::alerts::{Rule, Severity, Signal};
//! use millpond::Hub;
//!
//! let slow = Rule::new("slow_orders", Signal::ResponseTimeP95)
//!     .pool("orders")
//!     .above(0.25)
//!     .lasting(Duration::from_secs(30))
//!     .severity(Severity::Warning);
//! let hub = Hub::builder()
//!     .alert(slow)
//!     .on_alert(|alert: &millpond::alerts::Alert| eprintln!("{alert}"))
//!     .build();
//! assert!(hub.alerts().firing.is_empty());
//! ```

mod engine;
mod handlers;
mod rule;
mod signal;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

pub(crate) use self::engine::Engine;
pub(crate) use self::handlers::Outlet;
#[cfg(feature = "http")]
pub use self::handlers::Webhook;
pub use self::handlers::{HandleAlert, LogAlerts};
pub use self::rule::Rule;
pub use self::signal::Signal;

use crate::metrics::moment;

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody should look at it today.
    #[default]
    Warning,
    /// Somebody should look at it now.
    Critical,
}

impl Severity {
    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Something is wrong, or is not any more.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Alert {
    /// The rule's name.
    pub rule: Arc<str>,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: a pool's name, a batch's, or `process`.
    pub subject: Arc<str>,
    /// The server's address, if it is about a pool.
    pub endpoint: Arc<str>,
    /// When it fired.
    #[serde(with = "moment")]
    pub since: SystemTime,
    /// When it resolved, if it has.
    #[serde(with = "moment::optional")]
    pub until: Option<SystemTime>,
    /// The signal's value at the last judgement while it fired.
    pub value: f64,
    /// What it must not exceed.
    pub threshold: f64,
    /// What is wrong, and the pool's own reasons.
    pub message: String,
}

impl Alert {
    /// Whether it is still so.
    pub fn is_firing(&self) -> bool {
        self.until.is_none()
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_firing() {
            "firing"
        } else {
            "resolved"
        };
        write!(
            f,
            "{state}: {} ({}) of {}: {}",
            self.rule,
            self.severity.as_str(),
            self.subject,
            self.message
        )
    }
}

/// The alerts of a hub.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct AlertLog {
    /// Those that fire now, the oldest first.
    pub firing: Vec<Alert>,
    /// The last hundred that resolved, the oldest first.
    pub past: Vec<Alert>,
}
