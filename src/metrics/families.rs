//! The names that machines know the figures by: one table for Prometheus, for the `metrics`
//! facade and for the README.
//!
//! What OpenTelemetry's conventions for database clients name has their name in Prometheus'
//! spelling (`db.client.connection.wait_time` is `db_client_connection_wait_time_seconds`);
//! the rest begins with `millpond_`, and what Prometheus' own client libraries tell of a
//! process with `process_`.

use std::time::SystemTime;

use super::Snapshot;
use super::distribution::Distribution;
#[cfg(feature = "audit")]
use crate::audit::AuditMetrics;
#[cfg(feature = "batch")]
use crate::batch::BatchMetrics;
use crate::health::Health;
use crate::pool::PoolMetrics;
use crate::recovery::BreakerState;
use crate::resources::ResourceMetrics;

/// A figure's name, what it means, and how it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Family {
    /// The name, as Prometheus writes it.
    pub name: &'static str,
    /// What it counts or measures.
    pub help: &'static str,
    /// How it behaves.
    pub kind: FamilyKind,
}

/// How a figure behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FamilyKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Values in buckets.
    Histogram,
    /// A gauge whose conventional name is one that Prometheus keeps for histograms.
    Untyped,
}

/// One figure of a [`Snapshot`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Sample<'a> {
    /// What it is.
    pub family: &'static Family,
    /// What tells it from others of its family: names and values.
    pub labels: &'a [(&'static str, &'a str)],
    /// How much.
    pub value: Value<'a>,
}

/// The value of a [`Sample`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Value<'a> {
    /// Of a counter or gauge.
    Number(f64),
    /// Of a histogram.
    Distribution(&'a Distribution),
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number as f64)
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Number(f64::from(number))
    }
}

impl<'a> From<&'a Distribution> for Value<'a> {
    fn from(distribution: &'a Distribution) -> Self {
        Self::Distribution(distribution)
    }
}

/// Takes the samples of one thing in one family: the label that tells them apart, if any, and
/// the value.
type Emit<'a> = dyn FnMut(Option<(&'static str, &str)>, Value<'_>) + 'a;

/// A family, and how to read it off a `T`.
type Row<T> = (Family, fn(&T, &mut Emit<'_>));

const fn counter(name: &'static str, help: &'static str) -> Family {
    let kind = FamilyKind::Counter;
    Family { name, help, kind }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    let kind = FamilyKind::Gauge;
    Family { name, help, kind }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    let kind = FamilyKind::Histogram;
    Family { name, help, kind }
}

const STATE: &str = "db_client_connection_state";
const ERROR: &str = "error_type";

/// Health as a number.
fn level(health: Health) -> f64 {
    match health {
        Health::Up => 1.0,
        Health::Degraded => 0.5,
        Health::Down => 0.0,
    }
}

static POOL: &[Row<PoolMetrics>] = &[
    (
        Family {
            name: "db_client_connection_count",
            help: "Connections, by what they do.",
            kind: FamilyKind::Untyped,
        },
        |pool, emit| {
            let state = &pool.state;
            emit(Some((STATE, "idle")), state.idle_connections.into());
            emit(Some((STATE, "used")), state.leased.into());
            emit(Some((STATE, "in_care")), state.in_care.into());
        },
    ),
    (
        gauge(
            "db_client_connection_max",
            "The most connections that may exist.",
        ),
        |pool, emit| emit(None, pool.state.max_size.into()),
    ),
    (
        gauge(
            "millpond_pool_connection_limit",
            "The most that may exist now: fewer while the server is overloaded.",
        ),
        |pool, emit| emit(None, pool.state.limit.into()),
    ),
    (
        gauge(
            "db_client_connection_idle_min",
            "Idle connections kept ready.",
        ),
        |pool, emit| emit(None, pool.min_idle.into()),
    ),
    (
        gauge(
            "db_client_connection_pending_requests",
            "Callers that wait for a connection.",
        ),
        |pool, emit| emit(None, pool.state.waiters.into()),
    ),
    (
        counter(
            "db_client_connection_timeouts_total",
            "Callers that got no connection in time.",
        ),
        |pool, emit| emit(None, pool.timeouts.into()),
    ),
    (
        histogram(
            "db_client_connection_create_time_seconds",
            "Time to establish a connection.",
        ),
        |pool, emit| emit(None, (&pool.create_time).into()),
    ),
    (
        histogram(
            "db_client_connection_wait_time_seconds",
            "Time to obtain a connection.",
        ),
        |pool, emit| emit(None, (&pool.wait_time).into()),
    ),
    (
        histogram(
            "db_client_connection_use_time_seconds",
            "Time that a connection was held.",
        ),
        |pool, emit| emit(None, (&pool.use_time).into()),
    ),
    (
        histogram(
            "db_client_operation_duration_seconds",
            "Time that an operation took, waiting and repeating included.",
        ),
        |pool, emit| {
            emit(
                Some(("outcome", "ok")),
                (&pool.operations.response_time).into(),
            );
            emit(
                Some(("outcome", "error")),
                (&pool.operations.failed_time).into(),
            );
        },
    ),
    (
        counter(
            "millpond_pool_operation_errors_total",
            "Operations that failed, by kind.",
        ),
        |pool, emit| {
            for (kind, count) in &pool.operations.failed {
                emit(Some((ERROR, kind.as_str())), (*count).into());
            }
        },
    ),
    (
        counter(
            "millpond_pool_operation_retries_total",
            "Attempts beyond the first.",
        ),
        |pool, emit| emit(None, pool.operations.retries.into()),
    ),
    (
        gauge(
            "millpond_pool_recent_response_time_seconds",
            "Mean of the last requests.",
        ),
        |pool, emit| {
            emit(
                None,
                pool.operations.recent.response_time.as_secs_f64().into(),
            );
        },
    ),
    (
        gauge(
            "millpond_pool_recent_error_ratio",
            "Share of the last requests that failed.",
        ),
        |pool, emit| emit(None, pool.operations.recent.error_rate.into()),
    ),
    (
        counter("millpond_pool_leases_total", "Leases that ended."),
        |pool, emit| emit(None, pool.leases.into()),
    ),
    (
        counter(
            "millpond_pool_held_seconds_total",
            "Time that these were held.",
        ),
        |pool, emit| emit(None, pool.held.as_secs_f64().into()),
    ),
    (
        counter(
            "millpond_pool_connections_created_total",
            "Connections established.",
        ),
        |pool, emit| emit(None, pool.created.into()),
    ),
    (
        counter(
            "millpond_pool_connect_failures_total",
            "Attempts to connect that failed, by kind.",
        ),
        |pool, emit| {
            for (kind, count) in &pool.connect_failures {
                emit(Some((ERROR, kind.as_str())), (*count).into());
            }
        },
    ),
    (
        counter(
            "millpond_pool_connections_closed_total",
            "Connections closed, by reason.",
        ),
        |pool, emit| {
            for (reason, count) in &pool.closed {
                emit(Some(("reason", reason.as_str())), (*count).into());
            }
        },
    ),
    (
        gauge("millpond_pool_connecting", "Connections being established."),
        |pool, emit| emit(None, pool.state.connecting.into()),
    ),
    (
        gauge(
            "millpond_pool_utilization_ratio",
            "Share of the connections that is leased.",
        ),
        |pool, emit| emit(None, pool.utilization().into()),
    ),
    (
        counter("millpond_pool_leaks_total", "Leases reported as leaked."),
        |pool, emit| emit(None, pool.leaks.into()),
    ),
    (
        counter(
            "millpond_pool_deadlocks_total",
            "Deadlocks of threads that hold and want connections.",
        ),
        |pool, emit| emit(None, pool.deadlocks.into()),
    ),
    (
        gauge(
            "millpond_pool_breaker_open",
            "The circuit breaker: 1 open, 0.5 half-open, 0 closed.",
        ),
        |pool, emit| {
            let open = match pool.breaker {
                BreakerState::Closed => 0.0,
                BreakerState::HalfOpen => 0.5,
                BreakerState::Open => 1.0,
            };
            emit(None, open.into());
        },
    ),
    (
        counter(
            "millpond_pool_breaker_opened_total",
            "Times that the circuit breaker opened.",
        ),
        |pool, emit| emit(None, pool.breaker_opened.into()),
    ),
    (
        gauge("millpond_pool_health", "1 up, 0.5 degraded, 0 down."),
        |pool, emit| emit(None, level(pool.health).into()),
    ),
    (
        gauge(
            "millpond_certificate_expiry_timestamp_seconds",
            "When a certificate expires, by whose it is, in seconds since 1970.",
        ),
        |pool, emit| {
            for certificate in &pool.certificates {
                let of = certificate.of.as_str();
                let since = certificate
                    .expires_at
                    .duration_since(SystemTime::UNIX_EPOCH);
                let seconds = since.unwrap_or_default().as_secs_f64();
                emit(Some(("certificate", of)), seconds.into());
            }
        },
    ),
];

static PROCESS: &[Row<ResourceMetrics>] = &[
    (
        gauge("process_resident_memory_bytes", "Memory in use."),
        |process, emit| emit(None, process.memory_bytes.into()),
    ),
    (
        counter("process_cpu_seconds_total", "Processor time used."),
        |process, emit| emit(None, process.cpu_seconds.into()),
    ),
    (
        gauge("process_open_fds", "Open file descriptors."),
        |process, emit| emit(None, process.open_files.into()),
    ),
    (gauge("process_threads", "Threads."), |process, emit| {
        emit(None, process.threads.into());
    }),
    (
        gauge(
            "millpond_memory_limit_bytes",
            "Memory that may be used, if that is limited.",
        ),
        |process, emit| {
            if let Some(limit) = process.memory_limit_bytes {
                emit(None, limit.into());
            }
        },
    ),
    (
        gauge(
            "millpond_cpu_ratio",
            "Share of the allowed processor time that is used.",
        ),
        |process, emit| emit(None, (process.cpu_percent / 100.0).into()),
    ),
    (
        gauge("millpond_shedding", "1 while load is shed, by cause."),
        |process, emit| {
            let on = |short| u64::from(short).into();
            emit(Some(("cause", "memory")), on(process.short_of_memory));
            emit(Some(("cause", "cpu")), on(process.short_of_cpu));
        },
    ),
    (
        counter("millpond_sheds_total", "Times that shedding began."),
        |process, emit| emit(None, process.sheds.into()),
    ),
    (
        counter(
            "millpond_refused_for_resources_total",
            "Operations refused while load was shed.",
        ),
        |process, emit| emit(None, process.refused.into()),
    ),
];

/// The names of the priorities, as a queue lists them.
#[cfg(feature = "batch")]
const PRIORITIES: [&str; 4] = ["critical", "high", "normal", "low"];

#[cfg(feature = "batch")]
static BATCH: &[Row<BatchMetrics>] = &[
    (
        counter("millpond_batch_submitted_total", "Operations accepted."),
        |batch, emit| emit(None, batch.submitted.into()),
    ),
    (
        counter(
            "millpond_batch_refused_total",
            "Operations that submit handed back.",
        ),
        |batch, emit| emit(None, batch.refused.into()),
    ),
    (
        counter(
            "millpond_batch_operations_total",
            "Operations that have their outcome.",
        ),
        |batch, emit| {
            emit(Some(("outcome", "done")), batch.done.into());
            emit(Some(("outcome", "rejected")), batch.rejected.into());
            emit(Some(("outcome", "not_executed")), batch.not_executed.into());
            emit(Some(("outcome", "unknown")), batch.unknown.into());
        },
    ),
    (
        gauge(
            "millpond_batch_queued",
            "Operations in the queue, by priority.",
        ),
        |batch, emit| {
            for (priority, count) in PRIORITIES.iter().zip(batch.queued_by_priority) {
                emit(Some(("priority", priority)), (count as u64).into());
            }
        },
    ),
    (
        gauge(
            "millpond_batch_queued_bytes",
            "Bytes of the operations in the queue.",
        ),
        |batch, emit| emit(None, (batch.queued_bytes as u64).into()),
    ),
    (
        gauge("millpond_batch_running_groups", "Groups being executed."),
        |batch, emit| emit(None, (batch.running as u64).into()),
    ),
    (
        gauge(
            "millpond_batch_quarantined",
            "Operations in the quarantine.",
        ),
        |batch, emit| emit(None, (batch.quarantined as u64).into()),
    ),
    (
        counter(
            "millpond_batch_retries_total",
            "Attempts that were repeated.",
        ),
        |batch, emit| emit(None, batch.retries.into()),
    ),
    (
        counter(
            "millpond_batch_splits_total",
            "Times that a group was split to find what is bad in it.",
        ),
        |batch, emit| emit(None, batch.splits.into()),
    ),
    (
        counter("millpond_batch_flushes_total", "Groups sent off, by cause."),
        |batch, emit| {
            let flushed = &batch.flushed;
            emit(Some(("cause", "free")), flushed.free.into());
            emit(Some(("cause", "full")), flushed.full.into());
            emit(Some(("cause", "due")), flushed.due.into());
            emit(Some(("cause", "deadline")), flushed.deadline.into());
            emit(Some(("cause", "asked")), flushed.asked.into());
            emit(Some(("cause", "closing")), flushed.closing.into());
        },
    ),
    (
        histogram(
            "millpond_batch_queue_time_seconds",
            "Time in the queue before the first attempt.",
        ),
        |batch, emit| emit(None, (&batch.queue_time).into()),
    ),
    (
        histogram("millpond_batch_group_size", "Operations in a group."),
        |batch, emit| emit(None, (&batch.group_size).into()),
    ),
    (
        histogram(
            "millpond_batch_group_time_seconds",
            "Time that a group took.",
        ),
        |batch, emit| emit(None, (&batch.group_time).into()),
    ),
];

#[cfg(feature = "audit")]
static AUDIT: &[Row<AuditMetrics>] = &[
    (
        counter(
            "millpond_audit_written_total",
            "Operations in the audit log.",
        ),
        |audit, emit| emit(None, audit.written.into()),
    ),
    (
        counter(
            "millpond_audit_dropped_total",
            "Operations that the audit log could not take.",
        ),
        |audit, emit| emit(None, audit.dropped.into()),
    ),
];

static ALERT: Family = gauge("millpond_alert_firing", "1 for each alert that fires.");

impl Snapshot {
    /// Shows every figure to `see`, those of a family one after another.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// # let hub = millpond::Hub::new();
    /// # hub.watch(&millpond::Pool::new(manager)?);
    /// let mut names = Vec::new();
    /// hub.metrics().visit(|sample| names.push(sample.family.name));
    /// assert!(names.contains(&"db_client_connection_count"));
    /// # Ok(()) }
    /// ```
    pub fn visit(&self, mut see: impl FnMut(Sample<'_>)) {
        for (family, read) in POOL {
            for pool in &self.pools {
                let labels = [
                    ("db_client_connection_pool_name", &*pool.name),
                    ("db_system_name", system(pool.backend)),
                ];
                read(pool, &mut |label, value| {
                    show(&mut see, family, &labels, label, value);
                });
            }
        }
        #[cfg(feature = "batch")]
        for (family, read) in BATCH {
            for batch in &self.batches {
                let labels = [
                    ("batch", &*batch.name),
                    ("db_client_connection_pool_name", &*batch.pool),
                ];
                read(batch, &mut |label, value| {
                    show(&mut see, family, &labels, label, value);
                });
            }
        }
        for alert in &self.alerts {
            let labels = [("alert", &*alert.rule), ("subject", &*alert.subject)];
            let severity = ("severity", alert.severity.as_str());
            show(
                &mut see,
                &ALERT,
                &labels,
                Some(severity),
                Value::Number(1.0),
            );
        }
        #[cfg(feature = "audit")]
        if let Some(audit) = &self.audit {
            for (family, read) in AUDIT {
                read(audit, &mut |label, value| {
                    show(&mut see, family, &[], label, value);
                });
            }
        }
        for (family, read) in PROCESS {
            read(&self.resources, &mut |label, value| {
                show(&mut see, family, &[], label, value);
            });
        }
    }
}

/// OpenTelemetry's name of a backend.
fn system(backend: &'static str) -> &'static str {
    if backend == "postgres" {
        "postgresql"
    } else {
        backend
    }
}

fn show(
    see: &mut impl FnMut(Sample<'_>),
    family: &'static Family,
    labels: &[(&'static str, &str)],
    own: Option<(&'static str, &str)>,
    value: Value<'_>,
) {
    let labels: Vec<_> = labels.iter().copied().chain(own).collect();
    see(Sample {
        family,
        labels: &labels,
        value,
    });
}
