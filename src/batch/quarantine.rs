//! Operations that a server refused, kept for somebody to look at and to try again.
//!
//! The lines that it writes carry the operations whole, values included: treat the file as
//! you treat the data.

use std::collections::VecDeque;
use std::io::{self, BufRead, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// An operation that the server refused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Quarantined<O> {
    /// The operation as it was submitted.
    pub operation: O,
    /// What the server said.
    pub error: Error,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was refused.
    pub at: SystemTime,
}

/// One line of the file.
#[derive(Serialize)]
struct LineOut<'a, O> {
    at: f64,
    kind: String,
    error: &'a str,
    attempts: u32,
    operation: &'a O,
}

#[derive(Deserialize)]
struct LineIn<O> {
    operation: O,
}

/// The rejected operations of a batch; see [`Batch::quarantine`](super::Batch::quarantine).
///
/// ```no_run
/// # #[cfg(feature = "postgres")]
/// # fn f(batch: millpond::Batch<millpond::Postgres>) -> Result<(), Box<dyn std::error::Error>> {
/// use std::fs::File;
/// use std::io::BufReader;
/// use millpond::batch::read_json_lines;
///
/// batch.quarantine().write_json_lines(File::create("rejected.jsonl")?)?;
/// // ... later, after somebody put things right:
/// for operation in read_json_lines(BufReader::new(File::open("rejected.jsonl")?)) {
///     let _ticket = batch.submit(operation?)?;
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Quarantine<O> {
    inner: Mutex<Inner<O>>,
    capacity: usize,
}

#[derive(Debug)]
struct Inner<O> {
    kept: VecDeque<Quarantined<O>>,
    dropped: u64,
}

impl<O> Quarantine<O> {
    pub(super) fn new(capacity: usize) -> Self {
        let inner = Inner {
            kept: VecDeque::new(),
            dropped: 0,
        };
        Self {
            inner: Mutex::new(inner),
            capacity,
        }
    }

    pub(super) fn put(&self, operation: O, error: Error, attempts: u32) {
        let entry = Quarantined {
            operation,
            error,
            attempts,
            at: SystemTime::now(),
        };
        let mut inner = self.inner.lock();
        inner.kept.push_back(entry);
        let oldest = if inner.kept.len() > self.capacity {
            inner.dropped += 1;
            inner.kept.pop_front()
        } else {
            None
        };
        drop(inner);
        drop(oldest);
    }

    /// How many it holds.
    pub fn len(&self) -> usize {
        self.inner.lock().kept.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many had to give way to later ones since the batch was made.
    pub fn dropped(&self) -> u64 {
        self.inner.lock().dropped
    }

    /// Takes all of them out, the oldest first.
    pub fn drain(&self) -> Vec<Quarantined<O>> {
        let kept = std::mem::take(&mut self.inner.lock().kept);
        kept.into()
    }
}

impl<O: Clone> Quarantine<O> {
    /// All of them, the oldest first; they stay.
    pub fn entries(&self) -> Vec<Quarantined<O>> {
        self.inner.lock().kept.iter().cloned().collect()
    }
}

impl<O: Serialize> Quarantine<O> {
    /// Writes one line of JSON for each, the oldest first, and returns how many; they
    /// stay. A line holds the whole operation with its values.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_json_lines(&self, mut to: impl Write) -> io::Result<usize> {
        // In memory first: no I/O under the lock.
        let mut lines = Vec::new();
        let inner = self.inner.lock();
        for entry in &inner.kept {
            let line = LineOut {
                at: entry
                    .at
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default()
                    .as_secs_f64(),
                kind: entry.error.kind().to_string(),
                error: entry.error.message(),
                attempts: entry.attempts,
                operation: &entry.operation,
            };
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
        }
        let count = inner.kept.len();
        drop(inner);
        to.write_all(&lines)?;
        to.flush()?;
        Ok(count)
    }
}

/// The operations in lines that [`Quarantine::write_json_lines`] wrote. Empty lines are
/// passed over.
///
/// # Errors
/// Each item may be one: the reader's, or that a line, which it numbers, cannot be
/// understood.
pub fn read_json_lines<O: DeserializeOwned>(
    from: impl BufRead,
) -> impl Iterator<Item = io::Result<O>> {
    let numbered = from.lines().enumerate();
    numbered.filter_map(|(index, line)| {
        let line = match line {
            Ok(line) if line.trim().is_empty() => return None,
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        let parsed = serde_json::from_str::<LineIn<O>>(&line);
        Some(parsed.map(|line| line.operation).map_err(|error| {
            let message = format!("line {}: {error}", index + 1);
            io::Error::new(io::ErrorKind::InvalidData, message)
        }))
    })
}
