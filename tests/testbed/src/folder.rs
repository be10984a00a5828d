//! Temporary folders that go away with the process, however it ends.
//!
//! Each process has one *run folder* in the system's temporary folder, with one
//! folder per server inside. Three things remove them: [`Folder`]'s drop; the
//! *reaper*, a shell waiting for the end of its standard input, which comes when
//! this process is gone; and, should the reaper have been killed as well, the
//! next process that starts a server.
//!
//! Invariants:
//! - A run folder appears under its name only once its `lock` file is locked, and
//!   stays locked as long as its process lives. So an unlocked one has no owner.
//! - Every PostgreSQL process carries the run folder's name in its title (see
//!   `cluster_name`), so that backends that outlive a killed, frozen postmaster
//!   can be told from everybody else's.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Context, Error};
use crate::postgres::remove_shared_memory;
use crate::user::{User, give, own_uid};

const PREFIX: &str = "millpond-run-";

/// What the reaper runs. `RUN` is the run folder, `NAME` its name.
///
/// A postmaster told to quit removes its shared memory, so it gets half a second
/// for that; one that was frozen cannot, so `ipcrm` does it.
const REAPER: &str = r#"
cat >/dev/null
for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    pids=$(grep -lasE -e "(cluster_name=|postgres: )$NAME-" /proc/[0-9]*/cmdline |
        sed 's|^/proc/\([0-9]*\)/.*|\1|')
    [ -z "$pids" ] && break
    [ "$round" -gt 5 ] && kill -9 $pids 2>/dev/null
    sleep 0.1
done
for file in "$RUN"/*/data/postmaster.pid; do
    [ -f "$file" ] && ipcrm -m "$(sed -n '7s/^ *[0-9]* *//p' "$file")" 2>/dev/null
done
rm -rf "$RUN"
"#;

struct Run {
    path: PathBuf,
    name: String,
    _lock: File,
    _reaper: ChildStdin,
}

/// A folder of one server, removed on drop.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes an empty folder, owned by the user if one is given.
    pub(crate) fn new(kind: &str, owner: Option<User>) -> Result<Self, Error> {
        static COUNTER: AtomicU32 = AtomicU32::new(1);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = run()?.path.join(format!("{kind}-{number}"));
        make_folder(&path, 0o700)?;
        let folder = Self { path };
        give(&folder.path, owner)?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A name for the server that is unique on the machine and ties it to the run.
    pub(crate) fn unique_name(&self) -> Result<String, Error> {
        let own = self.path.file_name().unwrap_or_default().to_string_lossy();
        Ok(format!("{}-{own}", run()?.name))
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn write(
        &self,
        name: &str,
        text: &str,
        owner: Option<User>,
    ) -> Result<PathBuf, Error> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.join(name);
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .context(|| format!("create {}", path.display()))?;
        file.write_all(text.as_bytes())
            .context(|| format!("write {}", path.display()))?;
        give(&path, owner)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A dying server may still create a file while we remove the others.
        for _ in 0..20 {
            match fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                _ => return,
            }
        }
    }
}

fn run() -> Result<&'static Run, Error> {
    static RUN: OnceLock<Result<Run, String>> = OnceLock::new();
    RUN.get_or_init(|| Run::new().map_err(|error| error.to_string()))
        .as_ref()
        .map_err(|message| Error::new(message.clone()))
}

impl Run {
    fn new() -> Result<Self, Error> {
        let parent = std::env::temp_dir();
        sweep(&parent);
        let name = format!("{PREFIX}{}-{:x}", std::process::id(), unique_number());
        let path = parent.join(&name);
        let unborn = parent.join(format!("unborn-{name}"));
        make_folder(&unborn, 0o711)?;
        let lock = File::create(unborn.join("lock")).context(|| "create a lock file".into())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .context(|| "lock a new file".into())?;
        fs::rename(&unborn, &path).context(|| format!("create {}", path.display()))?;
        let mut reaper = Command::new("/bin/sh");
        reaper
            .args(["-c", REAPER])
            .env("RUN", &path)
            .env("NAME", &name)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for us; the reaper has to outlive us.
            .process_group(0);
        let stdin = reaper
            .spawn()
            .context(|| "start /bin/sh".into())?
            .stdin
            .take()
            .ok_or_else(|| Error::new("/bin/sh was started without its pipe"))?;
        Ok(Self {
            path,
            name,
            _lock: lock,
            _reaper: stdin,
        })
    }
}

/// Eight hex digits or so that differ between any two runs.
fn unique_number() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) as u32
}

/// Creates a folder with exactly this mode, whatever the umask says.
fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .context(|| format!("create the folder {}", path.display()))
}

/// Removes what processes left that were killed together with their reaper.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        let path = entry.path();
        let ours =
            fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir() && meta.uid() == own_uid());
        if !ours {
            continue;
        }
        let Ok(lock) = File::open(path.join("lock")) else {
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        crate::process::kill_by_title(name);
        for server in fs::read_dir(&path).into_iter().flatten().flatten() {
            remove_shared_memory(&server.path().join("data"));
        }
        // Whoever removes it first, the reaper or we: gone is gone.
        let _ = fs::remove_dir_all(&path);
    }
}
