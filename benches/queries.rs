//! One small query on each backend: through a pool, with a lease per query, and on
//! the bare driver with a connection of its own.
//!
//! The servers are throw-away ones of the testbed, on loopback. The difference is what the pool, the lease and our connection type cost; most of the
//! time itself is the server's. The scoreboard compares the two in turns, which is
//! kinder to a noisy machine.

use std::error::Error;

use criterion::Criterion;
use millpond::{
    Http, HttpConfig, MongoDb, MongoDbConfig, Pool, Postgres, PostgresConfig, Redis, RedisConfig,
};
use mongodb::bson::{Document, doc};
use redis::Commands as _;
use testbed::Servers;

type Outcome = Result<(), Box<dyn Error>>;

const DATABASE: &str = "millpond_queries";
const KEY: &str = "millpond:queries";

fn queries(criterion: &mut Criterion) {
    let servers = Servers::throw_away().expect("servers");
    postgres(criterion, &servers.postgres_url).expect("PostgreSQL");
    redis(criterion, &servers.redis_url).expect("Redis");
    mongodb(criterion, &servers.mongodb_uri).expect("MongoDB");
    http(criterion, &servers.http_url).expect("HTTP");
}

fn postgres(criterion: &mut Criterion, url: &str) -> Outcome {
    let pool = Pool::builder()
        .max_size(1)
        .build(Postgres::new(PostgresConfig::from_url(url)?)?)?;
    let mut bare = postgres::Client::connect(url, postgres::NoTls)?;
    let statement = bare.prepare("SELECT 1")?;
    let mut group = criterion.benchmark_group("PostgreSQL SELECT 1");
    group.bench_function("pool", |bencher| {
        bencher.iter(|| {
            let mut lease = pool.get().expect("a lease");
            lease.query_one("SELECT 1", &[]).expect("a row")
        });
    });
    group.bench_function("bare, prepared", |bencher| {
        bencher.iter(|| bare.query_one(&statement, &[]).expect("a row"));
    });
    group.finish();
    Ok(())
}

fn redis(criterion: &mut Criterion, url: &str) -> Outcome {
    let pool = Pool::builder()
        .max_size(1)
        .build(Redis::new(RedisConfig::from_url(url)?)?)?;
    let mut bare = redis::Client::open(url)?.get_connection()?;
    bare.set_ex::<_, _, ()>(KEY, "value", 3600)?;
    let mut group = criterion.benchmark_group("Redis GET");
    group.bench_function("pool", |bencher| {
        bencher.iter(|| {
            let mut lease = pool.get().expect("a lease");
            lease.get::<_, String>(KEY).expect("a value")
        });
    });
    group.bench_function("bare", |bencher| {
        bencher.iter(|| bare.get::<_, String>(KEY).expect("a value"));
    });
    group.finish();
    Ok(())
}

fn mongodb(criterion: &mut Criterion, uri: &str) -> Outcome {
    let config = MongoDbConfig::from_url(uri)?.max_sockets(1);
    let pool = Pool::builder().max_size(1).build(MongoDb::new(config)?)?;
    let bare = mongodb::sync::Client::with_uri_str(uri)?;
    let documents = bare.database(DATABASE).collection::<Document>("documents");
    documents.drop().run()?;
    documents.insert_one(doc! { "_id": 7, "a": "b" }).run()?;
    let mut group = criterion.benchmark_group("MongoDB find_one");
    group.bench_function("pool", |bencher| {
        bencher.iter(|| {
            let lease = pool.get().expect("a lease");
            let documents = lease.database(DATABASE).collection::<Document>("documents");
            documents
                .find_one(doc! { "_id": 7 })
                .run()
                .expect("a reply")
        });
    });
    group.bench_function("bare", |bencher| {
        bencher.iter(|| {
            documents
                .find_one(doc! { "_id": 7 })
                .run()
                .expect("a reply")
        });
    });
    group.finish();
    bare.database(DATABASE).drop().run()?;
    Ok(())
}

fn http(criterion: &mut Criterion, url: &str) -> Outcome {
    let pool = Pool::builder()
        .max_size(1)
        .build(Http::new(HttpConfig::new(url))?)?;
    let bare = ureq::Agent::new_with_defaults();
    let page = format!("{url}/");
    let mut group = criterion.benchmark_group("HTTP GET");
    group.bench_function("pool", |bencher| {
        bencher.iter(|| {
            let mut lease = pool.get().expect("a lease");
            lease.get("/").expect("a reply").into_bytes()
        });
    });
    group.bench_function("bare, keep-alive", |bencher| {
        bencher.iter(|| {
            let mut reply = bare.get(&page).call().expect("a reply");
            reply.body_mut().read_to_vec().expect("a body")
        });
    });
    group.finish();
    Ok(())
}

// Without criterion's macros, which make a public function that nobody documents.
fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    queries(&mut criterion);
    criterion.final_summary();
}
