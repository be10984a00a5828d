//! A program to look at: a shop under changing load, whose servers have an accident every now
//! and then, and its live page.
//!
//! `cargo run --features exporter --example observed` starts throw-away servers (since it
//! breaks them), prints the page's address, and runs until it is interrupted; with
//! `-- --seconds 60` for so long. The page is at `EXPORTER_BIND`, or else at 127.0.0.1:9464.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use millpond::exporter::Exporter;
use millpond::{
    Batch, Hub, Operation as _, Pool, Postgres, PostgresConfig, Priority, Redis, RedisCommand,
    RedisConfig, Sql,
};

const SECOND: Duration = Duration::from_secs(1);
/// From the beginning of one accident to that of the next.
const BETWEEN_ACCIDENTS: Duration = Duration::from_secs(25);

/// What goes wrong now.
type Accident = fn(&Shop);

struct Shop {
    started: Instant,
    stop: AtomicBool,
    postgres: testbed::Postgres,
    redis: testbed::Redis,
    orders: Pool<Postgres>,
    cache: Pool<Redis>,
    incoming: Batch<Postgres>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let limit = seconds()?;
    println!("Starting PostgreSQL and Redis ...");
    let postgres = testbed::Postgres::start()?;
    let redis = testbed::Redis::start()?;
    postgres.psql(
        "CREATE TABLE orders (id bigserial PRIMARY KEY, customer int, cents int, paid bool); \
         INSERT INTO orders (customer, cents) SELECT n % 100, n FROM generate_series(1, 5000) n",
    )?;
    let orders = Pool::builder()
        .name("orders")
        .max_size(10)
        .health_check_interval(Some(5 * SECOND))
        .build(Postgres::new(PostgresConfig::from_url(&postgres.url())?)?)?;
    let cache = Pool::builder()
        .name("cache")
        .max_size(6)
        .health_check_interval(Some(5 * SECOND))
        .build(Redis::new(RedisConfig::from_url(&redis.url())?)?)?;
    let incoming = Batch::builder(orders.clone()).workers(2).build()?;

    let hub = Hub::new();
    hub.watch(&orders);
    hub.watch(&cache);
    hub.watch_batch(&incoming);
    let exporter = Exporter::builder(&hub).with_env()?.start()?;
    println!("Look at http://{}/", exporter.local_addr());

    let shop = Shop {
        started: Instant::now(),
        stop: AtomicBool::new(false),
        postgres,
        redis,
        orders,
        cache,
        incoming,
    };
    thread::scope(|scope| {
        for number in 0..8 {
            let shop = &shop;
            scope.spawn(move || {
                while shop.is_open() {
                    shop.look_up(number);
                }
            });
        }
        scope.spawn(|| {
            while shop.is_open() {
                shop.take_orders();
            }
        });
        scope.spawn(|| shop.have_accidents());
        while limit.is_none_or(|limit| shop.started.elapsed() < limit) {
            thread::sleep(SECOND / 10);
        }
        shop.stop.store(true, Relaxed);
    });
    println!("\n{}", hub.metrics());
    Ok(())
}

/// `--seconds N`, if it is there.
fn seconds() -> Result<Option<Duration>, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => Ok(None),
        (Some("--seconds"), Some(number)) => Ok(Some(Duration::from_secs(number.parse()?))),
        _ => Err("usage: observed [--seconds N]".into()),
    }
}

impl Shop {
    fn is_open(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    /// A day of the shop lasts a minute: from 0, at night, to 1.
    fn bustle(&self) -> f64 {
        let day = self.started.elapsed().as_secs_f64() / 60.0;
        0.5 - 0.5 * (day * std::f64::consts::TAU).cos()
    }

    /// The rest that a customer takes, the shorter the more there are.
    fn rest(&self, shortest: Duration) {
        thread::sleep(shortest.mul_f64(1.0 + 8.0 * (1.0 - self.bustle())));
    }

    /// Somebody looks at an order: in the cache, else in the database.
    fn look_up(&self, number: i64) {
        let id = (self.started.elapsed().as_micros() as i64 * 31 + number) % 5000;
        let deadline = SECOND / 2;
        let cached = RedisCommand::new("GET").arg(format!("order:{id}"));
        let known = self.cache.execute(cached.deadline(deadline));
        if !known.is_ok_and(|reply| reply.as_text().is_some()) {
            let select = Sql::new("SELECT customer, cents FROM orders WHERE id = $1").bind(id);
            if self.orders.execute(select.deadline(deadline)).is_ok() {
                let keep = RedisCommand::new("SET").arg(format!("order:{id}"));
                let keep = keep.arg("seen").arg("PX").arg(500);
                // The cache may fail; then the next one looks into the database as well.
                let _ = self.cache.execute(keep.deadline(deadline));
            }
        }
        self.rest(Duration::from_millis(3));
    }

    /// Orders come in, some of them urgent, and some for customers that there cannot be.
    fn take_orders(&self) {
        for number in 0..40 {
            let cents = if number == 39 { i64::MAX } else { number * 100 };
            let insert = Sql::new("INSERT INTO orders (customer, cents) VALUES ($1, $2)");
            let insert = insert.bind(number).bind(cents).deadline(10 * SECOND);
            let priority = match number % 10 {
                0 => Priority::Critical,
                1 | 2 => Priority::High,
                9 => Priority::Low,
                _ => Priority::Normal,
            };
            // A full queue is one of the things to be seen.
            let _ = self.incoming.submit(insert.priority(priority));
        }
        self.rest(Duration::from_millis(20));
    }

    fn have_accidents(&self) {
        let accidents: [(&str, Accident); 5] = [
            ("a hundred customers at once", Self::rush),
            ("the cache freezes", Self::freeze_cache),
            ("a report holds most of the connections", Self::report),
            ("the database is killed, and restarted", Self::kill_database),
            ("a release with a mistake in its SQL", Self::mistake),
        ];
        for (what, accident) in accidents.iter().cycle() {
            let next = Instant::now() + BETWEEN_ACCIDENTS;
            while Instant::now() < next {
                if !self.is_open() {
                    return;
                }
                thread::sleep(SECOND / 10);
            }
            println!("{:>5} s  {what}", self.started.elapsed().as_secs());
            accident(self);
        }
    }

    /// So many threads do this for so many seconds.
    fn crowd(&self, threads: usize, seconds: u32, what: impl Fn() + Sync) {
        let end = Instant::now() + seconds * SECOND;
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while self.is_open() && Instant::now() < end {
                        what();
                    }
                });
            }
        });
    }

    fn rush(&self) {
        self.crowd(100, 6, || {
            let count = "SELECT count(*) FROM orders WHERE customer = 7 AND id < 3000";
            let _ = self.orders.execute(Sql::new(count).deadline(SECOND));
        });
    }

    fn report(&self) {
        self.crowd(9, 8, || {
            let _ = self
                .orders
                .execute(Sql::new("SELECT pg_sleep(1)").deadline(3 * SECOND));
        });
    }

    fn mistake(&self) {
        self.crowd(2, 6, || {
            let _ = self
                .orders
                .execute(Sql::new("SELECT no_such_column FROM orders"));
            thread::sleep(SECOND / 20);
        });
    }

    fn freeze_cache(&self) {
        self.redis.freeze();
        thread::sleep(8 * SECOND);
        self.redis.thaw();
    }

    fn kill_database(&self) {
        self.postgres.kill();
        thread::sleep(8 * SECOND);
        if let Err(error) = self.postgres.restart() {
            println!("the database stays away: {error}");
            self.stop.store(true, Relaxed);
        }
    }
}
