//! One parameter of many operations as an array: in binary form where that surely says the
//! same as the text form, else as text.
//!
//! The binary form is what the server's receive function makes the same value of as its
//! input function does of the text form (see [`literal`](super::super::sql::literal)). One
//! value for which that is not known makes the whole array go as text. `name` is not among
//! the types, as its input function cuts a text that is too long and the other refuses it.

use std::borrow::Cow;
use std::error::Error as StdError;

use postgres::types::private::BytesMut;
use postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

use super::super::operation::Sql;
use super::super::sql::SqlValue;
use super::super::sql::literal::{push_element, text_of};

pub(super) const TEXT: u32 = 25;
const BOOL: u32 = 16;
const BYTEA: u32 = 17;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const JSON: u32 = 114;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const UUID: u32 = 2950;
const JSONB: u32 = 3802;

/// The largest whole number up to which every one is a `double precision` too.
const LARGEST_EXACT: u64 = 1 << 53;

#[derive(Debug)]
pub(super) struct Array<'a> {
    operations: &'a [&'a Sql],
    parameter: usize,
    element: u32,
    binary: bool,
}

impl<'a> Array<'a> {
    /// This parameter, from 0 on, of these operations, for an array of that type.
    pub(super) fn new(operations: &'a [&'a Sql], parameter: usize, element: u32) -> Self {
        let mut array = Self {
            operations,
            parameter,
            element,
            binary: false,
        };
        let binary = array.values().all(|value| has_binary(element, value));
        array.binary = binary;
        array
    }

    fn values(&self) -> impl ExactSizeIterator<Item = &'a SqlValue> {
        let parameter = self.parameter;
        self.operations
            .iter()
            .map(move |operation| operation.params().get(parameter).unwrap_or(&SqlValue::Null))
    }

    /// The text form.
    pub(super) fn text(&self) -> String {
        let mut out = String::with_capacity(self.operations.len() * 8 + 2);
        out.push('{');
        for (position, value) in self.values().enumerate() {
            if position > 0 {
                out.push(',');
            }
            push_element(&mut out, value);
        }
        out.push('}');
        out
    }
}

impl ToSql for Array<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        if !self.binary {
            out.extend_from_slice(self.text().as_bytes());
            return Ok(IsNull::No);
        }
        let has_null = self.values().any(|value| *value == SqlValue::Null);
        let count = i32::try_from(self.operations.len())?;
        // One dimension, whether there are NULLs, the type, the length, the first index.
        for word in [1, i32::from(has_null), self.element.cast_signed(), count, 1] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        for value in self.values() {
            if *value == SqlValue::Null {
                out.extend_from_slice(&(-1_i32).to_be_bytes());
                continue;
            }
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            put(self.element, value, out);
            let length = i32::try_from(out.len() - start - 4)?;
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
        Ok(IsNull::No)
    }

    /// The statement has just the types that its columns were made for.
    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        if self.binary {
            Format::Binary
        } else {
            Format::Text
        }
    }

    to_sql_checked!();
}

/// Whether [`put`] says the same of this value as its text form.
fn has_binary(element: u32, value: &SqlValue) -> bool {
    use SqlValue::{Bool, Bytes, Float, Int, Json, Null, Text};
    match (element, value) {
        (BOOL, Bool(_))
        | (BYTEA, Bytes(_))
        | (INT8, Int(_))
        | (FLOAT8, Float(_))
        | (TEXT | VARCHAR | BPCHAR, _)
        | (JSON | JSONB, Json(_) | Text(_)) => true,
        (INT2, Int(value)) => i16::try_from(*value).is_ok(),
        (INT4, Int(value)) => i32::try_from(*value).is_ok(),
        (FLOAT8, Int(value)) => value.unsigned_abs() <= LARGEST_EXACT,
        (FLOAT4, Float(value)) => f64::from(*value as f32).to_bits() == value.to_bits(),
        (UUID, Text(text)) => uuid(text).is_some(),
        (element, Null) => {
            let known = [
                BOOL, BYTEA, INT2, INT4, INT8, FLOAT4, FLOAT8, JSON, JSONB, UUID,
            ];
            known.contains(&element)
        }
        _ => false,
    }
}

/// Adds the binary form of a value that has one.
fn put(element: u32, value: &SqlValue, out: &mut BytesMut) {
    use SqlValue::{Bool, Bytes, Float, Int, Text};
    match (element, value) {
        (BOOL, Bool(value)) => out.extend_from_slice(&[u8::from(*value)]),
        (BYTEA, Bytes(bytes)) => out.extend_from_slice(bytes),
        (INT2, Int(value)) => out.extend_from_slice(&(*value as i16).to_be_bytes()),
        (INT4, Int(value)) => out.extend_from_slice(&(*value as i32).to_be_bytes()),
        (INT8, Int(value)) => out.extend_from_slice(&value.to_be_bytes()),
        (FLOAT4, Float(value)) => out.extend_from_slice(&(*value as f32).to_be_bytes()),
        (FLOAT8, Float(value)) => out.extend_from_slice(&value.to_be_bytes()),
        (FLOAT8, Int(value)) => out.extend_from_slice(&(*value as f64).to_be_bytes()),
        (UUID, Text(text)) => out.extend_from_slice(&uuid(text).unwrap_or_default()),
        (element, value) => {
            if element == JSONB {
                // The version of the form.
                out.extend_from_slice(&[1]);
            }
            let text = text_of(value).unwrap_or(Cow::Borrowed(""));
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// A UUID in its usual form.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let bytes: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut digits = bytes
        .iter()
        .enumerate()
        .filter_map(|(at, byte)| match (at, byte) {
            (8 | 13 | 18 | 23, b'-') => None,
            _ => Some(char::from(*byte).to_digit(16)),
        });
    let mut found = [0; 16];
    for byte in &mut found {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    digits.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_in_their_usual_form_only() {
        let text = "00112233-4455-6677-8899-AABBccddeeff";
        let expected = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes();
        assert_eq!(uuid(text), Some(expected));
        for odd in [
            "00112233445566778899aabbccddeeff",
            "{00112233-4455-6677-8899-aabbccddeef",
            "00112233-4455-6677-8899-aabbccddeefg",
            "0011-2233-4455-6677-8899-aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddee--",
        ] {
            assert_eq!(uuid(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_could_differ_goes_as_text() {
        for (element, value, binary) in [
            (INT2, SqlValue::Int(40_000), false),
            (INT4, SqlValue::Int(40_000), true),
            (INT4, "7".into(), false),
            (INT4, SqlValue::Null, true),
            (FLOAT4, 0.5.into(), true),
            (FLOAT4, 0.1.into(), false),
            (FLOAT4, 1e300.into(), false),
            (FLOAT8, SqlValue::Int((1 << 53) + 1), false),
            (BOOL, "yes".into(), false),
            (TEXT, SqlValue::Int(7), true),
            (19, "a name".into(), false),
            (1700, SqlValue::Int(7), false),
            (1700, SqlValue::Null, false),
        ] {
            assert_eq!(has_binary(element, &value), binary, "{element} {value:?}");
        }
    }
}
