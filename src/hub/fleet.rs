//! Watching the endpoints of a fleet, which come and go.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Hub, Inner, Watched};
use crate::backend::Backend;
use crate::endpoints::Fleet;
use crate::error::Error;
use crate::health::{Concern, Health, PoolHealth};
use crate::pool::{Pool, PoolMetrics};

/// The pool of one endpoint of a fleet. It keeps its place when the endpoint is removed, for the
/// history, and takes it again when one of the same name is added.
struct Member<B: Backend> {
    fleet: Fleet<B>,
    name: String,
    pool: Mutex<Pool<B>>,
}

impl<B: Backend> Member<B> {
    fn pool(&self) -> Pool<B> {
        self.pool.lock().clone()
    }

    /// A fleet does without an endpoint that is down, as long as there is another one; one that was
    /// removed is down on purpose; and replicas take no writes on purpose, beside a primary.
    fn in_context(&self, pool: &Pool<B>, mut health: PoolHealth) -> PoolHealth {
        if health.has(Concern::ReadOnly) && self.fleet.has_writer() {
            health.forgive(Concern::ReadOnly);
        }
        if health.health != Health::Down {
            return health;
        }
        match self.fleet.has_another(pool) {
            Some(false) => {}
            Some(true) => health.soften(),
            None => {
                health.reasons.clear();
                health.health = Health::Up;
            }
        }
        health
    }
}

impl<B: Backend> Watched for Member<B> {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self) -> (PoolMetrics, PoolHealth) {
        let pool = self.pool();
        let (mut metrics, health) = pool.read();
        let health = self.in_context(&pool, health);
        metrics.health = health.health;
        (metrics, health)
    }

    fn health(&self) -> PoolHealth {
        let pool = self.pool();
        let health = pool.health();
        self.in_context(&pool, health)
    }

    fn close(&self, limit: Duration) -> Result<(), Error> {
        self.pool().close(limit)
    }

    #[cfg(feature = "_net")]
    fn fleet(&self) -> Option<&str> {
        Some(self.fleet.name())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What a hub asks a fleet, whatever its backend.
pub(super) trait WatchedFleet: Send + Sync {
    fn retire(&self);
    #[cfg(feature = "_net")]
    fn name(&self) -> &str;
    #[cfg(feature = "_net")]
    fn as_any(&self) -> &dyn Any;
}

impl<B: Backend> WatchedFleet for Fleet<B> {
    fn retire(&self) {
        Fleet::retire(self);
    }

    #[cfg(feature = "_net")]
    fn name(&self) -> &str {
        Fleet::name(self)
    }

    #[cfg(feature = "_net")]
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Hub {
    /// Watches the pools of this fleet's endpoints from now on, also of those that are added
    /// later. An endpoint that is down makes the hub [`Degraded`](Health::Degraded) as long as
    /// the fleet has another one. The hub keeps a handle.
    ///
    /// ```
    /// # fn example<B: millpond::backend::Backend>(fleet: &millpond::Fleet<B>) {
    /// let hub = millpond::Hub::new();
    /// hub.watch_fleet(fleet);
    /// println!("{}", hub.metrics());
    /// # }
    /// ```
    pub fn watch_fleet<B: Backend>(&self, fleet: &Fleet<B>) {
        self.0.fleets.write().push(Arc::new(fleet.clone()));
        fleet.observe(&self.0, Inner::take_in);
    }
}

impl Inner {
    fn take_in<B: Backend>(self: &Arc<Self>, fleet: &Fleet<B>, pool: &Pool<B>) {
        let mut pools = self.pools.write();
        let known = pools
            .iter()
            .filter_map(|watched| watched.as_any().downcast_ref::<Member<B>>())
            .find(|member| member.name == pool.name());
        if let Some(member) = known {
            // Its last handle closes a pool, which is done in the background.
            *member.pool.lock() = pool.clone();
            return;
        }
        pools.push(Arc::new(Member {
            fleet: fleet.clone(),
            name: pool.name().to_owned(),
            pool: Mutex::new(pool.clone()),
        }));
        drop(pools);
        self.begin();
    }
}
