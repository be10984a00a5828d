//! How an operation is written: `operation` says which, and each part has its own field.

use serde::{Deserialize, Serialize};

use super::document::Body;
use super::operation::{Action, MongoOperation, Options};
use crate::operation::Envelope;

#[derive(Default, Serialize, Deserialize)]
pub(super) struct Form {
    operation: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    collection: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    document: Option<Body>,
    /// Whether the document's `_id` was made by this crate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    own_id: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<Body>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    update: Option<Body>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replacement: Option<Body>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pipeline: Option<Box<[Body]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Body>,
    #[serde(flatten)]
    options: Options,
    #[serde(flatten)]
    envelope: Envelope,
}

impl From<MongoOperation> for Form {
    fn from(operation: MongoOperation) -> Self {
        let mut form = Self {
            operation: operation.action.name().to_owned(),
            collection: operation.collection.as_ref().to_owned(),
            options: operation
                .options
                .map_or_else(Options::default, |options| *options),
            envelope: operation.envelope,
            ..Self::default()
        };
        match operation.action {
            Action::InsertOne { document, own_id } => {
                form.document = Some(document);
                form.own_id = own_id;
            }
            Action::UpdateOne { filter, update } | Action::UpdateMany { filter, update } => {
                form.filter = Some(filter);
                form.update = Some(update);
            }
            Action::ReplaceOne {
                filter,
                replacement,
            } => {
                form.filter = Some(filter);
                form.replacement = Some(replacement);
            }
            Action::DeleteOne(filter)
            | Action::DeleteMany(filter)
            | Action::FindOne(filter)
            | Action::Find(filter)
            | Action::Count(filter) => form.filter = Some(filter),
            Action::Aggregate(pipeline) => form.pipeline = Some(pipeline),
            Action::Command(command) => form.command = Some(command),
        }
        form
    }
}

impl TryFrom<Form> for MongoOperation {
    type Error = String;

    /// A document to insert that has no `_id` gets one, as in the constructor.
    fn try_from(form: Form) -> Result<Self, String> {
        let name = form.operation;
        let needed = |part: Option<Body>, field: &str| {
            part.ok_or_else(|| format!("`{name}` needs the field `{field}`"))
        };
        let filter = || needed(form.filter, "filter");
        let action = match name.as_str() {
            "insert_one" => {
                let (document, made) = needed(form.document, "document")?.with_id();
                Action::InsertOne {
                    document,
                    own_id: made || form.own_id,
                }
            }
            "update_one" => Action::UpdateOne {
                filter: filter()?,
                update: needed(form.update, "update")?,
            },
            "update_many" => Action::UpdateMany {
                filter: filter()?,
                update: needed(form.update, "update")?,
            },
            "replace_one" => Action::ReplaceOne {
                filter: filter()?,
                replacement: needed(form.replacement, "replacement")?,
            },
            "delete_one" => Action::DeleteOne(filter()?),
            "delete_many" => Action::DeleteMany(filter()?),
            "find_one" => Action::FindOne(filter()?),
            "find" => Action::Find(filter()?),
            "count" => Action::Count(filter()?),
            "aggregate" => {
                let missing = || format!("`{name}` needs the field `pipeline`");
                Action::Aggregate(form.pipeline.ok_or_else(missing)?)
            }
            "command" => Action::Command(needed(form.command, "command")?),
            other => return Err(format!("`{other}` is no operation on MongoDB")),
        };
        Ok(Self {
            envelope: form.envelope,
            collection: form.collection.into(),
            action,
            options: (form.options != Options::default()).then(|| Box::new(form.options)),
        })
    }
}
