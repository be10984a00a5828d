//! The names that machines know the figures by: one table for Prometheus, for the `metrics`
//! facade and for the README.
//!
//! What OpenTelemetry's conventions for database clients name has their name in Prometheus'
//! spelling (`db.client.connection.wait_time` is `db_client_connection_wait_time_seconds`);
//! the rest begins with `millpond_`, and what Prometheus' own client libraries tell of a
//! process with `process_`.

#[cfg(feature = "batch")]
mod batch;
mod pool;

#[cfg(feature = "batch")]
use self::batch::BATCH;
use self::pool::POOL;
use super::Snapshot;
use super::distribution::Distribution;
#[cfg(feature = "audit")]
use crate::audit::AuditMetrics;
use crate::health::Health;
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

/// Health as a number.
fn level(health: Health) -> f64 {
    match health {
        Health::Up => 1.0,
        Health::Degraded => 0.5,
        Health::Down => 0.0,
    }
}

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
