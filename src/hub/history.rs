//! What the figures were: a ring of points for the last quarter of an hour, one each second,
//! and one for the last day, one each ten seconds, unless configured otherwise.
//!
//! A point holds what happened since the one before it, in 64 bytes for each pool; a day of
//! ten pools takes some 7 MiB.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde::Serialize;

#[cfg(feature = "batch")]
use crate::batch::BatchMetrics;
use crate::health::Health;
use crate::metrics::Snapshot;
use crate::pool::PoolMetrics;

/// What a program did between two moments.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Point {
    /// When it ended, in milliseconds since 1970, UTC.
    pub at_ms: u64,
    /// How long it was, in seconds.
    pub seconds: f32,
    /// Each pool, in the order in which the hub got to know them; those that it did not know
    /// yet are missing at the end.
    pub pools: Box<[PoolPoint]>,
    /// Each batch, in the same way.
    #[cfg(feature = "batch")]
    pub batches: Box<[BatchPoint]>,
    /// The process's memory in MiB.
    pub memory_mib: f32,
    /// Its processor time, in percent of what it may use.
    pub cpu_percent: f32,
}

/// What a pool did between two moments. Times are seconds; counts are those of this interval.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct PoolPoint {
    /// Connections leased at its end.
    pub used: u16,
    /// Connections idle at its end.
    pub idle: u16,
    /// Callers that waited at its end.
    pub waiting: u32,
    /// Leases that ended.
    pub leases: u32,
    /// Operations that succeeded.
    pub succeeded: u32,
    /// Operations that failed.
    pub failed: u32,
    /// Callers that got no connection in time.
    pub timeouts: u32,
    /// Connections established.
    pub created: u32,
    /// Attempts to connect that failed.
    pub connect_failures: u32,
    /// The response time that half of the operations did not exceed.
    pub p50: f32,
    /// The same for 95 of 100.
    pub p95: f32,
    /// The same for 99 of 100.
    pub p99: f32,
    /// The longest response time.
    pub max: f32,
    /// The time that 99 of 100 callers did not wait longer for a connection.
    pub wait_p99: f32,
    /// The hold time that 99 of 100 leases did not exceed.
    pub use_p99: f32,
    /// How the pool was at its end.
    pub health: Health,
}

/// What a batch did between two moments.
#[cfg(feature = "batch")]
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct BatchPoint {
    /// Operations queued at its end, the most urgent first.
    pub queued: [u32; 4],
    /// Operations that took effect.
    pub done: u32,
    /// Operations that the server refused.
    pub rejected: u32,
    /// Operations that were certainly not applied.
    pub not_executed: u32,
    /// Operations of which nobody knows.
    pub unknown: u32,
    /// Groups that were executed.
    pub groups: u32,
    /// The time that 99 of 100 operations were not queued longer, in seconds.
    pub queue_p99: f32,
    /// How long 99 of 100 groups took at most, in seconds.
    pub group_p99: f32,
}

/// How a pool did over a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Trend {
    /// The span that there are figures of, in seconds.
    pub seconds: f64,
    /// Operations a second.
    pub operations_per_second: f64,
    /// The share of the operations that failed.
    pub error_rate: f64,
    /// Leases a second.
    pub leases_per_second: f64,
    /// Connections leased, on average.
    pub used: f64,
    /// Callers that waited, on average.
    pub waiting: f64,
    /// The mean of the 95th percentiles of the response time, in seconds.
    pub p95: f64,
    /// How many operations a second there were more in the second half than in the first.
    pub operations_growth: f64,
}

/// Equal intervals, and the snapshot at the end of the last.
pub(super) struct Intervals {
    every: Duration,
    last: Option<Snapshot>,
}

/// Points at equal intervals, the oldest of which give way.
struct Ring {
    intervals: Intervals,
    depth: usize,
    points: VecDeque<Point>,
}

/// The rings.
pub(super) struct History([Ring; 2]);

impl History {
    /// Points at the first interval for a quarter of an hour, and at the second for as many
    /// as `depth`.
    pub(super) fn new(sample: Duration, every: Duration, depth: usize) -> Self {
        let recent = Duration::from_secs(900).as_nanos() / sample.as_nanos().max(1);
        let recent = recent.clamp(1, 900) as usize;
        let ring = |every, depth: usize| Ring {
            intervals: Intervals::new(every),
            depth: depth.max(1),
            points: VecDeque::new(),
        };
        Self([ring(sample, recent), ring(every, depth)])
    }

    /// Takes in a snapshot.
    pub(super) fn push(&mut self, snapshot: &Snapshot) {
        for ring in &mut self.0 {
            ring.push(snapshot);
        }
    }

    /// The points of the last `span`, the finest that reach as far back, the oldest first.
    pub(super) fn points(&self, span: Duration) -> impl Iterator<Item = &Point> {
        let [recent, long] = &self.0;
        let reach = recent.intervals.every.saturating_mul(recent.depth as u32);
        let ring = if span <= reach { recent } else { long };
        let end = ring.points.back().map_or(0, |point| point.at_ms);
        let from = end.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        ring.points.iter().filter(move |point| point.at_ms > from)
    }

    /// How the pool with this number did over the last `span`.
    pub(super) fn trend(&self, pool: usize, span: Duration) -> Option<Trend> {
        let points: Vec<_> = self
            .points(span)
            .filter_map(|point| Some((f64::from(point.seconds), point.pools.get(pool)?)))
            .collect();
        let seconds: f64 = points.iter().map(|(seconds, _)| seconds).sum();
        if seconds <= 0.0 {
            return None;
        }
        let sum = |of: fn(&PoolPoint) -> f64| points.iter().map(|(_, pool)| of(pool)).sum::<f64>();
        let operations = |pool: &PoolPoint| f64::from(pool.succeeded) + f64::from(pool.failed);
        let rate = |points: &[(f64, &PoolPoint)]| {
            let seconds: f64 = points.iter().map(|(seconds, _)| seconds).sum();
            let all: f64 = points.iter().map(|(_, pool)| operations(pool)).sum();
            if seconds > 0.0 { all / seconds } else { 0.0 }
        };
        let (first, second) = points.split_at(points.len() / 2);
        let count = points.len() as f64;
        let total = sum(operations);
        Some(Trend {
            seconds,
            operations_per_second: total / seconds,
            error_rate: sum(|pool| f64::from(pool.failed)) / total.max(1.0),
            leases_per_second: sum(|pool| f64::from(pool.leases)) / seconds,
            used: sum(|pool| f64::from(pool.used)) / count,
            waiting: sum(|pool| f64::from(pool.waiting)) / count,
            p95: sum(|pool| f64::from(pool.p95)) / count,
            operations_growth: if first.is_empty() {
                0.0
            } else {
                rate(second) - rate(first)
            },
        })
    }

    /// What the points take, in bytes.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let of = |point: &Point| {
            let pools = size_of_val(&*point.pools);
            #[cfg(feature = "batch")]
            let pools = pools + size_of_val(&*point.batches);
            size_of::<Point>() + pools
        };
        let ring = |ring: &Ring| ring.points.iter().map(of).sum::<usize>();
        self.0.iter().map(ring).sum()
    }
}

impl Intervals {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, last: None }
    }

    /// What happened in an interval, if this snapshot is at the end of one.
    pub(super) fn next(&mut self, snapshot: &Snapshot) -> Option<Point> {
        let Some(last) = &self.last else {
            self.last = Some(snapshot.clone());
            return None;
        };
        // By the hub's own age: the time of day may jump.
        let passed = snapshot.uptime.saturating_sub(last.uptime);
        // Samples come a little early and a little late.
        if passed < self.every.mul_f64(0.95) {
            return None;
        }
        let point = Point::between(last, snapshot, passed);
        self.last = Some(snapshot.clone());
        Some(point)
    }
}

impl Ring {
    fn push(&mut self, snapshot: &Snapshot) {
        let Some(point) = self.intervals.next(snapshot) else {
            return;
        };
        if self.points.len() >= self.depth {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }
}

/// How much a counter grew.
fn grown(before: u64, now: u64) -> u32 {
    u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX)
}

impl Point {
    fn between(before: &Snapshot, now: &Snapshot, passed: Duration) -> Self {
        let at = now.taken_at.duration_since(SystemTime::UNIX_EPOCH);
        let pools = now.pools.iter().enumerate();
        #[cfg(feature = "batch")]
        let batches = now.batches.iter().enumerate();
        Self {
            at_ms: at.map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX)),
            seconds: passed.as_secs_f32(),
            pools: pools
                .map(|(number, pool)| PoolPoint::between(before.pools.get(number), pool))
                .collect(),
            #[cfg(feature = "batch")]
            batches: batches
                .map(|(number, batch)| BatchPoint::between(before.batches.get(number), batch))
                .collect(),
            memory_mib: (now.resources.memory_bytes as f64 / f64::from(1 << 20)) as f32,
            cpu_percent: now.resources.cpu_percent as f32,
        }
    }
}

impl PoolPoint {
    fn between(before: Option<&PoolMetrics>, now: &PoolMetrics) -> Self {
        let small = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        let was = |of: fn(&PoolMetrics) -> u64| before.map_or(0, of);
        let since = |of: fn(&PoolMetrics) -> &crate::metrics::Distribution| match before {
            Some(before) => of(now).since(of(before)),
            None => of(now).clone(),
        };
        let times = since(|pool| &pool.operations.response_time);
        Self {
            used: small(now.state.leased),
            idle: small(now.state.idle_connections),
            waiting: now.state.waiters,
            leases: grown(was(|pool| pool.leases), now.leases),
            succeeded: grown(
                was(|pool| pool.operations.succeeded),
                now.operations.succeeded,
            ),
            failed: grown(
                was(|pool| pool.operations.failures()),
                now.operations.failures(),
            ),
            timeouts: grown(was(|pool| pool.timeouts), now.timeouts),
            created: grown(was(|pool| pool.created), now.created),
            connect_failures: grown(was(|pool| pool.create_failed), now.create_failed),
            p50: times.quantile(0.5) as f32,
            p95: times.quantile(0.95) as f32,
            p99: times.quantile(0.99) as f32,
            max: times.max() as f32,
            wait_p99: since(|pool| &pool.wait_time).quantile(0.99) as f32,
            use_p99: since(|pool| &pool.use_time).quantile(0.99) as f32,
            health: now.health,
        }
    }
}

#[cfg(feature = "batch")]
impl BatchPoint {
    fn between(before: Option<&BatchMetrics>, now: &BatchMetrics) -> Self {
        let was = |of: fn(&BatchMetrics) -> u64| before.map_or(0, of);
        let since = |of: fn(&BatchMetrics) -> &crate::metrics::Distribution| match before {
            Some(before) => of(now).since(of(before)),
            None => of(now).clone(),
        };
        Self {
            queued: now
                .queued_by_priority
                .map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
            done: grown(was(|batch| batch.done), now.done),
            rejected: grown(was(|batch| batch.rejected), now.rejected),
            not_executed: grown(was(|batch| batch.not_executed), now.not_executed),
            unknown: grown(was(|batch| batch.unknown), now.unknown),
            groups: grown(was(|batch| batch.groups), now.groups),
            queue_p99: since(|batch| &batch.queue_time).quantile(0.99) as f32,
            group_p99: since(|batch| &batch.group_time).quantile(0.99) as f32,
        }
    }
}

#[cfg(test)]
mod tests;
