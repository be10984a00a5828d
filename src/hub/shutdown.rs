//! Ending everything, in order.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Hub;
#[cfg(feature = "batch")]
use crate::batch::BatchMetrics;
use crate::deadline::moment_in;
use crate::error::Error;

/// What was left when a hub shut down.
#[derive(Debug, Default)]
#[non_exhaustive]
#[must_use = "it says what was not done"]
pub struct Shutdown {
    /// What each batch came to in its life, by name.
    #[cfg(feature = "batch")]
    pub batches: Vec<(Arc<str>, BatchMetrics)>,
    /// Pools whose connections were not all given back by the deadline, each with an error that
    /// says who holds them.
    pub held: Vec<(Arc<str>, Error)>,
}

impl Shutdown {
    /// Whether every connection was given back.
    pub fn is_complete(&self) -> bool {
        self.held.is_empty()
    }
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_complete() {
            return f.write_str("all connections are closed");
        }
        for (number, (_, error)) in self.held.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl Hub {
    /// Ends everything within this time: first the batches, which still execute what is queued as
    /// far as there is time, then the pools, all at once. No lease can be taken any more; those
    /// that are out stay usable until they are given back.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let hub = millpond::Hub::new();
    /// let left = hub.shut_down(Duration::from_secs(5));
    /// println!("{left}");
    /// assert!(left.is_complete());
    /// ```
    pub fn shut_down(&self, limit: Duration) -> Shutdown {
        let end = moment_in(limit);
        let left = || end.saturating_duration_since(Instant::now());
        let mut shutdown = Shutdown::default();
        #[cfg(feature = "batch")]
        {
            let batches = self.0.batches.read().clone();
            for batch in batches {
                let metrics = batch.close(left());
                shutdown.batches.push((Arc::clone(&metrics.name), metrics));
            }
        }
        let fleets = self.0.fleets.read().clone();
        for fleet in fleets {
            fleet.retire();
        }
        let pools = self.0.pools.read().clone();
        // None of them waits for another one to begin.
        let begun: Vec<_> = pools
            .iter()
            .map(|pool| pool.close(Duration::ZERO))
            .collect();
        for (pool, begun) in pools.iter().zip(begun) {
            if let Err(error) = begun.or_else(|_| pool.close(left())) {
                shutdown.held.push((pool.name().into(), error));
            }
        }
        #[cfg(all(feature = "audit", feature = "_net"))]
        if let Some(audit) = &self.0.settings.audit {
            audit.flush();
        }
        shutdown
    }
}
