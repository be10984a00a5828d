//! Operations that were given up, and why.

use serde::de::DeserializeOwned;

use super::stream::Entry;

/// An operation that was given up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter<O> {
    /// The id of the letter.
    pub id: String,
    /// The id that the operation's entry had.
    pub entry: String,
    /// The operation; `None` if what was queued cannot be read as one.
    pub operation: Option<O>,
    /// The kind of the error, as [`ErrorKind::as_str`](crate::ErrorKind::as_str) says it.
    pub kind: String,
    /// What went wrong.
    pub why: String,
    /// How often it was begun.
    pub deliveries: u64,
}

impl<O: DeserializeOwned> DeadLetter<O> {
    pub(super) fn read(entry: Entry) -> Self {
        let text = |name: &str| entry.text(name).unwrap_or_default();
        Self {
            entry: text("entry"),
            operation: serde_json::from_slice(&entry.operation).ok(),
            kind: text("kind"),
            why: text("why"),
            deliveries: text("deliveries").parse().unwrap_or_default(),
            id: entry.id,
        }
    }
}
