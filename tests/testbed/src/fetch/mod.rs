//! Fetches what the machine lacks, without root and without installing it.
//!
//! Everything goes to the *store*, `testbed` in cargo's target folder, by way of
//! the machine's own `apt-get` and `pip` and their configuration.
//!
//! Invariants:
//! - A name in the store is complete: it is made beside it and renamed into
//!   place, under the store's lock. Parallel test processes fetch once.
//! - Nothing outside the store changes.

mod apt;
mod pip;

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, flock};

pub(crate) use apt::{DebianTree, debian};
pub(crate) use pip::{mongod, postgres};

use crate::error::{Context, Error};
use crate::user::{is_reachable_by_all, own_uid};

/// Whether the environment says to ignore the machine's own programs.
pub(crate) fn is_forced() -> bool {
    env::var_os("TESTBED_FETCH").is_some_and(|value| value == "1")
}

/// A finished part of the store, made by `make` in an empty folder if missing.
pub(crate) fn stored(
    name: &str,
    make: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let store = store()?;
    let place = store.join(name);
    if place.exists() {
        return Ok(place);
    }
    let lock_path = store.join("lock");
    let lock = File::create(&lock_path).context(|| format!("open {}", lock_path.display()))?;
    flock(&lock, FlockOperation::LockExclusive)
        .context(|| format!("lock {}", lock_path.display()))?;
    if place.exists() {
        return Ok(place);
    }
    let unfinished = store.join(format!("unfinished-{name}"));
    // Left there by a process that died; we hold the lock, so nobody works in it.
    let _ = fs::remove_dir_all(&unfinished);
    make_folder(&unfinished)?;
    make(&unfinished)?;
    fs::rename(&unfinished, &place).context(|| format!("create {}", place.display()))?;
    Ok(place)
}

/// Says on standard error what is going on, since it may take a while. Not by
/// `eprintln`, which the test harness keeps to itself.
fn progress(text: &str) {
    // If nobody is there to read it, nobody misses it.
    let _ = writeln!(std::io::stderr(), "testbed: {text}");
}

/// Where fetched things are kept.
fn store() -> Result<&'static Path, Error> {
    static STORE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    STORE
        .get_or_init(|| find_store().map_err(|error| error.to_string()))
        .as_deref()
        .map_err(|message| Error::new(message.clone()))
}

fn find_store() -> Result<PathBuf, Error> {
    let store = target_folder().join("testbed");
    make_folder(&store)?;
    if own_uid() != 0 || is_reachable_by_all(&store) {
        return Ok(store);
    }
    // As root we run PostgreSQL as `nobody`, who cannot get into a target folder
    // under, say, /root. The system's temporary folder is open to everyone, so
    // make sure that this place in it is nobody else's.
    let store = env::temp_dir().join("millpond-testbed-store");
    make_folder(&store)?;
    let meta = fs::symlink_metadata(&store).context(|| format!("look at {}", store.display()))?;
    if !meta.is_dir() || meta.uid() != own_uid() || meta.mode() & 0o022 != 0 {
        return Err(Error::new(format!(
            "{} belongs to someone else; remove it, or set CARGO_TARGET_DIR to a folder \
             that every user can reach",
            store.display()
        )));
    }
    Ok(store)
}

/// Cargo's target folder: as the environment says, else the one that this program
/// was built in, else the workspace's default.
fn target_folder() -> PathBuf {
    let named = env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let built_in = || {
        let program = env::current_exe().ok()?;
        program
            .ancestors()
            .find(|folder| folder.join("CACHEDIR.TAG").is_file())
            .map(Path::to_owned)
    };
    named
        .or_else(built_in)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"))
}

/// Makes a folder that everyone can read, whatever the umask says.
fn make_folder(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .context(|| format!("create the folder {}", path.display()))
}

/// Runs a program of the machine; what it printed, or an error that says which
/// Debian package has it.
fn run(command: Command, what: &str, package: &str) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    if crate::locate::find_in_path(&program).is_none() {
        return Err(Error::new(format!(
            "{what} needs `{program}` (Debian package {package}), which is not installed"
        )));
    }
    crate::process::run(command, what)
}
