//! Operations that a server refused, kept for somebody to look at and to try again.
//!
//! The lines that it writes carry the operations whole, values included: treat the file as
//! you treat the data.
//!
//! Workers only ever wait for a push or a pop: whoever reads takes references out under the lock
//! and writes or copies operations, which is the program's code, without it.

use std::collections::VecDeque;
use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::shield::Shielded;
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
    /// Held by those who read, so that nobody else has a reference when they are drained.
    reading: Mutex<()>,
    max_operations: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Inner<O> {
    kept: VecDeque<Kept<O>>,
    /// The size of all.
    bytes: usize,
    dropped: u64,
}

#[derive(Debug)]
struct Kept<O> {
    entry: Shielded<Arc<Quarantined<O>>>,
    size: usize,
}

impl<O> Quarantine<O> {
    pub(super) fn new(max_operations: usize, max_bytes: usize) -> Self {
        let inner = Inner {
            kept: VecDeque::new(),
            bytes: 0,
            dropped: 0,
        };
        Self {
            inner: Mutex::new(inner),
            reading: Mutex::new(()),
            max_operations,
            max_bytes,
        }
    }

    /// `size`: as the queue counted it.
    pub(super) fn put(&self, operation: O, size: usize, error: Error, attempts: u32) {
        let entry = Shielded::new(Arc::new(Quarantined {
            operation,
            error,
            attempts,
            at: SystemTime::now(),
        }));
        let mut too_many = Vec::new();
        let mut inner = self.inner.lock();
        inner.kept.push_back(Kept { entry, size });
        inner.bytes += size;
        while inner.kept.len() > self.max_operations || inner.bytes > self.max_bytes {
            let Some(oldest) = inner.kept.pop_front() else {
                break;
            };
            inner.bytes -= oldest.size;
            inner.dropped += 1;
            too_many.push(oldest);
        }
        drop(inner);
        drop(too_many);
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
        let _nobody_else = self.reading.lock();
        let mut inner = self.inner.lock();
        let kept = std::mem::take(&mut inner.kept);
        inner.bytes = 0;
        drop(inner);
        // Nobody else reads, so each is the only reference.
        let entries = kept.into_iter();
        entries
            .filter_map(|kept| Arc::into_inner(kept.entry.into_inner()))
            .collect()
    }

    /// Has all of them, the oldest first, read by this function.
    fn read<T>(&self, with: impl FnOnce(&[Arc<Quarantined<O>>]) -> T) -> T {
        let _nobody_else = self.reading.lock();
        let inner = self.inner.lock();
        let entries: Vec<_> = inner
            .kept
            .iter()
            .map(|kept| Arc::clone(&kept.entry))
            .collect();
        drop(inner);
        with(&entries)
    }
}

impl<O: Clone> Quarantine<O> {
    /// All of them, the oldest first; they stay.
    pub fn entries(&self) -> Vec<Quarantined<O>> {
        self.read(|entries| entries.iter().map(|entry| (**entry).clone()).collect())
    }
}

impl<O: Serialize> Quarantine<O> {
    /// Writes one line of JSON for each, the oldest first, and returns how many; they
    /// stay. A line holds the whole operation with its values.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_json_lines(&self, mut to: impl Write) -> io::Result<usize> {
        let (lines, count) = self.read(|entries| {
            let mut lines = Vec::new();
            for entry in entries {
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
            Ok::<_, io::Error>((lines, entries.len()))
        })?;
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
