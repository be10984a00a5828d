//! A PostgreSQL connection that keeps its prepared statements and notices what
//! its user leaves behind.

mod kept;
mod within;

use std::error::Error as StdError;
use std::fmt;
use std::io::Write as _;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use postgres::types::ToSql;
use postgres::{Client, Error, Row, SimpleQueryMessage, Statement, ToStatement};

pub(super) use self::kept::is_stale;
use super::batch::Memory;
use super::cache::StatementCache;
use super::connector::{Canceller, Way};
use super::errors::breaks;
use super::fuse::Fuse;

/// A query: SQL text, whose prepared statement is kept, or a [`Statement`] of your
/// own.
pub trait Query: ToStatement {
    /// The text, where it is one.
    fn sql(&self) -> Option<&str>;
}

impl Query for str {
    fn sql(&self) -> Option<&str> {
        Some(self)
    }
}

impl Query for Statement {
    fn sql(&self) -> Option<&str> {
        None
    }
}

/// A leased PostgreSQL connection: the driver's [`Client`] by deref, with
/// `query`, `query_one`, `query_opt` and `execute` that keep prepared statements.
///
/// ```no_run
/// # fn example(pool: &millpond::Pool<millpond::Postgres>) -> Result<(), Box<dyn std::error::Error>> {
/// let mut lease = pool.get()?;
/// let rows = lease.query("SELECT name FROM users WHERE id = $1", &[&7_i64])?;
/// let mut transaction = lease.transaction()?; // the driver's
/// transaction.execute("DELETE FROM users", &[])?;
/// transaction.commit()?;
/// # let _ = rows; Ok(()) }
/// ```
///
/// Whatever goes through the driver's own interface is out of sight, so the
/// connection is then reset after the lease, in the background.
pub struct PostgresConnection {
    client: Client,
    fuse: Arc<Fuse>,
    cache: StatementCache,
    /// What operations keep of their statements.
    pub(super) memory: Memory,
    /// What happened since the last reset may have left something behind.
    dirty: bool,
    /// The driver's own interface was used since the last reset.
    touched: bool,
    broken: bool,
    statements: u64,
}

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

impl PostgresConnection {
    /// A connection that came by this way with this fuse in it; on a Unix socket by
    /// none, and there the fuse is beside it.
    pub(super) fn new(
        client: Client,
        cached_statements: usize,
        fuse: Arc<Fuse>,
        way: Option<Way>,
    ) -> Self {
        fuse.cancel_by(Canceller {
            token: client.cancel_token(),
            way,
        });
        fuse.put_out(None);
        Self {
            client,
            fuse,
            cache: StatementCache::new(cached_statements),
            memory: Memory::new(cached_statements),
            dirty: false,
            touched: false,
            broken: false,
            statements: 0,
        }
    }

    /// Runs a query and returns its rows.
    ///
    /// # Errors
    /// The driver's; `?` turns them into [`millpond::Error`](crate::Error).
    pub fn query<T: ?Sized + Query>(
        &mut self,
        query: &T,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        let Some(sql) = query.sql() else {
            let rows = self.client.query(query, params);
            return self.noted(rows);
        };
        self.run(
            sql,
            params,
            |client| client.query_typed(sql, &[]),
            |client, statement| client.query(statement, params),
        )
    }

    /// Runs a query that returns one row.
    ///
    /// # Errors
    /// The driver's; also if it returns none or more than one.
    pub fn query_one<T: ?Sized + Query>(
        &mut self,
        query: &T,
        params: Params<'_>,
    ) -> Result<Row, Error> {
        let Some(sql) = query.sql() else {
            let row = self.client.query_one(query, params);
            return self.noted(row);
        };
        self.run(
            sql,
            params,
            |client| client.query_typed_one(sql, &[]),
            |client, statement| client.query_one(statement, params),
        )
    }

    /// Runs a query that returns one row or none.
    ///
    /// # Errors
    /// The driver's; also if it returns more than one.
    pub fn query_opt<T: ?Sized + Query>(
        &mut self,
        query: &T,
        params: Params<'_>,
    ) -> Result<Option<Row>, Error> {
        let Some(sql) = query.sql() else {
            let row = self.client.query_opt(query, params);
            return self.noted(row);
        };
        self.run(
            sql,
            params,
            |client| client.query_typed_opt(sql, &[]),
            |client, statement| client.query_opt(statement, params),
        )
    }

    /// Runs a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// The driver's.
    pub fn execute<T: ?Sized + Query>(
        &mut self,
        query: &T,
        params: Params<'_>,
    ) -> Result<u64, Error> {
        let Some(sql) = query.sql() else {
            let count = self.client.execute(query, params);
            return self.noted(count);
        };
        self.run(
            sql,
            params,
            |client| client.execute_typed(sql, &[]),
            |client, statement| client.execute(statement, params),
        )
    }

    /// Notes an error that means that the connection is lost.
    fn noted<R>(&mut self, result: Result<R, Error>) -> Result<R, Error> {
        if let Err(error) = &result {
            self.broken |= breaks(error);
        }
        result
    }

    /// The driver's client, without a note that it was used.
    pub(super) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    pub(super) fn mark_broken(&mut self) {
        self.broken = true;
    }

    pub(super) fn mark_clean(&mut self) {
        self.dirty = false;
        self.touched = false;
    }

    /// A statement of an operation begins: whether its error leaves anything open goes by what is
    /// sent from here on. Not for what a program runs by itself: it may come back from
    /// [`within_deadline`](Self::within_deadline) with the error of an earlier statement.
    pub(super) fn begin(&self) {
        self.fuse.begin();
    }

    /// Runs statements as text, in one round trip and one transaction.
    pub(super) fn simple(
        &mut self,
        sql: &str,
        dirty: bool,
    ) -> Result<Vec<SimpleQueryMessage>, Error> {
        self.statements += 1;
        self.dirty |= dirty;
        self.begin();
        let messages = self.client.simple_query(sql);
        self.noted(messages)
    }

    /// Runs a COPY from these pieces of its text, and says how many rows that were. The
    /// driver says so before the server has committed: so only inside of a transaction.
    pub(super) fn copy_in(
        &mut self,
        sql: &str,
        pieces: impl Iterator<Item = String>,
    ) -> Result<u64, Error> {
        self.statements += 1;
        let copied = copy_in(&mut self.client, sql, pieces);
        self.noted(copied)
    }

    pub(super) fn forget_statements(&mut self) {
        self.cache.clear();
        self.memory.clear();
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken || self.client.is_closed()
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.fuse.is_encrypted()
    }

    pub(super) fn is_clean(&self) -> bool {
        !self.dirty && !self.touched
    }

    pub(super) fn statements(&self) -> u64 {
        self.statements
    }
}

fn copy_in(
    client: &mut Client,
    sql: &str,
    pieces: impl Iterator<Item = String>,
) -> Result<u64, Error> {
    let mut writer = client.copy_in(sql)?;
    for piece in pieces {
        let Err(error) = writer.write_all(piece.as_bytes()) else {
            continue;
        };
        match error
            .into_inner()
            .map(<dyn StdError + Send + Sync>::downcast)
        {
            Some(Ok(error)) => return Err(*error),
            // The driver has no other. The rows are too few then, which the caller counts.
            _ => break,
        }
    }
    writer.finish()
}

impl Deref for PostgresConnection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for PostgresConnection {
    fn deref_mut(&mut self) -> &mut Client {
        self.touched = true;
        &mut self.client
    }
}

impl fmt::Debug for PostgresConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConnection")
            .field("statements", &self.statements)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
