//! The thread that writes.
//!
//! Each [`LINGER`] it takes what is in the channel, makes lines of it, and adds them to the file.
//! It never sleeps at the channel, since then a caller would have to wake it, which cost a lone
//! operation 10 µs on a busy machine of two processors; only who fills the channel to its half
//! does. While lines cannot be written it keeps those that it has, tries again each [`PAUSE`], and
//! takes nothing more: then the channel fills, and what has no room is counted by whoever comes
//! with it. The log says so in a line of its own, once it can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::file::Log;
use super::line::{Chain, Event};
use crate::contain::complain;
use crate::record::Ended;

/// How many operations wait to be written at most.
pub(super) const CAPACITY: usize = 8192;

/// With so many it hurries.
pub(super) const HALF: usize = CAPACITY / 2;

/// How long operations wait for others to be written with.
const LINGER: Duration = Duration::from_millis(20);

/// How long it waits after a failure.
const PAUSE: Duration = Duration::from_millis(100);

/// About so many bytes are written at once.
const CHUNK: usize = 64 << 10;

/// What became of operations.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
    /// Somebody has asked for hurry.
    pub(super) hurried: AtomicBool,
}

/// What the thread is asked for; it answers whether all is written.
pub(super) enum Request {
    Hurry,
    Flush(Sender<bool>),
    Close(Sender<bool>),
}

pub(super) struct Writer {
    pub(super) entries: Receiver<Ended>,
    pub(super) requests: Receiver<Request>,
    pub(super) counts: Arc<Counts>,
    pub(super) log: Log,
    pub(super) chain: Chain,
    /// Lines that are not written yet, and how many of them are operations.
    pub(super) lines: Vec<u8>,
    pub(super) operations: u64,
    /// Of so many dropped ones the log knows.
    pub(super) told: u64,
    pub(super) chunk: usize,
    pub(super) fails: bool,
}

impl Writer {
    /// About so many bytes are written at once to files of this size, such that they fit.
    pub(super) fn chunk(max_bytes: u64) -> usize {
        let half = usize::try_from(max_bytes / 2).unwrap_or(CHUNK);
        half.min(CHUNK)
    }

    pub(super) fn run(mut self) {
        self.write();
        loop {
            let Ok(request) = self.wait() else {
                // Nobody holds the log any more.
                self.close();
                return;
            };
            let is_written = self.write();
            match request {
                None | Some(Request::Hurry) => {}
                // Whoever asked may have given up.
                Some(Request::Flush(answer)) => {
                    let _ = answer.send(is_written);
                }
                Some(Request::Close(answer)) => {
                    let is_written = self.close();
                    // Whoever waits may open the file again at once.
                    drop(self);
                    let _ = answer.send(is_written);
                    return;
                }
            }
        }
    }

    /// Waits until it is time, or somebody asks.
    fn wait(&self) -> Result<Option<Request>, Gone> {
        let patience = if self.fails { PAUSE } else { LINGER };
        match self.requests.recv_timeout(patience) {
            Ok(request) => Ok(Some(request)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Gone),
        }
    }

    fn push(&mut self, ended: &Ended) {
        self.chain.push_operation(&mut self.lines, ended);
        self.operations += 1;
    }

    /// Writes what there is, and what was dropped; whether that could be done.
    fn write(&mut self) -> bool {
        // No more than were there at first: others go on coming.
        for _ in 0..=CAPACITY {
            if self.lines.len() >= self.chunk && !self.put() {
                return false;
            }
            let Ok(ended) = self.entries.try_recv() else {
                break;
            };
            self.push(&ended);
        }
        let is_written = self.put() && self.tell_dropped();
        if is_written {
            self.counts.hurried.store(false, Relaxed);
        }
        is_written
    }

    fn tell_dropped(&mut self) -> bool {
        let all = self.counts.dropped.load(Relaxed);
        let dropped = all - self.told;
        if dropped > 0 {
            self.chain
                .push_event(&mut self.lines, &Event::Dropped { dropped });
            self.told = all;
        }
        self.put()
    }

    /// Adds the lines to the file.
    fn put(&mut self) -> bool {
        if self.lines.is_empty() {
            return true;
        }
        let put = self.log.append(&self.lines);
        let failed = put.is_err();
        if failed != self.fails {
            self.fails = failed;
            complain(|| match put {
                Ok(()) => log::info!("millpond: the audit log is written again"),
                Err(error) => log::error!(
                    "millpond: the audit log cannot be written; {CAPACITY} operations are kept \
                     and further ones dropped until it can: {error}"
                ),
            });
        }
        if failed {
            return false;
        }
        self.lines.clear();
        self.counts.written.fetch_add(self.operations, Relaxed);
        self.operations = 0;
        true
    }

    /// Writes that this is all; whether that could be done. What could not be written is dropped.
    fn close(&mut self) -> bool {
        let is_written = self.write() && {
            self.chain.push_event(&mut self.lines, &Event::Closed);
            self.put()
        };
        if !is_written {
            let left = self.operations + self.entries.try_iter().count() as u64;
            self.counts.dropped.fetch_add(left, Relaxed);
        }
        is_written
    }
}

/// The handles are gone.
struct Gone;
