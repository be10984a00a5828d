//! What is done to a log is found, where it was done.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use millpond::audit::{self, Audit, AuditBuilder, Ending, FaultKind};
use millpond::{Operation as _, Secret};
use sha2::{Digest as _, Sha256};
use testbed::secret;

use super::work::{pool, work};
use super::{Folder, alone, right};

const KEY: &str = secret!("0123456789abcdef");

/// A log in several files, in memory.
#[derive(Clone)]
struct Log {
    files: Vec<(PathBuf, Vec<String>)>,
    path: PathBuf,
}

/// A file and a line, from 0.
type At = (usize, usize);

impl Log {
    fn new(folder: &Folder, set: impl FnOnce(AuditBuilder) -> AuditBuilder) -> Self {
        let path = folder.log();
        let log = set(Audit::builder(&path).max_bytes(4096).keep(100));
        let audit = log.install().expect("installs");
        let (pool, _) = pool(1);
        for number in 0..30 {
            pool.execute(work(number).id(format!("operation {number}")))
                .expect("answers");
        }
        drop(audit);
        let files = audit::verify(&path).expect("a log").files;
        let read = |file: PathBuf| {
            let text = std::fs::read_to_string(&file).expect("text");
            (file, text.lines().map(str::to_owned).collect())
        };
        let files: Vec<_> = files.into_iter().map(read).collect();
        assert!(files.len() >= 3, "several files: {}", files.len());
        Self { files, path }
    }

    fn places(&self) -> Vec<At> {
        let files = self.files.iter().enumerate();
        files
            .flat_map(|(file, (_, lines))| (0..lines.len()).map(move |line| (file, line)))
            .collect()
    }

    fn line(&mut self, (file, line): At) -> &mut String {
        &mut self.files[file].1[line]
    }

    fn remove(&mut self, (file, line): At) -> String {
        self.files[file].1.remove(line)
    }

    fn insert(&mut self, (file, line): At, text: &str) {
        self.files[file].1.insert(line, text.to_owned());
    }

    fn write(&self) {
        for (file, lines) in &self.files {
            let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
            std::fs::write(file, text).expect("written");
        }
    }

    /// The verifier names this kind at this place, and says that so many lines before are right.
    #[track_caller]
    fn finds(&self, kind: FaultKind, (file, line): At, lines: usize, what: &str) {
        self.write();
        let found = audit::verify(&self.path).expect("a log");
        let fault = found
            .fault
            .as_ref()
            .unwrap_or_else(|| panic!("{what}: nothing found"));
        assert_eq!(fault.kind, kind, "{what}: {fault}");
        let at = (&self.files[file].0, line as u64 + 1);
        assert_eq!((&fault.file, fault.line), at, "{what}: {fault}");
        assert_eq!(found.lines, lines as u64, "{what}: {found}");
    }
}

/// The line with the hash that anybody can give it.
fn with_right_hash(line: &str) -> String {
    let (body, _) = line.rsplit_once(",\"hash\":\"").expect("a hash");
    let mut hash = String::new();
    for byte in Sha256::digest(body.as_bytes()) {
        let _ = write!(hash, "{byte:02x}");
    }
    format!("{body},\"hash\":\"{hash}\"}}")
}

#[test]
fn hashes_are_what_the_documentation_says() {
    let _alone = alone();
    let folder = Folder::new();
    let log = Log::new(&folder, |builder| builder);
    for (_, lines) in &log.files {
        for line in lines {
            assert_eq!(*line, with_right_hash(line));
        }
    }
}

#[test]
fn every_line_that_is_changed_removed_inserted_or_moved_is_found() {
    let _alone = alone();
    let folder = Folder::new();
    let log = Log::new(&folder, |builder| builder);
    let places = log.places();
    let last = places.len() - 1;
    for (number, &at) in places.iter().enumerate() {
        let mut changed = log.clone();
        *changed.line(at) = changed
            .line(at)
            .replacen("\"time\":\"20", "\"time\":\"30", 1);
        changed.finds(FaultKind::Changed, at, number, "a digit changed");

        // The next one knows better, if there is one.
        if number < last {
            *changed.line(at) = with_right_hash(changed.line(at));
            changed.finds(
                FaultKind::Changed,
                at,
                number,
                "a digit changed and the hash too",
            );
        }

        let mut no_line = log.clone();
        no_line.line(at).truncate(60);
        no_line.finds(FaultKind::Changed, at, number, "a line without its end");

        if number > 0 && number < last {
            let mut removed = log.clone();
            removed.remove(at);
            // The next one, which may be in the next file, and else has come to its place.
            let next = if at.1 < removed.files[at.0].1.len() {
                at
            } else {
                (at.0 + 1, 0)
            };
            removed.finds(FaultKind::Removed, next, number, "a line removed");
        }

        let mut junk = log.clone();
        junk.insert(at, "{\"seq\":7,\"statement\":\"DROP TABLE ?\"}");
        junk.finds(FaultKind::Inserted, at, number, "a line inserted");
        if number > 3 {
            let mut copied = log.clone();
            let copy = copied.line(places[number - 3]).clone();
            copied.insert(at, &copy);
            copied.finds(FaultKind::Inserted, at, number, "a line copied");
        }

        if number < last {
            let mut swapped = log.clone();
            let next = places[number + 1];
            let (one, two) = (swapped.line(at).clone(), swapped.line(next).clone());
            (*swapped.line(at), *swapped.line(next)) = (two, one);
            // What was before the first line that is there, nobody knows.
            let (found, lines) = if number == 0 { (next, 1) } else { (at, number) };
            swapped.finds(FaultKind::Reordered, found, lines, "two lines swapped");
        }
    }
}

#[test]
fn whole_files_and_ends() {
    let _alone = alone();
    let folder = Folder::new();
    let log = Log::new(&folder, |builder| builder);
    log.write();
    let whole = right(&log.path);
    assert_eq!(whole.end, Ending::Closed);

    // The oldest, as rotation does.
    std::fs::remove_file(&log.files[0].0).expect("removed");
    let gone = log.files[0].1.len() as u64;
    assert_eq!(right(&log.path).first, Some(gone + 1));

    log.write();
    std::fs::remove_file(&log.files[1].0).expect("removed");
    let found = audit::verify(&log.path).expect("a log");
    let fault = found.fault.expect("one");
    assert_eq!((fault.kind, fault.line), (FaultKind::Removed, 1));
    assert_eq!(fault.file, log.files[2].0);
    assert_eq!(found.lines, gone);

    // After a whole line, the end shows in how it ends, and in what was noted before.
    log.write();
    let mut cut = log.clone();
    cut.files.last_mut().expect("files").1.pop();
    cut.write();
    let found = right(&log.path);
    assert_eq!(found.end, Ending::Open);
    assert!(
        found.last < whole.last && found.to_string().contains("not closed"),
        "{found}"
    );

    std::fs::write(&log.path, "").expect("written");
    assert!(audit::verify(folder.0.join("none")).is_err());
}

#[test]
fn with_a_key_only_its_owner_can_make_lines() {
    let _alone = alone();
    let folder = Folder::new();
    let log = Log::new(&folder, |builder| builder.key(KEY));
    let key = Secret::from(KEY);
    let verify = || audit::verify_with_key(&log.path, &key).expect("a log");
    assert_eq!(verify().fault, None);
    let kind = |found: audit::Verification| found.fault.map(|fault| (fault.kind, fault.line));
    let without = audit::verify(&log.path).expect("a log");
    assert_eq!(kind(without), Some((FaultKind::Key, 1)));
    let other = Secret::from(secret!("another key of sixteen bytes"));
    let other = audit::verify_with_key(&log.path, &other).expect("a log");
    assert_eq!(kind(other), Some((FaultKind::Changed, 1)));

    // Written anew without the key.
    let mut forged = log.clone();
    let at = (0, 4);
    let line = forged.line(at).replace("hmac", "hash");
    *forged.line(at) = with_right_hash(&line);
    forged.write();
    assert_eq!(kind(verify()), Some((FaultKind::Key, 5)));
    log.write();

    let install = |builder: AuditBuilder| builder.install().expect_err("another key").to_string();
    for builder in [
        Audit::builder(&log.path),
        Audit::builder(&log.path).key(secret!("another key of sixteen bytes")),
    ] {
        let error = install(builder);
        assert!(error.contains("another key than AUDIT_KEY"), "{error}");
        assert!(!error.contains("sixteen bytes"), "{error}");
    }
    let short = install(Audit::builder(Path::new("/dev/null")).key("short"));
    assert!(
        short.contains("fewer than 16 bytes") && !short.contains("short\""),
        "{short}"
    );
}
