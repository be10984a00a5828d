//! Redis on several nodes, under load, while they fail and move: Sentinel's failover, a
//! Cluster's moving slots, and its failover. Afterwards the servers have to agree with what
//! the callers were told; see [`ledger`].
#![allow(clippy::unwrap_used, missing_docs)]

mod cluster;
mod ledger;
mod sentinel;

use std::thread;
use std::time::{Duration, Instant};

use millpond::{Batch, Pool, Redis, RedisConfig};

/// How soon after the engine's own failover writes have to go again.
const SOON: Duration = Duration::from_secs(1);

fn pool(config: RedisConfig) -> Pool<Redis> {
    let config = config
        .connect_timeout(Duration::from_secs(1))
        .read_timeout(Duration::from_millis(500))
        .check_timeout(Duration::from_millis(500));
    Pool::builder()
        .max_size(8)
        .retry_delay(Duration::from_millis(50))
        .build(Redis::new(config).unwrap())
        .unwrap()
}

fn batch(pool: &Pool<Redis>) -> Batch<Redis> {
    let builder = Batch::builder(pool.clone()).max_operations(200_000);
    builder.build().unwrap()
}

/// The moment from which this is so, to some milliseconds.
fn moment(what: &str, mut is_so: impl FnMut() -> bool) -> Instant {
    let limit = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < limit, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
    Instant::now()
}

/// Whether it calls itself the primary. It cuts connections when it is promoted.
fn is_primary(node: &testbed::Redis) -> bool {
    let role = node.cli(&["ROLE"]);
    role.is_ok_and(|role| role.starts_with("master"))
}

/// Lets this primary take no writes once it has not heard of its replica for a second, and waits
/// until the replica has what was written after it came. A new one counts as good at once, but
/// is sent nothing more until it has reported for the first time.
fn wants_its_replica(primary: &testbed::Redis) {
    for (name, value) in [
        ("min-replicas-to-write", "1"),
        ("min-replicas-max-lag", "1"),
    ] {
        primary.cli(&["CONFIG", "SET", name, value]).unwrap();
    }
    let offset = |name: &str| {
        let info = primary.cli(&["INFO", "replication"]).unwrap();
        let digits = info.split_once(name)?.1;
        digits
            .split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse::<u64>()
            .ok()
    };
    // The primary pings it once a second, which counts.
    let written = offset("master_repl_offset:").unwrap();
    moment("its replica follows", || {
        offset(",offset=").is_some_and(|read| read > written)
    });
}
