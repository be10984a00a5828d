//! A primary, its replica, a fleet of both, and the primary's fall.

use std::thread;
use std::time::{Duration, Instant};

use millpond::endpoints::Ejection;
use millpond::{Fleet, Postgres, PostgresConfig, Redis, RedisConfig};

use crate::station::until;

/// A primary and a synchronous replica, with an empty ledger.
pub(crate) fn postgres_pair() -> (testbed::Postgres, testbed::Postgres) {
    let primary = testbed::Postgres::start().expect("starts");
    primary
        .psql("CREATE TABLE ledger (entry bigint)")
        .expect("a table");
    let replica = primary.replica().expect("a replica");
    for sql in [
        "ALTER SYSTEM SET synchronous_standby_names = '*'",
        "SELECT pg_reload_conf()",
    ] {
        primary.psql(sql).expect("a setting");
    }
    until("replication is synchronous", || {
        let state = primary.psql("SELECT sync_state FROM pg_stat_replication");
        state.expect("an answer") == "sync"
    });
    (primary, replica)
}

pub(crate) fn postgres_fleet(servers: &[&testbed::Postgres]) -> Fleet<Postgres> {
    let mut builder = Fleet::builder()
        .pool(|pool| pool.max_size(5).retry_delay(Duration::from_millis(100)))
        .ejection(Ejection::default().slow_start(Duration::ZERO));
    for server in servers {
        let config = PostgresConfig::from_url(&server.url()).expect("a URL");
        let config = config.connect_timeout(Duration::from_secs(1));
        builder = builder.endpoint(Postgres::new(config).expect("good settings"));
    }
    builder.build().expect("connects")
}

/// When the primary was hurt, and when its replica had been promoted.
pub(crate) struct Fall {
    pub(crate) hurt: Instant,
    pub(crate) promoted: Instant,
}

impl Fall {
    /// Hurts the primary and promotes the replica, half a second later, amid some load.
    pub(crate) fn of(
        primary: &testbed::Postgres,
        replica: &testbed::Postgres,
        hurt: impl FnOnce(&testbed::Postgres),
    ) -> Self {
        thread::sleep(Duration::from_millis(500));
        let hurt_at = Instant::now();
        hurt(primary);
        thread::sleep(Duration::from_millis(500));
        replica.promote().expect("is promoted");
        let promoted = Instant::now();
        thread::sleep(Duration::from_millis(1500));
        Self {
            hurt: hurt_at,
            promoted,
        }
    }
}

/// A primary, its replica, and a fleet of both with the replica first: it is the role that counts.
pub(crate) fn redis_pair() -> (testbed::Redis, testbed::Redis, Fleet<Redis>) {
    let primary = testbed::Redis::builder()
        .arg("--repl-diskless-sync-delay")
        .arg("0");
    let primary = primary.start().expect("starts");
    let replica = testbed::Redis::builder()
        .arg("--replicaof")
        .arg("127.0.0.1")
        .arg(primary.port().to_string());
    let replica = replica.start().expect("starts");
    let mut builder = Fleet::builder().pool(|pool| pool.max_size(4));
    for server in [&replica, &primary] {
        let config = RedisConfig::from_url(&server.url()).expect("a URL");
        builder = builder.endpoint(Redis::new(config).expect("good settings"));
    }
    let fleet = builder.build().expect("connects");
    (primary, replica, fleet)
}

/// The primary and its replica change their roles: demoted, not dead, it answers and takes no
/// writes.
pub(crate) fn swap_roles(primary: &testbed::Redis, replica: &testbed::Redis) {
    replica.cli(&["REPLICAOF", "NO", "ONE"]).expect("promoted");
    let demoted = ["REPLICAOF", "127.0.0.1", &replica.port().to_string()];
    primary.cli(&demoted).expect("demoted");
}
