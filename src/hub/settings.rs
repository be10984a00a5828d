//! A hub's settings.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Hub;
use crate::alerts::{HandleAlert, LogAlerts, Outlet, Rule};
#[cfg(all(feature = "audit", feature = "_net"))]
use crate::audit::Audit;
#[cfg(feature = "_net")]
use crate::config::Config;

pub(super) struct Settings {
    pub(super) sample_interval: Duration,
    pub(super) history_interval: Duration,
    pub(super) history_depth: usize,
    pub(super) log_interval: Duration,
    #[cfg(feature = "_net")]
    pub(super) config: Config,
    /// Held, and nothing else.
    #[cfg(all(feature = "audit", feature = "_net"))]
    pub(super) audit: Option<Audit>,
    pub(super) rules: Vec<Rule>,
    pub(super) outlets: Vec<Arc<Outlet>>,
    #[cfg(feature = "metrics")]
    pub(super) metrics_facade: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sample_interval: Duration::from_secs(1),
            history_interval: Duration::from_secs(10),
            history_depth: 8640,
            log_interval: Duration::from_secs(60),
            #[cfg(feature = "_net")]
            config: Config::new(),
            #[cfg(all(feature = "audit", feature = "_net"))]
            audit: None,
            rules: Rule::defaults(),
            outlets: vec![Outlet::new(Box::new(LogAlerts))],
            #[cfg(feature = "metrics")]
            metrics_facade: false,
        }
    }
}

/// Settings for a [`Hub`].
///
/// ```
/// use std::time::Duration;
/// use millpond::Hub;
///
/// // A point each minute for a week.
/// let hub = Hub::builder().history(Duration::from_secs(60), 7 * 24 * 60).build();
/// ```
#[derive(Default)]
#[must_use = "settings do nothing before `build`"]
pub struct HubBuilder {
    pub(super) settings: Settings,
}

impl fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("HubBuilder")
            .field("sample_interval", &settings.sample_interval)
            .field("history_interval", &settings.history_interval)
            .field("history_depth", &settings.history_depth)
            .field("log_interval", &settings.log_interval)
            .field("rules", &settings.rules)
            .finish_non_exhaustive()
    }
}

impl HubBuilder {
    /// How often figures are sampled and alerts judged; each second by default, at least ten
    /// milliseconds.
    pub fn sample_interval(mut self, interval: Duration) -> Self {
        self.settings.sample_interval = interval.max(Duration::from_millis(10));
        self
    }

    /// How often a point of the long history is taken, and how many are kept; each ten seconds
    /// and 8,640, which is a day, by default. A point takes some 64 bytes for each pool.
    pub fn history(mut self, interval: Duration, depth: usize) -> Self {
        self.settings.history_interval = interval;
        self.settings.history_depth = depth;
        self
    }

    /// How often the log gets a record of the figures of each pool and batch, unless they are
    /// [switched off](crate::logging::Switches::metrics); each minute by default, at most at each
    /// sample.
    pub fn log_interval(mut self, interval: Duration) -> Self {
        self.settings.log_interval = interval;
        self
    }

    /// Whether each sample is passed on to the recorder that is installed with the `metrics`
    /// facade; `false` by default.
    #[cfg(feature = "metrics")]
    pub fn metrics_facade(mut self, on: bool) -> Self {
        self.settings.metrics_facade = on;
        self
    }

    /// One more rule, beside those that there are [by default](Rule::defaults).
    pub fn alert(mut self, rule: Rule) -> Self {
        self.settings.rules.push(rule);
        self
    }

    /// These rules instead of those so far.
    pub fn alerts(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.settings.rules = rules.into_iter().collect();
        self
    }

    /// One more that is told of alerts, beside the log.
    pub fn on_alert(mut self, handler: impl HandleAlert) -> Self {
        self.settings.outlets.push(Outlet::new(Box::new(handler)));
        self
    }

    /// The hub.
    pub fn build(self) -> Hub {
        Hub::start(self.settings)
    }
}
