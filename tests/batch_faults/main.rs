//! The batch engine on real servers that freeze, on operations that nobody can execute, and
//! when it is closed under load.

mod bad_input;
mod closing;
mod frozen;
mod postgres;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::{
    Http, HttpConfig, HttpRequest, MongoDb, MongoDbConfig, MongoOperation, Operation, Outcome,
    Pool, Redis, RedisCommand, RedisConfig, Ticket,
};
use mongodb::bson::doc;

const COLLECTION: &str = "entries";

/// A server that can be hurt, and operations for it.
trait Subject: Sync {
    type Backend: Backend;

    fn start() -> Self;

    fn manager(&self) -> Self::Backend;

    /// One that it executes.
    fn good() -> Op<Self>;

    /// Those of which anybody can tell that no server executes them.
    fn senseless() -> Vec<Op<Self>>;

    /// Those that this server refuses.
    fn refused() -> Vec<Op<Self>>;

    fn freeze(&self);

    fn thaw(&self);
}

type Op<S> = <<S as Subject>::Backend as Backend>::Operation;
type Reply<S> = <<S as Subject>::Backend as Backend>::Reply;

impl Subject for testbed::Redis {
    type Backend = Redis;

    fn start() -> Self {
        let server = Self::start().expect("redis-server");
        let text = testbed::value("text");
        server.cli(&["SET", &text, "no number"]).expect("sets");
        server
    }

    fn manager(&self) -> Redis {
        let config = RedisConfig::new().host("127.0.0.1").port(self.port());
        Redis::new(config).expect("good settings")
    }

    fn good() -> RedisCommand {
        RedisCommand::new("INCR").arg(testbed::value("entries"))
    }

    fn senseless() -> Vec<RedisCommand> {
        let command = RedisCommand::new;
        vec![
            command(""),
            command(concat!("SET ", testbed::secret!("k"), "\0 v")),
            command("BLPOP").arg(testbed::value("list")).arg(0),
            command("MULTI"),
            command("DEL").arg(vec!["k"; 1 << 20]),
        ]
    }

    fn refused() -> Vec<RedisCommand> {
        let command = RedisCommand::new;
        vec![
            command("NOSUCH").arg(testbed::value("k")),
            command("SET").arg(testbed::value("too few")),
            command("INCR").arg(testbed::value("text")),
        ]
    }

    fn freeze(&self) {
        Self::freeze(self);
    }

    fn thaw(&self) {
        Self::thaw(self);
    }
}

impl Subject for testbed::Mongo {
    type Backend = MongoDb;

    fn start() -> Self {
        Self::start().expect("mongod")
    }

    fn manager(&self) -> MongoDb {
        let config = MongoDbConfig::new()
            .host(format!("127.0.0.1:{}", self.port()))
            .database("test");
        MongoDb::new(config).expect("good settings")
    }

    fn good() -> MongoOperation {
        MongoOperation::insert_one(COLLECTION, doc! { "text": testbed::value("x") })
    }

    fn senseless() -> Vec<MongoOperation> {
        let large = "x".repeat(16 << 20);
        let update = |change| MongoOperation::update_one(COLLECTION, doc! {}, change);
        vec![
            MongoOperation::insert_one(COLLECTION, doc! { "a\0b": testbed::value(1) }),
            MongoOperation::insert_one(COLLECTION, doc! { "large": large }),
            MongoOperation::insert_one("", doc! {}),
            update(doc! { "no": testbed::value("operator") }),
            MongoOperation::command(doc! {}),
        ]
    }

    fn refused() -> Vec<MongoOperation> {
        let update = |change| MongoOperation::update_one(COLLECTION, doc! {}, change);
        vec![
            MongoOperation::insert_one(COLLECTION, doc! { "_id": [testbed::value(1)] }),
            update(doc! { "$nosuch": { "a": testbed::value(1) } }),
            update(doc! { "$inc": { "text": 1 } }),
            MongoOperation::command(doc! { "nosuch": testbed::value(1) }),
        ]
    }

    fn freeze(&self) {
        Self::freeze(self);
    }

    fn thaw(&self) {
        Self::thaw(self);
    }
}

impl Subject for testbed::Nginx {
    type Backend = Http;

    fn start() -> Self {
        Self::start().expect("nginx")
    }

    fn manager(&self) -> Http {
        Http::new(HttpConfig::new(self.url())).expect("good settings")
    }

    fn good() -> HttpRequest {
        HttpRequest::get("/").header("X-Value", testbed::value("header"))
    }

    fn senseless() -> Vec<HttpRequest> {
        vec![
            HttpRequest::get("no/slash"),
            HttpRequest::get("/").header("X-A", testbed::value("a\0b")),
            HttpRequest::get("/").header("X-A", testbed::value("a\r\nX-B: b")),
            HttpRequest::get("/").body(testbed::value("none")),
        ]
    }

    fn refused() -> Vec<HttpRequest> {
        [400, 404, 409]
            .map(|status| HttpRequest::post(format!("/status/{status}")).body(testbed::value("x")))
            .into()
    }

    fn freeze(&self) {
        Self::freeze(self);
    }

    fn thaw(&self) {
        Self::thaw(self);
    }
}

macro_rules! on_each_server {
    ($($test:ident)*) => {$(
        mod $test {
            #[test]
            fn postgres() {
                super::$test::<testbed::Postgres>();
            }
            #[test]
            fn redis() {
                super::$test::<testbed::Redis>();
            }
            #[test]
            fn mongodb() {
                super::$test::<testbed::Mongo>();
            }
            #[test]
            fn http() {
                super::$test::<testbed::Nginx>();
            }
        }
    )*};
}
use on_each_server;

/// The tests count threads and measure times, so they run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // The lock guards nothing that a test that failed could have left half done.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pool_on<S: Subject>(server: &S) -> Pool<S::Backend> {
    let pool = Pool::builder().max_size(4).build(server.manager());
    pool.expect("opens")
}

fn wait<R: Send + 'static>(tickets: Vec<Ticket<R>>) -> Vec<Outcome<R>> {
    millpond::batch::wait_all(tickets, |_| ())
}

/// The same operation under a name by which it is known again.
fn named<O: Operation>((number, operation): (usize, O)) -> O {
    operation.id(format!("number {number}"))
}

/// The process's threads whose names begin like this.
fn threads(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has it");
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

/// Waits until the condition holds; fails the test after ten seconds.
#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
