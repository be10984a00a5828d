//! What an operation gives back.

use mongodb::bson::{Bson, Document};

/// What a [`MongoOperation`](super::MongoOperation) gave back. Each accessor is `None`, or
/// empty, where the operation has no such thing.
///
/// ```no_run
/// # use millpond::{MongoDb, MongoOperation, Pool};
/// # use mongodb::bson::doc;
/// # fn run(pool: &Pool<MongoDb>) -> Result<(), millpond::Error> {
/// let order = MongoOperation::find_one("orders", doc! { "_id": 7 });
/// if let Some(order) = pool.execute(order)?.into_document() {
///     println!("{order}");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MongoReply(pub(super) Content);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Inserted(Bson),
    Updated {
        matched: Option<u64>,
        modified: Option<u64>,
        upserted: Option<Bson>,
    },
    Deleted(Option<u64>),
    Documents(Vec<Document>),
    Document(Option<Document>),
    Count(u64),
}

impl MongoReply {
    /// The `_id` of the document that was inserted.
    pub fn inserted_id(&self) -> Option<&Bson> {
        match &self.0 {
            Content::Inserted(id) => Some(id),
            _ => None,
        }
    }

    /// How many documents an update or a replacement found. `None` also where nobody
    /// knows: the server counts the updates of a group together, and only where it counts
    /// as many as there were, or none, is it certain how many are this one's.
    pub fn matched(&self) -> Option<u64> {
        match self.0 {
            Content::Updated { matched, .. } => matched,
            _ => None,
        }
    }

    /// How many documents an update or a replacement changed; a document that was already
    /// as asked is matched and not modified. `None` as for [`matched`](Self::matched).
    pub fn modified(&self) -> Option<u64> {
        match self.0 {
            Content::Updated { modified, .. } => modified,
            _ => None,
        }
    }

    /// The `_id` of the document that an upsert inserted, if it did. Known in groups too.
    pub fn upserted_id(&self) -> Option<&Bson> {
        match &self.0 {
            Content::Updated { upserted, .. } => upserted.as_ref(),
            _ => None,
        }
    }

    /// How many documents were deleted. `None` also where nobody knows, as for
    /// [`matched`](Self::matched).
    pub fn deleted(&self) -> Option<u64> {
        match self.0 {
            Content::Deleted(deleted) => deleted,
            _ => None,
        }
    }

    /// What a count found.
    pub fn count(&self) -> Option<u64> {
        match self.0 {
            Content::Count(count) => Some(count),
            _ => None,
        }
    }

    /// The documents of a `find` or an `aggregate`; the one of a `find_one`; the server's
    /// answer to a `command`.
    pub fn documents(&self) -> &[Document] {
        match &self.0 {
            Content::Documents(documents) => documents,
            Content::Document(document) => document.as_slice(),
            _ => &[],
        }
    }

    /// The same to keep.
    pub fn into_documents(self) -> Vec<Document> {
        match self.0 {
            Content::Documents(documents) => documents,
            Content::Document(document) => document.into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// The first of the [`documents`](Self::documents).
    pub fn document(&self) -> Option<&Document> {
        self.documents().first()
    }

    /// The same to keep.
    pub fn into_document(self) -> Option<Document> {
        match self.0 {
            Content::Documents(documents) => documents.into_iter().next(),
            Content::Document(document) => document,
            _ => None,
        }
    }
}
