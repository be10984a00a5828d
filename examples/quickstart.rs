//! The tour: PostgreSQL, Redis, MongoDB and HTTP, each behind a pool of four
//! connections that eight scoped threads share, and a batch.
//!
//! `cargo run --example quickstart` uses the servers that the environment names
//! (`DATABASE_URL`, `REDIS_URL`, `MONGODB_URI`, `HTTP_BASE_URL`) and starts throw-away
//! ones for the others.

use std::error::Error;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::batch::wait_all;
use millpond::{
    Batch, Http, HttpConfig, MongoDb, MongoDbConfig, Pool, Postgres, PostgresConfig, Redis,
    RedisConfig, Sql,
};
use mongodb::bson::{Document, doc};
use redis::Commands as _;
use testbed::Servers;

const THREADS: i64 = 8;
const OPERATIONS: i64 = 250;
const DATABASE: &str = "millpond_quickstart";

fn main() -> Result<(), Box<dyn Error>> {
    println!("Starting or finding PostgreSQL, Redis, MongoDB and an HTTP server ...");
    let servers = Servers::start()?;

    let config = PostgresConfig::from_url(&servers.postgres_url)?;
    let postgres = Pool::builder().max_size(4).build(Postgres::new(config)?)?;

    let config = RedisConfig::from_url(&servers.redis_url)?;
    let redis = Pool::builder().max_size(4).build(Redis::new(config)?)?;

    let config = MongoDbConfig::from_url(&servers.mongodb_uri)?;
    let mongodb = Pool::builder().max_size(4).build(MongoDb::new(config)?)?;

    let config = HttpConfig::new(&servers.http_url);
    let http = Pool::builder().max_size(4).build(Http::new(config)?)?;

    mongodb.get()?.database(DATABASE).drop().run()?;
    println!("{THREADS} threads, {OPERATIONS} operations each, on 4 connections per pool:\n");
    println!(
        "{:<9} {:<25} {:<12} {:>7} {:>6} {:>9} {:>9} {:>9}",
        "backend", "endpoint", "version", "done", "failed", "ops/s", "p50", "p99"
    );
    tour(&postgres, |lease, number| {
        let row = lease.query_one("SELECT $1::bigint * 2", &[&number])?;
        expect(row.get::<_, i64>(0) == number * 2)
    })?;
    tour(&redis, |lease, number| {
        let key = format!("millpond:quickstart:{number}");
        lease.set_ex::<_, _, ()>(&key, number, 60)?;
        expect(lease.get::<_, i64>(&key)? == number)
    })?;
    tour(&mongodb, |lease, number| {
        let numbers = lease.database(DATABASE).collection::<Document>("numbers");
        let document = doc! { "_id": number };
        numbers.insert_one(&document).run()?;
        expect(numbers.find_one(document).run()?.is_some())
    })?;
    tour(&http, |lease, _| {
        let response = lease.get("/")?;
        expect(response.status() == 200 && !response.text()?.is_empty())
    })?;

    println!("\nThe same through a batch, which makes groups of what is there:");
    batch(&postgres)?;

    println!("\nThe pools afterwards:");
    println!("  postgres  {}", postgres.state());
    println!("  redis     {}", redis.state());
    println!(
        "  mongodb   {}; real sockets: {}",
        mongodb.state(),
        mongodb.manager().sockets().open
    );
    println!("  http      {}", http.state());

    println!("\nAnd an error, from a port where nothing listens:");
    let nowhere = PostgresConfig::new()
        .host("127.0.0.1")
        .port(testbed::refused_port())
        .user("me");
    let pool = Pool::builder()
        .min_idle(Some(0))
        .build_unchecked(Postgres::new(nowhere)?);
    if let Err(error) = pool.get_timeout(Duration::from_millis(200)) {
        println!("  {error}");
    }
    mongodb.get()?.database(DATABASE).drop().run()?;
    Ok(())
}

/// Inserts rows one by one, of which one is wrong, with an outcome for each.
fn batch(pool: &Pool<Postgres>) -> Result<(), Box<dyn Error>> {
    const ROWS: i64 = 10_000;
    let mut lease = pool.get()?;
    lease.batch_execute(
        "DROP TABLE IF EXISTS millpond_quickstart; \
         CREATE TABLE millpond_quickstart (id bigint PRIMARY KEY, name text)",
    )?;
    drop(lease);
    let batch = Batch::builder(pool.clone()).size(500).build()?;
    let start = Instant::now();
    let insert = |id: i64| {
        Sql::new("INSERT INTO millpond_quickstart (id, name) VALUES ($1, $2)")
            .bind(if id == 4711 { 0 } else { id })
            .bind(format!("row {id}"))
    };
    let submitted = batch.submit_all((0..ROWS).map(insert)).into_iter();
    let outcomes = wait_all(submitted.collect::<Result<Vec<_>, _>>()?, |_| ());
    let rate = ROWS as f64 / start.elapsed().as_secs_f64();
    println!("  {}", batch.close(Duration::from_secs(5)));
    println!("  {rate:.0} rows per second, each with its own outcome");
    if let Some(error) = outcomes.iter().find_map(millpond::Outcome::error) {
        println!("  the one that was wrong: {error}");
    }
    pool.execute(Sql::new("DROP TABLE millpond_quickstart"))?;
    Ok(())
}

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn expect(right: bool) -> Outcome {
    if right {
        Ok(())
    } else {
        Err("not the answer that was expected".into())
    }
}

/// Runs the operation on all threads, each with a lease of its own every time, and
/// prints what came of it.
fn tour<B: Backend<Error = millpond::Error>>(
    pool: &Pool<B>,
    operation: impl Fn(&mut B::Connection, i64) -> Outcome + Sync,
) -> Result<(), Box<dyn Error>> {
    let service = pool.manager().check(&mut *pool.get()?)?;
    let start = Instant::now();
    let results: Vec<(Duration, Outcome)> = std::thread::scope(|scope| {
        let worker = |thread: i64| {
            let operation = &operation;
            move || {
                let numbers = thread * OPERATIONS..(thread + 1) * OPERATIONS;
                let timed = numbers.map(|number| {
                    let start = Instant::now();
                    let outcome = pool
                        .get()
                        .map_err(Into::into)
                        .and_then(|mut lease| operation(&mut lease, number));
                    (start.elapsed(), outcome)
                });
                timed.collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(worker(thread)))
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().expect("no worker panics"));
        joined.flatten().collect()
    });
    let elapsed = start.elapsed();

    let failures: Vec<_> = results
        .iter()
        .filter_map(|(_, outcome)| outcome.as_ref().err())
        .collect();
    let mut times: Vec<Duration> = results.iter().map(|(time, _)| *time).collect();
    times.sort_unstable();
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{:<9} {:<25} {:<12} {:>7} {:>6} {:>9.0} {:>9.1?} {:>9.1?}",
        B::NAME,
        pool.manager().endpoint(),
        service
            .version
            .as_deref()
            .unwrap_or("-")
            .split(' ')
            .next()
            .unwrap_or("-"),
        results.len() - failures.len(),
        failures.len(),
        results.len() as f64 / elapsed.as_secs_f64(),
        percentile(50),
        percentile(99),
    );
    match failures.first() {
        Some(failure) => Err(failure.to_string().into()),
        None => Ok(()),
    }
}
