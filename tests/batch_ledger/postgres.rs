//! PostgreSQL: each key is a row, without a unique index, so that a second one would show.

use std::collections::HashMap;

use millpond::{Postgres, PostgresConfig, Sql};

use super::{Ledger, hold};

impl Ledger for testbed::Postgres {
    type Backend = Postgres;

    const OPERATIONS: usize = 200_000;

    const SPLITS: bool = true;

    fn start() -> Self {
        // What is answered is on disk.
        let server = Self::builder().fsync(true).start().expect("postgres");
        let create = "CREATE TABLE ledger (key text NOT NULL, fine bool CHECK (fine))";
        server.psql(create).expect("creates");
        server
    }

    fn manager(&self) -> Postgres {
        manager(self, false)
    }

    fn entry(key: usize, poison: bool) -> Sql {
        // Half of them are merged into large INSERTs, half go as they are in one round trip.
        let sql = if key % 8 < 4 {
            "INSERT INTO ledger (key, fine) VALUES ($1, $2)"
        } else {
            "INSERT INTO ledger (key, fine) SELECT $1, $2"
        };
        Sql::new(sql).bind(testbed::value(key)).bind(!poison)
    }

    fn cut(&self) {
        // The server may be the one that is just coming up again.
        let _ = self.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        );
    }

    fn kill_and_restart(&self) {
        self.kill();
        self.restart().expect("restarts");
    }

    fn read(&self) -> HashMap<usize, u64> {
        let rows = self.psql("SELECT key, count(*) FROM ledger GROUP BY key");
        let rows = rows.expect("reads");
        let parse = |row: &str| {
            let (key, times) = row.split_once('|').expect("two columns");
            let key = testbed::what(key).parse().expect("a number");
            (key, times.parse().expect("a number"))
        };
        rows.lines().map(parse).collect()
    }
}

fn manager(server: &testbed::Postgres, resolves: bool) -> Postgres {
    let config = PostgresConfig::from_url(&server.url()).expect("a good URL");
    Postgres::new(config.resolve_unknown(resolves)).expect("good settings")
}

#[test]
fn postgres_agrees_with_the_tickets() {
    hold::<testbed::Postgres>();
}

/// The same server, asked what became of lost commits.
struct Resolving(testbed::Postgres);

impl Ledger for Resolving {
    type Backend = Postgres;

    const OPERATIONS: usize = 100_000;

    const SPLITS: bool = true;

    fn start() -> Self {
        Self(<testbed::Postgres as Ledger>::start())
    }

    fn manager(&self) -> Postgres {
        manager(&self.0, true)
    }

    fn entry(key: usize, poison: bool) -> Sql {
        <testbed::Postgres as Ledger>::entry(key, poison)
    }

    fn cut(&self) {
        self.0.cut();
    }

    fn kill_and_restart(&self) {
        self.0.kill_and_restart();
    }

    fn read(&self) -> HashMap<usize, u64> {
        self.0.read()
    }
}

#[test]
fn postgres_that_resolves_unknown_ones_agrees_with_the_tickets() {
    hold::<Resolving>();
}
