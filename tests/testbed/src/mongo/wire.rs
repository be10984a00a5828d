//! As much of MongoDB's protocol as it takes to set a server up: `OP_MSG` with a
//! little BSON, without TLS or login.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const OP_MSG: i32 = 2013;

/// A value that goes to the server.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Int(i32),
    Document(Vec<(String, Value)>),
    Array(Vec<Value>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A document of these fields.
pub(super) fn document<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Document(fields.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Runs a command on a database; `Ok` is the reply's fields that are yes or no.
pub(super) fn command<const N: usize>(
    port: u16,
    database: &str,
    fields: [(&str, Value); N],
) -> Result<Vec<(String, bool)>, String> {
    let mut fields: Vec<(String, Value)> =
        fields.map(|(name, value)| (name.to_owned(), value)).into();
    fields.push(("$db".into(), database.into()));
    let reply = exchange(port, &fields).map_err(|error| error.to_string())?;
    let reply = Reply::parse(&reply).ok_or("a reply that is no BSON")?;
    if reply.ok {
        return Ok(reply.flags);
    }
    Err(reply.error)
}

fn exchange(port: u16, fields: &[(String, Value)]) -> io::Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut body = Vec::new();
    encode_document(&mut body, fields);
    let mut message = Vec::new();
    // Length, request, response to, operation; then no flags, and one document.
    for word in [length(body.len() + 21), 1, 0, OP_MSG, 0] {
        message.extend_from_slice(&word.to_le_bytes());
    }
    message.push(0);
    message.extend_from_slice(&body);
    stream.write_all(&message)?;
    let mut head = [0; 21];
    stream.read_exact(&mut head)?;
    let [a, b, c, d, ..] = head;
    let rest = u32::from_le_bytes([a, b, c, d]).saturating_sub(21);
    let mut reply = vec![0; rest as usize];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("a command is short")
}

fn encode_document(out: &mut Vec<u8>, fields: &[(String, Value)]) {
    let mut body = Vec::new();
    for (name, value) in fields {
        encode_field(&mut body, name, value);
    }
    out.extend_from_slice(&length(body.len() + 5).to_le_bytes());
    out.extend_from_slice(&body);
    out.push(0);
}

/// A field: its kind, its name, and what the kind asks for.
fn encode_field(out: &mut Vec<u8>, name: &str, value: &Value) {
    let mut field = |kind: u8| {
        out.push(kind);
        out.extend_from_slice(name.as_bytes());
        out.push(0);
    };
    match value {
        Value::Text(text) => {
            field(0x02);
            out.extend_from_slice(&length(text.len() + 1).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        }
        Value::Document(fields) => {
            field(0x03);
            encode_document(out, fields);
        }
        Value::Array(values) => {
            field(0x04);
            // An array is a document whose names are 0, 1, 2.
            let names = (0..values.len()).map(|index| index.to_string());
            let fields: Vec<_> = names.zip(values.iter().cloned()).collect();
            encode_document(out, &fields);
        }
        Value::Int(number) => {
            field(0x10);
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

#[derive(Default)]
struct Reply {
    ok: bool,
    error: String,
    flags: Vec<(String, bool)>,
}

impl Reply {
    fn parse(document: &[u8]) -> Option<Self> {
        let mut reply = Self::default();
        let mut rest = document.get(4..)?;
        loop {
            let (&kind, after) = rest.split_first()?;
            if kind == 0 {
                return Some(reply);
            }
            let end = after.iter().position(|&byte| byte == 0)?;
            let name = String::from_utf8_lossy(&after[..end]).into_owned();
            let after = &after[end + 1..];
            let prefix = || {
                let bytes = after.first_chunk::<4>()?;
                usize::try_from(i32::from_le_bytes(*bytes)).ok()
            };
            let size = match kind {
                0x01 | 0x09 | 0x11 | 0x12 => 8,
                0x02 => prefix()? + 4,
                0x03 | 0x04 => prefix()?,
                0x05 => prefix()? + 5,
                0x07 => 12,
                0x08 => 1,
                0x0A => 0,
                0x10 => 4,
                _ => return None,
            };
            let (value, next) = after.split_at_checked(size)?;
            match (name.as_str(), kind) {
                ("ok", _) => reply.ok = value.iter().any(|&byte| byte != 0),
                ("errmsg", 0x02) => {
                    reply.error = String::from_utf8_lossy(value.get(4..size - 1)?).into_owned();
                }
                (_, 0x08) => reply.flags.push((name, value == [1])),
                _ => {}
            }
            rest = next;
        }
    }
}
