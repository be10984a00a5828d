//! Rules: when to fire, when to resolve.

use std::sync::Arc;
use std::time::Duration;

use super::{Severity, Signal};

/// When to fire, and when to resolve.
#[derive(Clone, Debug)]
#[must_use = "a rule does nothing before a hub has it"]
pub struct Rule {
    pub(super) name: Arc<str>,
    pub(super) signal: Signal,
    pub(super) threshold: f64,
    pub(super) clear: f64,
    pub(super) lasting: Duration,
    pub(super) clear_after: Duration,
    pub(super) severity: Severity,
    pub(super) subject: Option<Arc<str>>,
}

impl Rule {
    /// A rule of this name that fires when the signal is above 0, at once, and resolves after
    /// five seconds without.
    pub fn new(name: impl Into<Arc<str>>, signal: Signal) -> Self {
        Self {
            name: name.into(),
            signal,
            threshold: 0.0,
            clear: 0.0,
            lasting: Duration::ZERO,
            clear_after: Duration::from_secs(5),
            severity: Severity::default(),
            subject: None,
        }
    }

    /// Fires above this value; resolves at or below it, unless
    /// [`clear_below`](Self::clear_below) says otherwise.
    pub fn above(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self.clear = threshold;
        self
    }

    /// Resolves at or below this value only, so that a signal about the threshold does not
    /// flap. To be said after [`above`](Self::above).
    pub fn clear_below(mut self, value: f64) -> Self {
        self.clear = value.min(self.threshold);
        self
    }

    /// For how long the signal has to be above before it fires.
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasting = time;
        self
    }

    /// For how long the signal has to be back, or missing, before it resolves.
    pub fn clear_after(mut self, time: Duration) -> Self {
        self.clear_after = time;
        self
    }

    /// How bad it is; a warning by default.
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Only for the pool or batch of this name.
    pub fn pool(mut self, name: impl Into<Arc<str>>) -> Self {
        self.subject = Some(name.into());
        self
    }

    /// The rules that a hub has unless it is told otherwise: a pool down (critical, after two
    /// seconds), degraded (a minute), refused login, read-only server, an open circuit breaker
    /// (two seconds), a certificate in its last two weeks, failing connects (more than one in two
    /// seconds for 15), a tenth of the operations failing for half a minute, saturation for half
    /// a minute, leaks, unknown outcomes, operations missing from the audit log, nine tenths of
    /// the memory limit, and 95 % of the processors for two minutes.
    pub fn defaults() -> Vec<Self> {
        let seconds = Duration::from_secs;
        let rule = |name: &str, signal| Self::new(name, signal);
        vec![
            rule("pool_down", Signal::Health)
                .above(0.75)
                .lasting(seconds(2))
                .severity(Severity::Critical),
            rule("pool_degraded", Signal::Health)
                .above(0.25)
                .lasting(seconds(60)),
            rule("login_refused", Signal::Authentication).severity(Severity::Critical),
            rule("server_read_only", Signal::ReadOnly).severity(Severity::Critical),
            rule("breaker_open", Signal::Breaker).lasting(seconds(2)),
            rule("certificate_expiring", Signal::CertificateExpiry).above(-14.0),
            rule("connects_fail", Signal::ConnectFailures)
                .above(0.5)
                .lasting(seconds(15)),
            rule("operations_fail", Signal::ErrorRate)
                .above(0.1)
                .clear_below(0.05)
                .lasting(seconds(30)),
            rule("pool_saturated", Signal::Saturation)
                .above(1.0)
                .clear_below(0.9)
                .lasting(seconds(30)),
            rule("leases_leak", Signal::Leaks).clear_after(seconds(60)),
            rule("outcomes_unknown", Signal::UnknownOutcomes).clear_after(seconds(60)),
            #[cfg(feature = "audit")]
            rule("audit_incomplete", Signal::AuditDropped).clear_after(seconds(60)),
            rule("memory_short", Signal::Memory)
                .above(0.9)
                .clear_below(0.85)
                .lasting(seconds(5)),
            rule("processors_short", Signal::Cpu)
                .above(95.0)
                .clear_below(85.0)
                .lasting(seconds(120)),
        ]
    }
}
