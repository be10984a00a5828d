//! Redis: each key is a counter.

use std::collections::HashMap;

use millpond::{Redis, RedisCommand, RedisConfig};

use super::{Ledger, hold};

impl Ledger for testbed::Redis {
    type Backend = Redis;

    const OPERATIONS: usize = 200_000;

    fn start() -> Self {
        // What is answered is on disk.
        let args = ["--appendonly", "yes", "--appendfsync", "always"];
        let server = args
            .into_iter()
            .fold(Self::builder(), testbed::RedisBuilder::arg);
        server.start().expect("redis-server")
    }

    fn manager(&self) -> Redis {
        let config = RedisConfig::new().host("127.0.0.1").port(self.port());
        Redis::new(config).expect("good settings")
    }

    fn entry(key: usize, poison: bool) -> RedisCommand {
        let poisoned = testbed::value("poison");
        let by = if poison { &poisoned } else { "1" };
        RedisCommand::new("INCRBY").arg(testbed::value(key)).arg(by)
    }

    fn cut(&self) {
        let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
        self.cli(&kill).expect("kills");
    }

    fn kill_and_restart(&self) {
        self.kill();
        self.restart().expect("restarts");
    }

    fn read(&self) -> HashMap<usize, u64> {
        let client = redis::Client::open(self.url()).expect("a good URL");
        let mut conn = client.get_connection().expect("connects");
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut conn).expect("keys");
        let counts = redis::cmd("MGET").arg(&keys).query::<Vec<u64>>(&mut conn);
        let keys = keys
            .iter()
            .map(|key| testbed::what(key).parse().expect("ours"));
        keys.zip(counts.expect("numbers")).collect()
    }
}

#[test]
fn redis_agrees_with_the_tickets() {
    hold::<testbed::Redis>();
}
