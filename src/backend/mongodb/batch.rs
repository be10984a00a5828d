//! Groups of operations, each with its own outcome.
//!
//! Inserts into one collection go as one unordered `insert_many`; single updates and
//! replacements of one collection as one `update` command, single deletes as one `delete`
//! command; the rest one by one. A group is cut into *parts* that fit one command on the
//! wire, so that each part has one answer and one way to fail.
//!
//! Invariants:
//! - Every operation gets exactly one outcome; [`Run::set`] is the only place that sets one.
//! - What a part's answer does not name as refused took effect.
//! - A part whose command failed as a whole is split and tried again only if the server (or
//!   the driver) certainly did nothing of it. Otherwise all of it is unknown.
//! - After a connection was lost, or the deadline is over, nothing more is begun.
//! - One socket at a time.

use std::collections::HashMap;

use mongodb::Collection;
use mongodb::bson::raw::{RawArrayBuf, RawDocumentBuf, cstr};
use mongodb::bson::{self, Document};
use mongodb::error::{
    Error as DriverError, ErrorKind as DriverKind, InsertManyError, WriteFailure,
};

use super::MongoDbConnection;
use super::answer::Answer;
use super::document::Body;
use super::errors;
use super::execute::{self, by_deadline, own_duplicate, too_late};
use super::operation::{Action, MongoOperation, Reach};
use super::reply::{Content, MongoReply};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::{Operation, Outcome};

/// The most bytes of documents in one `insert_many`: what a message may have, 48 MB, less
/// what surrounds them.
const MESSAGE: usize = 47_000_000;

/// The most bytes of statements in one `update` or `delete`: the command is one document.
const COMMAND: usize = 16_000_000;

/// What a statement has beside its documents.
const OVERHEAD: usize = 128;

/// The most writes in one command.
const MOST: usize = 100_000;

pub(super) fn execute_batch(
    conn: &MongoDbConnection,
    operations: &[&MongoOperation],
    deadline: Deadline,
) -> Vec<Outcome<MongoReply>> {
    let mut run = Run {
        conn,
        operations,
        deadline,
        lost: false,
        outcomes: operations.iter().map(|_| None).collect(),
    };
    for (kind, members) in run.groups() {
        for part in parts(kind, &members, operations) {
            run.part(kind, part);
        }
    }
    let forgotten = || {
        let message = "it was left out of its group";
        Outcome::NotExecuted(Error::new(ErrorKind::Other, Phase::Operation, message))
    };
    let outcomes = run.outcomes.into_iter();
    outcomes
        .map(|outcome| outcome.unwrap_or_else(forgotten))
        .collect()
}

/// By which command a group runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Insert,
    Update,
    Delete,
    /// No group: one operation.
    Alone,
}

impl Kind {
    fn of(operation: &MongoOperation) -> Self {
        match &operation.action {
            Action::InsertOne { .. } => Self::Insert,
            Action::UpdateOne { .. } | Action::ReplaceOne { .. } => Self::Update,
            Action::DeleteOne(_) => Self::Delete,
            _ => Self::Alone,
        }
    }
}

/// Cuts a group into parts that fit one command.
fn parts<'a>(kind: Kind, members: &'a [usize], operations: &[&MongoOperation]) -> Vec<&'a [usize]> {
    let room = if kind == Kind::Insert {
        MESSAGE
    } else {
        COMMAND
    };
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, &index) in members.iter().enumerate() {
        let length = operations[index].action.len() + OVERHEAD;
        if at > start && (bytes + length > room || at - start == MOST) {
            parts.push(&members[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += length;
    }
    parts.push(&members[start..]);
    parts
}

struct Run<'a> {
    conn: &'a MongoDbConnection,
    operations: &'a [&'a MongoOperation],
    deadline: Deadline,
    /// Whether the connection was lost, so that nothing more is begun.
    lost: bool,
    outcomes: Vec<Option<Outcome<MongoReply>>>,
}

impl Run<'_> {
    /// Which operations run together, by their indices; what is not valid gets its outcome
    /// here.
    fn groups(&mut self) -> Vec<(Kind, Vec<usize>)> {
        let mut groups: Vec<(Kind, Vec<usize>)> = Vec::new();
        let mut places = HashMap::new();
        for (index, operation) in self.operations.iter().enumerate() {
            if let Err(error) = operation.validate() {
                self.set(index, Outcome::Rejected(self.conn.locate(error)));
                continue;
            }
            let kind = Kind::of(operation);
            if kind == Kind::Alone {
                groups.push((kind, vec![index]));
                continue;
            }
            let database = operation
                .options()
                .and_then(|options| options.database.as_deref());
            let place = *places
                .entry((kind, database, &*operation.collection))
                .or_insert_with(|| {
                    groups.push((kind, Vec::new()));
                    groups.len() - 1
                });
            groups[place].1.push(index);
        }
        groups
    }

    fn set(&mut self, index: usize, outcome: Outcome<MongoReply>) {
        debug_assert!(self.outcomes[index].is_none(), "one outcome each");
        self.outcomes[index] = Some(outcome);
    }

    /// The same error for all of a part.
    fn fail(&mut self, part: &[usize], error: &Error) {
        for &index in part {
            self.set(index, outcome_of(error.clone()));
        }
    }

    fn part(&mut self, kind: Kind, part: &[usize]) {
        if self.deadline.is_over() {
            let error = too_late("the deadline was over before its turn came");
            return self.fail(part, &self.conn.locate(error));
        }
        if self.lost {
            let message = "the connection was lost before its turn came";
            let error = Error::new(ErrorKind::ConnectionLost, Phase::Operation, message);
            return self.fail(part, &self.conn.locate(error));
        }
        match (kind, part) {
            (_, []) => {}
            (_, [index]) => self.alone(*index),
            (Kind::Insert, _) => self.insert(part),
            (Kind::Update | Kind::Delete, _) => self.modify(kind, part),
            (Kind::Alone, _) => part.iter().for_each(|&index| self.alone(index)),
        }
    }

    fn alone(&mut self, index: usize) {
        let result = execute::execute(self.conn, self.operations[index], self.deadline);
        if let Err(error) = &result {
            self.note(error);
        }
        let outcome = result.map_or_else(outcome_of, Outcome::Done);
        self.set(index, outcome);
    }

    fn note(&mut self, error: &Error) {
        self.lost |= matches!(
            error.kind(),
            ErrorKind::ConnectionLost | ErrorKind::Connect(_)
        );
    }

    /// A command that failed as a whole.
    fn whole(&mut self, kind: Kind, part: &[usize], error: &Error) {
        self.note(error);
        let one_may_be_the_cause = matches!(
            error.kind(),
            ErrorKind::InvalidOperation | ErrorKind::NotFound
        );
        if error.outcome_unknown() || !one_may_be_the_cause {
            return self.fail(part, error);
        }
        #[cfg(feature = "batch")]
        crate::backend::note_split();
        let (front, back) = part.split_at(part.len() / 2);
        self.part(kind, front);
        self.part(kind, back);
    }

    fn insert(&mut self, part: &[usize]) {
        let operations = self.operations;
        let first = operations[part[0]];
        let client = self.conn.driver();
        let documents = part
            .iter()
            .filter_map(|&index| match &operations[index].action {
                Action::InsertOne { document, .. } => Some(document),
                _ => None,
            });
        let result = by_deadline(self.conn, self.deadline, Reach::Many, async {
            let database = execute::database(client, first)?;
            let collection: Collection<Body> = database.collection(&first.collection);
            let result = collection.insert_many(documents).ordered(false).await;
            match result.map_err(|error| (*error.kind.clone(), error)) {
                Ok(_) => Ok(None),
                Err((DriverKind::InsertMany(errors), _)) => Ok(Some(errors)),
                Err((_, error)) => Err(errors::of_operation(error, Reach::Many)),
            }
        });
        match result {
            Ok(errors) => self.inserted(part, errors),
            Err(error) => self.whole(Kind::Insert, part, &error),
        }
    }

    fn inserted(&mut self, part: &[usize], errors: Option<InsertManyError>) {
        let (refused, concern) = errors.map_or((None, None), |errors| {
            (errors.write_errors, errors.write_concern_error)
        });
        let concern = concern.map(|concern| {
            let failure = WriteFailure::WriteConcernError(concern);
            self.error(DriverKind::Write(failure).into())
        });
        for written in refused.into_iter().flatten() {
            let Some(&index) = part.get(written.index) else {
                continue;
            };
            // The same error, without its index.
            let error = bson::serialize_to_document(&written).map_err(DriverError::from);
            self.refuse(index, error.map_or_else(|error| error, errors::write_error));
        }
        for &index in part {
            if self.outcomes[index].is_some() {
                continue;
            }
            let outcome = match (&concern, &self.operations[index].action) {
                (Some(error), _) => Outcome::Unknown(error.clone()),
                (None, Action::InsertOne { document, .. }) => {
                    let id = document.id().unwrap_or(bson::Bson::Null);
                    Outcome::Done(MongoReply(Content::Inserted(id)))
                }
                (None, _) => continue,
            };
            self.set(index, outcome);
        }
    }

    fn refuse(&mut self, index: usize, error: DriverError) {
        let outcome = match own_duplicate(self.operations[index], &error) {
            Some(reply) => Outcome::Done(reply),
            None => outcome_of(self.error(error)),
        };
        self.set(index, outcome);
    }

    fn error(&self, error: DriverError) -> Error {
        self.conn.locate(errors::of_operation(error, Reach::One))
    }

    fn modify(&mut self, kind: Kind, part: &[usize]) {
        let first = self.operations[part[0]];
        let client = self.conn.driver();
        let operations = part.iter().map(|&index| self.operations[index]);
        let result = by_deadline(self.conn, self.deadline, Reach::Many, async {
            let database = execute::database(client, first)?;
            let concern = database.write_concern();
            let command = command(kind, &first.collection, operations, concern);
            let command = command.map_err(|error| errors::of_operation(error, Reach::Many))?;
            let answer = database.run_raw_command(command).await;
            answer.map_err(|error| errors::of_operation(error, Reach::Many))
        });
        match result {
            Ok(answer) => self.modified(kind, part, &answer),
            Err(error) => self.whole(kind, part, &error),
        }
    }

    fn modified(&mut self, kind: Kind, part: &[usize], answer: &Document) {
        let mut answer = Answer::read(answer, part.len());
        let concern = answer.concern.take().map(|error| self.error(error));
        for (position, error) in std::mem::take(&mut answer.refused) {
            if let Some(&index) = part.get(position) {
                self.refuse(index, error);
            }
        }
        for (position, &index) in part.iter().enumerate() {
            if self.outcomes[index].is_some() {
                continue;
            }
            let outcome = match &concern {
                Some(error) => Outcome::Unknown(error.clone()),
                None if kind == Kind::Delete => Outcome::Done(MongoReply(answer.deleted())),
                None => Outcome::Done(MongoReply(answer.updated(position))),
            };
            self.set(index, outcome);
        }
    }
}

/// The outcome that an error stands for. One that another server, or this one later,
/// would have accepted is no refusal.
fn outcome_of(error: Error) -> Outcome<MongoReply> {
    if error.kind() == ErrorKind::WrongRole && !error.outcome_unknown() {
        return Outcome::NotExecuted(error);
    }
    Outcome::failed(error)
}

/// The command for all of these.
fn command<'a>(
    kind: Kind,
    collection: &str,
    operations: impl Iterator<Item = &'a MongoOperation>,
    concern: Option<&mongodb::options::WriteConcern>,
) -> Result<RawDocumentBuf, DriverError> {
    let mut statements = RawArrayBuf::new();
    for operation in operations {
        let mut statement = RawDocumentBuf::new();
        let mut add = |name: &bson::raw::CStr, body: &Body| {
            if let Some(raw) = body.encoded() {
                statement.append(name, raw);
            }
        };
        match &operation.action {
            Action::UpdateOne {
                filter,
                update: change,
            }
            | Action::ReplaceOne {
                filter,
                replacement: change,
            } => {
                add(cstr!("q"), filter);
                add(cstr!("u"), change);
                if operation.upserts() {
                    statement.append(cstr!("upsert"), true);
                }
            }
            Action::DeleteOne(filter) => {
                add(cstr!("q"), filter);
                statement.append(cstr!("limit"), 1);
            }
            _ => continue,
        }
        statements.push(statement);
    }
    let mut command = RawDocumentBuf::new();
    if kind == Kind::Delete {
        command.append(cstr!("delete"), collection);
        command.append(cstr!("deletes"), statements);
    } else {
        command.append(cstr!("update"), collection);
        command.append(cstr!("updates"), statements);
    }
    command.append(cstr!("ordered"), false);
    if let Some(concern) = concern {
        let concern = bson::serialize_to_raw_document_buf(concern)?;
        command.append(cstr!("writeConcern"), concern);
    }
    Ok(command)
}
