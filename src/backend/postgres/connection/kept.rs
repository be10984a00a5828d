//! Running a statement from its text: with what is kept prepared of it, or with nothing kept.
//!
//! Preparing and running are two steps, between which a pooler may change the server. So
//! where nothing is kept, and where a statement that was kept turned out to be lost, a
//! transaction holds the server for both.

use postgres::error::SqlState;
use postgres::{Client, Error, Statement};

use super::super::statement::is_dirty;
use super::{Params, PostgresConnection};

/// So many names are tried for a statement, where another program has left some.
const NAMES: usize = 32;

impl PostgresConnection {
    /// Runs a statement: `at_once` if it has no parameters and nothing of it is to be kept.
    pub(super) fn run<R>(
        &mut self,
        sql: &str,
        params: Params<'_>,
        at_once: impl FnOnce(&mut Client) -> Result<R, Error>,
        run: impl Fn(&mut Client, &Statement) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.statements += 1;
        let result = if self.cache.is_off() {
            self.uncached(sql, params, at_once, &run)
        } else {
            self.cached(sql, &run)
        };
        self.noted(result)
    }

    /// Runs a statement that is kept. The server may have forgotten it (26000, after
    /// `DISCARD ALL` or behind a pooler) or its result may have changed with a table
    /// (0A000); both are found out before anything is executed, so it is prepared and
    /// run once more. Inside a transaction the error has ended it, and stands.
    fn cached<R>(
        &mut self,
        sql: &str,
        run: &impl Fn(&mut Client, &Statement) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut first = None;
        if let Some((statement, dirty)) = self.cache.get(sql) {
            self.dirty |= dirty;
            match run(&mut self.client, statement) {
                Err(error) if is_stale(&error) => first = Some(error),
                result => return result,
            }
            self.cache.remove(sql);
        }
        let error = match self.prepared(sql, run) {
            Err(error) if is_stale(&error) || is_taken(&error) => error,
            result => return stands(first, result),
        };
        // What is lost at once, or has its name from someone else, is behind a pooler.
        let held = self.held(sql, run);
        if held.is_ok() {
            self.keep_no_statements();
        }
        stands(first.or(Some(error)), held)
    }

    fn prepared<R>(
        &mut self,
        sql: &str,
        run: &impl Fn(&mut Client, &Statement) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let statement = self.client.prepare(sql)?;
        self.dirty |= self.cache.insert(sql, statement.clone());
        run(&mut self.client, &statement)
    }

    /// Runs a statement of which nothing is kept.
    fn uncached<R>(
        &mut self,
        sql: &str,
        params: Params<'_>,
        at_once: impl FnOnce(&mut Client) -> Result<R, Error>,
        run: &impl Fn(&mut Client, &Statement) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let perhaps_within = self.touched || self.dirty;
        self.dirty |= is_dirty(sql);
        if params.is_empty() {
            return at_once(&mut self.client);
        }
        if perhaps_within && self.is_in_transaction()? {
            let statement = self.client.prepare(sql)?;
            return run(&mut self.client, &statement);
        }
        self.held(sql, run)
    }

    /// Whether a transaction of the user's holds the server. The driver does not tell.
    fn is_in_transaction(&mut self) -> Result<bool, Error> {
        let savepoint = "SAVEPOINT millpond; RELEASE SAVEPOINT millpond";
        match self.client.batch_execute(savepoint) {
            Ok(()) => Ok(true),
            Err(error) if error.code() == Some(&SqlState::NO_ACTIVE_SQL_TRANSACTION) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Prepares and runs a statement in one transaction, which must not be begun in another
    /// one: but in one that an error has ended, this fails for that.
    fn held<R>(
        &mut self,
        sql: &str,
        run: &impl Fn(&mut Client, &Statement) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut names = 0;
        loop {
            self.client.batch_execute("BEGIN")?;
            let statement = self.client.prepare(sql);
            names += 1;
            let again = names < NAMES && statement.as_ref().is_err_and(is_taken);
            // The driver closes it there and then, within the transaction.
            match statement.and_then(|statement| run(&mut self.client, &statement)) {
                Ok(done) => {
                    self.client.batch_execute("COMMIT")?;
                    return Ok(done);
                }
                Err(error) => {
                    let ended = self.client.batch_execute("ROLLBACK");
                    // With the connection the transaction is lost too.
                    self.broken |= ended.is_err();
                    if !again {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// From now on nothing stays prepared: the server does not keep it for this connection.
    pub(in crate::backend::postgres) fn keep_no_statements(&mut self) {
        self.cache = super::StatementCache::new(0);
        self.memory = super::Memory::new(0);
    }
}

/// The error that counts: in a transaction of the user's the first one has ended it.
fn stands<R>(first: Option<Error>, result: Result<R, Error>) -> Result<R, Error> {
    match (first, result) {
        (Some(first), Err(second))
            if second.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) =>
        {
            Err(first)
        }
        (_, result) => result,
    }
}

/// Whether the server has forgotten the statement, or its result has changed.
pub(in crate::backend::postgres) fn is_stale(error: &Error) -> bool {
    let code = error.code();
    code == Some(&SqlState::INVALID_SQL_STATEMENT_NAME)
        || (code == Some(&SqlState::FEATURE_NOT_SUPPORTED)
            && error
                .as_db_error()
                .is_some_and(|db| db.message().contains("cached plan")))
}

/// Whether a statement of another program has the name.
fn is_taken(error: &Error) -> bool {
    error.code() == Some(&SqlState::DUPLICATE_PSTATEMENT)
}
