//! The pools and batches of a program in one place, with their metrics and health.
//!
//! A hub holds handles of what it watches. Once it watches something, the keeper comes by each
//! second (or as configured), takes a snapshot, and keeps the history.
//!
//! Invariants: nothing here is on the way of a lease; no lock is held while a pool or batch is
//! read; what is dropped on the keeper's thread is never the last handle of anything.

#[cfg(feature = "_net")]
mod configured;
mod fleet;
mod history;
mod settings;
mod shutdown;

use std::any::Any;
use std::fmt;
#[cfg(feature = "metrics")]
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, RwLock};
use r2d2::ManageConnection;

use crate::alerts::{AlertLog, Engine};
#[cfg(feature = "batch")]
use crate::backend::Backend;
#[cfg(feature = "batch")]
use crate::batch::{Batch, BatchMetrics};
use crate::clock::{Clock, Ticks, after, between};
use crate::error::Error;
use crate::health::{HealthReport, PoolHealth};
use crate::keeper::{self, Membership, Tended, crew};
use crate::logging;
use crate::metrics::Snapshot;
use crate::pool::{Pool, PoolMetrics};
use crate::resources;

#[cfg(feature = "batch")]
pub use self::history::BatchPoint;
pub use self::history::{Point, PoolPoint, Trend};
pub use self::settings::HubBuilder;
pub use self::shutdown::Shutdown;

use self::fleet::WatchedFleet;
use self::history::{History, Intervals};
use self::settings::Settings;

/// A sample that is late by so many intervals and this grace is missing.
const LATE: u32 = 3;
const GRACE: Duration = Duration::from_secs(5);

/// What a hub asks a pool, whatever its manager.
trait Watched: Send + Sync {
    fn name(&self) -> &str;
    fn read(&self) -> (PoolMetrics, PoolHealth);
    fn health(&self) -> PoolHealth;
    fn close(&self, limit: Duration) -> Result<(), Error>;
    fn as_any(&self) -> &dyn Any;

    /// The fleet whose endpoint it is, if it is one's.
    #[cfg(feature = "_net")]
    fn fleet(&self) -> Option<&str> {
        None
    }
}

impl<M: ManageConnection> Watched for Pool<M> {
    fn name(&self) -> &str {
        Pool::name(self)
    }

    fn read(&self) -> (PoolMetrics, PoolHealth) {
        Pool::read(self)
    }

    fn health(&self) -> PoolHealth {
        Pool::health(self)
    }

    fn close(&self, limit: Duration) -> Result<(), Error> {
        Pool::close(self, limit)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What a hub asks a batch, whatever its backend.
#[cfg(feature = "batch")]
trait WatchedBatch: Send + Sync {
    fn metrics(&self) -> BatchMetrics;
    fn close(&self, limit: Duration) -> BatchMetrics;
}

#[cfg(feature = "batch")]
impl<B: Backend> WatchedBatch for Batch<B> {
    fn metrics(&self) -> BatchMetrics {
        Batch::metrics(self)
    }

    fn close(&self, limit: Duration) -> BatchMetrics {
        Batch::close(self, limit)
    }
}

/// The pools and batches of a program. Handles are cheap to clone.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
/// use millpond::{Health, Hub, Pool};
///
/// let pool = Pool::builder().name("reports").max_size(2).build(manager)?;
/// let hub = Hub::new();
/// hub.watch(&pool);
/// drop(pool.get()?);
/// println!("{}", hub.metrics());
/// assert_eq!(hub.health().health, Health::Up);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    settings: Settings,
    started: Instant,
    membership: OnceLock<Membership>,
    /// When the last sample was taken, or the first should be; 0 while nothing is watched.
    sampled: AtomicU64,
    history: Mutex<History>,
    /// The intervals of the log's lines of figures.
    summaries: Mutex<Intervals>,
    alerts: Mutex<Engine>,
    pools: RwLock<Vec<Arc<dyn Watched>>>,
    fleets: RwLock<Vec<Arc<dyn WatchedFleet>>>,
    #[cfg(feature = "batch")]
    batches: RwLock<Vec<Arc<dyn WatchedBatch>>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("pools", &self.0.pools.read().len())
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub that watches nothing yet.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Settings for a hub, to begin with the default ones.
    pub fn builder() -> HubBuilder {
        HubBuilder::default()
    }

    fn start(settings: Settings) -> Self {
        let history = History::new(
            settings.sample_interval,
            settings.history_interval,
            settings.history_depth,
        );
        Self(Arc::new(Inner {
            alerts: Mutex::new(Engine::new(settings.rules.clone())),
            summaries: Mutex::new(Intervals::new(settings.log_interval)),
            settings,
            started: Instant::now(),
            membership: OnceLock::new(),
            sampled: AtomicU64::new(0),
            history: Mutex::new(history),
            pools: RwLock::default(),
            fleets: RwLock::default(),
            #[cfg(feature = "batch")]
            batches: RwLock::default(),
        }))
    }

    /// Watches this pool from now on. The hub keeps a handle, so the pool stays open until
    /// it is closed or the hub is gone.
    pub fn watch<M: ManageConnection>(&self, pool: &Pool<M>) {
        self.0.pools.write().push(Arc::new(pool.clone()));
        self.0.begin();
    }

    /// Watches this batch from now on. The hub keeps a handle.
    #[cfg(feature = "batch")]
    pub fn watch_batch<B: Backend>(&self, batch: &Batch<B>) {
        self.0.batches.write().push(Arc::new(batch.clone()));
        self.0.begin();
    }

    /// Everything at this moment.
    pub fn metrics(&self) -> Snapshot {
        self.0.metrics()
    }

    /// How the pools and the process are, and why.
    pub fn health(&self) -> HealthReport {
        self.0.health()
    }

    /// What happened in the last `span`, the oldest first: a point for each second as far as
    /// the last quarter of an hour goes, else for each ten seconds of the last day; or as
    /// [`HubBuilder::history`] says.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let hub = millpond::Hub::new();
    /// for point in hub.history(Duration::from_secs(60)) {
    ///     println!("{} operations", point.pools[0].succeeded);
    /// }
    /// ```
    pub fn history(&self, span: Duration) -> Vec<Point> {
        self.0.history.lock().points(span).cloned().collect()
    }

    /// The alerts that fire, and those that did.
    ///
    /// ```
    /// let hub = millpond::Hub::new();
    /// for alert in hub.alerts().firing {
    ///     println!("{alert}");
    /// }
    /// ```
    pub fn alerts(&self) -> AlertLog {
        self.0.alerts.lock().log()
    }

    /// Whether Millpond's own background thread comes by as it should, or nothing is watched
    /// yet: what a supervisor that restarts hanging programs asks for. A server that is down is no
    /// reason for that; see [`is_ready`](HealthReport::is_ready).
    ///
    /// ```
    /// assert!(millpond::Hub::new().is_live());
    /// ```
    pub fn is_live(&self) -> bool {
        let patience = self.0.settings.sample_interval * LATE + GRACE;
        match self.0.sampled.load(Relaxed) {
            0 => true,
            sampled => between(sampled, Clock::System.now()) < patience,
        }
    }

    /// How the pool of this name did over the last `span`, as far as there is a history of it.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let hub = millpond::Hub::new();
    /// if let Some(trend) = hub.trend("orders", Duration::from_secs(300)) {
    ///     println!("{:.0} operations a second", trend.operations_per_second);
    /// }
    /// ```
    pub fn trend(&self, pool: &str, span: Duration) -> Option<Trend> {
        let pools = self.0.pools.read();
        let number = pools.iter().position(|watched| watched.name() == pool)?;
        drop(pools);
        self.0.history.lock().trend(number, span)
    }
}

impl Inner {
    /// Has the keeper come by from now on.
    fn begin(self: &Arc<Self>) {
        let this: Weak<Self> = Arc::downgrade(self);
        let membership = self.membership.get_or_init(|| keeper::join(this));
        let now = Clock::System.now();
        let _ = self
            .sampled
            .compare_exchange(0, now.max(1), Relaxed, Relaxed);
        membership.wake(now);
    }

    fn metrics(&self) -> Snapshot {
        let pools = self.pools.read().clone();
        let (pools, health) = pools.iter().map(|pool| pool.read()).unzip();
        #[cfg(feature = "batch")]
        let batches = self.batches.read().clone();
        Snapshot {
            taken_at: SystemTime::now(),
            uptime: self.started.elapsed(),
            pools,
            #[cfg(feature = "batch")]
            batches: batches.iter().map(|batch| batch.metrics()).collect(),
            resources: resources::metrics(),
            #[cfg(feature = "audit")]
            audit: crate::audit::metrics(),
            health: HealthReport::new(health, resources::reasons()),
            alerts: self.alerts.lock().log().firing,
        }
    }

    fn health(&self) -> HealthReport {
        let pools = self.pools.read().clone();
        let pools = pools.iter().map(|pool| pool.health()).collect();
        HealthReport::new(pools, resources::reasons())
    }

    /// What is due at each sample.
    fn sample(&self) {
        let snapshot = Arc::new(self.metrics());
        self.history.lock().push(&snapshot);
        let summary = self.summaries.lock().next(&snapshot);
        if let Some(summary) = summary {
            logging::summary(&snapshot, &summary);
        }
        let news = self.alerts.lock().judge(&snapshot);
        for alert in news {
            for outlet in &self.settings.outlets {
                outlet.tell(alert.clone());
            }
        }
        #[cfg(feature = "metrics")]
        if self.settings.metrics_facade {
            let pass_on = AssertUnwindSafe(|| snapshot.record_to_facade());
            if catch_unwind(pass_on).is_err() {
                log::error!("millpond: a panic in the recorder of the metrics facade");
            }
        }
    }
}

impl Tended for Inner {
    fn tend(self: Arc<Self>, now: Ticks) -> Ticks {
        self.sampled.store(now.max(1), Relaxed);
        self.sample();
        let next = after(now, self.settings.sample_interval);
        // The last owner drops handles of pools and batches, which may wait: not here.
        if let Some(inner) = Arc::into_inner(self) {
            crew::submit(Box::new(move || drop(inner)));
        }
        next
    }
}
