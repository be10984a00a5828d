//! Groups in one transaction: many statements in one round trip, or INSERTs as one.
//!
//! Where lost outcomes are to be found out, the transaction is an explicit one: it begins
//! with its number, and its COMMIT is a round trip of its own. So it is, without the number,
//! for a COPY ([`copy`](super::copy)).

use std::collections::HashMap;
use std::sync::Arc;

use postgres::error::SqlState;

use super::super::connection::is_stale;
use super::super::operation::Sql;
use super::super::sql::{SqlReply, Statement};
use super::bisect::search;
use super::memory::Known;
use super::merge::{Merge, is_ambiguous};
use super::single::{Failure, prepared, push, replies};
use super::{Batch, resolve};
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::{Operation as _, Outcome};

type Names = HashMap<Arc<Statement>, Option<Arc<str>>>;

impl Batch<'_> {
    /// Runs operations of any text together, or as few of them as there is nothing bad in.
    pub(super) fn grouped(&mut self, items: &[usize]) {
        search(items, &mut |part| self.try_group(part));
    }

    /// Runs INSERTs of this text as one statement, or else together.
    pub(super) fn merged(&mut self, items: &[usize], statement: &Arc<Statement>) {
        if !self.may_begin(items) {
            return;
        }
        let merge = match self.merge_of(statement) {
            Ok(Some(merge)) => merge,
            Ok(None) => return self.grouped(items),
            // It concerns the text, which is the same for all of them.
            Err(error) => {
                let error = self.blame(error, false);
                return self.settle_all(items, &error);
            }
        };
        if self.copied(items, statement, &merge) {
            return;
        }
        let mut well = true;
        search(items, &mut |part| self.try_merged(part, &merge, &mut well));
        self.conn.memory.merged(statement, well);
    }

    fn merge_of(
        &mut self,
        statement: &Arc<Statement>,
    ) -> Result<Option<Arc<Merge>>, postgres::Error> {
        match self.conn.memory.merge(statement) {
            Known::NotYet => {}
            Known::Not => return Ok(None),
            Known::So(merge) => return Ok(Some(merge)),
        }
        let merge = Merge::of(self.conn, statement)?.map(Arc::new);
        self.conn.memory.keep_merge(statement, merge.clone());
        Ok(merge)
    }

    /// Whether there is nothing bad among them. If so they have their outcome. It did not go
    /// well if merging them was of no use.
    fn try_merged(&mut self, items: &[usize], merge: &Merge, well: &mut bool) -> bool {
        if !*well {
            self.grouped(items);
            return true;
        }
        if let [_] = items {
            return self.try_group(items);
        }
        if !self.may_begin(items) {
            return true;
        }
        let all = self.operations;
        let operations: Vec<&Sql> = items.iter().map(|item| all[*item]).collect();
        let result = if self.manager.resolves_unknown() {
            self.in_transaction(items, "", false, |batch, _| {
                merge.run(batch.conn, &operations)
            })
        } else {
            let result = merge.run(self.conn, &operations);
            result
                .map(Some)
                .map_err(|error| Failure { error, sent: true })
        };
        match result {
            Ok(Some(())) => {
                self.settle_each(items);
                true
            }
            Ok(None) => true,
            // In a transaction of ours, a statement that was lost has ended it.
            Err(failure) if is_ambiguous(&failure.error) || is_stale(&failure.error) => {
                *well = false;
                self.grouped(items);
                true
            }
            Err(failure) => self.settled_by(items, failure.error, failure.sent),
        }
    }

    /// Each of them has inserted a row.
    pub(super) fn settle_each(&mut self, items: &[usize]) {
        for item in items {
            self.settle(*item, Outcome::Done(SqlReply::new(1, Vec::new())));
        }
    }

    /// The same for operations of any text, those aside that have their outcome.
    fn try_group(&mut self, items: &[usize]) -> bool {
        let open = |item: &&usize| self.outcomes[**item].is_none();
        let mut items: Vec<usize> = items.iter().filter(open).copied().collect();
        let resolves = self.manager.resolves_unknown();
        if let ([item], false) = (items.as_slice(), resolves) {
            return self.single(*item);
        }
        if items.is_empty() || !self.may_begin(&items) {
            return true;
        }
        let mut stale = false;
        loop {
            let names = self.prepare(&mut items);
            if items.is_empty() {
                return true;
            }
            let result = self.run_group(&items, &names, resolves);
            let failure = match result {
                Ok(Some(replies)) => {
                    self.settle_with(&items, replies);
                    return true;
                }
                Ok(None) => return true,
                Err(failure) => failure,
            };
            if is_stale(&failure.error) && names.values().any(Option::is_some) {
                if stale {
                    // Lost at once: a pooler changes the server.
                    self.conn.keep_no_statements();
                } else {
                    for statement in names.keys() {
                        self.conn.memory.forget(statement);
                    }
                }
                stale = true;
                continue;
            }
            if failure.error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
                let is_read = |item: &usize| self.operations[*item].is_read();
                let (reads, writes): (Vec<usize>, Vec<usize>) =
                    items.iter().partition(|item| is_read(item));
                if !reads.is_empty() && !writes.is_empty() {
                    self.settled_by(&writes, failure.error, failure.sent);
                    self.grouped(&reads);
                    return true;
                }
            }
            return self.settled_by(&items, failure.error, failure.sent);
        }
    }

    /// Prepares the statements of these, and takes those out that the server does not
    /// prepare: that is about their text, whatever is bound.
    fn prepare(&mut self, items: &mut Vec<usize>) -> Names {
        let mut names = Names::new();
        let mut refused: HashMap<Arc<Statement>, Error> = HashMap::new();
        for item in items.iter() {
            let statement = self.operations[*item].analysis();
            if names.contains_key(statement) || refused.contains_key(statement) {
                continue;
            }
            match prepared(self.conn, statement) {
                Ok(name) => {
                    names.insert(Arc::clone(statement), name);
                }
                Err(error) => {
                    let error = self.blame(error, false);
                    refused.insert(Arc::clone(statement), error);
                }
            }
        }
        if !refused.is_empty() {
            let operations = self.operations;
            let (bad, good): (Vec<usize>, Vec<usize>) = items
                .iter()
                .partition(|item| refused.contains_key(operations[**item].analysis()));
            for item in bad {
                let error = refused[operations[item].analysis()].clone();
                self.settle(item, Outcome::failed(error));
            }
            *items = good;
        }
        names
    }

    fn run_group(
        &mut self,
        items: &[usize],
        names: &Names,
        resolves: bool,
    ) -> Result<Option<Vec<SqlReply>>, Failure> {
        let mut text = String::with_capacity(items.len() * 64);
        let mut dirty = false;
        for item in items {
            let operation = self.operations[*item];
            let name = names.get(operation.analysis()).and_then(Option::as_deref);
            push(&mut text, operation, name);
            text.push(';');
            dirty |= operation.analysis().is_dirty();
        }
        if resolves {
            return self.in_transaction(items, &text, dirty, |_, replies| Ok(replies));
        }
        let result = self.conn.simple(&text, dirty).map(replies);
        result
            .map(Some)
            .map_err(|error| Failure { error, sent: true })
    }

    fn settle_with(&mut self, items: &[usize], replies: Vec<SqlReply>) {
        if replies.len() != items.len() {
            let why = format!(
                "the server answered {} statements with {} results; they are committed",
                items.len(),
                replies.len()
            );
            let error = Error::new(ErrorKind::Other, Phase::Operation, why);
            return self.settle_all(items, &error.with_outcome_unknown());
        }
        for (item, reply) in items.iter().zip(replies) {
            self.settle(*item, Outcome::Done(reply));
        }
    }

    /// Begins a transaction with this text, does more in it and commits; and, where that is
    /// wanted, finds out what became of it if the connection is lost meanwhile. `None` if these operations
    /// have their outcome. A failure has left nothing behind, unless it says that it was
    /// sent.
    pub(super) fn in_transaction<R>(
        &mut self,
        items: &[usize],
        text: &str,
        dirty: bool,
        then: impl FnOnce(&mut Self, Vec<SqlReply>) -> Result<R, postgres::Error>,
    ) -> Result<Option<R>, Failure> {
        let unsent = |error| Failure { error, sent: false };
        let (incarnation, number) = if self.manager.resolves_unknown() {
            let incarnation = resolve::incarnation(self.conn).map_err(unsent)?;
            let number = "SELECT pg_catalog.pg_current_xact_id();";
            (Some(incarnation), number)
        } else {
            (None, "")
        };
        let begin = format!("BEGIN;{number}{text}");
        let begun = self.conn.simple(&begin, dirty).map(replies);
        let done = begun.and_then(|mut replies| {
            let own = 1 + usize::from(incarnation.is_some());
            let rest = replies.split_off(replies.len().min(own));
            let xid = replies
                .pop()
                .and_then(|reply| reply.rows().first()?.get::<u64>(0).ok());
            Ok((then(self, rest)?, xid))
        });
        let (result, xid) = match done {
            Ok(done) => done,
            Err(error) => {
                if !self.conn.is_broken() {
                    let ended = self.conn.simple("ROLLBACK", false).map(replies);
                    // With the connection the transaction is lost too.
                    if !ended.is_ok_and(|replies| replies.len() == 1) {
                        self.conn.mark_broken();
                    }
                }
                return Err(unsent(error));
            }
        };
        let Err(error) = self.conn.simple("COMMIT", false) else {
            return Ok(Some(result));
        };
        if !self.conn.is_broken() {
            return Err(unsent(error));
        }
        let fate = match (incarnation, xid) {
            (Some(incarnation), Some(xid)) => {
                resolve::fate(self.manager, &incarnation, xid, self.deadline)
            }
            _ => resolve::Fate::Unknown,
        };
        match fate {
            resolve::Fate::Committed => Ok(Some(result)),
            resolve::Fate::Aborted => {
                let error = self.blame(error, false);
                self.settle_all(items, &error);
                Ok(None)
            }
            resolve::Fate::Unknown => Err(Failure { error, sent: true }),
        }
    }
}
