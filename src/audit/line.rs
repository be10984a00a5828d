//! What a line of the audit log looks like, written and read.
//!
//! A line is a JSON object. It begins with its number in the chain (`seq`) and the time, and ends
//! with the hash of the line before (`prev`) and its own:
//!
//! ```text
//! {"seq":7,"time":"...",   ...   ,"prev":"<64 digits>","hash":"<64 digits>"}
//! ```
//!
//! `hash` is the SHA-256 of the line's bytes up to the comma before `"hash"`; with a key it is
//! their HMAC-SHA256, and is called `hmac`. The first line of a chain has number 1, and zeros for
//! `prev`. So a line is right or not by itself, and follows from the one before or not: that is
//! what lets the verifier tell a changed line from one that was removed before it.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::record::Ended;
use crate::security::Secret;

/// A line is not longer than this: its texts are cut where they come from, and the longest way to
/// write one of their bytes takes six.
pub(super) const LONGEST: usize = 64 << 10;

/// What every line begins with.
pub(super) const BEGIN: &[u8] = b"{\"seq\":";

/// The most bytes of a pool's name, an endpoint and a kind.
const NAME: usize = 512;

/// A hash as it is written.
type Digits = [u8; 64];

/// Makes the hash of a line.
#[derive(Clone)]
pub(super) struct Hasher(Option<Hmac<Sha256>>);

impl Hasher {
    pub(super) fn new(key: Option<&Secret>) -> Self {
        // A key of any length will do.
        Self(key.and_then(|key| Hmac::new_from_slice(key.expose().as_bytes()).ok()))
    }

    /// Whether it has a key.
    pub(super) fn has_key(&self) -> bool {
        self.0.is_some()
    }

    fn hash(&self, line: &[u8]) -> Digits {
        let hash: [u8; 32] = match &self.0 {
            None => Sha256::digest(line).into(),
            Some(keyed) => {
                let mut keyed = keyed.clone();
                keyed.update(line);
                keyed.finalize().into_bytes().into()
            }
        };
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(hash) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        digits
    }
}

/// The end of a chain: the number of its last line, and that line's hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) seq: u64,
    pub(super) hash: Digits,
}

impl End {
    /// Before the first line.
    pub(super) const GENESIS: Self = Self {
        seq: 0,
        hash: [b'0'; 64],
    };

    pub(super) fn hash(&self) -> String {
        String::from_utf8_lossy(&self.hash).into_owned()
    }
}

/// What is written of an operation.
#[derive(Serialize)]
struct Operation<'a> {
    pool: &'a str,
    endpoint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    backend: &'a str,
    kind: &'a str,
    statement: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    attempts: u32,
    seconds: f64,
}

/// What is written of the log itself.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Event {
    /// A program began to write, after it cut so many bytes of an unfinished line off.
    Started {
        pid: u32,
        #[serde(skip_serializing_if = "is_zero")]
        cut: u64,
    },
    /// So many operations could not be written, since the last time that this was said.
    Dropped { dropped: u64 },
    /// Everything was written that the program gave.
    Closed,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it like this"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A chain that is being written.
pub(super) struct Chain {
    end: End,
    hasher: Hasher,
}

impl Chain {
    pub(super) fn after(end: End, hasher: Hasher) -> Self {
        Self { end, hasher }
    }

    /// Adds the line of an operation.
    pub(super) fn push_operation(&mut self, to: &mut Vec<u8>, ended: &Ended) {
        let note = &ended.note;
        let operation = Operation {
            pool: begin(&ended.place.pool),
            endpoint: begin(&ended.place.endpoint),
            id: note.id.as_deref(),
            backend: ended.place.backend,
            kind: first_word(&note.statement),
            statement: &note.statement,
            comment: note.comment.as_deref(),
            outcome: ended.outcome.as_str(),
            error: ended.error.map(crate::ErrorKind::as_str),
            attempts: ended.attempts,
            seconds: Duration::from_nanos(ended.took).as_secs_f64(),
        };
        self.push(to, ended.at, &operation);
    }

    /// Adds the line of an event.
    pub(super) fn push_event(&mut self, to: &mut Vec<u8>, event: &Event) {
        self.push(to, SystemTime::now(), event);
    }

    fn push(&mut self, to: &mut Vec<u8>, at: SystemTime, what: &impl Serialize) {
        let start = to.len();
        self.end.seq += 1;
        // Writing to a vector cannot fail, nor can what is above be no JSON.
        to.extend_from_slice(BEGIN);
        let _ = write!(to, "{},\"time\":\"", self.end.seq);
        push_time(to, at);
        to.push(b'"');
        let brace = to.len();
        let _ = serde_json::to_writer(&mut *to, what);
        // What was an object of its own goes on with this one.
        to[brace] = b',';
        to.pop();
        to.extend_from_slice(b",\"prev\":\"");
        to.extend_from_slice(&self.end.hash);
        to.push(b'"');
        self.end.hash = self.hasher.hash(&to[start..]);
        let name: &[u8] = if self.hasher.has_key() {
            b",\"hmac\":\""
        } else {
            b",\"hash\":\""
        };
        to.extend_from_slice(name);
        to.extend_from_slice(&self.end.hash);
        to.extend_from_slice(b"\"}\n");
    }
}

/// A line that was read.
pub(super) struct Line {
    pub(super) end: End,
    /// The hash of the line that it follows.
    pub(super) prev: Digits,
    pub(super) has_key: bool,
    /// Whether its hash is that of its bytes.
    pub(super) is_intact: bool,
    pub(super) facts: Facts,
}

/// What the verifier wants to know of a line.
#[derive(Default, Deserialize)]
pub(super) struct Facts {
    #[serde(default)]
    pub(super) event: Option<String>,
    #[serde(default)]
    pub(super) dropped: u64,
}

impl Line {
    /// Reads a line, without its line break, if it is one of an audit log.
    pub(super) fn read(line: &[u8], hasher: &Hasher) -> Option<Self> {
        let (rest, hash) = split_digits(line.strip_suffix(b"\"}")?)?;
        let (body, has_key) = match rest.strip_suffix(b",\"hash\":\"") {
            Some(body) => (body, false),
            None => (rest.strip_suffix(b",\"hmac\":\"")?, true),
        };
        let (rest, prev) = split_digits(body.strip_suffix(b"\"")?)?;
        rest.strip_suffix(b",\"prev\":\"")?;
        let number = body.strip_prefix(BEGIN)?;
        let end = number.iter().position(|byte| *byte == b',')?;
        let seq = std::str::from_utf8(&number[..end]).ok()?.parse().ok()?;
        Some(Self {
            end: End { seq, hash },
            prev,
            has_key,
            is_intact: hasher.hash(body) == hash,
            facts: serde_json::from_slice(line).ok()?,
        })
    }
}

fn split_digits(text: &[u8]) -> Option<(&[u8], Digits)> {
    let (rest, digits) = text.split_last_chunk::<64>()?;
    Some((rest, *digits))
}

/// The beginning of a name.
fn begin(name: &str) -> &str {
    let end = (0..=name.len().min(NAME))
        .rev()
        .find(|end| name.is_char_boundary(*end));
    name.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// What an operation is: `SELECT`, `SET`, `insert_one`, `POST`.
fn first_word(statement: &str) -> &str {
    let is_letter = |letter: char| letter.is_alphanumeric() || letter == '_';
    let statement = statement.trim_start_matches(|letter| !is_letter(letter));
    let word = statement.split(|letter| !is_letter(letter)).next();
    begin(word.unwrap_or_default())
}

/// As RFC 3339 has it, with microseconds, in UTC. The date after "Euclidean affine functions"
/// and Howard Hinnant's `civil_from_days`.
fn push_time(to: &mut Vec<u8>, at: SystemTime) {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (days, of_day) = (since.as_secs() / 86400, since.as_secs() % 86400);
    // Days since 1 March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, late) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let _ = write!(
        to,
        "{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        era * 400 + year + late,
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
        since.subsec_micros()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: u64) -> String {
        let mut text = Vec::new();
        push_time(
            &mut text,
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        );
        String::from_utf8(text).expect("ASCII")
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(time(951_782_399), "2000-02-28T23:59:59.000000Z");
        assert_eq!(time(951_782_400), "2000-02-29T00:00:00.000000Z");
        assert_eq!(time(951_868_800), "2000-03-01T00:00:00.000000Z");
        assert_eq!(time(1_798_761_599), "2026-12-31T23:59:59.000000Z");
        assert_eq!(time(4_107_542_400), "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn what_is_written_is_read_and_its_hash_is_the_documented_one() {
        for key in [None, Some(Secret::from("a key of sixteen bytes"))] {
            let hasher = Hasher::new(key.as_ref());
            let mut chain = Chain::after(End::GENESIS, hasher.clone());
            let mut text = Vec::new();
            chain.push_event(&mut text, &Event::Started { pid: 7, cut: 0 });
            chain.push_event(&mut text, &Event::Dropped { dropped: 3 });
            let mut lines = text.split(|byte| *byte == b'\n');
            let mut next = || lines.next().expect("a line");
            let (first, second) = (next(), next());
            let read = |line| Line::read(line, &hasher).expect("a line");
            assert_eq!(read(first).end.seq, 1);
            assert_eq!(read(first).prev, End::GENESIS.hash);
            assert_eq!(read(second).prev, read(first).end.hash);
            assert_eq!(read(second).facts.dropped, 3);
            assert!(read(second).is_intact && read(second).has_key == key.is_some());
            let foreign = Hasher::new(Some(&Secret::from("another")));
            assert!(!Line::read(second, &foreign).expect("a line").is_intact);
            assert_eq!(next(), b"");
        }
    }

    #[test]
    fn what_is_no_line_is_not_read() {
        let hasher = Hasher::new(None);
        for line in ["", "{}", "root:x:0:0", "{\"seq\":1,\"hash\":\"12\"}"] {
            assert!(Line::read(line.as_bytes(), &hasher).is_none(), "{line}");
        }
    }

    #[test]
    fn the_first_word_says_what_it_is() {
        assert_eq!(first_word("SELECT ?"), "SELECT");
        assert_eq!(first_word(" (insert_one shop.x)"), "insert_one");
        assert_eq!(first_word("? ?"), "");
    }
}
