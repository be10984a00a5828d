//! Documents of operations, in the form in which they go over the wire.
//!
//! A document is encoded once, where the operation is made: one allocation instead of the
//! tree that a [`Document`] is, and nothing to do again for each attempt or group. As
//! JSON it is MongoDB's Extended JSON, relaxed where that keeps the type: whole numbers of
//! 64 bits, negative ones of 32, and what is no number are written with their type.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, RawDocumentBuf};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::security::is_secret_name;

/// A document as it goes over the wire. Empty inside where it has no such form, because a
/// field name holds a NUL; `validate` tells.
#[derive(Clone, PartialEq)]
pub(super) struct Body(Option<RawDocumentBuf>);

impl Body {
    pub(super) fn new(document: &Document) -> Self {
        Self(RawDocumentBuf::try_from(document).ok())
    }

    /// The same with an `_id` in front, unless it has one; and whether it had none.
    pub(super) fn with_id(self) -> (Self, bool) {
        match self.0 {
            Some(raw) if !matches!(raw.get("_id"), Ok(Some(_))) => {
                (Self(prepend_id(raw, ObjectId::new())), true)
            }
            other => (Self(other), false),
        }
    }

    /// The wire form, where it has one.
    pub(super) fn encoded(&self) -> Option<&RawDocumentBuf> {
        self.0.as_ref()
    }

    /// The same as the driver's own type.
    pub(super) fn decode(&self) -> Document {
        // It was encoded from one; and what has no wire form is never executed.
        let document = self.0.as_ref().map(Document::try_from);
        document.and_then(Result::ok).unwrap_or_default()
    }

    /// In bytes.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |raw| raw.as_bytes().len())
    }

    /// The names of its fields, of the first level only.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let fields = self.0.iter().flat_map(|raw| raw.iter().flatten());
        fields.map(|(name, _)| name.as_str())
    }

    /// Its `_id`.
    pub(super) fn id(&self) -> Option<Bson> {
        let id = self.0.as_ref()?.get("_id").ok()??;
        Bson::try_from(id).ok()
    }
}

/// The document without the values of fields that sound like secrets.
pub(super) fn shown(document: &Document) -> Document {
    fn field((name, value): (&String, &Bson)) -> (String, Bson) {
        let shown = match value {
            _ if is_secret_name(name) => "***".into(),
            Bson::Document(document) => shown(document).into(),
            Bson::Array(values) => {
                let values = values.iter().map(|item| field((name, item)).1);
                Bson::Array(values.collect())
            }
            other => other.clone(),
        };
        (name.clone(), shown)
    }
    document.iter().map(field).collect()
}

/// Calls `see` with each text in the document.
pub(super) fn each_text(document: &Document, see: &mut dyn FnMut(&str)) {
    fn of_value(value: &Bson, see: &mut dyn FnMut(&str)) {
        match value {
            Bson::String(text) | Bson::Symbol(text) => see(text),
            Bson::Document(document) => each_text(document, see),
            Bson::Array(values) => values.iter().for_each(|value| of_value(value, see)),
            _ => {}
        }
    }
    document.values().for_each(|value| of_value(value, see));
}

/// The document with this `_id` before its other fields, which is where a server would
/// move it.
fn prepend_id(raw: RawDocumentBuf, id: ObjectId) -> Option<RawDocumentBuf> {
    // The length, then an element: its type, its name with a NUL, its value.
    const HEADER: usize = 4;
    const NAME: &[u8] = b"\x07_id\0";
    let old = raw.into_bytes();
    let mut new = Vec::with_capacity(old.len() + NAME.len() + id.bytes().len());
    new.extend_from_slice(&[0; HEADER]);
    new.extend_from_slice(NAME);
    new.extend_from_slice(&id.bytes());
    new.extend_from_slice(old.get(HEADER..)?);
    let length = i32::try_from(new.len()).ok()?;
    new[..HEADER].copy_from_slice(&length.to_le_bytes());
    RawDocumentBuf::from_bytes(new).ok()
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Some(raw) = &self.0 else {
            return Err(S::Error::custom("a field name holds a NUL"));
        };
        if to.is_human_readable() {
            serialize_document(&self.decode(), to)
        } else {
            raw.serialize(to)
        }
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self::new(&Document::deserialize(from)?))
    }
}

fn serialize_document<S: Serializer>(document: &Document, to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(document.len()))?;
    for (name, value) in document {
        map.serialize_entry(name, &Typed(value))?;
    }
    map.end()
}

/// A value such that reading it gives the same type again.
struct Typed<'a>(&'a Bson);

impl Serialize for Typed<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let tagged = |to: S, tag, text: String| {
            let mut map = to.serialize_map(Some(1))?;
            map.serialize_entry(tag, &text)?;
            map.end()
        };
        match self.0 {
            Bson::Document(document) => serialize_document(document, to),
            Bson::Array(values) => to.collect_seq(values.iter().map(Typed)),
            Bson::Int64(number) => tagged(to, "$numberLong", number.to_string()),
            // Read as 64 bits otherwise.
            Bson::Int32(number) if *number < 0 => tagged(to, "$numberInt", number.to_string()),
            Bson::Double(number) if number.is_nan() => tagged(to, "$numberDouble", "NaN".into()),
            Bson::Double(number) if number.is_infinite() => {
                let text = if *number > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                };
                tagged(to, "$numberDouble", text.to_owned())
            }
            // Written as a list of numbers otherwise.
            Bson::Binary(binary) => {
                let mut map = to.serialize_map(Some(1))?;
                let base64 = BASE64_STANDARD.encode(&binary.bytes);
                let subtype = format!("{:02x}", u8::from(binary.subtype));
                let body = BTreeMap::from([("base64", base64), ("subType", subtype)]);
                map.serialize_entry("$binary", &body)?;
                map.end()
            }
            other => other.serialize(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn an_id_is_put_in_front_unless_there_is_one() {
        let (body, own) = Body::new(&doc! { "n": 1, "s": "x" }).with_id();
        assert!(own);
        let document = body.decode();
        assert_eq!(document.keys().collect::<Vec<_>>(), ["_id", "n", "s"]);
        assert!(document.get_object_id("_id").is_ok());
        assert_eq!(document.get_i32("n").ok(), Some(1));
        assert_eq!(document.get_str("s").ok(), Some("x"));

        let (body, own) = Body::new(&doc! { "n": 1, "_id": 7 }).with_id();
        assert!(!own);
        assert_eq!(body.decode(), doc! { "n": 1, "_id": 7 });

        let (body, own) = Body::new(&doc! {}).with_id();
        assert!(own && body.decode().len() == 1);
    }

    #[test]
    fn a_name_with_a_nul_has_no_wire_form() {
        let body = Body::new(&doc! { "a\0b": 1 });
        assert!(body.encoded().is_none());
        assert!(serde_json::to_string(&body).is_err());
    }
}
