//! The history as a chart wants it: a column for each figure, and no more rows than a screen
//! has room for.
//!
//! Where several points become one row, counts are added up, what is a level is averaged, and of
//! what is a worst case the worst is kept. Rates are per second. A figure that there was nothing
//! to make of, such as a percentile without operations, is `null`.

use serde::Serialize;

use crate::hub::{Point, PoolPoint};

/// As many as there are in a narrow chart's pixels.
const MOST_ROWS: usize = 600;

type Column = Vec<Option<f32>>;

#[derive(Default, Serialize)]
pub(super) struct Columns {
    /// The end of each row, in milliseconds since 1970.
    at_ms: Vec<u64>,
    memory_mib: Column,
    cpu_percent: Column,
    pools: Vec<PoolColumns>,
    #[cfg(feature = "batch")]
    batches: Vec<BatchColumns>,
}

#[derive(Default, Serialize)]
struct PoolColumns {
    /// Its number in the snapshot.
    number: usize,
    used: Column,
    idle: Column,
    waiting: Column,
    leases: Column,
    succeeded: Column,
    failed: Column,
    timeouts: Column,
    created: Column,
    connect_failures: Column,
    p50: Column,
    p95: Column,
    p99: Column,
    wait_p99: Column,
    use_p99: Column,
    /// 0 up, 1 degraded, 2 down.
    health: Column,
}

#[cfg(feature = "batch")]
#[derive(Default, Serialize)]
struct BatchColumns {
    /// Its number in the snapshot.
    number: usize,
    /// The most urgent first.
    queued: [Column; 4],
    done: Column,
    rejected: Column,
    not_executed: Column,
    unknown: Column,
    groups: Column,
    queue_p99: Column,
    group_p99: Column,
}

/// The points of one row that have something to say of one pool or batch.
struct Row<'a, P> {
    seconds: f32,
    points: Vec<&'a P>,
}

impl<P> Row<'_, P> {
    fn rate(&self, of: fn(&P) -> u32) -> Option<f32> {
        let sum: f64 = self.points.iter().map(|point| f64::from(of(point))).sum();
        (!self.points.is_empty() && self.seconds > 0.0)
            .then_some((sum / f64::from(self.seconds)) as f32)
    }

    fn mean(&self, of: fn(&P) -> f32) -> Option<f32> {
        let sum: f32 = self.points.iter().map(|point| of(point)).sum();
        (!self.points.is_empty()).then_some(sum / self.points.len() as f32)
    }

    /// The worst of those points that count.
    fn worst(&self, of: fn(&P) -> f32, counts: fn(&P) -> bool) -> Option<f32> {
        let counting = self.points.iter().filter(|point| counts(point));
        counting.map(|point| of(point)).reduce(f32::max)
    }
}

impl Columns {
    /// Of everything, or of one pool alone and all batches.
    pub(super) fn new(points: &[Point], pool: Option<usize>) -> Self {
        let per_row = points.len().div_ceil(MOST_ROWS).max(1);
        let last = points.last();
        let pools = last.map_or(0, |point| point.pools.len());
        let mut columns = Self {
            pools: (0..pools)
                .filter(|number| pool.is_none_or(|pool| pool == *number))
                .map(|number| PoolColumns {
                    number,
                    ..PoolColumns::default()
                })
                .collect(),
            #[cfg(feature = "batch")]
            batches: (0..last.map_or(0, |point| point.batches.len()))
                .map(|number| BatchColumns {
                    number,
                    ..BatchColumns::default()
                })
                .collect(),
            ..Self::default()
        };
        for row in points.chunks(per_row) {
            columns.push(row);
        }
        columns
    }

    fn push(&mut self, points: &[Point]) {
        self.at_ms.extend(points.last().map(|point| point.at_ms));
        let process = Row {
            seconds: points.iter().map(|point| point.seconds).sum(),
            points: points.iter().collect(),
        };
        self.memory_mib.push(process.mean(|point| point.memory_mib));
        self.cpu_percent
            .push(process.mean(|point| point.cpu_percent));
        for columns in &mut self.pools {
            let row = row(points, |point| point.pools.get(columns.number));
            columns.push(&row);
        }
        #[cfg(feature = "batch")]
        for columns in &mut self.batches {
            let row = row(points, |point| point.batches.get(columns.number));
            columns.push(&row);
        }
    }
}

fn row<'a, P>(points: &'a [Point], of: impl Fn(&'a Point) -> Option<&'a P>) -> Row<'a, P> {
    let known = || points.iter().filter(|point| of(point).is_some());
    Row {
        seconds: known().map(|point| point.seconds).sum(),
        points: known().filter_map(&of).collect(),
    }
}

impl PoolColumns {
    fn push(&mut self, row: &Row<'_, PoolPoint>) {
        let always = |_: &PoolPoint| true;
        let answered = |point: &PoolPoint| point.succeeded > 0;
        let leased = |point: &PoolPoint| point.leases > 0;
        self.used.push(row.mean(|point| f32::from(point.used)));
        self.idle.push(row.mean(|point| f32::from(point.idle)));
        self.waiting
            .push(row.worst(|point| point.waiting as f32, always));
        self.leases.push(row.rate(|point| point.leases));
        self.succeeded.push(row.rate(|point| point.succeeded));
        self.failed.push(row.rate(|point| point.failed));
        self.timeouts.push(row.rate(|point| point.timeouts));
        self.created.push(row.rate(|point| point.created));
        self.connect_failures
            .push(row.rate(|point| point.connect_failures));
        self.p50.push(row.worst(|point| point.p50, answered));
        self.p95.push(row.worst(|point| point.p95, answered));
        self.p99.push(row.worst(|point| point.p99, answered));
        self.wait_p99
            .push(row.worst(|point| point.wait_p99, leased));
        self.use_p99.push(row.worst(|point| point.use_p99, leased));
        self.health
            .push(row.worst(|point| f32::from(point.health as u8), always));
    }
}

#[cfg(feature = "batch")]
impl BatchColumns {
    fn push(&mut self, row: &Row<'_, crate::hub::BatchPoint>) {
        use crate::hub::BatchPoint;
        let worked = |point: &BatchPoint| point.groups > 0;
        let queued: [fn(&BatchPoint) -> f32; 4] = [
            |point| point.queued[0] as f32,
            |point| point.queued[1] as f32,
            |point| point.queued[2] as f32,
            |point| point.queued[3] as f32,
        ];
        for (column, of) in self.queued.iter_mut().zip(queued) {
            column.push(row.mean(of));
        }
        self.done.push(row.rate(|point| point.done));
        self.rejected.push(row.rate(|point| point.rejected));
        self.not_executed.push(row.rate(|point| point.not_executed));
        self.unknown.push(row.rate(|point| point.unknown));
        self.groups.push(row.rate(|point| point.groups));
        self.queue_p99
            .push(row.worst(|point| point.queue_p99, worked));
        self.group_p99
            .push(row.worst(|point| point.group_p99, worked));
    }
}
