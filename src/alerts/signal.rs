//! What rules watch, and how it is read off two snapshots.

use std::time::SystemTime;

use serde::Serialize;

#[cfg(feature = "batch")]
use crate::batch::BatchMetrics;
use crate::error::ErrorKind;
use crate::health::{Concern, Health, PoolHealth};
use crate::metrics::Snapshot;
use crate::pool::PoolMetrics;
use crate::recovery::BreakerState;

/// A figure that a rule watches. What is said to be *of the last samples* is of ten of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Signal {
    /// Of a pool: 0 up, 0.5 degraded, 1 down.
    Health,
    /// Of a pool: 1 while its server takes no writes and the pool is meant for some.
    ReadOnly,
    /// Of a pool: 1 while the server refuses its login.
    Authentication,
    /// Of a pool: its circuit breaker: 0 closed, 0.5 half-open, 1 open.
    Breaker,
    /// Of a pool: the days until its next certificate expires, below 0, as it must grow to
    /// fire: −14 is in two weeks, and above 0 it has expired.
    CertificateExpiry,
    /// Of a pool: failed attempts to connect a second, of the last samples.
    ConnectFailures,
    /// Of a pool: the 95th percentile of the response time in seconds, of the last samples.
    ResponseTimeP95,
    /// Of a pool: the share of operations that failed, of the last samples.
    ErrorRate,
    /// Of a pool: callers that wait.
    Waiters,
    /// Of a pool: the share of its connections that is leased, counting callers that wait as
    /// connections that are missing.
    Saturation,
    /// Of a pool: leases reported as leaked, of the last samples.
    Leaks,
    /// Of a batch: operations in the queue.
    QueueDepth,
    /// Of a batch: operations of which nobody knows, of the last samples.
    UnknownOutcomes,
    /// Of the process: operations that the [audit log](crate::audit) could not take, of the last
    /// samples, if one is installed.
    #[cfg(feature = "audit")]
    AuditDropped,
    /// Of the process: memory as a share of its limit, if there is one.
    Memory,
    /// Of the process: processor time in percent of what it may use.
    Cpu,
}

/// The least operations of which a share is worth talking about.
const ENOUGH: u64 = 5;

impl Signal {
    /// The figure of a pool: now, and in the last `seconds`.
    pub(super) fn of_pool(
        self,
        before: Option<&PoolMetrics>,
        seconds: f64,
        now: &PoolMetrics,
        health: &PoolHealth,
        today: SystemTime,
    ) -> Option<f64> {
        let yes = |is: bool| Some(f64::from(u8::from(is)));
        let grown =
            |of: fn(&PoolMetrics) -> u64| before.map(|before| of(now).saturating_sub(of(before)));
        match self {
            Self::Health => Some(match health.health {
                Health::Up => 0.0,
                Health::Degraded => 0.5,
                Health::Down => 1.0,
            }),
            Self::ReadOnly => yes(health
                .reasons
                .iter()
                .any(|reason| reason.concern == Concern::ReadOnly)),
            Self::Authentication => yes(health
                .reasons
                .iter()
                .any(|reason| reason.error == Some(ErrorKind::Authentication))),
            Self::Breaker => Some(match now.breaker {
                BreakerState::Closed => 0.0,
                BreakerState::HalfOpen => 0.5,
                BreakerState::Open => 1.0,
            }),
            Self::CertificateExpiry => {
                let past = now.certificates.iter().map(|one| -one.days_left(today));
                past.reduce(f64::max)
            }
            Self::ConnectFailures => Some(grown(|pool| pool.create_failed)? as f64 / seconds),
            Self::ResponseTimeP95 => {
                let times = &now.operations.response_time;
                let times = times.since(&before?.operations.response_time);
                (times.count() >= ENOUGH).then(|| times.quantile(0.95))
            }
            Self::ErrorRate => {
                let failed = grown(|pool| pool.operations.failures())?;
                let all = grown(|pool| pool.operations.total())?;
                (all >= ENOUGH).then(|| failed as f64 / all as f64)
            }
            Self::Waiters => Some(f64::from(now.state.waiters)),
            Self::Saturation => {
                let wanted = now.state.leased + now.state.waiters;
                Some(f64::from(wanted) / f64::from(now.state.max_size.max(1)))
            }
            Self::Leaks => Some(grown(|pool| pool.leaks)? as f64),
            Self::QueueDepth | Self::UnknownOutcomes | Self::Memory | Self::Cpu => None,
            #[cfg(feature = "audit")]
            Self::AuditDropped => None,
        }
    }

    /// The figure of a batch.
    #[cfg(feature = "batch")]
    pub(super) fn of_batch(self, before: Option<&BatchMetrics>, now: &BatchMetrics) -> Option<f64> {
        match self {
            Self::QueueDepth => Some(now.queued as f64),
            Self::UnknownOutcomes => Some(now.unknown.saturating_sub(before?.unknown) as f64),
            _ => None,
        }
    }

    /// The figure of the process.
    #[cfg_attr(not(feature = "audit"), expect(unused_variables))]
    pub(super) fn of_process(self, before: Option<&Snapshot>, now: &Snapshot) -> Option<f64> {
        let resources = &now.resources;
        match self {
            Self::Memory => {
                Some(resources.memory_bytes as f64 / resources.memory_limit_bytes? as f64)
            }
            Self::Cpu => Some(resources.cpu_percent),
            #[cfg(feature = "audit")]
            Self::AuditDropped => {
                let dropped = before?.audit.map_or(0, |audit| audit.dropped);
                Some(now.audit?.dropped.saturating_sub(dropped) as f64)
            }
            _ => None,
        }
    }

    /// What its value means, in words.
    pub(super) fn describe(self, value: f64) -> String {
        match self {
            Self::Health if value >= 1.0 => "the pool is down".to_owned(),
            Self::Health => "the pool is degraded".to_owned(),
            Self::ReadOnly => "the server takes no writes".to_owned(),
            Self::Authentication => "the server refuses the login".to_owned(),
            Self::Breaker => "the circuit breaker keeps operations from the server".to_owned(),
            Self::CertificateExpiry if value < 0.0 => {
                format!("a certificate expires in {:.1} days", -value)
            }
            Self::CertificateExpiry => "a certificate has expired".to_owned(),
            Self::ConnectFailures => format!("{value:.1} attempts to connect fail each second"),
            Self::ResponseTimeP95 => {
                format!("95 of 100 operations take up to {:.1} ms", value * 1e3)
            }
            Self::ErrorRate => format!("{:.1} % of the operations fail", value * 100.0),
            Self::Waiters => format!("{value:.0} callers wait for a connection"),
            Self::Saturation => format!(
                "callers want {:.0} % of the connections that there may be; hold them for a \
                 shorter time, or raise max_size (POOL_MAX_CONNECTIONS)",
                value * 100.0
            ),
            Self::Leaks => {
                format!("{value:.0} leases are held suspiciously long; the log says where")
            }
            Self::QueueDepth => format!("{value:.0} operations are queued"),
            Self::UnknownOutcomes => format!("of {value:.0} operations nobody knows the outcome"),
            #[cfg(feature = "audit")]
            Self::AuditDropped => {
                format!("{value:.0} operations are missing from the audit log; the log says why")
            }
            Self::Memory => format!("{:.0} % of the allowed memory is used", value * 100.0),
            Self::Cpu => format!("{value:.0} % of the allowed processor time is used"),
        }
    }
}
