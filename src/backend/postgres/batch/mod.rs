//! Operations alone and in groups.
//!
//! A group is divided. INSERTs of one row with the same text become one statement
//! ([`merge`]), if they are a good part of the group, or a COPY if they are very many
//! ([`copy`]); those that `PREPARE` does not take run alone; all others go in one round trip
//! and one transaction ([`group`]). What the server refuses is split until the culprit
//! stands alone ([`bisect`]).
//!
//! Invariants: each operation gets exactly one outcome. An error about what is in a group is
//! never given to more than the one that stood alone with it. What is refused has had no
//! effect, since a group is one transaction.

mod array;
mod bisect;
mod copy;
mod group;
mod memory;
mod merge;
mod resolve;
mod single;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use postgres::error::SqlState;

pub(super) use self::memory::{Memory, Shift};
pub(super) use self::single::execute;
use super::connection::PostgresConnection;
use super::manager::Postgres;
use super::operation::Sql;
use super::sql::{SqlReply, Statement};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::{Operation as _, Outcome};

/// As many bytes of operations go into one transaction.
const LARGEST_PART: usize = 64 << 20;

/// INSERTs of one text are merged if they are so many, or a fourth of the group: each
/// merged statement is a commit of its own.
const WORTH_MERGING: usize = 50;

/// Runs a group of operations; see [`Backend`](crate::backend::Backend::execute_batch).
pub(super) fn execute_batch(
    manager: &Postgres,
    conn: &mut PostgresConnection,
    operations: &[&Sql],
    deadline: Deadline,
) -> Vec<Outcome<SqlReply>> {
    conn.within(deadline, |conn| {
        let mut batch = Batch {
            manager,
            conn,
            operations,
            deadline,
            outcomes: operations.iter().map(|_| None).collect(),
        };
        batch.run();
        batch
            .outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(forgotten))
            .collect()
    })
}

/// Stands for an outcome that was never set, which would be a mistake here.
fn forgotten() -> Outcome<SqlReply> {
    let why = "the group ended without an outcome for this operation";
    Outcome::Unknown(Error::new(ErrorKind::Other, Phase::Operation, why).with_outcome_unknown())
}

fn late() -> Error {
    let why = "the deadline was over before the operation was sent";
    Error::new(ErrorKind::DeadlineExceeded, Phase::Operation, why)
}

struct Batch<'a> {
    manager: &'a Postgres,
    conn: &'a mut PostgresConnection,
    operations: &'a [&'a Sql],
    deadline: Deadline,
    outcomes: Vec<Option<Outcome<SqlReply>>>,
}

impl Batch<'_> {
    fn run(&mut self) {
        let mut rest = Vec::new();
        let mut alone = Vec::new();
        for (statement, items) in self.by_statement() {
            let worth = items.len() >= WORTH_MERGING.min(self.operations.len().div_ceil(4));
            if !statement.is_preparable() {
                alone.extend(items);
            } else if statement.insert().is_some() && items.len() >= 2 && worth {
                for part in self.parts(&items) {
                    self.merged(part, &statement);
                }
            } else {
                rest.extend(items);
            }
        }
        for part in self.parts(&rest) {
            self.grouped(part);
        }
        for item in alone {
            self.single(item);
        }
    }

    /// The operations of each text, by their numbers.
    fn by_statement(&self) -> Vec<(Arc<Statement>, Vec<usize>)> {
        let mut places: HashMap<&Arc<Statement>, usize> = HashMap::new();
        let mut found: Vec<(Arc<Statement>, Vec<usize>)> = Vec::new();
        for (item, operation) in self.operations.iter().enumerate() {
            let statement = operation.analysis();
            let place = match found.last() {
                Some((last, _)) if Arc::ptr_eq(last, statement) => found.len() - 1,
                _ => *places.entry(statement).or_insert_with(|| {
                    found.push((Arc::clone(statement), Vec::new()));
                    found.len() - 1
                }),
            };
            found[place].1.push(item);
        }
        found
    }

    /// Cuts a list where it gets too large for one transaction.
    fn parts<'i>(&self, items: &'i [usize]) -> Vec<&'i [usize]> {
        let most_texts = self.conn.memory.capacity();
        let mut parts = Vec::new();
        let (mut start, mut size) = (0, 0);
        let mut texts: HashSet<&Arc<Statement>> = HashSet::new();
        for (at, item) in items.iter().enumerate() {
            let operation = self.operations[*item];
            size += operation.size();
            texts.insert(operation.analysis());
            let too_many = most_texts > 0 && texts.len() > most_texts;
            if at > start && (size > LARGEST_PART || too_many) {
                parts.push(&items[start..at]);
                start = at;
                size = operation.size();
                texts.clear();
                texts.insert(operation.analysis());
            }
        }
        if start < items.len() {
            parts.push(&items[start..]);
        }
        parts
    }

    fn settle(&mut self, item: usize, outcome: Outcome<SqlReply>) {
        self.outcomes[item] = Some(outcome);
    }

    /// Gives all of these the same outcome: it is about the attempt, not about one of them.
    fn settle_all(&mut self, items: &[usize], error: &Error) {
        for item in items {
            self.settle(*item, Outcome::failed(error.clone()));
        }
    }

    /// Whether these can be begun; if not, they have their outcome.
    fn may_begin(&mut self, items: &[usize]) -> bool {
        let error = if self.deadline.is_over() {
            late()
        } else if self.conn.is_broken() {
            let why = "the connection was lost before the operation was sent";
            Error::new(ErrorKind::ConnectionLost, Phase::Operation, why)
        } else {
            return true;
        };
        let error = self.manager.placed(error);
        self.settle_all(items, &error);
        false
    }

    /// The driver's error in this crate's words.
    fn blame(&self, error: postgres::Error, sent: bool) -> Error {
        self.manager.placed(self.conn.blame(error, sent))
    }

    /// Runs one alone; whether it was done.
    fn single(&mut self, item: usize) -> bool {
        if !self.may_begin(&[item]) {
            return false;
        }
        let outcome = match single::run(self.conn, self.operations[item]) {
            Ok(reply) => Outcome::Done(reply),
            Err(failure) => Outcome::failed(self.blame(failure.error, failure.sent)),
        };
        let done = outcome.is_done();
        self.settle(item, outcome);
        done
    }

    /// Deals with an error of a group: whether it is about the attempt as a whole, so that
    /// all have their outcome now. Else it is about one of them, and nobody has one.
    fn settled_by(&mut self, items: &[usize], error: postgres::Error, sent: bool) -> bool {
        let code = error.code().cloned();
        let error = self.blame(error, sent);
        let lost = match error.kind() {
            ErrorKind::ConnectionLost => true,
            // At the server's own limit one of them was too slow.
            ErrorKind::DeadlineExceeded => error.outcome_unknown() || self.deadline.is_over(),
            _ => false,
        };
        let read_only = code == Some(SqlState::READ_ONLY_SQL_TRANSACTION)
            && !items.iter().any(|item| self.operations[*item].is_read());
        if lost || read_only || code.is_some_and(|code| concerns_all(&code)) {
            self.settle_all(items, &error);
            return true;
        }
        if let [item] = items {
            self.settle(*item, Outcome::failed(error));
        }
        false
    }
}

/// Whether it is the server's state or other transactions that failed the attempt, not
/// what one of its operations says.
fn concerns_all(code: &SqlState) -> bool {
    matches!(code.code(), "40001" | "40003" | "40P01")
        || matches!(code.code().get(..2), Some("53" | "58"))
}
