//! Values in PostgreSQL's text form, bare, as a quoted literal, and as an array's element.
//!
//! The text form of a value is the same wherever it is used, so that an operation means
//! the same alone and in a group: the server's input function for the parameter's type
//! reads it.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::value::SqlValue;

/// The text form; `None` for `NULL`.
pub(in super::super) fn text_of(value: &SqlValue) -> Option<Cow<'_, str>> {
    Some(match value {
        SqlValue::Null => return None,
        SqlValue::Bool(value) => Cow::Borrowed(if *value { "t" } else { "f" }),
        SqlValue::Int(value) => value.to_string().into(),
        SqlValue::Float(value) => float(*value).into(),
        SqlValue::Text(text) => text.as_str().into(),
        SqlValue::Bytes(bytes) => format!("\\x{}", hex(bytes)).into(),
        SqlValue::Json(json) => json.to_string().into(),
        SqlValue::Array(values) => array(values).into(),
    })
}

/// A floating-point number that reads back as itself. A whole number has no point, so
/// that it does for whole types too.
fn float(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.into()
    } else if value == 0.0 || (1e-5..1e17).contains(&value.abs()) {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}

/// An array's text form, its elements quoted.
fn array(values: &[SqlValue]) -> String {
    let mut out = String::with_capacity(values.len() * 8 + 2);
    out.push('{');
    for (position, value) in values.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        match value {
            SqlValue::Array(inner) => out.push_str(&array(inner)),
            other => push_element(&mut out, other),
        }
    }
    out.push('}');
    out
}

/// Adds an element of an array's text form.
pub(in super::super) fn push_element(out: &mut String, value: &SqlValue) {
    match value {
        SqlValue::Null => out.push_str("NULL"),
        // Writing to a string does not fail.
        SqlValue::Int(value) => {
            let _ = write!(out, "{value}");
        }
        other => {
            // Only `NULL`, which is dealt with, has no text.
            let text = text_of(other).unwrap_or_default();
            out.push('"');
            push_doubled(out, &text, |byte| matches!(byte, b'"' | b'\\'), Some('\\'));
            out.push('"');
        }
    }
}

/// Adds a literal as libpq's `PQescapeLiteral` makes it: ` E'...'` if there is a backslash
/// in it, else `'...'`.
pub(in super::super) fn push_literal(out: &mut String, value: &SqlValue) {
    match value {
        SqlValue::Null => out.push_str("NULL"),
        // Writing to a string does not fail.
        SqlValue::Int(value) => {
            let _ = write!(out, "'{value}'");
        }
        other => push_text(out, &text_of(other).unwrap_or_default()),
    }
}

/// Adds a text as a literal.
pub(in super::super) fn push_text(out: &mut String, text: &str) {
    out.reserve(text.len() + 4);
    if text.as_bytes().contains(&b'\\') {
        out.push_str(" E");
    }
    out.push('\'');
    push_doubled(out, text, |byte| matches!(byte, b'\'' | b'\\'), None);
    out.push('\'');
}

/// Adds a field of COPY's text format.
pub(in super::super) fn push_field(out: &mut String, value: &SqlValue) {
    match value {
        SqlValue::Null => out.push_str("\\N"),
        // Writing to a string does not fail.
        SqlValue::Int(value) => {
            let _ = write!(out, "{value}");
        }
        other => {
            // Only `NULL`, which is dealt with, has no text.
            let text = text_of(other).unwrap_or_default();
            let mut rest = text.as_ref();
            let special = |byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r');
            while let Some(at) = rest.bytes().position(special) {
                out.push_str(&rest[..at]);
                out.push_str(match rest.as_bytes()[at] {
                    b'\t' => "\\t",
                    b'\n' => "\\n",
                    b'\r' => "\\r",
                    _ => "\\\\",
                });
                rest = &rest[at + 1..];
            }
            out.push_str(rest);
        }
    }
}

/// Adds a text with a mark before some of its characters, which are ASCII; the character
/// itself if none is given.
fn push_doubled(out: &mut String, text: &str, special: impl Fn(u8) -> bool, mark: Option<char>) {
    out.reserve(text.len());
    let mut rest = text;
    while let Some(at) = rest.bytes().position(&special) {
        out.push_str(&rest[..at]);
        let found = char::from(rest.as_bytes()[at]);
        out.push(mark.unwrap_or(found));
        out.push(found);
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

/// An identifier in double quotes.
pub(in super::super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(in super::super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(digit(byte >> 4));
        out.push(digit(*byte));
    }
    out
}

pub(in super::super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let pair = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(value: impl Into<SqlValue>) -> String {
        let mut out = String::new();
        push_literal(&mut out, &value.into());
        out
    }

    #[test]
    fn fields_are_copys() {
        for (value, expected) in [
            (SqlValue::Null, r"\N"),
            (r"\N".into(), r"\\N"),
            (r"\.".into(), r"\\."),
            ("".into(), ""),
            ("ä\t\r\n\\".into(), r"ä\t\r\n\\"),
            ((-7).into(), "-7"),
            (b"\x00\xff".into(), r"\\x00ff"),
            (vec!["a\\b"].into(), r#"{"a\\\\b"}"#),
        ] {
            let mut out = String::new();
            push_field(&mut out, &value);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn literals_are_libpqs() {
        for (value, expected) in [
            ("", "''"),
            ("it's", "'it''s'"),
            (r"a\b", r" E'a\\b'"),
            (r"'\'", r" E'''\\'''"),
            ("ä'ß", "'ä''ß'"),
            ("'; DROP TABLE t; --", "'''; DROP TABLE t; --'"),
        ] {
            assert_eq!(literal(value), expected);
        }
        assert_eq!(literal(None::<i32>), "NULL");
        assert_eq!(literal(-7), "'-7'");
        assert_eq!(literal(b"\x01\xff"), r" E'\\x01ff'");
        assert_eq!(
            literal(vec![Some("a\"'\\"), None]),
            r#" E'{"a\\"''\\\\",NULL}'"#
        );
        assert_eq!(literal(vec![vec![1, 2], vec![3, 4]]), "'{{1,2},{3,4}}'");
    }

    #[test]
    fn floats_read_back_as_themselves() {
        for value in [0.0, -0.0, 0.1, 2.0, 1e300, 5e-324, f64::MAX, -1.5e-9, 1e16] {
            let text = float(value);
            assert!(text.len() < 30, "{text}");
            assert_eq!(
                text.parse::<f64>().expect("a number").to_bits(),
                value.to_bits()
            );
        }
        assert_eq!(float(2.0), "2");
        assert_eq!(float(f64::NEG_INFINITY), "-Infinity");
    }

    #[test]
    fn hexadecimal_goes_and_comes() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&all)), Some(all));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("ä"), None);
    }
}
