//! Everything at one moment.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::distribution::Distribution;
use crate::alerts::Alert;
#[cfg(feature = "audit")]
use crate::audit::AuditMetrics;
#[cfg(feature = "batch")]
use crate::batch::BatchMetrics;
use crate::error::ErrorKind;
use crate::health::HealthReport;
use crate::metrics::moment;
use crate::pool::PoolMetrics;
use crate::recovery::seconds;
use crate::resources::ResourceMetrics;

/// What the pools and batches of a [`Hub`](crate::Hub), and the process, did until one moment.
/// It serialises, prints as a table, and gives Prometheus' text with
/// [`prometheus`](Self::prometheus).
///
/// Within each pool and batch the figures add up: a total is the sum of its parts.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// When it was taken.
    #[serde(with = "moment")]
    pub taken_at: SystemTime,
    /// How long the hub has existed.
    #[serde(rename = "uptime_seconds", with = "seconds")]
    pub uptime: Duration,
    /// The pools, in the order in which the hub got to know them.
    pub pools: Vec<PoolMetrics>,
    /// The batches, in the same way.
    #[cfg(feature = "batch")]
    pub batches: Vec<BatchMetrics>,
    /// The process.
    pub resources: ResourceMetrics,
    /// The audit log, if one is installed.
    #[cfg(feature = "audit")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditMetrics>,
    /// How everything is.
    pub health: HealthReport,
    /// The alerts that fire.
    pub alerts: Vec<Alert>,
}

/// What operations of a pool came to: those run by [`Pool::execute`](crate::Pool::execute),
/// by `execute` on a lease and by batches, and those that a program
/// [records](crate::PooledConnection::record) itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OperationMetrics {
    /// Operations that succeeded.
    pub succeeded: u64,
    /// Operations that failed, by kind; kinds that did not occur are left out.
    pub failed: Vec<(ErrorKind, u64)>,
    /// How long those took that succeeded, waiting for a connection and repeating included.
    pub response_time: Distribution,
    /// How long those took that failed.
    pub failed_time: Distribution,
    /// Attempts beyond an operation's first.
    pub retries: u64,
    /// The last requests.
    pub recent: Recent,
}

impl OperationMetrics {
    /// All that are over.
    pub fn total(&self) -> u64 {
        self.succeeded + self.failures()
    }

    /// Those that failed, of any kind.
    pub fn failures(&self) -> u64 {
        self.failed.iter().map(|(_, count)| count).sum()
    }
}

/// The last requests of a pool, as many as
/// [`response_time_window`](crate::Builder::response_time_window) and
/// [`error_rate_window`](crate::Builder::error_rate_window) say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Recent {
    /// The mean of their response times.
    #[serde(rename = "response_time_seconds", with = "seconds")]
    pub response_time: Duration,
    /// The longest of their response times.
    #[serde(rename = "longest_seconds", with = "seconds")]
    pub longest: Duration,
    /// The share of them that failed, from 0 to 1.
    pub error_rate: f64,
    /// How many requests this share is of.
    pub requests: u64,
}
