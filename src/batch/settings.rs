//! How a batch is set up.

use std::fmt;
use std::time::Duration;

use super::Batch;
use super::gate::{MOST_BYTES, MOST_OPERATIONS};
use super::lender::Lender;
use crate::backend::Backend;
use crate::config::Vars;
use crate::error::{Error, ErrorKind, Phase};
use crate::recovery::RetryPolicy;

/// What happens to a new operation when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// `submit` waits for room for at most this long, then refuses.
    Block(Duration),
    /// `submit` refuses at once and hands the operation back.
    Refuse,
    /// The youngest of the least urgent operations in the queue makes room, perhaps the
    /// new one itself: its outcome is [`NotExecuted`](crate::Outcome::NotExecuted).
    Shed,
}

/// When a group that is not full is sent off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flush {
    /// As soon as a worker is free, so that light load waits for nothing.
    #[default]
    WhenFree,
    /// When its oldest operation has waited for
    /// [`timeout`](BatchBuilder::timeout): fewer and fuller groups.
    WhenDue,
}

/// The settings of a batch.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) size: usize,
    pub(super) timeout: Duration,
    pub(super) max_operations: usize,
    pub(super) max_bytes: usize,
    pub(super) workers: usize,
    pub(super) when_full: WhenFull,
    pub(super) flush: Flush,
    pub(super) aging: Duration,
    pub(super) latency_target: Option<Duration>,
    pub(super) default_deadline: Option<Duration>,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) quarantine: usize,
    pub(super) quarantine_bytes: usize,
    pub(super) group_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "millpond-batch".into(),
            size: 100,
            timeout: Duration::from_secs(1),
            max_operations: 1000,
            max_bytes: 64 << 20,
            workers: 4,
            when_full: WhenFull::Block(Duration::from_secs(30)),
            flush: Flush::WhenFree,
            aging: Duration::from_secs(1),
            latency_target: None,
            default_deadline: Some(Duration::from_secs(60)),
            retry: None,
            quarantine: 1000,
            quarantine_bytes: 16 << 20,
            group_bytes: 8 << 20,
        }
    }
}

/// A processor has a few threads' work, not thousands'.
const MOST_WORKERS: usize = 1024;

impl Settings {
    fn from_vars(vars: &mut Vars<'_>) -> Self {
        let mut number = |name, most| {
            let accepted = format!("a whole number, 1 to {most}");
            let value: Option<usize> = vars.parse(name, &accepted);
            if let Some(value) = value.filter(|value| *value == 0 || *value > most) {
                vars.mistake(name, &value.to_string(), &accepted);
            }
            value
        };
        let size = number("BATCH_SIZE", MOST_OPERATIONS);
        let max_operations = number("BATCH_MAX_OPERATIONS", MOST_OPERATIONS);
        let max_bytes = number("BATCH_MAX_BYTES", MOST_BYTES);
        let workers = number("BATCH_PARALLEL_WORKERS", MOST_WORKERS);
        let timeout = vars.seconds("BATCH_TIMEOUT");
        let usual = Self::default();
        Self {
            size: size.unwrap_or(usual.size),
            timeout: timeout.unwrap_or(usual.timeout),
            max_operations: max_operations.unwrap_or(usual.max_operations),
            max_bytes: max_bytes.unwrap_or(usual.max_bytes),
            workers: workers.unwrap_or(usual.workers),
            ..usual
        }
    }
}

/// Finds the mistakes in these variables.
#[cfg(feature = "_net")]
pub(crate) fn check(vars: &mut Vars<'_>) {
    let _ = Settings::from_vars(vars);
}

/// Sets up a [`Batch`].
///
/// ```
/// # fn f<B: millpond::backend::Backend>(pool: millpond::Pool<B>) -> Result<(), millpond::Error>
/// # where millpond::Pool<B>: Send + Sync {
/// use std::time::Duration;
/// use millpond::batch::{Batch, WhenFull};
///
/// let batch = Batch::builder(pool)
///     .size(1_000)
///     .max_operations(20_000)
///     .workers(2)
///     .when_full(WhenFull::Block(Duration::from_secs(5)))
///     .build()?;
/// # Ok(()) }
/// ```
#[must_use]
pub struct BatchBuilder<B: Backend> {
    settings: Settings,
    lender: Lender<B>,
}

impl<B: Backend> fmt::Debug for BatchBuilder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBuilder")
            .field("lender", &self.lender)
            .field("settings", &self.settings)
            .finish()
    }
}

impl<B: Backend> BatchBuilder<B> {
    pub(super) fn new(lender: Lender<B>) -> Self {
        let settings = Settings::default();
        Self { settings, lender }
    }

    /// With the settings that a hub's configuration has for this pool.
    #[cfg(feature = "_net")]
    pub(crate) fn from_vars(lender: Lender<B>, vars: Vars<'_>) -> Result<Self, Error> {
        let settings = vars.read(Settings::from_vars)?;
        Ok(Self { settings, lender })
    }

    /// Takes `BATCH_SIZE` (100), `BATCH_TIMEOUT` (1.0 seconds), `BATCH_MAX_OPERATIONS`
    /// (1000), `BATCH_MAX_BYTES` (64 MiB) and `BATCH_PARALLEL_WORKERS` (4) from the
    /// environment; in brackets the defaults.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), naming every variable that cannot be
    /// understood.
    pub fn from_env(lender: impl Into<Lender<B>>) -> Result<Self, Error> {
        let settings = Vars::process().read(Settings::from_vars)?;
        let lender = lender.into();
        Ok(Self { settings, lender })
    }

    /// The name of its threads; `millpond-batch` by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// The most operations in a group; 100 by default. Groups are smaller when there is
    /// less to do, or when larger ones would miss the
    /// [`latency_target`](Self::latency_target).
    pub fn size(mut self, operations: usize) -> Self {
        self.settings.size = operations;
        self
    }

    /// How long an operation waits for its group to fill, where
    /// [`flush`](Self::flush) is [`Flush::WhenDue`]; a second by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// The most operations in the queue; 1,000 by default. Those in groups that are being
    /// executed are not in the queue.
    pub fn max_operations(mut self, operations: usize) -> Self {
        self.settings.max_operations = operations;
        self
    }

    /// The most bytes in the queue, as the operations estimate their
    /// [`size`](crate::Operation::size); 64 MiB by default.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_bytes = bytes;
        self
    }

    /// How many groups are executed at once, each on a thread and a lease of its own; 4 by
    /// default. More than the pool has connections, or those of all endpoints together, gain
    /// nothing.
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = workers;
        self
    }

    /// What happens when the queue is full; by default `submit` waits for up to 30
    /// seconds.
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.settings.when_full = policy;
        self
    }

    /// When a group that is not full is sent off; as soon as a worker is free by default.
    pub fn flush(mut self, flush: Flush) -> Self {
        self.settings.flush = flush;
        self
    }

    /// How long a less urgent operation is passed over by more urgent ones; a second by
    /// default. From then on it is due, and up to half of each group is given to those
    /// that are due, the oldest first.
    pub fn aging(mut self, aging: Duration) -> Self {
        self.settings.aging = aging;
        self
    }

    /// How long a group should take at most: groups become smaller while they take
    /// longer, and larger again. By default a quarter of a second, and 2 milliseconds for
    /// backends that run groups one operation after the other.
    pub fn latency_target(mut self, target: Duration) -> Self {
        self.settings.latency_target = Some(target);
        self
    }

    /// The deadline of operations that have none: it bounds how long a group may be
    /// executed; a minute by default.
    pub fn default_deadline(mut self, limit: Option<Duration>) -> Self {
        self.settings.default_deadline = limit;
        self
    }

    /// How often and when operations are tried again that say nothing about it; as the
    /// pool or fleet does by default.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = Some(policy);
        self
    }

    /// How many rejected operations the quarantine keeps; 1,000 by default. The oldest
    /// give way, and are counted.
    pub fn quarantine(mut self, operations: usize) -> Self {
        self.settings.quarantine = operations;
        self
    }

    /// How many bytes of them it keeps, as [`max_bytes`](Self::max_bytes) counts them; 16 MiB
    /// by default.
    pub fn quarantine_bytes(mut self, bytes: usize) -> Self {
        self.settings.quarantine_bytes = bytes;
        self
    }

    /// Starts the batch's threads: its dispatcher and its workers.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) for a size, bound or number of workers
    /// of zero or beyond all measure, and for a name with a NUL;
    /// [`ResourceLimit`](ErrorKind::ResourceLimit) when the process may not start another
    /// thread.
    pub fn build(self) -> Result<Batch<B>, Error> {
        let settings = self.settings;
        let limits = [
            ("size (BATCH_SIZE)", settings.size, MOST_OPERATIONS),
            (
                "max_operations (BATCH_MAX_OPERATIONS)",
                settings.max_operations,
                MOST_OPERATIONS,
            ),
            (
                "max_bytes (BATCH_MAX_BYTES)",
                settings.max_bytes,
                MOST_BYTES,
            ),
            (
                "workers (BATCH_PARALLEL_WORKERS)",
                settings.workers,
                MOST_WORKERS,
            ),
        ];
        for (name, value, most) in limits {
            if value == 0 || value > most {
                return Err(Error::new(
                    ErrorKind::Configuration,
                    Phase::Configure,
                    format!("{name} is {value}, accepted: 1 to {most}"),
                ));
            }
        }
        if settings.name.contains('\0') {
            let message = "the batch's name has a NUL, which no thread's name can have";
            return Err(Error::new(
                ErrorKind::Configuration,
                Phase::Configure,
                message,
            ));
        }
        Batch::start(settings, self.lender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_sizes_and_mistakes() {
        let read = |pairs: &'static [(&str, &str)]| {
            let vars = Vars::from_lookup(|name| {
                let pair = pairs.iter().find(|(key, _)| *key == name);
                pair.map(|(_, value)| (*value).to_owned())
            });
            vars.read(Settings::from_vars)
        };
        let usual = read(&[]).expect("defaults");
        assert_eq!(
            (usual.size, usual.max_operations, usual.workers),
            (100, 1000, 4)
        );
        assert_eq!(usual.timeout, Duration::from_secs(1));
        let set = read(&[
            ("BATCH_SIZE", "7"),
            ("BATCH_TIMEOUT", "0.5"),
            ("BATCH_MAX_OPERATIONS", "70"),
            ("BATCH_MAX_BYTES", "7000"),
            ("BATCH_PARALLEL_WORKERS", "2"),
        ]);
        let set = set.expect("all valid");
        assert_eq!((set.size, set.max_operations, set.workers), (7, 70, 2));
        assert_eq!(
            (set.timeout, set.max_bytes),
            (Duration::from_millis(500), 7000)
        );
        let wrong = read(&[("BATCH_SIZE", "0"), ("BATCH_TIMEOUT", "soon")]);
        let message = wrong.expect_err("two mistakes").to_string();
        assert!(
            message.contains("BATCH_SIZE") && message.contains("BATCH_TIMEOUT"),
            "{message}"
        );
    }
}
