//! The file of the audit log, and its predecessors.
//!
//! The log is in one file to which lines are added; once it is as large as it may be it becomes
//! `NAME.1`, what was `NAME.1` becomes `NAME.2`, and so on. A line that could be written only in
//! part is cut off again before anything is added. The file is locked, so that no other program
//! adds to the same chain.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::line::{BEGIN, LONGEST};
use crate::contain::complain;

/// The file that is added to.
pub(super) struct Log {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    /// None between two files, if the next one could not be opened yet.
    file: Option<File>,
    /// The bytes of whole lines.
    len: u64,
    /// There is a part of a line behind these.
    is_torn: bool,
    /// With so many bytes it is another file's turn.
    turn: u64,
}

/// What an existing log ends with.
pub(super) struct Tail {
    /// Its last whole line.
    pub(super) line: Option<Vec<u8>>,
    /// The bytes of an unfinished one, which is cut off before anything is added.
    pub(super) cut: u64,
}

impl Log {
    pub(super) fn open(path: &Path, max_bytes: u64, keep: u32) -> io::Result<(Self, Tail)> {
        let mut file = open(path)?;
        let len = file.metadata()?.len();
        let (line, whole) = last_line(&mut file, len)?;
        if line.is_none() && len > 0 && !begins_like_ours(&mut file)? {
            return Err(foreign());
        }
        let log = Self {
            path: path.to_owned(),
            max_bytes,
            keep,
            file: Some(file),
            len: whole,
            is_torn: whole < len,
            turn: max_bytes,
        };
        let line = match (line, predecessors(path)?.pop()) {
            (None, Some((_, newest))) => {
                let mut file = File::open(newest)?;
                let len = file.metadata()?.len();
                last_line(&mut file, len)?.0
            }
            (line, _) => line,
        };
        let cut = len - whole;
        Ok((log, Tail { line, cut }))
    }

    /// Adds these lines. If it fails, nothing of them is there, or what is there will be cut off.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.mend()?;
        if self.len > 0 && self.len + lines.len() as u64 > self.turn {
            self.turn_over()?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open(&self.path)?),
        };
        let mut rest = lines;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    self.is_torn = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.is_torn = false;
        self.len += lines.len() as u64;
        Ok(())
    }

    /// Cuts off what was written in part.
    fn mend(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| self.is_torn) {
            file.set_len(self.len)?;
            self.is_torn = false;
        }
        Ok(())
    }

    /// Goes on in a new file; if that cannot be, in this one for as long again.
    fn turn_over(&mut self) -> io::Result<()> {
        if let Err(error) = self.rename() {
            complain(|| {
                log::warn!(
                    "millpond: the audit log {} cannot be rotated and goes on in the same file: \
                     {error}",
                    self.path.display()
                );
            });
            self.turn = self.len + self.max_bytes;
            return Ok(());
        }
        self.file = None;
        self.len = 0;
        self.turn = self.max_bytes;
        self.file = Some(open(&self.path)?);
        Ok(())
    }

    fn rename(&self) -> io::Result<()> {
        for (number, path) in predecessors(&self.path)? {
            if number >= self.keep {
                fs::remove_file(path)?;
            } else {
                fs::rename(path, numbered(&self.path, number + 1))?;
            }
        }
        fs::rename(&self.path, numbered(&self.path, 1))
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    let file = options.open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        if error == rustix::io::Errno::WOULDBLOCK {
            io::Error::other("another audit log is being written to it")
        } else {
            error.into()
        }
    })?;
    Ok(file)
}

/// Whether this is what a line begins with. A file with no whole line may be anybody's.
fn begins_like_ours(file: &mut File) -> io::Result<bool> {
    let mut begin = [0; BEGIN.len()];
    file.seek(SeekFrom::Start(0))?;
    let read = file.read(&mut begin)?;
    Ok(BEGIN.starts_with(&begin[..read]))
}

/// It is no audit log.
pub(super) fn foreign() -> io::Error {
    io::Error::other("it is there, and is no audit log")
}

/// The last whole line, and the bytes up to its end.
fn last_line(file: &mut File, len: u64) -> io::Result<(Option<Vec<u8>>, u64)> {
    // The last line, the break before it, and an unfinished one behind it.
    let from = len.saturating_sub(2 * LONGEST as u64 + 2);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(len - from).read_to_end(&mut bytes)?;
    let breaks = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n');
    let Some(end) = breaks(&bytes) else {
        return Ok((None, 0));
    };
    let start = breaks(&bytes[..end]).map_or(0, |before| before + 1);
    let line = bytes[start..end].to_vec();
    Ok((Some(line), from + end as u64 + 1))
}

/// The files that were this one before, the oldest first, with their numbers.
pub(super) fn predecessors(path: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory(path))? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|other| {
            let digits = other.strip_prefix(name)?.strip_prefix('.')?;
            let number: u32 = digits.parse().ok()?;
            (number > 0 && number.to_string() == digits).then_some(number)
        });
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
    Ok(found)
}

fn directory(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
