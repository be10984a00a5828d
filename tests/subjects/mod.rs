//! A server of each backend that can be hurt, behind one face.

// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub)]

#[path = "../traced/mod.rs"]
pub(crate) mod traced;

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
pub trait Subject: Sync + Sized {
    type Manager: Backend<Error = millpond::Error>;
    fn start() -> Self;
    fn port(&self) -> u16;
    /// A backend on the server behind this port. Connecting may take so long, and a check.
    fn at(port: u16, connect: Duration, check: Duration) -> Self::Manager;
    fn manager(&self) -> Self::Manager {
        Self::at(self.port(), Duration::from_secs(1), CHECK)
    }
    fn work(conn: &mut <Self::Manager as millpond::ManageConnection>::Connection) -> Outcome;
    fn freeze(&self);
    fn thaw(&self);
    fn kill(&self);
    fn restart(&self);
}

macro_rules! subject {
    (
        $server:ty, $manager:ty,
        |$port:ident, $connect:ident, $check:ident| $make:expr,
        |$conn:ident| $work:expr
    ) => {
        impl Subject for $server {
            type Manager = $manager;
            fn start() -> Self {
                <$server>::start().expect("starts")
            }
            fn port(&self) -> u16 {
                <$server>::port(self)
            }
            fn at($port: u16, $connect: Duration, $check: Duration) -> $manager {
                traced::traced();
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
    |port, connect, check| Postgres::new(
        PostgresConfig::new()
            .host("127.0.0.1")
            .port(port)
            .database("postgres")
            .user("test")
            .connect_timeout(connect)
            .check_timeout(check)
    ),
    |conn| {
        conn.query_one("SELECT $1::text", &[&testbed::value("bound")])?;
        // Through the driver's own interface: such a connection is reset afterwards.
        conn.batch_execute(&format!("SELECT '{}'", testbed::value("literal")))?;
    }
);

subject!(
    testbed::Redis,
    Redis,
    |port, connect, check| Redis::new(
        RedisConfig::new()
            .host("127.0.0.1")
            .port(port)
            .connect_timeout(connect)
            .check_timeout(check)
    ),
    |conn| ::redis::cmd("ECHO")
        .arg(testbed::value("text"))
        .query::<String>(conn)?
);

subject!(
    testbed::Mongo,
    MongoDb,
    |port, connect, check| MongoDb::new(
        MongoDbConfig::new()
            .host("127.0.0.1")
            .port(port)
            .database("test")
            .connect_timeout(connect)
            .check_timeout(check)
    ),
    // The driver's own calls wait for a server that it may use, for as long as it selects.
    |conn| conn.within(Duration::from_secs(1), async |client| {
        let database = client.database("test");
        database
            .run_command(::mongodb::bson::doc! { "ping": 1, "comment": testbed::value("text") })
            .await
    })?
);

subject!(
    testbed::Nginx,
    Http,
    |port, connect, check| Http::new(
        HttpConfig::new(format!("http://127.0.0.1:{port}"))
            .health_path("/")
            .connect_timeout(connect)
            .check_timeout(check)
    ),
    |conn| conn
        .get(&format!("/?text={}", testbed::value("text")))?
        .error_for_status()?
);
