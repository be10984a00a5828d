//! What an operation gives back.

use std::fmt;

use mongodb::bson::{Bson, Document};

use super::document::shown;
use crate::security::values_are_masked;

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
///
/// Its `Debug` shows values only where they are not [masked](crate::security).
#[derive(Clone, PartialEq)]
pub struct MongoReply(pub(super) Content);

#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
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

impl fmt::Debug for MongoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = values_are_masked();
        let document = |document: &Document| shown(document).to_string();
        match &self.0 {
            Content::Inserted(_) if masked => f.write_str("Inserted"),
            Content::Inserted(id) => write!(f, "Inserted({id})"),
            Content::Updated {
                matched, modified, ..
            } => f
                .debug_struct("Updated")
                .field("matched", matched)
                .field("modified", modified)
                .finish_non_exhaustive(),
            Content::Deleted(count) => write!(f, "Deleted({count:?})"),
            Content::Documents(found) if masked => write!(f, "Documents({})", found.len()),
            Content::Documents(found) => {
                f.debug_list().entries(found.iter().map(document)).finish()
            }
            Content::Document(found) if masked => {
                write!(f, "Document({})", u8::from(found.is_some()))
            }
            Content::Document(found) => write!(f, "Document({:?})", found.as_ref().map(document)),
            Content::Count(count) => write!(f, "Count({count})"),
        }
    }
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
