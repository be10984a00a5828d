//! A log of every operation, in which nothing can be changed unnoticed.
//!
//! ```no_run
//! # fn main() -> Result<(), millpond::Error> {
//! use millpond::audit::{self, Audit};
//!
//! // At the beginning of the program, and held until its end:
//! let audit = Audit::builder("/var/log/shop/audit.jsonl").max_bytes(64 << 20).keep(30).install()?;
//! // ... pools, batches ...
//! drop(audit);
//!
//! // At any time, by anybody who may read the files:
//! let found = audit::verify("/var/log/shop/audit.jsonl")?;
//! println!("{found}"); // 48213 lines in 3 files are right, the last is number 48213
//! assert!(found.fault.is_none());
//! # Ok(()) }
//! ```
//!
//! While it is installed, it gets a line for each operation in the process that is over: of
//! [`Pool::execute`](crate::Pool::execute), of `execute` on a lease, and of batches; those too
//! that were invalid, got no connection, were cancelled, or whose deadline was over in a queue.
//! What a program does on a lease with the driver's own functions is not seen, and an operation
//! that a full batch handed back is not over.
//!
//! ```text
//! {"seq":2,"time":"2031-05-06T07:08:09.123456Z","pool":"shop","endpoint":"db.internal:5432/shop",
//!  "id":"order 7","backend":"postgres","kind":"INSERT","statement":"INSERT INTO orders VALUES ($1)",
//!  "comment":"nightly import","outcome":"rejected","error":"constraint","attempts":1,
//!  "seconds":0.00184,"prev":"9f86d0...","hash":"2c26b4..."}
//! ```
//!
//! (in one line). No value of an operation is in it: `statement` is
//! [`Operation::statement`](crate::Operation::statement). `outcome` is `done`, `rejected`,
//! `not_executed` or `unknown`; `error` the [kind](crate::ErrorKind) of its error; `attempts` how
//! often it was given a connection; `seconds` the time since it was submitted. Statements are cut
//! at 4,096 bytes, ids and comments at 1,024. Lines with an `event` are of the log itself:
//! `started`, `dropped` and `closed`.
//!
//! # What it promises
//!
//! 1. **It stops nobody.** A caller puts the operation into a bounded queue, which takes about a
//!    microsecond, and a thread writes. While the disk is full, 8,192 operations wait; further
//!    ones are dropped, counted ([`Audit::metrics`]), and once there is room again a line of the
//!    chain says how many.
//! 2. **Each line is chained to the one before.** `prev` is the hash of the line before, across
//!    rotated files and restarts of the program; `hash` is the SHA-256 of the line up to the comma
//!    before `"hash"`. [`verify`] finds the first line that was changed, removed, inserted or moved.
//! 3. **One program writes a chain.** The file is locked; two programs need two files.
//!
//! Lines reach the operating system within some twenty milliseconds. They are not forced to the
//! disk, so a power failure may take the last seconds; a program that ends without dropping its
//! handles (`std::process::exit`) loses the last milliseconds.
//!
//! # What a chain does not prove
//!
//! Whoever can write the file can write it all anew, with hashes that are right. Without a secret
//! nothing in the file itself tells that from the truth. Therefore:
//!
//! - With a **key** ([`AuditBuilder::key`], `AUDIT_KEY`) the hashes are HMAC-SHA256, and only who
//!   has the key can make lines. It helps against those who can write the file but cannot read
//!   the program's memory or its key.
//! - **The end** can be cut off, key or not. What remains is right. A log that was closed ends with
//!   a line that says so, and [`Verification::end`] tells whether it does; but a program that runs,
//!   or crashed, leaves none. Note [`Verification::last`] somewhere else from time to time, and
//!   look later whether that line is still there with that hash.
//! - **The beginning** is dropped by rotation, as configured; [`Verification::first`] tells which
//!   line is the first that is left.

mod builder;
mod file;
mod line;
mod reader;
mod verify;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;

pub use self::builder::AuditBuilder;

pub use self::verify::{Ending, Fault, FaultKind, Verification, verify, verify_with_key};

use self::writer::{Counts, HALF, Request};
use crate::config::Vars;
use crate::contain::complain;
use crate::error::Error;
use crate::record::{self, Ended};

/// For how long a handle waits for the disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where operations go; read with each of them, changed when a log is installed or closed.
static SINK: RwLock<Option<Arc<Sink>>> = RwLock::new(None);
/// The log that is installed.
static INSTALLED: Mutex<Weak<Handle>> = Mutex::new(Weak::new());

struct Sink {
    entries: Sender<Ended>,
    requests: Sender<Request>,
    counts: Arc<Counts>,
}

/// An operation is over.
pub(crate) fn record(ended: Ended) {
    let Some(sink) = SINK.read().clone() else {
        return;
    };
    if sink.entries.try_send(ended).is_err() {
        sink.counts.dropped.fetch_add(1, Relaxed);
    }
    if sink.entries.len() >= HALF && !sink.counts.hurried.swap(true, Relaxed) {
        // Who is gone needs no hurry.
        let _ = sink.requests.send(Request::Hurry);
    }
}

/// The figures of the log that is installed.
pub(crate) fn metrics() -> Option<AuditMetrics> {
    let sink = SINK.read().clone()?;
    Some(AuditMetrics::of(&sink.counts))
}

/// What became of the operations that the audit log was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditMetrics {
    /// Operations that are in the log.
    pub written: u64,
    /// Operations that could not be written.
    pub dropped: u64,
}

impl AuditMetrics {
    fn of(counts: &Counts) -> Self {
        Self {
            written: counts.written.load(Relaxed),
            dropped: counts.dropped.load(Relaxed),
        }
    }
}

/// The audit log of the process, installed. When the last handle is dropped, what is queued is
/// written, the log says that it is closed, and nothing more gets into it. See the
/// [module](self).
#[derive(Clone)]
#[must_use = "the log is closed when its last handle is dropped"]
pub struct Audit(Arc<Handle>);

struct Handle {
    settings: AuditBuilder,
    requests: Sender<Request>,
    counts: Arc<Counts>,
}

/// Installs the audit log that the environment asks for, if it does:
///
/// | variable | default | |
/// |---|---|---|
/// | `AUDIT_FILE` | none | the file; without it there is no audit log |
/// | `AUDIT_MAX_BYTES` | 67108864 | see [`AuditBuilder::max_bytes`] |
/// | `AUDIT_KEEP` | 10 | see [`AuditBuilder::keep`] |
/// | `AUDIT_KEY` | none | see [`AuditBuilder::key`]; also in a file, `AUDIT_KEY_FILE` |
///
/// A program that opens a [`Hub`](crate::Hub) from its configuration need not call it: the hub
/// does the same, and holds the handle.
///
/// ```
/// # fn main() -> Result<(), millpond::Error> {
/// let audit = millpond::audit::init_from_env()?;
/// assert!(audit.is_none(), "nobody set AUDIT_FILE");
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Configuration`](crate::ErrorKind::Configuration), naming each variable with a mistake; and those of
/// [`install`](AuditBuilder::install).
pub fn init_from_env() -> Result<Option<Audit>, Error> {
    let builder = Vars::process().read(AuditBuilder::from_vars)?;
    builder.map(AuditBuilder::install).transpose()
}

impl Audit {
    /// Settings for a log in this file, whose directory exists; to begin with the default ones.
    pub fn builder(path: impl AsRef<Path>) -> AuditBuilder {
        AuditBuilder::new(path.as_ref())
    }

    /// Waits until everything is written that was recorded before, for five seconds at most;
    /// whether it is.
    ///
    /// An operation of a batch is recorded at about the time when its ticket resolves, and
    /// certainly before [`Batch::close`](crate::Batch::close) returns.
    pub fn flush(&self) -> bool {
        self.0.ask(Request::Flush)
    }

    /// How many operations could not be written since the log was installed.
    pub fn dropped(&self) -> u64 {
        self.metrics().dropped
    }

    /// What became of operations since the log was installed; also in
    /// [`Snapshot::audit`](crate::metrics::Snapshot::audit).
    pub fn metrics(&self) -> AuditMetrics {
        AuditMetrics::of(&self.0.counts)
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit")
            .field("settings", &self.0.settings)
            .field("metrics", &self.metrics())
            .finish()
    }
}

impl Sink {
    /// From now on, operations go here.
    fn open(self) {
        let mut sink = SINK.write();
        *sink = Some(Arc::new(self));
        record::want(record::AUDIT, true);
    }
}

impl Handle {
    /// Operations do not go there any more; whether they did.
    fn shut(&self) -> bool {
        let mut sink = SINK.write();
        let is_own = |sink: &Arc<Sink>| Arc::ptr_eq(&sink.counts, &self.counts);
        let own = sink.take_if(|sink| is_own(sink));
        if own.is_some() {
            record::want(record::AUDIT, false);
        }
        drop(sink);
        own.is_some()
    }

    fn ask(&self, request: impl FnOnce(Sender<bool>) -> Request) -> bool {
        let (answer, answered) = bounded(1);
        let sent = self.requests.send(request(answer)).is_ok();
        sent && answered.recv_timeout(PATIENCE).unwrap_or(false)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // One that came second, or whose thread could not be started, was never there.
        if self.shut() && !self.ask(Request::Close) {
            let path = self.settings.path().display();
            complain(|| log::error!("millpond: the audit log {path} ends unfinished"));
        }
    }
}
