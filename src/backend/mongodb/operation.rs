//! Operations on MongoDB, as data.

use std::borrow::{Borrow, Cow};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use mongodb::bson::Document;
use serde::{Deserialize, Serialize};

use super::document::{Body, each_text, shown};
use super::form::Form;
use super::validation;
use crate::error::Error;
use crate::operation::{Envelope, Operation};
use crate::security::values_are_masked;

/// One operation on MongoDB.
///
/// It works on the database of the configuration unless [`database`](Self::database) says
/// otherwise. As JSON it is readable, with documents as Extended JSON.
///
/// ```
/// use millpond::{MongoOperation, Operation, Priority};
/// use mongodb::bson::doc;
///
/// let order = MongoOperation::insert_one("orders", doc! { "item": "lamp", "total": 12 })
///     .priority(Priority::High);
/// assert!(order.validate().is_ok());
/// assert_eq!(order.statement(), "insert_one orders");
///
/// let pay = MongoOperation::update_one("orders", doc! { "_id": 7 }, doc! { "$set": { "paid": true } });
/// assert_eq!(
///     serde_json::to_string(&pay).unwrap(),
///     r#"{"operation":"update_one","collection":"orders","filter":{"_id":7},"update":{"$set":{"paid":true}}}"#
/// );
/// let wrong = MongoOperation::update_one("orders", doc! {}, doc! { "paid": true });
/// assert!(wrong.validate().is_err(), "an update needs operators");
/// ```
///
/// # What may run twice
///
/// Finds, counts, and aggregations without `$out` and `$merge` may, by nature. Everything
/// else is repeated only where it was certainly not applied, or if it is
/// [`idempotent`](Operation::idempotent). The driver's own `retryWrites` and
/// `retryReads` stay as they are configured: on replica sets it repeats a single write or
/// a group of inserts once after a network error, exactly once in effect.
///
/// An insert is not repeatable by nature. Its `_id`, where the document has none, is made
/// here, when the operation is, so that all attempts insert the same document, and a
/// second one can at most fail. If the operation is marked `idempotent`, and the server
/// says that exactly this `_id` that was made here is there already, then an earlier attempt
/// inserted it, and the insert is done. An `_id` of your own proves nothing of the kind:
/// then a repeated insert fails with [`Constraint`](crate::ErrorKind::Constraint) even
/// where the first attempt took effect; use a `replace_one` with `upsert` instead.
///
/// # Deadlines
///
/// [`deadline`](Operation::deadline) holds whatever the server does; the socket of an
/// operation that it cuts off is closed. Reads also tell the server (`maxTimeMS`), so that it
/// does not go on in vain, and are certainly not applied; writes leave open whether they
/// took effect. Without a deadline there is no limit but the driver's own, which has no
/// socket timeout: on a server that stopped answering, the operation waits until the
/// driver's monitor notices, after the
/// [`heartbeat`](super::MongoDbConfig::heartbeat) and the
/// [`connect_timeout`](super::MongoDbConfig::connect_timeout), and where the driver
/// tries again, after the
/// [`server_selection_timeout`](super::MongoDbConfig::server_selection_timeout) more.
///
/// # In groups
///
/// Inserts into one collection go as one unordered `insert_many`; `update_one` and
/// `replace_one` on one collection as one `update` command, `delete_one` as one `delete`
/// command, each with its own errors. The server counts what such updates and deletes did
/// together only: see [`MongoReply::matched`](super::MongoReply::matched). These two
/// commands the driver never repeats by itself. Everything else runs one by one.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Form", try_from = "Form")]
#[must_use = "an operation does nothing until it is executed or submitted"]
pub struct MongoOperation {
    pub(super) envelope: Envelope,
    /// Empty for a command.
    pub(super) collection: Arc<str>,
    pub(super) action: Action,
    /// What few operations have, out of the way of the many.
    pub(super) options: Option<Box<Options>>,
}

#[derive(Clone, PartialEq)]
pub(super) enum Action {
    /// `own_id`: the `_id` was made here.
    InsertOne {
        document: Body,
        own_id: bool,
    },
    UpdateOne {
        filter: Body,
        update: Body,
    },
    UpdateMany {
        filter: Body,
        update: Body,
    },
    ReplaceOne {
        filter: Body,
        replacement: Body,
    },
    DeleteOne(Body),
    DeleteMany(Body),
    FindOne(Body),
    Find(Body),
    Count(Body),
    Aggregate(Box<[Body]>),
    Command(Body),
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Options {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) database: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) upsert: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sort: Option<Body>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) projection: Option<Body>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) skip: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<u64>,
}

/// How much an operation that fails may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It changes nothing.
    Read,
    /// One document, or nothing.
    One,
    /// Any part of what was asked.
    Many,
}

impl MongoOperation {
    /// Inserts a document. If it has no `_id`, one is made now.
    pub fn insert_one(collection: impl Into<Arc<str>>, document: impl Borrow<Document>) -> Self {
        let (document, own_id) = Body::new(document.borrow()).with_id();
        Self::new(collection, Action::InsertOne { document, own_id })
    }

    /// Updates the first document found, by operators such as `$set`.
    pub fn update_one(
        collection: impl Into<Arc<str>>,
        filter: impl Borrow<Document>,
        update: impl Borrow<Document>,
    ) -> Self {
        let (filter, update) = (Body::new(filter.borrow()), Body::new(update.borrow()));
        Self::new(collection, Action::UpdateOne { filter, update })
    }

    /// Updates all documents found, by operators such as `$set`. If it fails, some may
    /// have been updated: [`outcome_unknown`](crate::Error::outcome_unknown).
    pub fn update_many(
        collection: impl Into<Arc<str>>,
        filter: impl Borrow<Document>,
        update: impl Borrow<Document>,
    ) -> Self {
        let (filter, update) = (Body::new(filter.borrow()), Body::new(update.borrow()));
        Self::new(collection, Action::UpdateMany { filter, update })
    }

    /// Replaces the first document found by another one.
    pub fn replace_one(
        collection: impl Into<Arc<str>>,
        filter: impl Borrow<Document>,
        replacement: impl Borrow<Document>,
    ) -> Self {
        let (filter, replacement) = (Body::new(filter.borrow()), Body::new(replacement.borrow()));
        let action = Action::ReplaceOne {
            filter,
            replacement,
        };
        Self::new(collection, action)
    }

    /// Deletes the first document found.
    pub fn delete_one(collection: impl Into<Arc<str>>, filter: impl Borrow<Document>) -> Self {
        Self::new(collection, Action::DeleteOne(Body::new(filter.borrow())))
    }

    /// Deletes all documents found. If it fails, some may have been deleted:
    /// [`outcome_unknown`](crate::Error::outcome_unknown).
    pub fn delete_many(collection: impl Into<Arc<str>>, filter: impl Borrow<Document>) -> Self {
        Self::new(collection, Action::DeleteMany(Body::new(filter.borrow())))
    }

    /// The first document found, if any.
    pub fn find_one(collection: impl Into<Arc<str>>, filter: impl Borrow<Document>) -> Self {
        Self::new(collection, Action::FindOne(Body::new(filter.borrow())))
    }

    /// All documents found: at most 100,000, and 256 MiB of them. More are a
    /// [`InvalidOperation`](crate::ErrorKind::InvalidOperation): set a [`limit`](Self::limit),
    /// or read with a cursor of the driver's on a lease.
    pub fn find(collection: impl Into<Arc<str>>, filter: impl Borrow<Document>) -> Self {
        Self::new(collection, Action::Find(Body::new(filter.borrow())))
    }

    /// How many documents there are.
    pub fn count(collection: impl Into<Arc<str>>, filter: impl Borrow<Document>) -> Self {
        Self::new(collection, Action::Count(Body::new(filter.borrow())))
    }

    /// The documents that a pipeline gives; bounded as for [`find`](Self::find).
    pub fn aggregate(
        collection: impl Into<Arc<str>>,
        pipeline: impl IntoIterator<Item = impl Borrow<Document>>,
    ) -> Self {
        let pipeline = pipeline.into_iter().map(|stage| Body::new(stage.borrow()));
        Self::new(collection, Action::Aggregate(pipeline.collect()))
    }

    /// Runs a command of the database, as it is: the driver adds no read preference and no
    /// write concern, never repeats it, and does not look for errors of single writes inside
    /// the answer.
    pub fn command(command: impl Borrow<Document>) -> Self {
        Self::new("", Action::Command(Body::new(command.borrow())))
    }

    fn new(collection: impl Into<Arc<str>>, action: Action) -> Self {
        Self {
            envelope: Envelope::default(),
            collection: collection.into(),
            action,
            options: None,
        }
    }

    /// Another database than the configuration's.
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.options_mut().database = Some(name.into().into());
        self
    }

    /// Whether an update or a replacement that finds nothing inserts.
    pub fn upsert(mut self, upsert: bool) -> Self {
        self.options_mut().upsert = Some(upsert);
        self
    }

    /// In which order a find gives its documents, or which one a `find_one` takes.
    pub fn sort(mut self, order: impl Borrow<Document>) -> Self {
        self.options_mut().sort = Some(Body::new(order.borrow()));
        self
    }

    /// Which fields a find gives.
    pub fn projection(mut self, fields: impl Borrow<Document>) -> Self {
        self.options_mut().projection = Some(Body::new(fields.borrow()));
        self
    }

    /// How many documents a find or a count passes over first.
    pub fn skip(mut self, documents: u64) -> Self {
        self.options_mut().skip = Some(documents);
        self
    }

    /// How many documents a find or a count takes at most; at least 1.
    pub fn limit(mut self, documents: u64) -> Self {
        self.options_mut().limit = Some(documents);
        self
    }

    fn options_mut(&mut self) -> &mut Options {
        self.options.get_or_insert_default()
    }

    pub(super) fn options(&self) -> Option<&Options> {
        self.options.as_deref()
    }

    pub(super) fn upserts(&self) -> bool {
        self.options()
            .is_some_and(|options| options.upsert == Some(true))
    }

    pub(super) fn reach(&self) -> Reach {
        match &self.action {
            Action::FindOne(_) | Action::Find(_) | Action::Count(_) => Reach::Read,
            Action::Aggregate(pipeline) => {
                let writes = |name: &str| name == "$out" || name == "$merge";
                if pipeline.iter().flat_map(Body::names).any(writes) {
                    Reach::Many
                } else {
                    Reach::Read
                }
            }
            Action::UpdateMany { .. } | Action::DeleteMany(_) | Action::Command(_) => Reach::Many,
            Action::InsertOne { .. }
            | Action::UpdateOne { .. }
            | Action::ReplaceOne { .. }
            | Action::DeleteOne(_) => Reach::One,
        }
    }
}

impl Action {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::InsertOne { .. } => "insert_one",
            Self::UpdateOne { .. } => "update_one",
            Self::UpdateMany { .. } => "update_many",
            Self::ReplaceOne { .. } => "replace_one",
            Self::DeleteOne(_) => "delete_one",
            Self::DeleteMany(_) => "delete_many",
            Self::FindOne(_) => "find_one",
            Self::Find(_) => "find",
            Self::Count(_) => "count",
            Self::Aggregate(_) => "aggregate",
            Self::Command(_) => "command",
        }
    }

    /// All documents that it has.
    pub(super) fn bodies(&self) -> Vec<&Body> {
        match self {
            Self::UpdateOne { filter, update } | Self::UpdateMany { filter, update } => {
                vec![filter, update]
            }
            Self::ReplaceOne {
                filter,
                replacement,
            } => vec![filter, replacement],
            Self::InsertOne { document: body, .. }
            | Self::DeleteOne(body)
            | Self::DeleteMany(body)
            | Self::FindOne(body)
            | Self::Find(body)
            | Self::Count(body)
            | Self::Command(body) => vec![body],
            Self::Aggregate(pipeline) => pipeline.iter().collect(),
        }
    }

    /// How many bytes its documents have.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::InsertOne { document, .. } => document.len(),
            other => other.bodies().into_iter().map(Body::len).sum(),
        }
    }
}

impl Operation for MongoOperation {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn validate(&self) -> Result<(), Error> {
        validation::validate(self)
    }

    fn size(&self) -> usize {
        let options = self.options().map_or(0, |options| {
            let bodies = options.sort.iter().chain(&options.projection);
            size_of::<Options>() + bodies.map(Body::len).sum::<usize>()
        });
        size_of::<Self>() + self.envelope.size() + self.action.len() + options
    }

    fn is_read(&self) -> bool {
        self.reach() == Reach::Read
    }

    /// The kind, the collection, and the names of the filter's fields or the pipeline's
    /// stages: `update_one shop.orders (_id)`.
    fn statement(&self) -> Cow<'_, str> {
        let mut text = self.action.name().to_owned();
        if let Action::Command(command) = &self.action {
            // Writing to a string cannot fail.
            let _ = write!(text, " {}", command.names().next().unwrap_or_default());
            return Cow::Owned(text);
        }
        text.push(' ');
        if let Some(database) = self.options().and_then(|options| options.database.as_ref()) {
            let _ = write!(text, "{database}.");
        }
        text.push_str(&self.collection);
        let names: Vec<&str> = match &self.action {
            Action::InsertOne { .. } => Vec::new(),
            Action::Aggregate(pipeline) => pipeline.iter().flat_map(Body::names).collect(),
            other => other
                .bodies()
                .first()
                .map_or_else(Vec::new, |filter| filter.names().collect()),
        };
        if !names.is_empty() {
            let _ = write!(text, " ({})", names.join(", "));
        }
        Cow::Owned(text)
    }

    fn each_value(&self, see: &mut dyn FnMut(&str)) {
        for body in self.action.bodies() {
            each_text(&body.decode(), see);
        }
    }
}

/// Without any value, unless values are not masked; without those of fields that sound like
/// secrets in any case.
impl fmt::Debug for MongoOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("MongoOperation");
        out.field("statement", &self.statement());
        if !values_are_masked() {
            let bodies = self.action.bodies().into_iter();
            let bodies = bodies.map(|body| shown(&body.decode()).to_string());
            out.field("documents", &bodies.collect::<Vec<_>>());
        }
        out.field("envelope", &self.envelope)
            .finish_non_exhaustive()
    }
}
