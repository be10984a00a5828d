//! A work queue in PostgreSQL, emptied by scoped threads that share `&pool`: no
//! `Arc`, no channel, no async.
//!
//! `cargo run --example scoped_threads`

use std::error::Error;

use millpond::{Pool, Postgres, PostgresConfig};

const JOBS: i64 = 2000;
const WORKERS: usize = 6;

fn main() -> Result<(), Box<dyn Error>> {
    let server = testbed::Postgres::start()?;
    let config = PostgresConfig::from_url(&server.url())?;
    let pool = Pool::builder()
        .name("jobs")
        .max_size(4)
        .build(Postgres::new(config)?)?;

    pool.get()?.batch_execute(
        "CREATE TABLE jobs (id bigint PRIMARY KEY, result bigint);
         INSERT INTO jobs SELECT generate_series(1, 2000)",
    )?;

    let done = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(|| work(&pool))).collect();
        let joined = workers
            .into_iter()
            .map(|worker| worker.join().expect("no worker panics"));
        joined.collect::<Result<Vec<u64>, millpond::Error>>()
    })?;

    let sum: i64 = pool
        .get()?
        .query_one("SELECT sum(result)::bigint FROM jobs", &[])?
        .get(0);
    println!(
        "{WORKERS} threads on {} connections did {done:?} jobs each",
        pool.state().connections
    );
    assert_eq!(
        done.iter().sum::<u64>(),
        JOBS as u64,
        "every job is done once"
    );
    assert_eq!(sum, (1..=JOBS).map(|id| id * id).sum::<i64>());
    println!("{}", pool.state());
    Ok(())
}

/// Takes one job after the other until there is none. A lease lasts for one job, so
/// the threads take turns on the connections.
fn work(pool: &Pool<Postgres>) -> Result<u64, millpond::Error> {
    let take = "UPDATE jobs SET result = id * id WHERE id = (SELECT id FROM jobs \
                WHERE result IS NULL LIMIT 1 FOR UPDATE SKIP LOCKED)";
    let mut done = 0;
    while pool.get()?.execute(take, &[])? == 1 {
        done += 1;
    }
    Ok(done)
}
