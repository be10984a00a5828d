//! Settings for the audit log, and its installation.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{bounded, unbounded};

use super::file::{Log, foreign};
use super::line::{Chain, End, Event, Hasher, Line};
use super::writer::{CAPACITY, Counts, Writer};
use super::{Audit, Handle, INSTALLED, Sink};
use crate::config::Vars;
use crate::error::{Error, ErrorKind, Phase};
use crate::security::Secret;

/// The smallest file that is of any use.
const SMALLEST: u64 = 4096;
/// The most files that are kept.
const MOST_KEPT: u32 = 10_000;
/// A shorter key could be guessed.
const SHORTEST_KEY: usize = 16;

/// Settings for the audit log.
///
/// ```no_run
/// # fn main() -> Result<(), millpond::Error> {
/// let key = std::env::var("SHOP_AUDIT_KEY").expect("a key");
/// let audit = millpond::audit::Audit::builder("audit.jsonl").key(key).install()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "settings do nothing before `install`"]
pub struct AuditBuilder {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    key: Option<Secret>,
}

impl AuditBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            max_bytes: 64 << 20,
            keep: 10,
            key: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The size at which the file becomes `NAME.1` and another one is begun
    /// (`AUDIT_MAX_BYTES`); 64 MiB by default, at least 4,096 bytes.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes.max(SMALLEST);
        self
    }

    /// How many such files are kept beside the one that is written (`AUDIT_KEEP`); 10 by default,
    /// from 1 to 10,000.
    pub fn keep(mut self, files: u32) -> Self {
        self.keep = files.clamp(1, MOST_KEPT);
        self
    }

    /// Makes a chain that only who has this key can make (`AUDIT_KEY`, `AUDIT_KEY_FILE`); at least
    /// 16 bytes of it.
    pub fn key(mut self, key: impl Into<Secret>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Opens the log, goes on with the chain that is there, and has every operation of the process
    /// put into it from now on. While it is installed, doing so again with the same settings gives
    /// another handle.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration): the file cannot be written, is no audit log,
    /// ends with a line that was made with another key or none, or is being written by another
    /// program; another log is installed; or the key is too short.
    pub fn install(self) -> Result<Audit, Error> {
        let installed = INSTALLED.lock().upgrade();
        if let Some(installed) = installed {
            return self.join(Audit(installed));
        }
        let (writer, handle, sink) = self.open()?;
        let handle = Arc::new(handle);
        let mut installed = INSTALLED.lock();
        if let Some(other) = installed.upgrade() {
            drop(installed);
            return self.join(Audit(other));
        }
        *installed = Arc::downgrade(&handle);
        drop(installed);
        thread::Builder::new()
            .name("millpond-audit".into())
            .spawn(move || writer.run())
            .map_err(|error| self.refused("its thread cannot be started", error))?;
        sink.open();
        Ok(Audit(handle))
    }

    /// What makes two logs the same.
    fn same(&self) -> (&Path, u64, u32, Option<&str>) {
        let key = self.key.as_ref().map(Secret::expose);
        (&self.path, self.max_bytes, self.keep, key)
    }

    /// The log that is installed, if it is this one.
    fn join(&self, installed: Audit) -> Result<Audit, Error> {
        let other = &installed.0.settings;
        if self.same() == other.same() {
            return Ok(installed);
        }
        let why = format!(
            "{} is installed, and a process has one",
            other.path.display()
        );
        Err(self.refused("there is another", io::Error::other(why)))
    }

    fn open(&self) -> Result<(Writer, Handle, Sink), Error> {
        if self
            .key
            .as_ref()
            .is_some_and(|key| key.expose().len() < SHORTEST_KEY)
        {
            let why = io::Error::other("AUDIT_KEY has fewer than 16 bytes");
            return Err(self.refused("its key is too short", why));
        }
        let hasher = Hasher::new(self.key.as_ref());
        let opened = Log::open(&self.path, self.max_bytes, self.keep);
        let (log, tail) = opened.map_err(|error| self.refused("it cannot be opened", error))?;
        let end = match &tail.line {
            None => End::GENESIS,
            Some(line) => self.end(line, &hasher)?,
        };
        let mut chain = Chain::after(end, hasher);
        let mut lines = Vec::new();
        let (pid, cut) = (std::process::id(), tail.cut);
        chain.push_event(&mut lines, &Event::Started { pid, cut });
        let (to_entries, entries) = bounded(CAPACITY);
        let (to_requests, requests) = unbounded();
        let counts = Arc::new(Counts::default());
        let writer = Writer {
            entries,
            requests,
            counts: Arc::clone(&counts),
            log,
            chain,
            lines,
            operations: 0,
            told: 0,
            chunk: Writer::chunk(self.max_bytes),
            fails: false,
        };
        let handle = Handle {
            settings: self.clone(),
            requests: to_requests,
            counts: Arc::clone(&counts),
        };
        let sink = Sink {
            entries: to_entries,
            requests: handle.requests.clone(),
            counts,
        };
        Ok((writer, handle, sink))
    }

    /// The end of the chain that is there.
    fn end(&self, line: &[u8], hasher: &Hasher) -> Result<End, Error> {
        let Some(line) = Line::read(line, hasher) else {
            return Err(self.refused("its last line is not one of an audit log", foreign()));
        };
        if line.has_key != hasher.has_key() || line.has_key && !line.is_intact {
            let why = "move it away with its predecessors, or name another file (AUDIT_FILE)";
            let what = "its last line was made with another key than AUDIT_KEY, or with none";
            return Err(self.refused(what, io::Error::other(why)));
        }
        Ok(line.end)
    }

    fn refused(&self, what: &str, why: io::Error) -> Error {
        let path = self.path.display();
        let message = format!("the audit log {path} (AUDIT_FILE): {what}: {why}");
        Error::new(ErrorKind::Configuration, Phase::Configure, message).with_source(Arc::new(why))
    }

    /// What the variables say; `None` without `AUDIT_FILE`.
    pub(crate) fn from_vars(vars: &mut Vars<'_>) -> Option<Self> {
        let path = vars.text("AUDIT_FILE");
        let mut builder = Audit::builder(path.clone().unwrap_or_default());
        let (name, accepted) = ("AUDIT_MAX_BYTES", "a number of bytes, at least 4096");
        if let Some(bytes) = vars.parse::<u64>(name, accepted) {
            if bytes < SMALLEST {
                vars.mistake(name, &bytes.to_string(), accepted);
            }
            builder = builder.max_bytes(bytes);
        }
        let (name, accepted) = ("AUDIT_KEEP", "a number of files from 1 to 10000");
        if let Some(files) = vars.parse::<u32>(name, accepted) {
            if !(1..=MOST_KEPT).contains(&files) {
                vars.mistake(name, &files.to_string(), accepted);
            }
            builder = builder.keep(files);
        }
        if let Some(key) = vars.secret_text("AUDIT_KEY") {
            if key.expose().len() < SHORTEST_KEY {
                vars.mistake("AUDIT_KEY", "***", "a secret of at least 16 bytes");
            }
            builder = builder.key(key);
        }
        path.map(|_| builder)
    }
}

#[cfg(feature = "_net")]
impl crate::Config {
    /// The key that the audit log is made with, in `AUDIT_KEY` or in the file that `AUDIT_KEY_FILE`
    /// names, opened if it is sealed; `None` if neither is set. For
    /// [`verify_with_key`](super::verify_with_key).
    ///
    /// ```
    /// # fn main() -> Result<(), millpond::Error> {
    /// let config = millpond::Config::new().set("AUDIT_KEY", "sixteen bytes or more");
    /// let key = config.audit_key()?.expect("set");
    /// assert_eq!(key.expose(), "sixteen bytes or more");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if it is sealed and cannot be opened, or the file
    /// cannot be read.
    pub fn audit_key(&self) -> Result<Option<Secret>, Error> {
        self.vars().read(|vars| vars.secret_text("AUDIT_KEY"))
    }
}

impl fmt::Debug for AuditBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditBuilder")
            .field("path", &self.path)
            .field("max_bytes", &self.max_bytes)
            .field("keep", &self.keep)
            .field("key", &self.key)
            .finish()
    }
}
