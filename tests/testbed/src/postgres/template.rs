//! The template of data folders, and what a killed server leaves in the kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::fetch::stored;
use crate::folder::Folder;
use crate::locate::Program;
use crate::process::{become_user, run};
use crate::user::{User, own_uid};

use super::wire::USER;

/// The folder that `initdb` made for this version and owner; made if missing.
///
/// `initdb` runs in a temporary folder, since `nobody` cannot write to the store.
pub(super) fn prepared(program: &Program, user: Option<User>) -> Result<PathBuf, Error> {
    let mut command = program.command();
    command.arg("--version");
    // "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"
    let output = run(command, "postgres --version")?;
    let version = output.split_whitespace().nth(2).unwrap_or("unknown");
    let owner = user.map_or_else(own_uid, |user| user.uid);
    let template = stored(&format!("pgdata-{version}-{owner}"), |place| {
        let folder = Folder::new("initdb", user)?;
        let data = folder.join("data");
        let mut command = program.sibling("initdb").command();
        command
            .arg("-D")
            .arg(&data)
            .args([
                "-U",
                USER,
                "-A",
                "trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ])
            .current_dir(folder.path());
        become_user(&mut command, user);
        run(command, "initdb")?;
        copy(&data, &place.join("data"), false)
    })?;
    Ok(template.join("data"))
}

/// Copies a data folder with its owner and modes. Half of it are the zeros of its
/// log, which a sparse copy leaves out; but then the log's first writes have to
/// find their place on the disk, so do without where somebody waits for that.
pub(super) fn copy(from: &Path, to: &Path, sparse: bool) -> Result<(), Error> {
    let sparse = if sparse { "always" } else { "auto" };
    let mut command = Command::new("cp");
    command
        .args(["-a", "--reflink=auto", &format!("--sparse={sparse}"), "--"])
        .arg(from)
        .arg(to);
    run(command, "cp").map(drop)
}

/// Frees the System V shared memory of a postmaster that was killed. One that
/// quits frees it itself and removes the file that names it in its seventh line.
pub(super) fn remove_shared_memory(data: &Path) {
    let Ok(text) = fs::read_to_string(data.join("postmaster.pid")) else {
        return;
    };
    if let Some(id) = text
        .lines()
        .nth(6)
        .and_then(|line| line.split_whitespace().nth(1))
    {
        let mut command = Command::new("ipcrm");
        command.args(["-m", id]);
        // The kernel keeps 56 bytes more until the next boot.
        let _ = run(command, "ipcrm");
    }
}
