//! Four batches over four backends, with priorities: an order that is urgent, its trail in
//! the cache and the log, and a call to a service.
//!
//! `cargo run --example mixed_batch` uses the servers that the environment names
//! (`DATABASE_URL`, `REDIS_URL`, `MONGODB_URI`, `HTTP_BASE_URL`) and starts throw-away ones
//! for the others.

use std::error::Error;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::batch::{Ticket, wait_all};
use millpond::{
    Batch, Http, HttpConfig, HttpRequest, MongoDb, MongoDbConfig, MongoOperation, Operation as _,
    Pool, Postgres, PostgresConfig, Priority, Redis, RedisCommand, RedisConfig, Sql,
};
use mongodb::bson::doc;
use testbed::Servers;

const ORDERS: i64 = 5_000;
const DATABASE: &str = "millpond_mixed_batch";

fn main() -> Result<(), Box<dyn Error>> {
    println!("Starting or finding PostgreSQL, Redis, MongoDB and an HTTP server ...");
    let servers = Servers::start()?;
    let shop = pool(Postgres::new(PostgresConfig::from_url(
        &servers.postgres_url,
    )?)?)?;
    let config = MongoDbConfig::from_url(&servers.mongodb_uri)?.database(DATABASE);
    let journal = pool(MongoDb::new(config)?)?;
    let postgres = batch(shop.clone())?;
    let redis = pool(Redis::new(RedisConfig::from_url(&servers.redis_url)?)?).and_then(batch)?;
    let mongodb = batch(journal.clone())?;
    let http = pool(Http::new(HttpConfig::new(&servers.http_url))?).and_then(batch)?;
    shop.get()?.batch_execute(
        "DROP TABLE IF EXISTS millpond_orders; \
         CREATE TABLE millpond_orders (id bigint PRIMARY KEY, customer text, cents int)",
    )?;

    let start = Instant::now();
    let (mut orders, mut cached, mut logged, mut called) = (vec![], vec![], vec![], vec![]);
    for id in 0..ORDERS {
        let customer = format!("customer {}", id % 100);
        // What the shop lives on goes first, and in the order of each customer.
        orders.push(
            postgres.submit(
                Sql::new("INSERT INTO millpond_orders (id, customer, cents) VALUES ($1, $2, $3)")
                    .bind(id)
                    .bind(customer.as_str())
                    .bind(id % 10_000)
                    .priority(Priority::Critical)
                    .deadline(Duration::from_secs(20)),
            )?,
        );
        cached.push(
            redis.submit(
                RedisCommand::new("SET")
                    .arg(format!("millpond:orders:{id}"))
                    .arg(&customer)
                    .arg("EX")
                    .arg(60)
                    .idempotent(true), // after a lost connection, once more does no harm
            )?,
        );
        logged.push(
            mongodb.submit(
                MongoOperation::insert_one("log", doc! { "order": id, "customer": customer })
                    .priority(Priority::Low),
            )?,
        );
        if id % 50 == 0 {
            called.push(http.submit(HttpRequest::get("/").id(format!("order {id}")))?);
        }
    }
    // Reports are less urgent than orders, and wait behind them.
    let report = postgres.submit(
        Sql::new("SELECT count(*) AS orders, sum(cents) AS cents FROM millpond_orders")
            .priority(Priority::Low),
    )?;

    println!(
        "\n{:<10} {:>7} {:>7} {:>8} {:>9}",
        "backend", "done", "failed", "groups", "largest"
    );
    line(&postgres, orders);
    line(&redis, cached);
    line(&mongodb, logged);
    line(&http, called);
    let reply = report.wait().into_result()?;
    let row = reply.rows().first().ok_or("a report has a row")?;
    println!(
        "\n{} orders worth {} cents were there when the report ran; all was over after {:.2?}",
        row.get::<i64>("orders")?,
        row.get::<i64>("cents")?,
        start.elapsed()
    );
    shop.execute(Sql::new("DROP TABLE millpond_orders"))?;
    journal.get()?.database(DATABASE).drop().run()?;
    for metrics in [
        postgres.close(Duration::from_secs(5)),
        redis.close(Duration::from_secs(5)),
        mongodb.close(Duration::from_secs(5)),
        http.close(Duration::from_secs(5)),
    ] {
        println!("{metrics}");
    }
    Ok(())
}

fn pool<B: Backend>(manager: B) -> Result<Pool<B>, millpond::Error> {
    Pool::builder().max_size(4).build(manager)
}

/// A batch over a pool. More batches over one pool work as well.
fn batch<B: Backend>(pool: Pool<B>) -> Result<Batch<B>, millpond::Error> {
    Batch::builder(pool)
        .size(500)
        .max_operations(10_000)
        .build()
}

/// Waits for these and prints a line of the table.
fn line<B: Backend>(batch: &Batch<B>, tickets: Vec<Ticket<B::Reply>>) {
    let outcomes = wait_all(tickets, |_| ());
    let done = outcomes.iter().filter(|outcome| outcome.is_done()).count();
    let metrics = batch.metrics();
    println!(
        "{:<10} {:>7} {:>7} {:>8} {:>9}",
        B::NAME,
        done,
        outcomes.len() - done,
        metrics.groups,
        metrics.largest_group
    );
    if let Some(error) = outcomes.iter().find_map(|outcome| outcome.error()) {
        println!("           the first error: {error}");
    }
}
