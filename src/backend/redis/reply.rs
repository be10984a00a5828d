//! A reply as plain data.

use std::fmt;

use redis::{Value, VerbatimFormat};

use crate::security::values_are_masked;

/// What a command answered, with strings as text or as bytes; see
/// [`RedisConnection::run`](super::RedisConnection::run).
///
/// Its `Debug` shows lengths instead of strings while values are [masked](crate::security).
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// Nothing there.
    Nil,
    /// A whole number.
    Int(i64),
    /// A number with decimals (RESP3).
    Double(f64),
    /// True or false (RESP3).
    Bool(bool),
    /// A string, where responses are decoded and it is UTF-8. Status replies such
    /// as `OK` always are text.
    Text(String),
    /// A string as it came: responses are not decoded, or it is not UTF-8.
    Bytes(Vec<u8>),
    /// A list or set.
    List(Vec<Reply>),
    /// Pairs (RESP3), in the server's order.
    Map(Vec<(Reply, Reply)>),
    /// An error inside a list, such as that of one command of a transaction.
    Error(String),
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = values_are_masked();
        match self {
            Self::Nil => f.write_str("Nil"),
            Self::Int(number) => write!(f, "Int({number})"),
            Self::Double(number) => write!(f, "Double({number})"),
            Self::Bool(truth) => write!(f, "Bool({truth})"),
            Self::Text(text) if masked => write!(f, "Text({} bytes)", text.len()),
            Self::Text(text) => f.debug_tuple("Text").field(text).finish(),
            Self::Bytes(bytes) if masked => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Bytes(bytes) => f.debug_tuple("Bytes").field(bytes).finish(),
            Self::List(items) => f.debug_tuple("List").field(items).finish(),
            Self::Map(pairs) => f.debug_tuple("Map").field(pairs).finish(),
            Self::Error(text) if masked => {
                let code = text.split(' ').next().unwrap_or_default();
                write!(f, "Error({code:?})")
            }
            Self::Error(text) => f.debug_tuple("Error").field(text).finish(),
        }
    }
}

impl Reply {
    /// Turns the driver's value into plain data.
    ///
    /// ```
    /// use millpond::backend::redis::Reply;
    /// let value = redis::Value::BulkString(b"hello".to_vec());
    /// assert_eq!(Reply::from_value(value.clone(), true), Reply::Text("hello".into()));
    /// assert_eq!(Reply::from_value(value, false), Reply::Bytes(b"hello".to_vec()));
    /// ```
    pub fn from_value(value: Value, decode: bool) -> Self {
        let list = |items: Vec<Value>| {
            let items = items.into_iter();
            Self::List(items.map(|item| Self::from_value(item, decode)).collect())
        };
        match value {
            Value::Nil => Self::Nil,
            Value::Int(number) => Self::Int(number),
            Value::BulkString(bytes) => Self::from_bytes(bytes, decode),
            Value::Okay => Self::Text("OK".into()),
            Value::SimpleString(text) => Self::Text(text),
            Value::VerbatimString { format, text } => match format {
                VerbatimFormat::Unknown(_) if !decode => Self::Bytes(text.into_bytes()),
                _ => Self::Text(text),
            },
            Value::Array(items) | Value::Set(items) => list(items),
            Value::Push { data, .. } => list(data),
            Value::Map(pairs) => {
                let pairs = pairs.into_iter().map(|(key, value)| {
                    (
                        Self::from_value(key, decode),
                        Self::from_value(value, decode),
                    )
                });
                Self::Map(pairs.collect())
            }
            Value::Attribute { data, .. } => Self::from_value(*data, decode),
            Value::Double(number) => Self::Double(number),
            Value::Boolean(truth) => Self::Bool(truth),
            Value::ServerError(error) => Self::Error(match error.details() {
                Some(details) => format!("{} {details}", error.code()),
                None => error.code().to_owned(),
            }),
            // Numbers beyond 64 bits, and what later protocols may bring.
            other => redis::from_redis_value::<Vec<u8>>(other)
                .map_or(Self::Nil, |bytes| Self::from_bytes(bytes, decode)),
        }
    }

    fn from_bytes(bytes: Vec<u8>, decode: bool) -> Self {
        if !decode {
            return Self::Bytes(bytes);
        }
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Bytes(error.into_bytes()),
        }
    }

    /// The text, where it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes of a string, decoded or not.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The whole number, where it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::Reply;

    #[test]
    fn what_is_not_utf8_stays_bytes() {
        let odd = vec![0xff, 0x00];
        assert_eq!(
            Reply::from_value(Value::BulkString(odd.clone()), true),
            Reply::Bytes(odd)
        );
    }

    #[test]
    fn lists_and_maps_are_decoded_inside() {
        let value = Value::Map(vec![(
            Value::BulkString(b"k".to_vec()),
            Value::Array(vec![Value::Int(1), Value::Nil]),
        )]);
        let inside = Reply::List(vec![Reply::Int(1), Reply::Nil]);
        assert_eq!(
            Reply::from_value(value, true),
            Reply::Map(vec![(Reply::Text("k".into()), inside)])
        );
    }
}
