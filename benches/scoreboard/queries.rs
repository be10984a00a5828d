//! One small query, over and over: through a pool with a lease for each, and on the
//! bare drivers with a connection for each thread.
//!
//! The pools have as many connections as there are threads and are otherwise as they
//! come. On the bare side nothing is done twice that a careful program does once: the
//! statement is prepared, the collection and the URL are at hand. Servers and threads
//! share the cores, so what is spent on our side is missing on theirs, as in life.

use std::error::Error;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use millpond::{
    Http, HttpConfig, MongoDb, MongoDbConfig, Pool, Postgres, PostgresConfig, Redis, RedisConfig,
};
use mongodb::bson::{Document, doc};
use r2d2_postgres::PostgresConnectionManager;
use redis::Commands as _;
use testbed::Servers;

use super::options::Options;
use super::rounds::{Turn, take_turns};
use super::table::{Goal, Row, Table, Unit};

const SELECT: &str = "SELECT 1";
const DATABASE: &str = "millpond_scoreboard";
const KEY: &str = "millpond:scoreboard";

type Outcome = Result<(), Box<dyn Error>>;
type Measure = fn(&mut Scene<'_>) -> Outcome;

pub(crate) fn measure(options: &Options, table: &mut Table) -> Outcome {
    let kinds: [(&str, Measure); 4] = [
        ("PostgreSQL `SELECT 1`", postgres),
        ("Redis `GET`", redis),
        ("HTTP `GET`, nginx keep-alive", http),
        ("MongoDB `find_one` by `_id`", mongodb),
    ];
    let mut servers = None;
    for (query, measure) in kinds {
        for threads in [1, 4] {
            let s = if threads == 1 { "" } else { "s" };
            let what = format!("{query}, lease per query, {threads} thread{s}: queries per second");
            if !options.wants(&what) {
                continue;
            }
            let servers = match &servers {
                Some(servers) => servers,
                None => servers.insert(Servers::throw_away()?),
            };
            let (rounds, span) = options.rounds(61, 50);
            measure(&mut Scene {
                servers,
                table,
                what: &what,
                threads,
                rounds,
                span,
            })?;
        }
    }
    Ok(())
}

/// One row, or several with the same number of ours.
struct Scene<'a> {
    servers: &'a Servers,
    table: &'a mut Table,
    what: &'a str,
    threads: u32,
    rounds: usize,
    span: Duration,
}

impl Scene<'_> {
    /// Lets the sides take turns, ours first, and adds a row for each peer.
    fn compare(&mut self, sides: &mut [Turn<'_, f64>], peers: &[(&'static str, f64)]) {
        let results = take_turns(self.rounds, sides);
        for ((peer, goal), theirs) in peers.iter().zip(&results[1..]) {
            self.table.add(Row::compared(
                self.what,
                Unit::PerSecond,
                &results[0],
                peer,
                theirs,
                Some(Goal::AtLeast(*goal)),
            ));
        }
    }

    fn pool<M: r2d2::ManageConnection>(&self, manager: M) -> Result<Pool<M>, millpond::Error> {
        Pool::builder().max_size(self.threads).build(manager)
    }

    /// What each thread works with.
    fn each<T, E>(&self, make: impl Fn() -> Result<T, E>) -> Result<Vec<T>, E> {
        (0..self.threads).map(|_| make()).collect()
    }

    /// What the threads share, once for each.
    fn shared<'s, T>(&self, shared: &'s T) -> Vec<&'s T> {
        (0..self.threads).map(|_| shared).collect()
    }
}

/// Queries per second, with a thread for each of the clients.
fn per_second<C: Send>(clients: &mut [C], span: Duration, query: impl Fn(&mut C) + Sync) -> f64 {
    let barrier = Barrier::new(clients.len());
    let worker = |client: &mut C| {
        barrier.wait();
        let start = Instant::now();
        let mut done = 0_u32;
        while start.elapsed() < span {
            query(client);
            done += 1;
        }
        f64::from(done) / start.elapsed().as_secs_f64()
    };
    thread::scope(|scope| {
        let worker = &worker;
        let workers: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(move || worker(client)))
            .collect();
        let rates = workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"));
        rates.sum()
    })
}

fn postgres(scene: &mut Scene<'_>) -> Outcome {
    let url = &scene.servers.postgres_url;
    let pool = scene.pool(Postgres::new(PostgresConfig::from_url(url)?)?)?;
    let mut bare = scene.each(|| {
        let mut client = postgres::Client::connect(url, postgres::NoTls)?;
        let statement = client.prepare(SELECT)?;
        Ok::<_, postgres::Error>((client, statement))
    })?;
    let manager = PostgresConnectionManager::new(url.parse()?, postgres::NoTls);
    let r2d2 = r2d2::Pool::builder()
        .max_size(scene.threads)
        .build(manager)?;
    let (mut pools, mut r2d2s) = (scene.shared(&pool), scene.shared(&r2d2));
    let span = scene.span;
    scene.compare(
        &mut [
            Box::new(|| {
                per_second(&mut pools, span, |pool| {
                    let mut lease = pool.get().expect("a lease");
                    lease.query_one(SELECT, &[]).expect("a row");
                })
            }),
            Box::new(|| {
                per_second(&mut bare, span, |(client, statement)| {
                    client.query_one(statement, &[]).expect("a row");
                })
            }),
            Box::new(|| {
                per_second(&mut r2d2s, span, |pool| {
                    let mut lease = pool.get().expect("a lease");
                    lease.query_one(SELECT, &[]).expect("a row");
                })
            }),
        ],
        &[
            ("bare connections, prepared", 0.9),
            ("r2d2 + r2d2_postgres, as they come", 3.0),
        ],
    );
    Ok(())
}

fn redis(scene: &mut Scene<'_>) -> Outcome {
    let url = scene.servers.redis_url.as_str();
    let pool = scene.pool(Redis::new(RedisConfig::from_url(url)?)?)?;
    let driver = redis::Client::open(url)?;
    let mut bare = scene.each(|| driver.get_connection())?;
    bare[0].set_ex::<_, _, ()>(KEY, "value", 3600)?;
    let mut pools = scene.shared(&pool);
    let span = scene.span;
    scene.compare(
        &mut [
            Box::new(|| {
                per_second(&mut pools, span, |pool| {
                    let mut lease = pool.get().expect("a lease");
                    lease.get::<_, String>(KEY).expect("a value");
                })
            }),
            Box::new(|| {
                per_second(&mut bare, span, |connection| {
                    connection.get::<_, String>(KEY).expect("a value");
                })
            }),
        ],
        &[("bare connections", 0.9)],
    );
    Ok(())
}

fn http(scene: &mut Scene<'_>) -> Outcome {
    let url = &scene.servers.http_url;
    let pool = scene.pool(Http::new(HttpConfig::new(url))?)?;
    let page = format!("{url}/");
    let mut bare: Vec<_> = (0..scene.threads)
        .map(|_| ureq::Agent::new_with_defaults())
        .collect();
    let mut pools = scene.shared(&pool);
    let span = scene.span;
    scene.compare(
        &mut [
            Box::new(|| {
                per_second(&mut pools, span, |pool| {
                    let mut lease = pool.get().expect("a lease");
                    lease.get("/").expect("a reply");
                })
            }),
            Box::new(|| {
                per_second(&mut bare, span, |agent| {
                    let mut reply = agent.get(&page).call().expect("a reply");
                    reply.body_mut().read_to_vec().expect("a body");
                })
            }),
        ],
        &[("bare `ureq` agents", 0.9)],
    );
    Ok(())
}

fn mongodb(scene: &mut Scene<'_>) -> Outcome {
    let uri = &scene.servers.mongodb_uri;
    let config = MongoDbConfig::from_url(uri)?.max_sockets(scene.threads);
    let pool = scene.pool(MongoDb::new(config)?)?;
    let mut options = mongodb::options::ClientOptions::parse(uri).run()?;
    options.max_pool_size = Some(scene.threads);
    let driver = mongodb::sync::Client::with_options(options)?;
    let documents = driver
        .database(DATABASE)
        .collection::<Document>("documents");
    documents.drop().run()?;
    documents.insert_one(doc! { "_id": 7, "a": "b" }).run()?;
    let mut bare = scene.shared(&documents);
    let mut pools = scene.shared(&pool);
    let span = scene.span;
    scene.compare(
        &mut [
            Box::new(|| {
                per_second(&mut pools, span, |pool| {
                    let lease = pool.get().expect("a lease");
                    let documents = lease.database(DATABASE).collection::<Document>("documents");
                    let found = documents.find_one(doc! { "_id": 7 }).run();
                    found.expect("a reply").expect("a document");
                })
            }),
            Box::new(|| {
                per_second(&mut bare, span, |documents| {
                    let found = documents.find_one(doc! { "_id": 7 }).run();
                    found.expect("a reply").expect("a document");
                })
            }),
        ],
        &[("one bare client with as many sockets", 0.9)],
    );
    driver.database(DATABASE).drop().run()?;
    Ok(())
}
