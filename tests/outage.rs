//! A server that dies under load and comes back: what the circuit breaker does meanwhile, what
//! that costs, and how soon the traffic is back.
//!
//! `MILLPOND_OUTAGE_SECONDS` makes the outages longer than the few seconds that show it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::health::{Concern, Reason};
use millpond::{
    Batch, BreakerState, ErrorKind, Health, Pool, Postgres, PostgresConfig, Redis, RedisCommand,
    RedisConfig, Sql,
};

const THREADS: u64 = 16;
/// Each thread does 20 operations a second.
const PACE: Duration = Duration::from_millis(50);
/// By then the breaker is open.
const UNTIL_OPEN: Duration = Duration::from_millis(2500);

/// One at a time: they measure the process.
static ALONE: Mutex<()> = Mutex::new(());

fn outage() -> Duration {
    let seconds = std::env::var("MILLPOND_OUTAGE_SECONDS").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(5.0))
}

/// Processor time of this process so far.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .expect("a command's name")
        .split_whitespace()
        .collect();
    // User and system time in hundredths of a second: fields 14 and 15 of the whole.
    let ticks = |field: &str| field.parse::<u64>().expect("a number");
    Duration::from_millis(10 * (ticks(fields[11]) + ticks(fields[12])))
}

fn dies_and_comes_back<B: Backend>(
    pool: &Pool<B>,
    operation: impl Fn() -> B::Operation + Sync,
    kill: impl FnOnce(),
    restart: impl FnOnce(),
) {
    let over = AtomicBool::new(false);
    let (asked, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let slowest_refusal = AtomicU64::new(0);
    let open = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    let start = Instant::now();
                    let refused = open.load(SeqCst);
                    asked.fetch_add(1, SeqCst);
                    match pool.execute(operation()) {
                        Ok(_) => {
                            answered.fetch_add(1, SeqCst);
                        }
                        Err(error) => {
                            assert!(error.is_retryable(), "{error}");
                            if refused && open.load(SeqCst) {
                                let took = start.elapsed().as_micros() as u64;
                                slowest_refusal.fetch_max(took, SeqCst);
                            }
                        }
                    }
                    std::thread::sleep(PACE.saturating_sub(start.elapsed()));
                }
            });
        }
        std::thread::sleep(Duration::from_secs(1));
        assert!(answered.load(SeqCst) >= 100, "{answered:?} of {asked:?}");
        kill();
        let died = Instant::now();
        std::thread::sleep(UNTIL_OPEN);
        assert_ne!(pool.metrics().breaker, BreakerState::Closed);
        open.store(true, SeqCst);
        let before = (
            pool.metrics().operations.retries,
            asked.load(SeqCst),
            processor_time(),
            Instant::now(),
        );
        // Also in the moment in which it lets one through.
        let mut untold = None;
        while died.elapsed() < outage() {
            let health = pool.health();
            let is_told = |reason: &Reason| reason.concern == Concern::Breaker;
            if health.health == Health::Up || !health.reasons.iter().any(is_told) {
                untold = Some(health);
            }
            std::thread::sleep(PACE);
        }
        let retries = pool.metrics().operations.retries - before.0;
        let operations = asked.load(SeqCst) - before.1;
        let took = before.3.elapsed();
        let cpu = processor_time().saturating_sub(before.2).as_secs_f64() / took.as_secs_f64();
        let health = pool.health();
        open.store(false, SeqCst);
        restart();
        let returned = Instant::now();
        let had = answered.load(SeqCst);
        while answered.load(SeqCst) < had + THREADS {
            assert!(
                returned.elapsed() < Duration::from_secs(10),
                "{:?}",
                pool.health()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        let back = returned.elapsed();
        // Everything is answered again.
        std::thread::sleep(Duration::from_secs(1).saturating_sub(back));
        let (asked_then, answered_then) = (asked.load(SeqCst), answered.load(SeqCst));
        std::thread::sleep(Duration::from_millis(500));
        over.store(true, SeqCst);
        let asked_since = asked.load(SeqCst) - asked_then;
        let answered_since = answered.load(SeqCst) - answered_then;
        println!(
            "down for {:.1} s: {operations} operations and {retries} retries while open, {:.2} % \
             of a core, the slowest refusal {} us, back {:.3} s after the server",
            died.elapsed().as_secs_f64(),
            cpu * 100.0,
            slowest_refusal.load(SeqCst),
            back.as_secs_f64(),
        );
        assert!(operations >= 100, "{operations}");
        assert!(retries * 10 <= operations, "{retries} of {operations}");
        assert!(cpu < 0.05, "{:.1} % of a core", cpu * 100.0);
        assert!(back < Duration::from_secs(1), "back after {back:?}");
        assert!(
            answered_since + THREADS >= asked_since,
            "{answered_since} of {asked_since}"
        );
        let text = health.reasons.iter().map(ToString::to_string);
        let text: String = text.collect::<Vec<_>>().join("; ");
        assert!(text.contains("circuit breaker is "), "{text}");
        assert!(untold.is_none(), "not told of the breaker: {untold:?}");
    });
    let metrics = pool.metrics();
    assert_eq!(metrics.breaker, BreakerState::Closed);
    assert_eq!(metrics.breaker_opened, 1);
}

fn postgres(server: &testbed::Postgres) -> Pool<Postgres> {
    let config = PostgresConfig::from_url(&server.url()).expect("a good URL");
    Pool::builder()
        .max_size(8)
        .build(Postgres::new(config).expect("good settings"))
        .expect("opens")
}

#[test]
fn postgres_dies_and_comes_back() {
    let _alone = ALONE.lock();
    let server = testbed::Postgres::start().expect("starts");
    let restart = || server.restart().expect("restarts");
    let select = || Sql::new("SELECT 1");
    dies_and_comes_back(&postgres(&server), select, || server.kill(), restart);
}

#[test]
fn redis_dies_and_comes_back() {
    let _alone = ALONE.lock();
    let server = testbed::Redis::start().expect("starts");
    let config = RedisConfig::new().host("127.0.0.1").port(server.port());
    let pool = Pool::builder()
        .max_size(8)
        .build(Redis::new(config).expect("good settings"))
        .expect("opens");
    let restart = || server.restart().expect("restarts");
    let get = || RedisCommand::new("GET").arg(testbed::value("key"));
    dies_and_comes_back(&pool, get, || server.kill(), restart);
}

#[test]
fn who_is_refused_is_told_why() {
    let _alone = ALONE.lock();
    let server = testbed::Postgres::start().expect("starts");
    let pool = postgres(&server);
    server.kill();
    let start = Instant::now();
    let error = loop {
        let error = pool.execute(Sql::new("SELECT 1")).expect_err("it is down");
        if error.to_string().contains("circuit breaker") {
            break error;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{error}");
    };
    // Whoever waited for a connection is told too, long before the connection timeout.
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Connect(_) | ErrorKind::ConnectionLost | ErrorKind::Overloaded
        ),
        "{error}"
    );
    assert!(error.is_retryable() && !error.outcome_unknown());
    let text = error.to_string();
    for part in ["failures in a row", "POOL_BREAKER_FAILURES", "127.0.0.1:"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_batch_waits_for_the_server() {
    let _alone = ALONE.lock();
    let server = testbed::Postgres::start().expect("starts");
    server
        .psql("CREATE TABLE kept (number bigint PRIMARY KEY)")
        .expect("creates");
    let pool = postgres(&server);
    let batch = Batch::builder(pool.clone())
        .workers(4)
        .build()
        .expect("starts");
    server.kill();
    let mut tickets = Vec::new();
    for number in 0..300_i64 {
        let insert = Sql::new("INSERT INTO kept VALUES ($1)").bind(testbed::number(number));
        tickets.push(batch.submit(insert).expect("room"));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_ne!(pool.metrics().breaker, BreakerState::Closed);
    server.restart().expect("restarts");
    let outcomes: Vec<_> = tickets.into_iter().map(millpond::Ticket::wait).collect();
    let done = outcomes.iter().filter(|outcome| outcome.is_done()).count();
    let lost: Vec<_> = outcomes
        .iter()
        .filter_map(millpond::Outcome::error)
        .collect();
    // What was on its way when the server died is lost to nobody but its owners.
    assert!(done >= 290, "{done} done, {:?}", lost.first());
    let kept = server.psql("SELECT count(*) FROM kept").expect("counts");
    let kept: usize = kept.trim().parse().expect("a number");
    assert!(kept >= done && kept <= 300, "{kept} kept, {done} done");
    let metrics = batch.metrics();
    assert!(metrics.retries <= 30 + 100, "{} retries", metrics.retries);
}
