//! A server of each backend that can be hurt, behind one face.

// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::error::Error;
use std::time::Duration;

use millpond::backend::Backend;
use millpond::{
    Http, HttpConfig, MongoDb, MongoDbConfig, Postgres, PostgresConfig, Redis, RedisConfig,
};

/// What a check may take.
pub const CHECK: Duration = Duration::from_millis(500);
pub type Outcome = Result<(), Box<dyn Error>>;

/// A server that can be hurt, and a backend on it.
pub trait Subject: Sync {
    type Manager: Backend<Error = millpond::Error>;
    fn start() -> Self;
    fn manager(&self) -> Self::Manager;
    fn work(conn: &mut <Self::Manager as millpond::ManageConnection>::Connection) -> Outcome;
    fn freeze(&self);
    fn thaw(&self);
    fn kill(&self);
    fn restart(&self);
}

macro_rules! subject {
    ($server:ty, $manager:ty, |$this:ident| $make:expr, |$conn:ident| $work:expr) => {
        impl Subject for $server {
            type Manager = $manager;
            fn start() -> Self {
                <$server>::start().expect("starts")
            }
            fn manager(&self) -> $manager {
                let $this = self;
                $make.expect("good settings")
            }
            fn work($conn: &mut <$manager as millpond::ManageConnection>::Connection) -> Outcome {
                $work;
                Ok(())
            }
            fn freeze(&self) {
                <$server>::freeze(self);
            }
            fn thaw(&self) {
                <$server>::thaw(self);
            }
            fn kill(&self) {
                <$server>::kill(self);
            }
            fn restart(&self) {
                <$server>::restart(self).expect("restarts");
            }
        }
    };
}

subject!(
    testbed::Postgres,
    Postgres,
    |server| Postgres::new(
        PostgresConfig::from_url(&server.url())
            .expect("a good URL")
            .connect_timeout(Duration::from_secs(1))
            .check_timeout(CHECK)
    ),
    |conn| {
        conn.query_one("SELECT 1", &[])?;
        // Through the driver's own interface: such a connection is reset afterwards.
        conn.batch_execute("SELECT 2")?;
    }
);

subject!(
    testbed::Redis,
    Redis,
    |server| Redis::new(
        RedisConfig::new()
            .host("127.0.0.1")
            .port(server.port())
            .connect_timeout(Duration::from_secs(1))
            .check_timeout(CHECK)
    ),
    |conn| ::redis::cmd("PING").query::<String>(conn)?
);

subject!(
    testbed::Mongo,
    MongoDb,
    |server| MongoDb::new(
        MongoDbConfig::new()
            .host(format!("127.0.0.1:{}", server.port()))
            .database("test")
            .connect_timeout(Duration::from_secs(1))
            .check_timeout(CHECK)
    ),
    |conn| conn
        .db()?
        .run_command(::mongodb::bson::doc! { "ping": 1 })
        .run()?
);

subject!(
    testbed::Nginx,
    Http,
    |server| Http::new(
        HttpConfig::new(format!("http://127.0.0.1:{}", server.port()))
            .health_path("/")
            .connect_timeout(Duration::from_secs(1))
            .check_timeout(CHECK)
    ),
    |conn| conn.get("/")?.error_for_status()?
);
