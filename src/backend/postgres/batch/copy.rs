//! Very many INSERTs of one row with the same text as one COPY.
//!
//! `INSERT INTO t (a, b) VALUES ($1, $2)` becomes `COPY t (a,b) FROM STDIN` where that
//! surely means the same; [`CHECK`] says where. It is checked before the first COPY of a
//! connection, so that nothing is tried in vain, and again in the transaction of each COPY,
//! with the lock on the table that an INSERT has too: from then on nobody can change the
//! table.
//!
//! If the check, the number of rows or a row is bad, it is rolled back and the INSERTs are
//! merged as if nothing had been; so no error of a COPY is given to an operation, unless it
//! is about the attempt as a whole.
//!
//! The transaction is an explicit one, as the driver reports a COPY's success before the
//! server has committed. That would end a transaction of the caller's; so a connection on
//! which something may have been left behind copies nothing.
//!
//! The driver loses step with a server that refuses a COPY before it asks for the rows, as
//! it says `Sync` twice (rust-postgres #789). The ROLLBACK that follows notices, and the
//! connection is given up. The check keeps all known causes away; after an unknown one the
//! manager's connections copy nothing any more.

use std::fmt::Write as _;
use std::sync::Arc;

use super::super::connection::PostgresConnection;
use super::super::operation::Sql;
use super::super::sql::literal::{push_field, push_text};
use super::super::sql::{Plain, SqlReply, SqlValue, Statement};
use super::Batch;
use super::memory::Known;
use super::merge::Merge;
use super::single::replies;

/// From so many rows on. On one connection COPY has 0.7 to 0.9 times the rows per second
/// of merged INSERTs at 1,000 rows, 1.0 to 1.1 at 2,000, 1.2 to 1.5 at 5,000, 1.4 to 2.0 at
/// 10,000: the less, the wider the rows and the more indexes.
const WORTH_COPYING: usize = 5000;

/// As much text is handed to the driver at once.
const PIECE: usize = 64 << 10;

/// A table, if COPY of these columns `w`, with the types of their parameters, does what the
/// INSERTs do. That is not so
/// - for what is no plain table, has a rule (COPY ignores those) or row security, or a
///   trigger for INSERT by a user, which may drop rows;
/// - if something in it may look at the rows that are there already: a default or a check
///   with a function or operator that did not come with the server;
/// - for a column that is generated or that INSERT only takes with OVERRIDING;
/// - for a column of another type than its parameter, which would be cast;
/// - for a type with a modifier, unless its input function is known to make the same of it
///   as a cast does: that is so for `char`, `varchar`, `time`, `timestamp`, `timestamptz`,
///   `timetz`, `bit`, `varbit` and `numeric`, and is not for `interval`;
/// - for a type that may contain a domain, whose checks are anybody's guess;
/// - if the role may not write there, or the transaction nowhere;
/// - if the snapshot may be older than the lock, as the check has to see the table as it is.
const CHECK: &str = "SELECT c.oid, pg_catalog.format('%I.%I', s.nspname, c.relname) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace \
     WHERE c.relkind = 'r' AND NOT c.relhasrules \
     AND NOT pg_catalog.row_security_active(c.oid) \
     AND pg_catalog.current_setting('transaction_isolation') = 'read committed' \
     AND pg_catalog.current_setting('transaction_read_only') = 'off' \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger g \
     WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgtype & 4 <> 0) \
     AND NOT EXISTS (SELECT FROM (\
     SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, o.oid \
     FROM pg_catalog.pg_constraint o WHERE o.conrelid = c.oid AND o.contype = 'c' \
     UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, o.oid \
     FROM w JOIN pg_catalog.pg_constraint o ON o.contypid = w.type \
     UNION ALL SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, f.oid \
     FROM pg_catalog.pg_attrdef f WHERE f.adrelid = c.oid) AS x (class, id) \
     JOIN pg_catalog.pg_depend d ON d.classid = x.class AND d.objid = x.id \
     WHERE d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, \
     'pg_catalog.pg_operator'::pg_catalog.regclass)) \
     AND NOT EXISTS (SELECT FROM w WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a \
     JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
     JOIN pg_catalog.pg_type b \
     ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END \
     LEFT JOIN pg_catalog.pg_type e ON e.oid = b.typelem AND b.typcategory = 'A' \
     WHERE a.attrelid = c.oid AND a.attname = w.name AND a.attnum > 0 \
     AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'INSERT') \
     AND a.attgenerated = '' AND a.attidentity <> 'a' AND a.atttypid = w.type \
     AND (GREATEST(a.atttypmod, t.typtypmod) = -1 \
     OR b.oid IN (1042, 1043, 1083, 1114, 1184, 1266, 1560, 1562, 1700)) \
     AND (b.typtype IN ('b', 'e') OR b.typtype IN ('r', 'm') AND b.oid < 16384) \
     AND (e.oid IS NULL OR e.typtype IN ('b', 'e')))) \
     AND c.oid = pg_catalog.to_regclass(";

/// How the INSERTs of one text are copied.
#[derive(Debug)]
pub(super) struct CopyIn {
    /// Locks the table, and fails if something has come in the way.
    guard: String,
    /// The check is prepared under this name: planning it takes longer than running it.
    check: Arc<str>,
    sql: String,
    /// The places of the columns' values among an operation's parameters.
    places: Vec<usize>,
}

impl CopyIn {
    /// Finds out whether the INSERT can be copied; `None` if not. Given the types of its
    /// parameters.
    fn of(
        conn: &mut PostgresConnection,
        plain: &Plain,
        types: &[u32],
    ) -> Result<Option<Self>, postgres::Error> {
        let Some(check) = check(plain, types) else {
            return Ok(None);
        };
        let Some(found) = told(conn, &check)? else {
            return Ok(None);
        };
        let row = found.first().and_then(|reply| reply.rows().first());
        let Some(Ok(table)) = row.map(|row| row.get::<String>(1)) else {
            return Ok(None);
        };
        let name = conn.memory.new_name();
        let mut prepare = format!(
            "PREPARE {name} AS SELECT 1 / count(*) FROM ({check}) AS mp_c \
             WHERE oid = pg_catalog.to_regclass("
        );
        push_text(&mut prepare, &table);
        prepare.push(')');
        if told(conn, &prepare)?.is_none() {
            return Ok(None);
        }
        let columns: Vec<&str> = plain.columns.iter().map(|column| &*column.text).collect();
        Ok(Some(Self {
            // By its full name: which table comes first in the search path can change even
            // now, and the one that is locked has to be the one that was checked.
            guard: format!("LOCK TABLE ONLY {table} IN ROW EXCLUSIVE MODE;EXECUTE {name}"),
            check: name,
            sql: format!("COPY {table} ({}) FROM STDIN", columns.join(",")),
            places: plain
                .columns
                .iter()
                .map(|column| column.param - 1)
                .collect(),
        }))
    }

    /// Under which the server has prepared something for it.
    pub(super) fn name(&self) -> &str {
        &self.check
    }

    /// Copies the rows of these operations, behind the guard in its transaction.
    fn run(
        &self,
        conn: &mut PostgresConnection,
        operations: &[&Sql],
    ) -> Result<(), postgres::Error> {
        let copied = conn.copy_in(&self.sql, self.pieces(operations))?;
        if usize::try_from(copied) != Ok(operations.len()) {
            // The driver has no error for this, so the server makes one.
            conn.simple("SELECT 1 / 0", false)?;
        }
        Ok(())
    }

    /// The rows as text, in pieces.
    fn pieces<'a>(&self, operations: &'a [&'a Sql]) -> impl Iterator<Item = String> {
        let mut rest = operations.iter();
        std::iter::from_fn(move || {
            let mut piece = String::with_capacity(PIECE + PIECE / 8);
            while piece.len() < PIECE {
                let Some(operation) = rest.next() else {
                    break;
                };
                self.push_row(&mut piece, operation.params());
            }
            (!piece.is_empty()).then_some(piece)
        })
    }

    fn push_row(&self, out: &mut String, params: &[SqlValue]) {
        for (column, place) in self.places.iter().enumerate() {
            if column > 0 {
                out.push('\t');
            }
            push_field(out, params.get(*place).unwrap_or(&SqlValue::Null));
        }
        out.push('\n');
    }
}

/// What the server says to this; `None` if it does not know some column of the catalog, as
/// an old one may.
fn told(
    conn: &mut PostgresConnection,
    sql: &str,
) -> Result<Option<Vec<SqlReply>>, postgres::Error> {
    match conn.simple(sql, false) {
        Ok(messages) => Ok(Some(replies(messages))),
        Err(error) if error.as_db_error().is_some() && !conn.is_broken() => Ok(None),
        Err(error) => Err(error),
    }
}

fn check(plain: &Plain, types: &[u32]) -> Option<String> {
    let mut text = String::from("WITH w (name, type) AS (VALUES ");
    for (number, column) in plain.columns.iter().enumerate() {
        text.push_str(if number > 0 { ",(" } else { "(" });
        push_text(&mut text, &column.name);
        // Writing to a string does not fail.
        let _ = write!(text, ",{}::pg_catalog.oid)", types.get(column.param - 1)?);
    }
    text.push_str(") ");
    text.push_str(CHECK);
    push_text(&mut text, &plain.table);
    text.push(')');
    Some(text)
}

impl Batch<'_> {
    /// Copies the rows of these INSERTs if they are so many that it is worth it. If so, they
    /// have their outcome; else nothing has happened.
    pub(super) fn copied(
        &mut self,
        items: &[usize],
        statement: &Arc<Statement>,
        merge: &Merge,
    ) -> bool {
        // Where nothing stays prepared, the next statement may meet another server.
        let fit =
            self.conn.memory.capacity() > 0 && self.conn.is_clean() && self.manager.may_copy();
        if items.len() < WORTH_COPYING || !fit || !self.may_begin(items) {
            return false;
        }
        let copy = match self.copy_of(statement, merge) {
            Ok(Some(copy)) => copy,
            Ok(None) => return false,
            Err(error) => return self.settled_by(items, error, false),
        };
        let all = self.operations;
        let operations: Vec<&Sql> = items.iter().map(|item| all[*item]).collect();
        let result = self.in_transaction(items, &copy.guard, false, |batch, _| {
            copy.run(batch.conn, &operations)
        });
        let settled = match result {
            Ok(done) => {
                if done.is_some() {
                    self.settle_each(items);
                }
                self.conn.memory.copied(statement, true);
                return true;
            }
            Err(failure) => self.settled_by(items, failure.error, failure.sent),
        };
        if !settled {
            self.conn.memory.copied(statement, false);
            if self.conn.is_broken() {
                self.manager.stop_copying();
            }
        }
        settled
    }

    fn copy_of(
        &mut self,
        statement: &Arc<Statement>,
        merge: &Merge,
    ) -> Result<Option<Arc<CopyIn>>, postgres::Error> {
        match self.conn.memory.copy(statement) {
            Known::NotYet => {}
            Known::Not => return Ok(None),
            Known::So(copy) => return Ok(Some(copy)),
        }
        let plain = statement.insert().and_then(|insert| insert.plain.as_ref());
        let copy = match plain {
            Some(plain) => CopyIn::of(self.conn, plain, merge.types())?.map(Arc::new),
            None => None,
        };
        self.conn.memory.keep_copy(statement, copy.clone());
        Ok(copy)
    }
}
