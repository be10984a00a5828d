//! Reading a pool's numbers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use r2d2::ManageConnection;

use super::Pool;
use super::counters::PoolMetrics;
use super::shared::Shared;
use crate::health::{ConnectionHealth, PoolHealth};
use crate::metrics::meter::Meter;
use crate::metrics::{Distribution, Unit};

impl<M: ManageConnection> Shared<M> {
    /// The pool's numbers, for which its health is known already.
    fn read(&self, health: &PoolHealth) -> PoolMetrics {
        let mut use_time = Distribution::new(Unit::Seconds);
        let mut meters: Vec<&Meter> = Vec::new();
        let (mut leases, mut held) = (0, 0);
        for desk in self.exchange.desks() {
            let (ended, ticks) = desk.totals();
            leases += ended;
            held += ticks;
            if let Some(meter) = desk.meter() {
                meter.use_time.read_into(&mut use_time);
                meters.push(meter);
            }
        }
        let counters = &self.counters;
        let mut wait_time = counters.wait_time.read(Unit::Seconds);
        let (waits, waited) = (wait_time.count(), wait_time.sum);
        wait_time.add_zeros(leases.saturating_sub(waits));
        // Under the lock, so that what was opened less what was closed is what is open.
        let ledger = self.ledger.lock();
        let state = self.state();
        let min_idle = ledger.min_idle;
        let (created, closed) = (counters.created.load(Relaxed), counters.closed());
        drop(ledger);
        let connect_failures = counters.connect_failures();
        PoolMetrics {
            name: Arc::clone(&self.name),
            backend: self.knowledge.backend,
            endpoint: Arc::clone(&self.endpoint),
            health: health.health,
            certificates: match &health.service {
                Some(service) => service.certificates.clone(),
                None => Vec::new(),
            },
            state,
            min_idle,
            leases,
            held: Duration::from_nanos(held),
            waits,
            waited: Duration::from_nanos(waited),
            timeouts: counters.timeouts.load(Relaxed),
            created,
            create_failed: connect_failures.iter().map(|(_, count)| count).sum(),
            connect_failures,
            closed,
            leaks: counters.leaks.load(Relaxed),
            deadlocks: counters.deadlocks.load(Relaxed),
            breaker: self.circuit.state(),
            breaker_opened: self.circuit.opened(),
            wait_time,
            use_time,
            create_time: counters.create_time.read(Unit::Seconds),
            operations: match &self.requests {
                Some(requests) => requests.read(&meters),
                None => crate::metrics::OperationMetrics::default(),
            },
        }
    }
}

impl<M: ManageConnection> Pool<M> {
    /// What happened in this pool so far. No lease waits for it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// let pool = millpond::Pool::new(manager)?;
    /// drop(pool.get()?);
    /// let metrics = pool.metrics();
    /// assert_eq!(metrics.leases, 1);
    /// println!("leases are held for {}", metrics.use_time);
    /// # Ok(()) }
    /// ```
    pub fn metrics(&self) -> PoolMetrics {
        self.read().0
    }

    /// The pool's numbers and its health.
    pub(crate) fn read(&self) -> (PoolMetrics, PoolHealth) {
        let health = self.0.shared.health();
        (self.0.shared.read(&health), health)
    }

    /// How the pool and its server are, and why. Asks the server nothing: it says what is
    /// known from the last check and from what failed since.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// use millpond::Health;
    ///
    /// let pool = millpond::Pool::new(manager)?;
    /// assert_eq!(pool.health().health, Health::Up);
    /// pool.pause();
    /// let health = pool.health();
    /// assert_eq!(health.health, Health::Down);
    /// assert!(health.reasons[0].text.contains("paused"));
    /// # Ok(()) }
    /// ```
    pub fn health(&self) -> PoolHealth {
        self.0.shared.health()
    }

    /// How each connection is, and what it does.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
    /// let pool = millpond::Pool::builder().max_size(2).build(manager)?;
    /// let lease = pool.get()?;
    /// let connections = pool.connections();
    /// assert_eq!(connections.len(), 2);
    /// assert!(connections.iter().any(|connection| connection.doing == "leased"));
    /// # drop(lease);
    /// # Ok(()) }
    /// ```
    pub fn connections(&self) -> Vec<ConnectionHealth> {
        self.0.shared.connections()
    }
}
