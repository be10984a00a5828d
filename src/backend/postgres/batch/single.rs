//! One operation: one round trip once its statement is prepared on this connection.
//!
//! Statements are prepared on the SQL level and run by `EXECUTE name('...', ...)` through
//! the simple protocol: that is how many of them fit into one round trip, and how an
//! operation means the same alone and in a group.

use std::fmt::Write as _;
use std::sync::Arc;

use postgres::SimpleQueryMessage;
use postgres::error::SqlState;

use super::super::connection::{PostgresConnection, is_stale};
use super::super::operation::Sql;
use super::super::sql::literal::push_literal;
use super::super::sql::{SqlReply, SqlRow, Statement};
use super::memory::Shift;
use crate::deadline::Deadline;
use crate::error::Error;

/// The driver's error, and whether the operation had been sent by then.
pub(super) struct Failure {
    pub(super) error: postgres::Error,
    pub(super) sent: bool,
}

/// Runs one operation.
pub(in super::super) fn execute(
    conn: &mut PostgresConnection,
    operation: &Sql,
    deadline: Deadline,
) -> Result<SqlReply, Error> {
    if deadline.is_over() {
        return Err(super::late());
    }
    conn.within(deadline, |conn| {
        run(conn, operation).map_err(|failure| conn.blame(failure.error, failure.sent))
    })
}

pub(super) fn run(conn: &mut PostgresConnection, operation: &Sql) -> Result<SqlReply, Failure> {
    let statement = operation.analysis();
    let mut stale = None;
    loop {
        let name = match prepared(conn, statement) {
            Ok(name) => name,
            Err(error) => return Err(unsent(first_of(stale, error))),
        };
        let mut text = String::with_capacity(64);
        push(&mut text, operation, name.as_deref());
        let error = match conn.simple(&text, statement.is_dirty()) {
            Ok(messages) => return Ok(replies(messages).pop().unwrap_or_default()),
            Err(error) => error,
        };
        // Both are found out before anything is executed.
        if name.is_none() || !is_stale(&error) {
            let error = first_of(stale, error);
            return Err(Failure { error, sent: true });
        }
        if stale.is_some() {
            // Lost at once: a pooler changes the server.
            conn.keep_no_statements();
        } else {
            conn.memory.forget(statement);
        }
        stale = Some(error);
    }
}

fn unsent(error: postgres::Error) -> Failure {
    Failure { error, sent: false }
}

/// The error that counts: in a transaction of the user's the first one has ended it.
fn first_of(first: Option<postgres::Error>, second: postgres::Error) -> postgres::Error {
    match first {
        Some(first) if second.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => first,
        _ => second,
    }
}

/// The name under which the statement is prepared, from now on if need be; none where it
/// has to be sent as it is.
pub(super) fn prepared(
    conn: &mut PostgresConnection,
    statement: &Arc<Statement>,
) -> Result<Option<Arc<str>>, postgres::Error> {
    if conn.memory.capacity() == 0 || !statement.is_preparable() {
        return Ok(None);
    }
    if let Some(name) = conn.memory.name(statement) {
        return Ok(Some(name));
    }
    let name = conn.memory.new_name();
    let mut text = format!("PREPARE {name} AS ");
    conn.memory.shift = Shift {
        sent: text.len(),
        written: statement.characters_before(),
    };
    text.push_str(statement.body());
    let garbage = conn.memory.take_garbage();
    for old in &garbage {
        // Writing to a string does not fail.
        let _ = write!(text, ";DEALLOCATE {old}");
    }
    match conn.simple(&text, false) {
        Ok(_) => {}
        // What was to be given up is gone already; the new one is prepared all the same.
        Err(error) if error.code() == Some(&SqlState::INVALID_SQL_STATEMENT_NAME) => {}
        Err(error) => {
            conn.memory.put_garbage_back(garbage);
            return Err(error);
        }
    }
    conn.memory.keep(statement, Arc::clone(&name));
    Ok(Some(name))
}

/// Adds the text that runs the operation.
pub(super) fn push(out: &mut String, operation: &Sql, name: Option<&str>) {
    let Some(name) = name else {
        let statement = operation.analysis();
        return statement.push_with_values(out, operation.params());
    };
    out.push_str("EXECUTE ");
    out.push_str(name);
    for (position, value) in operation.params().iter().enumerate() {
        out.push(if position == 0 { '(' } else { ',' });
        push_literal(out, value);
    }
    if !operation.params().is_empty() {
        out.push(')');
    }
}

/// The replies of the statements that were sent together.
pub(super) fn replies(messages: Vec<SimpleQueryMessage>) -> Vec<SqlReply> {
    let mut found = Vec::new();
    let mut rows = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => rows.push(SqlRow::new(row)),
            SimpleQueryMessage::CommandComplete(affected) => {
                found.push(SqlReply::new(affected, std::mem::take(&mut rows)));
            }
            _ => {}
        }
    }
    found
}
