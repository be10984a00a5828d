//! PostgreSQL as a [`Subject`].

use millpond::{Postgres, PostgresConfig, Sql};

use super::Subject;

impl Subject for testbed::Postgres {
    type Backend = Postgres;

    fn start() -> Self {
        let server = Self::start().expect("postgres");
        let create = "CREATE TABLE entries (n int, text text CHECK (text <> ''))";
        server.psql(create).expect("creates");
        server
    }

    fn manager(&self) -> Postgres {
        let config = PostgresConfig::from_url(&self.url()).expect("a good URL");
        Postgres::new(config).expect("good settings")
    }

    fn good() -> Sql {
        Sql::new("INSERT INTO entries (n, text) VALUES ($1, $2)")
            .bind(7)
            .bind(testbed::value("x"))
    }

    fn senseless() -> Vec<Sql> {
        vec![
            Sql::new(" "),
            Sql::new("SELECT $1").bind(testbed::value("a\0b")),
            Sql::new("SELECT $1, $2").bind(1),
            Sql::new("SELECT 1; SELECT 2"),
            Sql::new("COMMIT"),
        ]
    }

    fn refused() -> Vec<Sql> {
        vec![
            Sql::new("INSERT INTO entries (nosuch) VALUES (1)"),
            Sql::new("INSERT INTO entries (n, text) VALUES ($1, $2)")
                .bind(7)
                .bind(""),
            Sql::new("INSERT INTO entries (n, text) VALUES ($1, $2)")
                .bind(testbed::value("no number"))
                .bind("x"),
            Sql::new("SELEC 1"),
        ]
    }

    fn freeze(&self) {
        Self::freeze(self);
    }

    fn thaw(&self) {
        Self::thaw(self);
    }
}
