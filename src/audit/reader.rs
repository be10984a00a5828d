//! The lines of a log, one after the other, over all of its files.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::file::predecessors;
use super::line::LONGEST;

pub(super) struct Lines {
    /// The oldest first.
    pub(super) files: Vec<PathBuf>,
    /// How many of them were opened.
    opened: usize,
    reader: Option<BufReader<File>>,
    /// The number of the line that was read last in its file.
    number: u64,
    /// Whether that line had its end.
    pub(super) is_whole: bool,
    /// Which file is written, to see whether another one is meanwhile.
    newest: Option<u64>,
}

/// A file, and a line in it.
pub(super) type Spot = (PathBuf, u64);

impl Lines {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let newest = inode(path);
        let predecessors = predecessors(path)?.into_iter();
        let mut files: Vec<_> = predecessors.map(|(_, file)| file).collect();
        if newest.is_some() || files.is_empty() {
            files.push(path.to_owned());
        }
        Ok(Self {
            files,
            opened: 0,
            reader: None,
            number: 0,
            is_whole: true,
            newest,
        })
    }

    /// Where the line is that was read last.
    pub(super) fn spot(&self) -> Spot {
        let file = self.files.get(self.opened.saturating_sub(1));
        (file.cloned().unwrap_or_default(), self.number)
    }

    /// Whether that is in the newest file.
    pub(super) fn is_newest(&self) -> bool {
        self.opened == self.files.len()
    }

    /// Whether files were renamed since this began.
    pub(super) fn were_rotated(&self, path: &Path) -> bool {
        inode(path) != self.newest
    }

    /// The next line, without its line break; of one that is too long to be ours, the beginning.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(reader) = &mut self.reader {
                let mut line = Vec::new();
                let limit = LONGEST as u64 + 1;
                reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
                if !line.is_empty() {
                    self.number += 1;
                    self.is_whole = line.ends_with(b"\n") || line.len() > LONGEST && skip(reader)?;
                    if line.ends_with(b"\n") {
                        line.pop();
                    }
                    return Ok(Some(line));
                }
            }
            let Some(file) = self.files.get(self.opened) else {
                return Ok(None);
            };
            self.reader = Some(BufReader::new(File::open(file)?));
            self.opened += 1;
            self.number = 0;
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    Some(path.metadata().ok()?.ino())
}

/// Skips the rest of a line; whether it has an end.
fn skip(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let skipped = end.map_or(bytes.len(), |end| end + 1);
        reader.consume(skipped);
        if end.is_some() {
            return Ok(true);
        }
    }
}
