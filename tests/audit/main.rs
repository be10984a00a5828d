//! The audit log: what gets into it, what the verifier finds in it, and what a full disk does.
//!
//! A process has one such log, so that the tests take turns ([`alone`]).

#[path = "../work/mod.rs"]
mod work;

mod config;
mod ends;
mod full_disk;
mod load;
mod servers;
mod tampering;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use millpond::audit::{self, Verification};
use serde_json::Value;

static TURN: Mutex<()> = Mutex::new(());

/// Nobody else installs a log, or runs operations, until the guard is dropped.
fn alone() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder that goes away with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let name = format!("millpond-audit-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new folder");
        Self(path)
    }

    fn log(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let path = entry.path();
            testbed::keep("a file", std::fs::read(path).unwrap_or_default());
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the verifier finds, which is nothing wrong.
#[track_caller]
fn right(path: &Path) -> Verification {
    let found = audit::verify(path).expect("a log");
    assert_eq!(found.fault, None, "{found}");
    found
}

/// All lines, the oldest first.
fn lines(path: &Path) -> Vec<Value> {
    let files = audit::verify(path).expect("a log").files;
    let texts = files
        .iter()
        .map(|file| std::fs::read_to_string(file).expect("text"));
    let parse = |line: &str| serde_json::from_str(line).expect("JSON");
    texts
        .flat_map(|text| text.lines().map(parse).collect::<Vec<Value>>())
        .collect()
}

/// Those of operations.
fn operations(path: &Path) -> Vec<Value> {
    let all = lines(path).into_iter();
    all.filter(|line| line.get("event").is_none()).collect()
}

/// Those of the log itself.
fn events(path: &Path) -> Vec<String> {
    let all = lines(path).into_iter();
    all.filter_map(|line| Some(line.get("event")?.as_str()?.to_owned()))
        .collect()
}
