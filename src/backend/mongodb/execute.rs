//! One operation, on the driver's asynchronous client, by a deadline.
//!
//! The future runs on the calling thread and is dropped at the deadline, which is exact
//! whatever the server does, and closes the socket that it used. Reads tell the server a
//! little less than the time that is left, so that a slow one gives up first and the
//! socket survives.

use std::time::Duration;

use mongodb::bson::Document;
use mongodb::error::Error as DriverError;
use mongodb::options::{AggregateOptions, CountOptions, FindOneOptions, FindOptions};
use mongodb::results::UpdateResult;
use mongodb::{Client, Collection, Cursor, Database};

use super::document::Body;
use super::operation::{Action, MongoOperation, Reach};
use super::reply::{Content, MongoReply};
use super::{MongoDbConnection, errors, runtime};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::Operation;

/// The most documents that a reply holds.
const MOST_DOCUMENTS: usize = 100_000;

/// The most bytes of documents that a reply holds.
const MOST_BYTES: usize = 256 * 1024 * 1024;

/// The longest `maxTimeMS`: the server's number has 32 bits.
const LONGEST_LIMIT: Duration = Duration::from_millis(i32::MAX.unsigned_abs() as u64);

/// Runs one operation, which has been validated.
pub(super) fn execute(
    conn: &MongoDbConnection,
    operation: &MongoOperation,
    deadline: Deadline,
) -> Result<MongoReply, Error> {
    let reach = operation.reach();
    let left = deadline.remaining();
    by_deadline(conn, deadline, reach, run(conn.driver(), operation, left))
}

/// Runs a future to its end or to the deadline.
pub(super) fn by_deadline<T>(
    conn: &MongoDbConnection,
    deadline: Deadline,
    reach: Reach,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let left = deadline.remaining();
    if left.is_some_and(|left| left.is_zero()) {
        return Err(conn.locate(too_late("the deadline was over before it was sent")));
    }
    match runtime::block_on(left.unwrap_or(Duration::MAX), future)? {
        Some(result) => result.map_err(|error| conn.locate(error)),
        None => {
            let error = conn.locate(too_late("no answer by the operation's deadline"));
            Err(match reach {
                Reach::Read => error,
                Reach::One | Reach::Many => error.with_outcome_unknown(),
            })
        }
    }
}

pub(super) fn too_late(message: &str) -> Error {
    Error::new(ErrorKind::DeadlineExceeded, Phase::Operation, message)
}

/// The database that the operation works on.
pub(super) fn database(client: &Client, operation: &MongoOperation) -> Result<Database, Error> {
    let named = operation
        .options()
        .and_then(|options| options.database.as_deref());
    match named {
        Some(name) => Ok(client.database(name)),
        None => client.default_database().ok_or_else(|| {
            Error::new(
                ErrorKind::Configuration,
                Phase::Operation,
                "no database is configured: set MONGODB_DB (MongoDbConfig::database), or name one \
                 by MongoOperation::database",
            )
        }),
    }
}

/// What is left for the server, so that its answer is here in time.
fn limit_of_server(left: Duration) -> Duration {
    let margin = (left / 10).min(Duration::from_millis(50));
    // Zero would mean no limit.
    left.saturating_sub(margin)
        .clamp(Duration::from_millis(1), LONGEST_LIMIT)
}

async fn run(
    client: &Client,
    operation: &MongoOperation,
    left: Option<Duration>,
) -> Result<MongoReply, Error> {
    let database = database(client, operation)?;
    let reach = operation.reach();
    let failed = |error| errors::of_operation(error, reach);
    let collection: Collection<Body> = database.collection(&operation.collection);
    let limit = left.map(limit_of_server);
    let content = match &operation.action {
        Action::InsertOne { document, .. } => match collection.insert_one(document).await {
            Ok(inserted) => Content::Inserted(inserted.inserted_id),
            Err(error) => match own_duplicate(operation, &error) {
                Some(reply) => return Ok(reply),
                None => return Err(failed(error)),
            },
        },
        Action::UpdateOne { filter, update } => {
            let updated = collection.update_one(filter.decode(), update.decode());
            let updated = updated.upsert(operation.upserts()).await;
            updated.map_err(failed)?.into()
        }
        Action::UpdateMany { filter, update } => {
            let updated = collection.update_many(filter.decode(), update.decode());
            let updated = updated.upsert(operation.upserts()).await;
            updated.map_err(failed)?.into()
        }
        Action::ReplaceOne {
            filter,
            replacement,
        } => {
            let replaced = collection.replace_one(filter.decode(), replacement);
            let replaced = replaced.upsert(operation.upserts()).await;
            replaced.map_err(failed)?.into()
        }
        Action::DeleteOne(filter) => {
            let deleted = collection.delete_one(filter.decode()).await;
            Content::Deleted(Some(deleted.map_err(failed)?.deleted_count))
        }
        Action::DeleteMany(filter) => {
            let deleted = collection.delete_many(filter.decode()).await;
            Content::Deleted(Some(deleted.map_err(failed)?.deleted_count))
        }
        Action::Command(command) => {
            let answer = database.run_command(command.decode()).await;
            Content::Document(Some(answer.map_err(failed)?))
        }
        Action::FindOne(filter) => {
            let collection = collection.clone_with_type::<Document>();
            let found = collection.find_one(filter.decode());
            let found = found.with_options(find_one_options(operation, limit)).await;
            Content::Document(found.map_err(failed)?)
        }
        Action::Find(filter) => {
            let collection = collection.clone_with_type::<Document>();
            let found = collection.find(filter.decode());
            let found = found.with_options(find_options(operation, limit)).await;
            Content::Documents(collect(found.map_err(failed)?, reach).await?)
        }
        Action::Count(filter) => {
            let count = collection.count_documents(filter.decode());
            let count = count.with_options(count_options(operation, limit)).await;
            Content::Count(count.map_err(failed)?)
        }
        Action::Aggregate(pipeline) => {
            let mut options = AggregateOptions::default();
            // One that writes is not to be cut off halfway by the server.
            options.max_time = limit.filter(|_| reach == Reach::Read);
            let cursor = collection.aggregate(pipeline.iter().map(Body::decode));
            let cursor = cursor.with_options(options).await;
            Content::Documents(collect(cursor.map_err(failed)?, reach).await?)
        }
    };
    Ok(MongoReply(content))
}

fn find_one_options(operation: &MongoOperation, limit: Option<Duration>) -> FindOneOptions {
    let mut options = FindOneOptions::default();
    if let Some(chosen) = operation.options() {
        options.sort = chosen.sort.as_ref().map(Body::decode);
        options.projection = chosen.projection.as_ref().map(Body::decode);
        options.skip = chosen.skip;
    }
    options.max_time = limit;
    options
}

fn find_options(operation: &MongoOperation, limit: Option<Duration>) -> FindOptions {
    let mut options = FindOptions::default();
    if let Some(chosen) = operation.options() {
        options.sort = chosen.sort.as_ref().map(Body::decode);
        options.projection = chosen.projection.as_ref().map(Body::decode);
        options.skip = chosen.skip;
        options.limit = chosen.limit.and_then(|limit| i64::try_from(limit).ok());
    }
    options.max_time = limit;
    options
}

fn count_options(operation: &MongoOperation, limit: Option<Duration>) -> CountOptions {
    let mut options = CountOptions::default();
    if let Some(chosen) = operation.options() {
        options.skip = chosen.skip;
        options.limit = chosen.limit;
    }
    options.max_time = limit;
    options
}

/// The reply of an insert that may be repeated, and was refused because an earlier attempt
/// has inserted it: the server has exactly the `_id` that was made for it.
pub(super) fn own_duplicate(operation: &MongoOperation, error: &DriverError) -> Option<MongoReply> {
    match &operation.action {
        Action::InsertOne {
            document,
            own_id: true,
        } if operation.may_repeat() => {
            let id = document.id()?;
            let is_there = errors::is_duplicate_of(error, &id.as_object_id()?);
            is_there.then_some(MongoReply(Content::Inserted(id)))
        }
        _ => None,
    }
}

async fn collect(mut cursor: Cursor<Document>, reach: Reach) -> Result<Vec<Document>, Error> {
    let failed = |error| errors::of_operation(error, reach);
    let mut documents = Vec::new();
    let mut bytes = 0;
    while cursor.advance().await.map_err(failed)? {
        bytes += cursor.current().as_bytes().len();
        if documents.len() == MOST_DOCUMENTS || bytes > MOST_BYTES {
            let message = format!(
                "more than {MOST_DOCUMENTS} documents or {MOST_BYTES} bytes were found; set a \
                 limit, or read with a cursor of the driver's on a lease"
            );
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                Phase::Operation,
                message,
            ));
        }
        documents.push(cursor.deserialize_current().map_err(failed)?);
    }
    Ok(documents)
}

impl From<UpdateResult> for Content {
    fn from(result: UpdateResult) -> Self {
        Self::Updated {
            matched: Some(result.matched_count),
            modified: Some(result.modified_count),
            upserted: result.upserted_id,
        }
    }
}
