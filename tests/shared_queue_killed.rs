//! Workers that are killed: three processes share a queue, one of them is killed each second, and
//! all operations are applied; twice at most where they are not idempotent, and counted.

#[path = "traced/mod.rs"]
mod traced;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millpond::shared_queue::SharedQueue;
use millpond::{Batch, Operation, Pool, Postgres, PostgresConfig, Redis, RedisConfig, Sql};

const CHILD: &str = "SHARED_QUEUE_CHILD";
const OPERATIONS: i64 = 50_000;
/// For how long operations are submitted, evenly.
const SPREAD: Duration = Duration::from_secs(6);
const STEP: i64 = 500;
const WORKERS: usize = 3;

fn main() {
    if let Ok(urls) = std::env::var(CHILD) {
        let (redis, postgres) = urls.split_once(' ').expect("two URLs");
        return work(redis, postgres);
    }
    nothing_is_lost_when_workers_are_killed();
    println!("1 check of killed workers passed");
}

fn queue(redis: &str) -> SharedQueue<Postgres> {
    let manager = Redis::new(RedisConfig::from_url(redis).expect("a good URL"));
    let pool = Pool::builder()
        .max_size(6)
        .min_idle(Some(0))
        .build(manager.expect("good settings"))
        .expect("opens");
    SharedQueue::builder(pool, "ledger")
        .claim_after(Duration::from_secs(1))
        .prefetch(500)
        .build()
        .expect("a stream")
}

/// A process that works until it is killed.
fn work(redis: &str, postgres: &str) {
    traced::traced();
    let config = PostgresConfig::from_url(postgres).expect("a good URL");
    let manager = Postgres::new(config).expect("good settings");
    let pool = Pool::builder().max_size(2).min_idle(Some(0)).build(manager);
    let batch = Batch::builder(pool.expect("opens")).workers(2).build();
    let _worker = queue(redis).work(&batch.expect("starts")).expect("starts");
    loop {
        std::thread::park();
    }
}

fn spawn(urls: &str) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .env(CHILD, urls)
        .stdin(Stdio::null())
        .spawn()
        .expect("starts")
}

/// Ended whatever happens.
struct Workers(Vec<Child>);

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn nothing_is_lost_when_workers_are_killed() {
    let redis = testbed::Redis::start().expect("starts");
    let postgres = testbed::Postgres::start().expect("starts");
    let tables = "CREATE TABLE once (key bigint PRIMARY KEY); CREATE TABLE plain (key bigint)";
    postgres.psql(tables).expect("creates");
    let urls = format!("{} {}", redis.url(), postgres.url());
    let queue = queue(&redis.url());
    let mut workers = Workers((0..WORKERS).map(|_| spawn(&urls)).collect());
    let start = Instant::now();
    let (mut killed, mut kill_at) = (0, Duration::from_millis(800));
    let mut tickets = Vec::new();
    let mut next = 0;
    let done = loop {
        let due = OPERATIONS as f64 * start.elapsed().as_secs_f64() / SPREAD.as_secs_f64();
        // In small steps, so that kills come in time on a busy machine too.
        let until = OPERATIONS.min(due as i64 + 1).min(next + STEP);
        while next < until {
            // Every other one may run twice.
            let sql = if next % 2 == 0 {
                Sql::new("INSERT INTO once (key) VALUES ($1) ON CONFLICT DO NOTHING")
                    .idempotent(true)
            } else {
                Sql::new("INSERT INTO plain (key) VALUES ($1)")
            };
            let sql = sql.bind(testbed::number(next));
            tickets.push(queue.submit(sql).expect("room"));
            next += 1;
        }
        for ticket in tickets.drain(..) {
            assert!(ticket.wait().is_done());
        }
        if start.elapsed() > kill_at && next < OPERATIONS {
            let victim = &mut workers.0[killed % WORKERS];
            victim.kill().expect("was alive");
            victim.wait().expect("is dead");
            *victim = spawn(&urls);
            killed += 1;
            kill_at += Duration::from_secs(1);
        }
        let depth = queue.depth().expect("answers");
        if next == OPERATIONS && depth.entries == 0 {
            break depth;
        }
        let late = start.elapsed() > Duration::from_secs(60);
        assert!(!late, "not done after a minute: {depth:?}");
        std::thread::sleep(Duration::from_millis(5));
    };
    drop(workers);
    assert!(killed >= 5, "{killed} killed");
    assert_eq!(done.dead, 0, "{:?}", queue.dead_letters(3));
    let count = |sql: &str| {
        let text = postgres.psql(sql).expect("answers");
        text.trim().parse::<i64>().expect("a number")
    };
    assert_eq!(count("SELECT count(*) FROM once"), OPERATIONS / 2);
    let distinct = count("SELECT count(DISTINCT key) FROM plain");
    assert_eq!(distinct, OPERATIONS / 2, "none is lost");
    let twice = count("SELECT count(*) FROM plain") - distinct;
    let counted = i64::try_from(done.perhaps_twice).expect("few");
    assert!(twice <= counted, "{twice} twice, and {counted} are counted");
    println!(
        "{OPERATIONS} operations in {:.1} s, {killed} workers killed: {twice} applied twice, \
         {counted} counted as perhaps",
        start.elapsed().as_secs_f64()
    );
}
