//! The values bound to a statement's parameters, and their JSON form.

use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::security::values_are_masked;

/// A value bound to a parameter of [`Sql`](crate::Sql).
///
/// It has no type of PostgreSQL's: the server converts it into the parameter's, as it does
/// with a quoted literal in SQL. So every type can be bound as text: a `uuid`, a `numeric`,
/// a `timestamptz`, an enum, an `inet`.
///
/// In JSON numbers, texts, booleans, `null` and lists stand for themselves; the others are
/// objects of one field: `{"bytes": "00ff"}` (hexadecimal), `{"json": ...}`,
/// `{"float": "NaN"}`.
///
/// ```
/// use millpond::SqlValue;
/// assert_eq!(SqlValue::from(7), SqlValue::Int(7));
/// assert_eq!(SqlValue::from(None::<String>), SqlValue::Null);
/// assert_eq!(SqlValue::from(vec!["a", "b"]), SqlValue::Array(vec!["a".into(), "b".into()]));
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum SqlValue {
    /// `NULL`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating-point number; also infinite or not a number.
    Float(f64),
    /// A text, or any other type in its text form.
    Text(String),
    /// A `bytea`.
    Bytes(Vec<u8>),
    /// A `json` or `jsonb`.
    Json(Box<serde_json::Value>),
    /// An array. Arrays in it are further dimensions.
    Array(Vec<SqlValue>),
}

impl SqlValue {
    /// About how many bytes it takes beyond its own size.
    pub(in super::super) fn size(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) => 0,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Json(json) => size_of::<serde_json::Value>() + size_of_json(json),
            Self::Array(values) => {
                size_of_val(values.as_slice()) + values.iter().map(Self::size).sum::<usize>()
            }
        }
    }

    /// Calls `see` with each text in it.
    pub(in super::super) fn each_text(&self, see: &mut dyn FnMut(&str)) {
        match self {
            Self::Text(text) => see(text),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).into_iter().for_each(see),
            Self::Json(json) => each_text_of_json(json, see),
            Self::Array(values) => values.iter().for_each(|value| value.each_text(see)),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) => {}
        }
    }

    /// Whether there is a text with a NUL character in it.
    pub(in super::super) fn has_nul(&self) -> bool {
        match self {
            Self::Text(text) => text.as_bytes().contains(&0),
            Self::Array(values) => values.iter().any(Self::has_nul),
            _ => false,
        }
    }
}

fn each_text_of_json(json: &serde_json::Value, see: &mut dyn FnMut(&str)) {
    use serde_json::Value;
    match json {
        Value::String(text) => see(text),
        Value::Array(values) => values
            .iter()
            .for_each(|value| each_text_of_json(value, see)),
        Value::Object(fields) => fields
            .values()
            .for_each(|value| each_text_of_json(value, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn size_of_json(json: &serde_json::Value) -> usize {
    use serde_json::Value;
    match json {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => {
            size_of_val(values.as_slice()) + values.iter().map(size_of_json).sum::<usize>()
        }
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| size_of::<(String, Value)>() + name.len() + size_of_json(value))
            .sum(),
    }
}

/// The variant; the value, which may be a secret, only where values are not masked.
impl fmt::Debug for SqlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !values_are_masked() {
            return match self {
                Self::Null => f.write_str("Null"),
                Self::Bool(value) => f.debug_tuple("Bool").field(value).finish(),
                Self::Int(value) => f.debug_tuple("Int").field(value).finish(),
                Self::Float(value) => f.debug_tuple("Float").field(value).finish(),
                Self::Text(value) => f.debug_tuple("Text").field(value).finish(),
                Self::Bytes(value) => f.debug_tuple("Bytes").field(value).finish(),
                Self::Json(value) => f.debug_tuple("Json").field(value).finish(),
                Self::Array(values) => f.debug_tuple("Array").field(values).finish(),
            };
        }
        f.write_str(match self {
            Self::Null => "Null",
            Self::Bool(_) => "Bool(_)",
            Self::Int(_) => "Int(_)",
            Self::Float(_) => "Float(_)",
            Self::Text(_) => "Text(_)",
            Self::Bytes(_) => "Bytes(_)",
            Self::Json(_) => "Json(_)",
            Self::Array(_) => "Array(_)",
        })
    }
}

macro_rules! from_small_int {
    ($($int:ty)*) => {$(
        impl From<$int> for SqlValue {
            fn from(value: $int) -> Self {
                Self::Int(value.into())
            }
        }
    )*};
}

from_small_int!(i8 i16 i32 i64 u16 u32);

macro_rules! from_large_int {
    ($($int:ty)*) => {$(
        impl From<$int> for SqlValue {
            /// One that is too large for `bigint` goes as its digits, for a `numeric`.
            fn from(value: $int) -> Self {
                i64::try_from(value).map_or_else(|_| Self::Text(value.to_string()), Self::Int)
            }
        }
    )*};
}

from_large_int!(u64 i128 u128 usize isize);

impl From<bool> for SqlValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f32> for SqlValue {
    fn from(value: f32) -> Self {
        Self::Float(value.into())
    }
}

impl From<f64> for SqlValue {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for SqlValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&String> for SqlValue {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<String> for SqlValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Box<str>> for SqlValue {
    fn from(value: Box<str>) -> Self {
        Self::Text(value.into())
    }
}

impl From<char> for SqlValue {
    fn from(value: char) -> Self {
        Self::Text(value.to_string())
    }
}

impl From<&[u8]> for SqlValue {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for SqlValue {
    fn from(value: &[u8; N]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<Vec<u8>> for SqlValue {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl From<serde_json::Value> for SqlValue {
    fn from(value: serde_json::Value) -> Self {
        Self::Json(Box::new(value))
    }
}

impl From<()> for SqlValue {
    /// `NULL`.
    fn from((): ()) -> Self {
        Self::Null
    }
}

impl<T: Into<SqlValue>> From<Option<T>> for SqlValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// What may be an element of an array by [`From`]. Bytes may not: a `Vec<u8>` is a `bytea`.
macro_rules! from_list {
    ($($element:ty)*) => {$(
        impl From<Vec<$element>> for SqlValue {
            fn from(values: Vec<$element>) -> Self {
                Self::Array(values.into_iter().map(Self::from).collect())
            }
        }

        impl From<&[$element]> for SqlValue {
            fn from(values: &[$element]) -> Self {
                Self::Array(values.iter().cloned().map(Self::from).collect())
            }
        }
    )*};
}

from_list!(SqlValue i16 i32 i64 u16 u32 u64 f32 f64 bool &str String Vec<u8> serde_json::Value);
from_list!(Option<i16> Option<i32> Option<i64> Option<f32> Option<f64> Option<bool>);
from_list!(Option<&str> Option<String> Vec<i32> Vec<i64> Vec<f64> Vec<String>);

impl Serialize for SqlValue {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Int(value) => to.serialize_i64(*value),
            Self::Float(value) if value.is_finite() => to.serialize_f64(*value),
            Self::Float(value) => to.collect_map([("float", value.to_string())]),
            Self::Text(value) => to.serialize_str(value),
            Self::Bytes(value) => to.collect_map([("bytes", super::literal::hex(value))]),
            Self::Json(value) => to.collect_map([("json", value)]),
            Self::Array(values) => to.collect_seq(values),
        }
    }
}

impl<'de> Deserialize<'de> for SqlValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = SqlValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, a boolean, a number, a text, a list, or an object with one of bytes, json, float")
    }

    fn visit_unit<E>(self) -> Result<SqlValue, E> {
        Ok(SqlValue::Null)
    }

    fn visit_none<E>(self) -> Result<SqlValue, E> {
        Ok(SqlValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<SqlValue, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<SqlValue, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<SqlValue, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<SqlValue, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<SqlValue, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<SqlValue, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<SqlValue, E> {
        Ok(value.into())
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<SqlValue, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<SqlValue, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(SqlValue::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SqlValue, A::Error> {
        let field: Option<String> = map.next_key()?;
        let value = match field.as_deref() {
            Some("bytes") => {
                let text: String = map.next_value()?;
                let bytes = super::literal::unhex(&text);
                SqlValue::Bytes(bytes.ok_or_else(|| {
                    de::Error::custom("`bytes` is not an even number of hexadecimal digits")
                })?)
            }
            Some("json") => SqlValue::Json(map.next_value()?),
            Some("float") => {
                let text: String = map.next_value()?;
                let float = text
                    .parse()
                    .map_err(|_| de::Error::custom("`float` is not a number"))?;
                SqlValue::Float(float)
            }
            _ => return Err(de::Error::custom("expected one of bytes, json, float")),
        };
        if map.next_key::<de::IgnoredAny>()?.is_some() {
            return Err(de::Error::custom("expected no further field"));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_short_and_comes_back() {
        let values: Vec<SqlValue> = vec![
            SqlValue::Null,
            true.into(),
            (-7).into(),
            2.0.into(),
            "x".into(),
            b"\x00\xff".into(),
            serde_json::json!({"a": [1, null]}).into(),
            vec![Some("a"), None].into(),
            f64::INFINITY.into(),
            u64::MAX.into(),
        ];
        let text = serde_json::to_string(&values).expect("writes");
        assert_eq!(
            text,
            r#"[null,true,-7,2.0,"x",{"bytes":"00ff"},{"json":{"a":[1,null]}},["a",null],{"float":"inf"},"18446744073709551615"]"#
        );
        let back: Vec<SqlValue> = serde_json::from_str(&text).expect("reads");
        assert_eq!(serde_json::to_string(&back).expect("writes"), text);
        assert!(back == values);
    }

    #[test]
    fn odd_objects_are_refused() {
        for text in [
            r#"{"bytes":"0"}"#,
            r#"{"bytes":"xx"}"#,
            r#"{"float":"x"}"#,
            r#"{"other":1}"#,
            r#"{"bytes":"00","json":1}"#,
            "{}",
        ] {
            assert!(serde_json::from_str::<SqlValue>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let text = format!("{:?}", [SqlValue::from("hunter2"), vec!["hunter2"].into()]);
        assert!(!text.contains("hunter2"), "{text}");
    }
}
