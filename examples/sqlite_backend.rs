//! A backend of one's own: `SQLite` over `r2d2_sqlite`, with operations and batches.
//!
//! A group is one transaction, which is what makes it fast: one sync to the disk for all.
//! Each operation of it has a savepoint, so that one that fails takes nobody with it.

use std::borrow::Cow;
use std::sync::Arc;

use millpond::backend::{self, Backend};
use millpond::batch::wait_all;
use millpond::{
    Batch, Deadline, Envelope, Error, ErrorKind, ManageConnection, Operation, Outcome, Phase, Pool,
};
use r2d2_sqlite::SqliteConnectionManager;
use r2d2_sqlite::rusqlite::{self, Connection, ErrorCode, params_from_iter};
use serde::{Deserialize, Serialize};

/// A statement with text parameters.
#[derive(Clone, Serialize, Deserialize)]
struct Statement {
    sql: Cow<'static, str>,
    params: Vec<String>,
    #[serde(flatten)]
    envelope: Envelope,
}

impl Operation for Statement {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn statement(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.sql)
    }
}

/// The manager of `r2d2_sqlite`, with what a pool may know beyond.
struct Sqlite(SqliteConnectionManager);

impl ManageConnection for Sqlite {
    type Connection = Connection;
    type Error = rusqlite::Error;

    fn connect(&self) -> Result<Connection, rusqlite::Error> {
        self.0.connect()
    }

    fn is_valid(&self, conn: &mut Connection) -> Result<(), rusqlite::Error> {
        self.0.is_valid(conn)
    }

    fn has_broken(&self, conn: &mut Connection) -> bool {
        self.0.has_broken(conn)
    }
}

fn ours(error: rusqlite::Error) -> Error {
    let kind = Sqlite::classify(&error);
    Error::new(kind, Phase::Operation, error.to_string()).with_source(Arc::new(error))
}

fn run(conn: &Connection, statement: &Statement) -> Result<usize, Error> {
    let mut prepared = conn.prepare_cached(&statement.sql).map_err(ours)?;
    prepared
        .execute(params_from_iter(&statement.params))
        .map_err(ours)
}

impl Backend for Sqlite {
    const NAME: &'static str = "sqlite";
    const NATIVE_BATCH: bool = true;
    type Operation = Statement;
    type Reply = usize; // rows changed

    fn endpoint(&self) -> String {
        "local file".into()
    }

    fn classify(error: &rusqlite::Error) -> ErrorKind {
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => ErrorKind::Constraint,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Conflict,
            Some(ErrorCode::CannotOpen | ErrorCode::NotADatabase) => ErrorKind::Configuration,
            _ => ErrorKind::InvalidOperation,
        }
    }

    fn execute(&self, conn: &mut Connection, one: &Statement, _: Deadline) -> Result<usize, Error> {
        run(conn, one)
    }

    fn execute_batch(
        &self,
        conn: &mut Connection,
        group: &[&Statement],
        _: Deadline,
    ) -> Vec<Outcome<usize>> {
        let mut together = || -> Result<Vec<Outcome<usize>>, rusqlite::Error> {
            let mut transaction = conn.transaction()?;
            let mut outcomes = Vec::with_capacity(group.len());
            for statement in group {
                let savepoint = transaction.savepoint()?;
                let result = run(&savepoint, statement);
                if result.is_ok() {
                    savepoint.commit()?; // else dropped, which rolls it back
                }
                outcomes.push(result.into());
            }
            transaction.commit()?;
            Ok(outcomes)
        };
        // The transaction failed as a whole, so nothing of it was applied.
        together().unwrap_or_else(|error| {
            let error = ours(error);
            vec![Outcome::NotExecuted(error); group.len()]
        })
    }
}

fn insert(id: usize) -> Statement {
    Statement {
        sql: "INSERT INTO readings (id, celsius) VALUES (?, 20 + ? % 7)".into(),
        params: vec![id.to_string(), id.to_string()],
        envelope: Envelope::default(),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    backend::adopt::<Sqlite>();
    let file = std::env::temp_dir().join(format!("millpond-{}.sqlite", std::process::id()));
    let pool = Pool::new(Sqlite(SqliteConnectionManager::file(&file)))?;
    pool.get()?
        .execute_batch("CREATE TABLE readings (id INTEGER PRIMARY KEY, celsius REAL)")?;
    let batch = Batch::builder(pool.clone()).size(500).workers(1).build()?;
    // Every thousandth has a key that is there already.
    let ids = (1..=10_000).map(|id| if id % 1000 == 0 { 1 } else { id });
    let submitted = batch.submit_all(ids.map(insert)).into_iter();
    let outcomes = wait_all(submitted.collect::<Result<Vec<_>, _>>()?, |_| ());
    println!("{}", batch.close(std::time::Duration::from_secs(5)));
    if let Some(Outcome::Rejected(error)) = outcomes.get(999) {
        println!("the thousandth: {error}");
    }
    Ok(std::fs::remove_file(&file)?)
}
