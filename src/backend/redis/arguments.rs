//! A command's words in one buffer, as they go over the wire.
//!
//! `$3\r\nSET\r\n$1\r\nk\r\n$1\r\n7\r\n`: a command is one allocation, and sending it is one
//! copy. Only the `*3\r\n` before it, which needs the number of words, is written when it
//! is sent.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use redis::RedisWrite;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::notice::bulk;

/// Enough for most commands, so that building one allocates once.
const USUAL: usize = 64;

/// The words of one command, its name first.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    packed: Vec<u8>,
    count: u32,
}

impl Arguments {
    pub(super) fn new() -> Self {
        Self {
            packed: Vec::with_capacity(USUAL),
            count: 0,
        }
    }

    /// How many words, the name included.
    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    /// All words as they are sent, without the `*3\r\n` in front.
    pub(super) fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// Writes the `*3\r\n` that goes in front.
    pub(super) fn write_head(&self, to: &mut Vec<u8>) {
        write_number(to, b'*', self.len());
    }

    pub(super) fn capacity(&self) -> usize {
        self.packed.capacity()
    }

    /// The words, the name first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.packed;
        std::iter::from_fn(move || {
            let (word, after) = bulk(rest)?;
            rest = after;
            Some(word)
        })
    }

    /// The name; empty where there is none.
    pub(super) fn name(&self) -> &[u8] {
        self.iter().next().unwrap_or_default()
    }
}

/// `$3\r\n`.
fn write_number(to: &mut Vec<u8>, sign: u8, number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    to.push(sign);
    to.extend_from_slice(&digits[at..]);
    to.extend_from_slice(b"\r\n");
}

impl RedisWrite for Arguments {
    fn write_arg(&mut self, word: &[u8]) {
        self.packed.reserve(word.len() + 16);
        write_number(&mut self.packed, b'$', word.len());
        self.packed.extend_from_slice(word);
        self.packed.extend_from_slice(b"\r\n");
        self.count = self.count.saturating_add(1);
    }

    fn writer_for_next_arg(&mut self) -> impl Write + '_ {
        Next {
            word: Vec::new(),
            to: self,
        }
    }
}

/// A word of which the length is not known yet.
struct Next<'a> {
    word: Vec<u8>,
    to: &'a mut Arguments,
}

impl Write for Next<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.word.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Next<'_> {
    fn drop(&mut self) {
        self.to.write_arg(&self.word);
    }
}

/// One word: text where it is UTF-8, else `{"bytes":"..."}` in base64.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Word<'a> {
    Text(Cow<'a, str>),
    Bytes { bytes: Cow<'a, str> },
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(Some(self.len()))?;
        for word in self.iter() {
            list.serialize_element(&match std::str::from_utf8(word) {
                Ok(text) => Word::Text(text.into()),
                Err(_) => Word::Bytes {
                    bytes: BASE64_STANDARD.encode(word).into(),
                },
            })?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Words)
    }
}

struct Words;

impl<'de> Visitor<'de> for Words {
    type Value = Arguments;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of words, each a text or {\"bytes\": base64}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Arguments, A::Error> {
        let mut arguments = Arguments::new();
        while let Some(word) = list.next_element::<Word<'_>>()? {
            match word {
                Word::Text(text) => arguments.write_arg(text.as_bytes()),
                Word::Bytes { bytes } => {
                    let bytes = BASE64_STANDARD.decode(&*bytes);
                    // The decoder's own words would quote a byte of the value.
                    let bytes = bytes.map_err(|_| A::Error::custom("`bytes` is not base64"))?;
                    arguments.write_arg(&bytes);
                }
            }
        }
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use redis::{RedisWrite, ToRedisArgs};

    use super::Arguments;

    #[test]
    fn packed_as_the_driver_does_it() {
        let mut ours = Arguments::new();
        let mut theirs = redis::Cmd::new();
        let long = "x".repeat(1000);
        for word in ["SET", "", "k\r\n$9", &long] {
            ours.write_arg(word.as_bytes());
            theirs.arg(word);
        }
        (-7_i64).write_redis_args(&mut ours);
        theirs.arg(-7_i64);
        1.5_f64.write_redis_args(&mut ours);
        theirs.arg(1.5_f64);
        vec!["a", "b"].write_redis_args(&mut ours);
        theirs.arg(&["a", "b"]);
        std::io::Write::write_all(&mut ours.writer_for_next_arg(), b"slow").expect("a vector");
        theirs.arg("slow");

        let mut packed = Vec::new();
        ours.write_head(&mut packed);
        packed.extend_from_slice(ours.packed());
        assert_eq!(packed, theirs.get_packed_command());
        assert_eq!(ours.name(), b"SET");
        assert_eq!(ours.iter().count(), ours.len());
    }
}
