//! Where server programs are: on the machine, or fetched.
//!
//! `PATH` comes first, then the folders that Debian keeps out of an ordinary
//! user's `PATH`, then what [`fetch`](crate::fetch) brings. With `TESTBED_FETCH=1`
//! in the environment the machine's own programs are ignored.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::fetch::{self, DebianTree};

/// A program, and the libraries that came with it.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) libraries: Option<OsString>,
}

impl Program {
    /// A command that runs it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        self.prepare(&mut command);
        command
    }

    /// Lets the command, or what it executes, find the libraries.
    pub(crate) fn prepare(&self, command: &mut Command) {
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
    }

    /// Another program of the same folder.
    pub(crate) fn sibling(&self, name: &str) -> Program {
        Program {
            path: self.path.with_file_name(name),
            libraries: self.libraries.clone(),
        }
    }
}

/// The folder's `postgres`, with `initdb` and `pg_basebackup` beside it.
pub(crate) fn postgres() -> Result<Program, Error> {
    let complete = |folder: &PathBuf| {
        ["postgres", "initdb", "pg_basebackup"]
            .iter()
            .all(|name| is_program(&folder.join(name)))
    };
    if !fetch::is_forced()
        && let Some(folder) = path().into_iter().chain(versioned()).find(complete)
    {
        return Ok(Program {
            path: folder.join("postgres"),
            libraries: None,
        });
    }
    fetch::postgres()
}

/// Debian's folders of PostgreSQL programs, the newest version first.
fn versioned() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, path)| path).collect()
}

/// `mongod`.
pub(crate) fn mongod() -> Result<Program, Error> {
    installed("mongod").map_or_else(fetch::mongod, Ok)
}

/// `redis-server`, with `redis-cli` beside it.
pub(crate) fn redis() -> Result<Program, Error> {
    installed("redis-server")
        .filter(|server| is_program(&server.sibling("redis-cli").path))
        .map_or_else(
            || {
                fetch::debian(&DebianTree {
                    name: "redis",
                    packages: &["redis-server", "redis-tools"],
                    program: "usr/bin/redis-server",
                })
            },
            Ok,
        )
}

/// `nginx`.
pub(crate) fn nginx() -> Result<Program, Error> {
    installed("nginx").map_or_else(
        || {
            fetch::debian(&DebianTree {
                name: "nginx",
                packages: &["nginx-light"],
                program: "usr/sbin/nginx",
            })
        },
        Ok,
    )
}

/// `pgbouncer`.
pub(crate) fn pgbouncer() -> Result<Program, Error> {
    installed("pgbouncer").map_or_else(
        || {
            fetch::debian(&DebianTree {
                name: "pgbouncer",
                packages: &["pgbouncer"],
                program: "usr/sbin/pgbouncer",
            })
        },
        Ok,
    )
}

/// `prometheus`, with `promtool` beside it.
pub(crate) fn prometheus() -> Result<Program, Error> {
    installed("prometheus")
        .filter(|server| is_program(&server.sibling("promtool").path))
        .map_or_else(
            || {
                fetch::debian(&DebianTree {
                    name: "prometheus",
                    packages: &["prometheus"],
                    program: "usr/bin/prometheus",
                })
            },
            Ok,
        )
}

fn installed(name: &str) -> Option<Program> {
    if fetch::is_forced() {
        return None;
    }
    find_in_path(name).map(|path| Program {
        path,
        libraries: None,
    })
}

/// The first program of that name.
pub(crate) fn find_in_path(name: &str) -> Option<PathBuf> {
    path()
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
}

fn path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .collect()
}

pub(crate) fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
