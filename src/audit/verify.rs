//! Whether a log is as it was written.
//!
//! Lines are read one after the other, the oldest file first, and each has to be intact and to
//! follow from the one before. At the first that is or does not, the rest is looked through once
//! for what it takes to say why.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::line::{End, Hasher, Line};
use super::reader::{Lines, Spot};
use crate::error::{Error, ErrorKind, Phase};
use crate::security::Secret;

/// What was found in an audit log. See [`verify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// The files, the oldest first.
    pub files: Vec<PathBuf>,
    /// How many lines are right: all, or those before the first that is not.
    pub lines: u64,
    /// The number in the chain of the first line that is there; more than 1 after older ones were
    /// dropped by rotation, or removed.
    pub first: Option<u64>,
    /// The number and hash of the last line that is right. With these noted elsewhere, it can be
    /// told later whether the log was cut off or written anew.
    pub last: Option<(u64, String)>,
    /// How many operations the log itself says are missing.
    pub dropped: u64,
    /// How often the log was begun again without having been closed: after a crash, or after its
    /// end was cut off.
    pub interruptions: u64,
    /// How it ends.
    pub end: Ending,
    /// The first thing that is wrong.
    pub fault: Option<Fault>,
}

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ending {
    /// With the line that says that it was closed.
    Closed,
    /// Without: a program still writes it, or crashed, or the end was cut off.
    Open,
}

/// The first thing that is wrong in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fault {
    /// In this file,
    pub file: PathBuf,
    /// at this line of it, counted from 1.
    pub line: u64,
    /// What was done.
    pub kind: FaultKind,
    /// The same in words, with what it was seen by.
    pub why: String,
}

/// What was done to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FaultKind {
    /// The line is not the one that was written.
    Changed,
    /// Lines before this one are missing.
    Removed,
    /// The line was not written there.
    Inserted,
    /// The line was written, but elsewhere.
    Reordered,
    /// The last line is unfinished. In a log that is being written, look again.
    Truncated,
    /// The line was made without a key, or with one, as the verifier has one, or has none.
    Key,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, line {}: {}",
            self.file.display(),
            self.line,
            self.why
        )
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.files.len();
        let s = if files == 1 { "" } else { "s" };
        write!(f, "{} lines in {files} file{s} are right", self.lines)?;
        if let Some((number, _)) = &self.last {
            write!(f, ", the last is number {number}")?;
        }
        if let Some(first) = self.first.filter(|first| *first > 1) {
            write!(f, "; it begins with number {first}")?;
        }
        if self.interruptions > 0 {
            write!(
                f,
                "; begun again {} times without having been closed",
                self.interruptions
            )?;
        }
        if self.dropped > 0 {
            write!(f, "; {} operations were dropped", self.dropped)?;
        }
        match &self.fault {
            Some(fault) => write!(f, "; {fault}"),
            None if self.end == Ending::Open => f.write_str("; it was not closed"),
            None => Ok(()),
        }
    }
}

/// Reads the log in this file and the files that were it before, and says whether they are as they
/// were written, and if not, where that ends. It changes nothing, and may be done while the log is
/// written.
///
/// A log that was written anew as a whole passes, unless it has a [key](verify_with_key), and so
/// does one whose end was cut off after a whole line: see [what a chain does not
/// prove](crate::audit#what-a-chain-does-not-prove).
///
/// ```
/// # fn main() -> Result<(), millpond::Error> {
/// # let path = std::env::temp_dir().join(format!("millpond-doc-{}.jsonl", std::process::id()));
/// # drop(millpond::audit::Audit::builder(&path).install()?);
/// let found = millpond::audit::verify(&path)?;
/// println!("{found}");
/// if let Some(fault) = found.fault {
///     println!("not to be trusted from here on: {fault}");
/// }
/// # let _ = std::fs::remove_file(&path);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Configuration`](ErrorKind::Configuration) if there is no such file, or one cannot be read.
pub fn verify(path: impl AsRef<Path>) -> Result<Verification, Error> {
    examine(path.as_ref(), &Hasher::new(None))
}

/// The same for a log that was made with this key.
///
/// # Errors
/// As for [`verify`].
pub fn verify_with_key(path: impl AsRef<Path>, key: &Secret) -> Result<Verification, Error> {
    examine(path.as_ref(), &Hasher::new(Some(key)))
}

/// So often it is begun anew because files were renamed meanwhile.
const ROTATIONS: usize = 3;

fn examine(path: &Path, hasher: &Hasher) -> Result<Verification, Error> {
    let failed = |error: io::Error| {
        let message = format!("the audit log {} cannot be read: {error}", path.display());
        Error::new(ErrorKind::Configuration, Phase::Configure, message).with_source(Arc::new(error))
    };
    let mut again = 0;
    loop {
        let lines = Lines::of(path).map_err(failed)?;
        let mut examiner = Examiner::new(lines, hasher);
        examiner.run().map_err(failed)?;
        let is_sure = examiner.found.fault.is_none() || !examiner.lines.were_rotated(path);
        if is_sure || again == ROTATIONS {
            return Ok(examiner.found);
        }
        again += 1;
    }
}

struct Examiner<'a> {
    lines: Lines,
    hasher: &'a Hasher,
    found: Verification,
    /// The line before, and where it is.
    before: Option<(End, Spot)>,
    /// The one before that.
    last_but_one: Option<(u64, String)>,
}

impl<'a> Examiner<'a> {
    fn new(lines: Lines, hasher: &'a Hasher) -> Self {
        let found = Verification {
            files: lines.files.clone(),
            lines: 0,
            first: None,
            last: None,
            dropped: 0,
            interruptions: 0,
            end: Ending::Open,
            fault: None,
        };
        Self {
            lines,
            hasher,
            found,
            before: None,
            last_but_one: None,
        }
    }

    /// Accepts lines until there are no more, or one is wrong.
    fn run(&mut self) -> io::Result<()> {
        while let Some(bytes) = self.lines.next()? {
            let spot = self.lines.spot();
            let line = Line::read(&bytes, self.hasher).filter(|_| self.lines.is_whole);
            let line = match self.judge(line)? {
                Ok(line) => line,
                Err((kind, why)) => {
                    let (file, line) = spot;
                    self.blame(Fault {
                        file,
                        line,
                        kind,
                        why,
                    });
                    return Ok(());
                }
            };
            if !self.follows(&line, &spot)? {
                return Ok(());
            }
            self.accept(&line, spot);
        }
        Ok(())
    }

    fn accept(&mut self, line: &Line, spot: Spot) {
        let found = &mut self.found;
        let event = line.facts.event.as_deref();
        if event == Some("started") && found.lines > 0 && found.end == Ending::Open {
            found.interruptions += 1;
        }
        found.end = match event {
            Some("closed") => Ending::Closed,
            _ => Ending::Open,
        };
        found.lines += 1;
        found.first.get_or_insert(line.end.seq);
        found.dropped += line.facts.dropped;
        self.last_but_one = found.last.replace((line.end.seq, line.end.hash()));
        self.before = Some((line.end, spot));
    }

    fn blame(&mut self, fault: Fault) {
        self.found.end = Ending::Open;
        self.found.fault = Some(fault);
    }

    /// The line, if it is one by itself.
    fn judge(&mut self, line: Option<Line>) -> io::Result<Result<Line, (FaultKind, String)>> {
        let wrong = |kind, why: &str| Ok(Err((kind, why.to_owned())));
        let has_key = self.hasher.has_key();
        match line {
            None if !self.lines.is_whole && self.lines.is_newest() => wrong(
                FaultKind::Truncated,
                "the last line is unfinished: it was cut off, or is being written",
            ),
            Some(line) if line.has_key && !has_key => wrong(
                FaultKind::Key,
                "the line was made with a key, which it takes to verify it (AUDIT_KEY)",
            ),
            Some(line) if has_key && !line.has_key => wrong(
                FaultKind::Key,
                "the line was made without the key (AUDIT_KEY), so anybody can have written it",
            ),
            Some(line) if line.is_intact => Ok(Ok(line)),
            _ if self.goes_on_behind()? => wrong(
                FaultKind::Inserted,
                "the line was inserted: the next one follows from the one before it",
            ),
            _ if has_key => wrong(
                FaultKind::Changed,
                "the line was changed, or made with another key: its hash is not that of its bytes",
            ),
            _ => wrong(
                FaultKind::Changed,
                "the line was changed: its hash is not that of its bytes",
            ),
        }
    }

    /// Whether the next line is the one that follows from the one before this.
    fn goes_on_behind(&mut self) -> io::Result<bool> {
        let before = match &self.before {
            Some((before, _)) => before.hash,
            None => End::GENESIS.hash,
        };
        let next = self.lines.next()?;
        let next = next.and_then(|bytes| Line::read(&bytes, self.hasher));
        Ok(next.is_some_and(|next| next.is_intact && next.prev == before))
    }

    /// Whether this line, which is intact, follows from the one before; if not, it is told why.
    fn follows(&mut self, line: &Line, spot: &Spot) -> io::Result<bool> {
        let seq = line.end.seq;
        let (before, mut at) = match self.before.take() {
            Some(before) => before,
            // Of what was before the first line that is left, nothing is known.
            None if seq > 1 => return Ok(true),
            None => (End::GENESIS, spot.clone()),
        };
        let expected = before.seq + 1;
        let (kind, why) = if seq == expected && line.prev == before.hash {
            return Ok(true);
        } else if seq == expected {
            // It says what it follows, and that is not there any more.
            self.found.lines = self.found.lines.saturating_sub(1);
            self.found.last = self.last_but_one.take();
            let why =
                "the line was changed and its hash with it: the next one follows from another";
            (FaultKind::Changed, why.to_owned())
        } else {
            at = spot.clone();
            self.gap(seq, expected)?
        };
        let (file, line) = at;
        self.blame(Fault {
            file,
            line,
            kind,
            why,
        });
        Ok(false)
    }

    /// Why a line of this number is where another is expected.
    fn gap(&mut self, seq: u64, expected: u64) -> io::Result<(FaultKind, String)> {
        if self.found.first.is_some_and(|first| seq < first) {
            let why =
                format!("the line was moved: it is number {seq}, and later ones are before it");
            return Ok((FaultKind::Reordered, why));
        }
        if seq < expected {
            let why = format!("the line is a copy: number {seq} of the chain was there before");
            return Ok((FaultKind::Inserted, why));
        }
        let missing = if seq - expected == 1 {
            format!("line {expected} of the chain is")
        } else {
            format!("lines {expected} to {} of the chain are", seq - 1)
        };
        while let Some(bytes) = self.lines.next()? {
            let later = Line::read(&bytes, self.hasher);
            if later.is_some_and(|later| later.is_intact && later.end.seq == expected) {
                let why =
                    format!("the line was moved: it is number {seq}, and {missing} behind it");
                return Ok((FaultKind::Reordered, why));
            }
        }
        let why = format!("{missing} missing before this one, which is number {seq}");
        Ok((FaultKind::Removed, why))
    }
}
