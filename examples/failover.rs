//! Servers die under load, others take over, and nothing that was acknowledged is lost: a time
//! line of it.
//!
//! `cargo run --example failover` starts throw-away servers (since it kills them): PostgreSQL
//! with a synchronous replica, which is promoted a second after the primary was killed, and
//! Redis with a replica and three Sentinels, who do that by themselves. It takes 15 seconds, or
//! with `-- --seconds 60` so many, and fails if an acknowledged write is missing in the end.

use std::collections::HashSet;
use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, Scope, sleep};
use std::time::{Duration, Instant};

use millpond::backend::Role;
use millpond::{
    Fleet, Operation as _, Pool, Postgres, PostgresConfig, Redis, RedisCommand, RedisConfig, Sql,
};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const SECOND: Duration = Duration::from_secs(1);

/// What an operation may take, failover included.
const LIMIT: Duration = Duration::from_secs(5);

static OVER: AtomicBool = AtomicBool::new(false);

/// What came of the load on one pair of servers.
#[derive(Default)]
struct Tally {
    next: AtomicU64,
    writes: Successes,
    reads: Successes,
    errors: AtomicU64,
    acknowledged: Mutex<Vec<u64>>,
}

/// How many, the longest time between two of them, and when the last one was.
#[derive(Default)]
struct Successes(Mutex<(u64, Duration, Option<Instant>)>);

impl Successes {
    fn note(&self) {
        let now = Instant::now();
        let mut successes = self.0.lock().expect("no poison");
        let (count, longest, last) = *successes;
        let pause = last.map_or(Duration::ZERO, |last| now - last);
        *successes = (count + 1, longest.max(pause), Some(now));
    }

    fn count(&self) -> u64 {
        self.0.lock().expect("no poison").0
    }

    fn longest_pause(&self) -> u128 {
        self.0.lock().expect("no poison").1.as_millis()
    }
}

impl Tally {
    /// Two threads write and two read. A write says whether it may be relied upon.
    fn load<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        write: impl Fn(u64) -> Result<bool, millpond::Error> + Copy + Send + 's,
        read: impl Fn() -> Result<(), millpond::Error> + Copy + Send + 's,
    ) {
        for _ in 0..2 {
            self.repeat(scope, move || {
                let number = self.next.fetch_add(1, Relaxed);
                if write(number)? {
                    self.acknowledged.lock().expect("no poison").push(number);
                    self.writes.note();
                }
                Ok(())
            });
            self.repeat(scope, move || {
                read()?;
                self.reads.note();
                Ok(())
            });
        }
    }

    fn repeat<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        work: impl Fn() -> Result<(), millpond::Error> + Send + 's,
    ) {
        scope.spawn(move || {
            while !OVER.load(Relaxed) {
                if work().is_err() {
                    self.errors.fetch_add(1, Relaxed);
                }
                sleep(Duration::from_millis(1));
            }
        });
    }

    /// What happened since the last time.
    fn line(&self, seen: &mut [u64; 3]) -> String {
        let errors = self.errors.load(Relaxed);
        let now = [self.writes.count(), self.reads.count(), errors];
        let [writes, reads, errors] = [0, 1, 2].map(|index| now[index] - seen[index]);
        *seen = now;
        format!("{writes:>5} writes/s {reads:>5} reads/s {errors:>3} errors")
    }

    /// Prints the summary, and says whether all that was acknowledged is `there`.
    fn summary(&self, name: &str, there: &HashSet<u64>) -> bool {
        let acknowledged = self.acknowledged.lock().expect("no poison");
        let is_lost = |number: &&u64| !there.contains(number);
        let lost = acknowledged.iter().filter(is_lost).count();
        println!(
            "{name}: {} writes acknowledged, {lost} of them lost; {} there; longest pause of \
             writes {} ms, of reads {} ms; {} errors",
            acknowledged.len(),
            there.len(),
            self.writes.longest_pause(),
            self.reads.longest_pause(),
            self.errors.load(Relaxed),
        );
        lost == 0
    }
}

fn main() -> Result<()> {
    let length = seconds()?;
    println!("Starting PostgreSQL with a replica, Redis with a replica and three Sentinels ...");
    let (primary, replica) = postgres_pair()?;
    let sentinel = testbed::RedisSentinel::start()?;

    let mut orders = Fleet::builder().name("orders");
    for server in [&primary, &replica] {
        let config = PostgresConfig::from_url(&server.url())?.connect_timeout(SECOND);
        orders = orders.endpoint(Postgres::new(config)?);
    }
    let orders = orders.build()?;
    let nodes = sentinel.sentinels().iter();
    let nodes: Vec<_> = nodes.map(|node| ("127.0.0.1", node.port())).collect();
    let config = RedisConfig::new().sentinel(sentinel.master_name(), nodes);
    let cache = Pool::new(Redis::new(config.connect_timeout(SECOND))?)?;
    let mut readers = Fleet::builder().name("readers");
    for server in [sentinel.master(), sentinel.replica()] {
        let config = RedisConfig::from_url(&server.url())?.connect_timeout(SECOND);
        readers = readers.endpoint(Redis::new(config)?);
    }
    let readers = readers.build()?;

    let (in_postgres, in_redis) = (Tally::default(), Tally::default());
    let alone = AtomicBool::new(false); // Redis has no replica any more.
    let started = Instant::now();
    let event = |what: &str| println!("{:>6.2} s  ** {what}", started.elapsed().as_secs_f64());
    thread::scope(|scope| -> Result<()> {
        let (orders, cache, readers, alone) = (&orders, &cache, &readers, &alone);
        in_postgres.load(
            scope,
            |number| {
                let insert = Sql::new("INSERT INTO ledger VALUES ($1)").bind(number.cast_signed());
                orders.write().execute(insert.deadline(LIMIT)).map(|_| true)
            },
            || {
                let select = Sql::new("SELECT max(entry) FROM ledger");
                orders.read().execute(select.deadline(LIMIT)).map(drop)
            },
        );
        in_redis.load(
            scope,
            |number| {
                let mut lease = cache.get_timeout(LIMIT)?;
                // Redis answers before its replica has it; so it is asked to wait for that.
                let wanted = u64::from(!alone.load(Relaxed));
                let mut write = redis::pipe();
                write.cmd("SADD").arg("ledger").arg(number);
                write.cmd("WAIT").arg(wanted).arg(100);
                let (_, replicas): (u64, u64) = write.query(&mut *lease)?;
                Ok(replicas >= wanted)
            },
            || {
                let count = RedisCommand::new("SCARD").arg("ledger");
                readers.read().execute(count.deadline(LIMIT)).map(drop)
            },
        );
        scope.spawn(|| {
            let (mut postgres, mut redis) = ([0; 3], [0; 3]);
            for second in 1..length.as_secs() as u32 {
                sleep((second * SECOND).saturating_sub(started.elapsed()));
                let endpoints = orders.endpoints();
                let writable = endpoints.iter().find(|one| one.role == Role::Primary);
                let one = writable.map_or("nobody", |one| &one.endpoint);
                let other = sentinel.current_master_port().unwrap_or_default();
                let line = in_postgres.line(&mut postgres);
                println!("{second:>3}    s  postgres {line}, primary {one}");
                let line = in_redis.line(&mut redis);
                println!("{:>8}  redis    {line}, primary 127.0.0.1:{other}", "");
            }
        });
        let wait_for = |share: f64| sleep(length.mul_f64(share).saturating_sub(started.elapsed()));
        wait_for(0.2);
        event("PostgreSQL's primary is killed");
        primary.kill();
        sleep(SECOND);
        let promoted = replica.promote();
        event("PostgreSQL's replica has been promoted");
        wait_for(0.5);
        event("Redis's primary is killed");
        sentinel.master().kill();
        alone.store(true, Relaxed);
        wait_for(1.0);
        OVER.store(true, Relaxed);
        Ok(promoted?)
    })?;

    let entries = replica.psql("SELECT entry FROM ledger")?;
    let rows: Vec<u64> = entries.lines().map(str::parse).collect::<Result<_, _>>()?;
    let ledger: HashSet<u64> = rows.iter().copied().collect();
    println!("\n{} rows are doubled", rows.len() - ledger.len());
    let mut fine = in_postgres.summary("postgres", &ledger) && rows.len() == ledger.len();
    let mut lease = cache.get()?;
    let members = redis::cmd("SMEMBERS").arg("ledger").query(&mut *lease)?;
    fine &= in_redis.summary("redis", &members);
    let failure = "something that was acknowledged is missing, or is there twice";
    fine.then_some(()).ok_or_else(|| failure.into())
}

/// A primary that acknowledges what its replica has too.
fn postgres_pair() -> Result<(testbed::Postgres, testbed::Postgres)> {
    let primary = testbed::Postgres::start()?;
    primary.psql("CREATE TABLE ledger (entry bigint); CREATE INDEX ON ledger (entry)")?;
    let replica = primary.replica()?;
    primary.psql("ALTER SYSTEM SET synchronous_standby_names = '*'")?;
    primary.psql("SELECT pg_reload_conf()")?;
    while primary.psql("SELECT sync_state FROM pg_stat_replication")? != "sync" {
        sleep(SECOND / 20);
    }
    Ok((primary, replica))
}

/// `--seconds N`, if it is there: at least 6.
fn seconds() -> Result<Duration> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => Ok(15 * SECOND),
        (Some("--seconds"), Some(number)) => Ok(number.parse::<u32>()?.max(6) * SECOND),
        _ => Err("usage: failover [--seconds N]".into()),
    }
}
