//! The records that can be switched on and off. No lock may be held by whoever calls them: the
//! logger is the program's.

use std::time::Duration;

use super::{CONNECTIONS, METRICS, OPERATIONS, wants};
use crate::clock::Ticks;
use crate::error::{Error, ErrorKind};
use crate::hub::Point;
use crate::metrics::Snapshot;
use crate::pool::CloseReason;
use crate::record::Ended;

const OF_CONNECTIONS: &str = "millpond::connections";
const OF_OPERATIONS: &str = "millpond::operations";
const OF_METRICS: &str = "millpond::metrics";

/// A connection was established, in so long.
pub(crate) fn established(pool: &str, endpoint: &str, id: u64, took: Ticks) {
    if wants(CONNECTIONS, OF_CONNECTIONS) {
        let seconds = seconds(took);
        log::info!(
            target: OF_CONNECTIONS, pool, endpoint, connection = id, seconds;
            "millpond: pool {pool}: connection {id} to {endpoint} established in {seconds:.6} s"
        );
    }
}

/// A connection was closed, at this age.
pub(crate) fn closed(pool: &str, endpoint: &str, id: u64, reason: CloseReason, age: Duration) {
    if wants(CONNECTIONS, OF_CONNECTIONS) {
        let age = age.as_secs_f64();
        log::info!(
            target: OF_CONNECTIONS, pool, endpoint, connection = id, age, reason:% = reason;
            "millpond: pool {pool}: connection {id} to {endpoint} closed after {age:.3} s: {reason}"
        );
    }
}

/// Whether anybody wants to know of operations.
pub(crate) fn wants_operations() -> bool {
    wants(OPERATIONS, OF_OPERATIONS)
}

/// An operation is over, with this error unless it is done.
pub(crate) fn operation(ended: &Ended, error: Option<&Error>) {
    if !wants_operations() {
        return;
    }
    let (pool, endpoint) = (&*ended.place.pool, &*ended.place.endpoint);
    let id = ended.note.id.as_deref().unwrap_or_default();
    let statement = &*ended.note.statement;
    let (outcome, attempts) = (ended.outcome.as_str(), ended.attempts);
    let seconds = seconds(ended.took);
    let kind = ended.error.map_or("", ErrorKind::as_str);
    let Some(error) = error else {
        log::info!(
            target: OF_OPERATIONS,
            pool, endpoint, id, statement, outcome, attempts, seconds;
            "millpond: pool {pool}: {statement}: done in {seconds:.6} s"
        );
        return;
    };
    log::info!(
        target: OF_OPERATIONS,
        pool, endpoint, id, statement, outcome, kind, attempts, seconds;
        "millpond: pool {pool}: {statement}: {outcome} after {seconds:.6} s: {error}"
    );
}

/// What each pool and batch did since the last time.
pub(crate) fn summary(now: &Snapshot, since: &Point) {
    if !wants(METRICS, OF_METRICS) {
        return;
    }
    let rate = |count: u32| f64::from(count) / f64::from(since.seconds);
    for (pool, did) in now.pools.iter().zip(&since.pools) {
        let (name, health) = (&*pool.name, pool.health);
        let (open, used, waiting) = (pool.state.connections, did.used, did.waiting);
        let operations = rate(did.succeeded) + rate(did.failed);
        let (leases, failed) = (rate(did.leases), rate(did.failed));
        let p95 = f64::from(did.p95);
        log::info!(
            target: OF_METRICS,
            pool = name, health:% = health, open, used, waiting, leases_per_second = leases,
            operations_per_second = operations, failed_per_second = failed, p95;
            "millpond: pool {name} is {health}: {used} of {open} connections leased, {waiting} \
             waiting; per second {leases:.1} leases, {operations:.1} operations, {failed:.1} \
             failed; p95 {:.1} ms",
            p95 * 1e3
        );
    }
    #[cfg(feature = "batch")]
    for (batch, did) in now.batches.iter().zip(&since.batches) {
        let (name, queued) = (&*batch.name, did.queued.iter().sum::<u32>());
        let done = rate(did.done);
        let failed = rate(did.rejected) + rate(did.not_executed) + rate(did.unknown);
        log::info!(
            target: OF_METRICS,
            batch = name, queued, done_per_second = done, failed_per_second = failed;
            "millpond: batch {name}: {queued} queued; per second {done:.1} done, \
             {failed:.1} not"
        );
    }
}

fn seconds(took: Ticks) -> f64 {
    Duration::from_nanos(took).as_secs_f64()
}
