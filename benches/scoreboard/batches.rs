//! Batches on real servers, beside the same work one by one and beside what one writes by
//! hand for just this purpose.
//!
//! On our side four threads submit operation by operation and each gets an outcome of its
//! own. By hand means: the rows are there already, cut into groups of the same size, and as
//! many bare connections send them; who gets which error is not asked. PostgreSQL writes
//! through to the disk (`fsync`), so a commit costs what it costs.

use std::error::Error;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use millpond::backend::Backend;
use millpond::batch::{BatchBuilder, wait_all};
use millpond::{
    Batch, Http, HttpConfig, HttpRequest, MongoDb, MongoDbConfig, MongoOperation, Pool, Postgres,
    PostgresConfig, Redis, RedisCommand, RedisConfig, Sql,
};
use mongodb::bson::{Document, doc};
use testbed::Servers;

use super::options::{Options, Pace};
use super::rounds::{Turn, take_turns};
use super::table::{Goal, Row, Table, Unit};

const THREADS: usize = 4;
const GROUP: usize = 1000;
const DATABASE: &str = "millpond_batches";
const INSERT: &str = "INSERT INTO readings (id, name, amount) VALUES ($1, $2, $3)";
const UNNEST: &str = "INSERT INTO readings (id, name, amount) \
     SELECT * FROM unnest($1::bigint[], $2::text[], $3::int[])";

type Outcome = Result<(), Box<dyn Error>>;

/// Numbers that were never used before in this process.
static NEXT: AtomicI64 = AtomicI64::new(1_000_000);

fn numbers(count: usize) -> std::ops::Range<i64> {
    let count = i64::try_from(count).expect("a small number");
    let first = NEXT.fetch_add(count, Relaxed);
    first..first + count
}

pub(crate) fn measure(options: &Options, table: &mut Table) -> Outcome {
    let mut scene = Scene { options, table };
    let mut postgres = None;
    for (what, measure) in [
        (INSERTS, inserts as fn(&mut Scene<'_>, &str) -> Outcome),
        (WRITES, writes),
    ] {
        if options.wants(what) {
            let server = match &postgres {
                Some(server) => server,
                None => postgres.insert(testbed::Postgres::builder().fsync(true).start()?),
            };
            measure(&mut scene, &server.url())?;
        }
    }
    drop(postgres);
    let mut servers = None;
    for (what, measure) in [
        (SETS, sets as fn(&mut Scene<'_>, &Servers) -> Outcome),
        (DOCUMENTS, documents),
        (GETS, gets),
    ] {
        if options.wants(what) {
            let servers = match &servers {
                Some(servers) => servers,
                None => servers.insert(Servers::throw_away()?),
            };
            measure(&mut scene, servers)?;
        }
    }
    Ok(())
}

struct Scene<'a> {
    options: &'a Options,
    table: &'a mut Table,
}

impl Scene<'_> {
    /// So many operations for a turn.
    fn total(&self, full: usize) -> usize {
        match self.options.pace {
            Pace::Full => full,
            Pace::Quick => full / 4,
            Pace::Tiny => 400,
        }
    }

    fn compare(
        &mut self,
        what: &str,
        rounds: usize,
        sides: &mut [Turn<'_, f64>],
        peers: &[(&'static str, f64)],
    ) {
        let (rounds, _) = self.options.rounds(rounds, 1);
        let results = take_turns(rounds, sides);
        for ((peer, goal), theirs) in peers.iter().zip(&results[1..]) {
            let goal = Some(Goal::AtLeast(*goal));
            let ours = &results[0];
            self.table.add(Row::compared(
                what,
                Unit::PerSecond,
                ours,
                peer,
                theirs,
                goal,
            ));
        }
    }
}

fn builder<B: Backend>(pool: Pool<B>) -> BatchBuilder<B> {
    Batch::builder(pool)
        .size(GROUP)
        .workers(THREADS)
        .max_operations(20 * GROUP)
}

/// Operations per second, each with an outcome of its own.
fn through<B: Backend>(
    batch: &Batch<B>,
    total: usize,
    operation: impl Fn(i64) -> B::Operation + Sync,
) -> f64 {
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let submit = |number| batch.submit(operation(number)).expect("room in time");
                let tickets: Vec<_> = numbers(total / THREADS).map(submit).collect();
                for outcome in wait_all(tickets, |_| ()) {
                    outcome.into_result().expect("done");
                }
            });
        }
    });
    total as f64 / start.elapsed().as_secs_f64()
}

/// The same by hand: each thread has a connection and sends groups.
fn by_hand<C: Send>(
    connections: &mut [C],
    total: usize,
    send: impl Fn(&mut C, &[i64]) + Sync,
) -> f64 {
    let start = Instant::now();
    thread::scope(|scope| {
        for connection in connections.iter_mut() {
            let send = &send;
            scope.spawn(move || {
                let numbers: Vec<_> = numbers(total / THREADS).collect();
                for group in numbers.chunks(GROUP) {
                    send(connection, group);
                }
            });
        }
    });
    total as f64 / start.elapsed().as_secs_f64()
}

/// The same one after the other.
fn one_by_one<B: Backend>(
    pool: &Pool<B>,
    total: usize,
    operation: impl Fn(i64) -> B::Operation,
) -> f64 {
    let start = Instant::now();
    for number in numbers(total) {
        pool.execute(operation(number)).expect("done");
    }
    total as f64 / start.elapsed().as_secs_f64()
}

const INSERTS: &str = "PostgreSQL batch: single-row INSERTs of 3 columns from 4 threads, each with \
     its own outcome, groups of 1000, fsync: rows per second";

fn insert(number: i64) -> Sql {
    Sql::new(INSERT)
        .bind(number)
        .bind(format!("reading {number}"))
        .bind(number % 1000)
}

fn inserts(scene: &mut Scene<'_>, url: &str) -> Outcome {
    let manager = Postgres::new(PostgresConfig::from_url(url)?)?;
    let pool = Pool::builder().max_size(THREADS as u32).build(manager)?;
    pool.get()?
        .batch_execute("CREATE TABLE IF NOT EXISTS readings (id bigint, name text, amount int)")?;
    let batch = builder(pool.clone()).build()?;
    let mut bare = (0..THREADS)
        .map(|_| {
            let mut client = postgres::Client::connect(url, postgres::NoTls)?;
            let statement = client.prepare(UNNEST)?;
            Ok((client, statement))
        })
        .collect::<Result<Vec<_>, postgres::Error>>()?;
    let total = scene.total(100_000);
    let alone = scene.total(100_000) / 100;
    scene.compare(
        INSERTS,
        9,
        &mut [
            Box::new(|| through(&batch, total, insert)),
            Box::new(|| one_by_one(&pool, alone, insert)),
            Box::new(|| {
                by_hand(&mut bare, total, |(client, statement), group| {
                    let names: Vec<_> = group.iter().map(|id| format!("reading {id}")).collect();
                    let amounts: Vec<_> = group.iter().map(|id| (id % 1000) as i32).collect();
                    let sent = client.execute(statement, &[&group, &names, &amounts]);
                    sent.expect("inserted");
                })
            }),
        ],
        &[
            ("`pool.execute` one by one", 40.0),
            ("by hand: prepared UNNEST of 1000, 4 bare connections", 0.5),
        ],
    );
    Ok(())
}

const WRITES: &str = "PostgreSQL batch: UPDATEs and DELETEs by key, three statements mixed, fsync: \
     operations per second";

fn writes(scene: &mut Scene<'_>, url: &str) -> Outcome {
    let manager = Postgres::new(PostgresConfig::from_url(url)?)?;
    let pool = Pool::builder().max_size(THREADS as u32).build(manager)?;
    pool.get()?.batch_execute(
        "CREATE TABLE IF NOT EXISTS stock (id bigint PRIMARY KEY, amount int, seen timestamptz); \
         TRUNCATE stock; \
         INSERT INTO stock SELECT n, 0, NULL FROM generate_series(0, 99999) AS n",
    )?;
    let batch = builder(pool.clone()).build()?;
    let write = |number: i64| {
        let key = number * 7919 % 100_000;
        match number % 3 {
            0 => Sql::new("UPDATE stock SET amount = amount + $2 WHERE id = $1")
                .bind(key)
                .bind(1),
            1 => Sql::new("UPDATE stock SET seen = now() WHERE id = $1").bind(key),
            _ => Sql::new("DELETE FROM stock WHERE id = $1").bind(-key),
        }
    };
    let total = scene.total(20_000);
    let alone = scene.total(20_000) / 20;
    scene.compare(
        WRITES,
        9,
        &mut [
            Box::new(|| through(&batch, total, write)),
            Box::new(|| one_by_one(&pool, alone, write)),
        ],
        &[("`pool.execute` one by one", 8.0)],
    );
    Ok(())
}

const SETS: &str =
    "Redis batch: SETs from 4 threads, each with its own outcome, groups of 1000: per second";

fn sets(scene: &mut Scene<'_>, servers: &Servers) -> Outcome {
    let url = servers.redis_url.as_str();
    let manager = Redis::new(RedisConfig::from_url(url)?)?;
    let batch = builder(Pool::builder().max_size(THREADS as u32).build(manager)?).build()?;
    let driver = redis::Client::open(url)?;
    let mut bare = (0..THREADS)
        .map(|_| driver.get_connection())
        .collect::<Result<Vec<_>, _>>()?;
    let key = |number: i64| format!("millpond:batch:{}", number % 10_000);
    let total = scene.total(200_000);
    scene.compare(
        SETS,
        15,
        &mut [
            Box::new(|| {
                through(&batch, total, |number| {
                    RedisCommand::new("SET").arg(key(number)).arg(number)
                })
            }),
            Box::new(|| {
                by_hand(&mut bare, total, |connection, group| {
                    let mut pipe = redis::pipe();
                    for number in group {
                        pipe.set(key(*number), *number).ignore();
                    }
                    pipe.query::<()>(connection).expect("set");
                })
            }),
        ],
        &[("by hand: pipelines of 1000, 4 bare connections", 0.6)],
    );
    Ok(())
}

const DOCUMENTS: &str =
    "MongoDB batch: inserts from 4 threads, each with its own outcome, groups of 1000: per second";

fn documents(scene: &mut Scene<'_>, servers: &Servers) -> Outcome {
    let uri = &servers.mongodb_uri;
    let config = MongoDbConfig::from_url(uri)?
        .database(DATABASE)
        .max_sockets(THREADS as u32);
    let manager = MongoDb::new(config)?;
    let batch = builder(Pool::builder().max_size(THREADS as u32).build(manager)?).build()?;
    let driver = mongodb::sync::Client::with_uri_str(uri)?;
    let collection = driver.database(DATABASE).collection::<Document>("by_hand");
    let mut bare = vec![collection; THREADS];
    let document = |number: i64| doc! { "name": format!("reading {number}"), "amount": number };
    let total = scene.total(40_000);
    scene.compare(
        DOCUMENTS,
        15,
        &mut [
            Box::new(|| {
                through(&batch, total, |number| {
                    MongoOperation::insert_one("submitted", document(number))
                })
            }),
            Box::new(|| {
                by_hand(&mut bare, total, |collection, group| {
                    let documents = group.iter().map(|number| document(*number));
                    let many = collection.insert_many(documents).ordered(false);
                    many.run().expect("inserted");
                })
            }),
        ],
        &[("by hand: `insert_many` of 1000, 4 threads", 0.8)],
    );
    driver.database(DATABASE).drop().run()?;
    Ok(())
}

const GETS: &str = "HTTP batch: GETs from 4 threads, each with its own outcome: per second";

fn gets(scene: &mut Scene<'_>, servers: &Servers) -> Outcome {
    let url = &servers.http_url;
    let manager = Http::new(HttpConfig::new(url))?;
    let batch = builder(Pool::builder().max_size(THREADS as u32).build(manager)?).build()?;
    let page = format!("{url}/");
    let mut bare: Vec<_> = (0..THREADS)
        .map(|_| ureq::Agent::new_with_defaults())
        .collect();
    let total = scene.total(20_000);
    scene.compare(
        GETS,
        15,
        &mut [
            Box::new(|| through(&batch, total, |_| HttpRequest::get("/"))),
            Box::new(|| {
                by_hand(&mut bare, total, |agent, group| {
                    for _ in group {
                        let mut reply = agent.get(&page).call().expect("a reply");
                        reply.body_mut().read_to_vec().expect("a body");
                    }
                })
            }),
        ],
        &[("4 bare `ureq` agents on 4 threads", 0.9)],
    );
    Ok(())
}
