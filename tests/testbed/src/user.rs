//! Who we are, and who servers run as that refuse to run as root.
//!
//! PostgreSQL and PgBouncer refuse root. As root we start them as `nobody`;
//! as anyone else, as ourselves.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::sync::OnceLock;

use crate::error::{Context, Error};

/// A user that a server is started as instead of root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Our own user id.
pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whom to become for a server that refuses root: `nobody` if we are root.
pub(crate) fn unprivileged() -> Result<Option<User>, Error> {
    static NOBODY: OnceLock<Option<User>> = OnceLock::new();
    if own_uid() != 0 {
        return Ok(None);
    }
    match NOBODY.get_or_init(find_nobody) {
        Some(user) => Ok(Some(*user)),
        None => Err(Error::new(
            "PostgreSQL and PgBouncer refuse to run as root, and /etc/passwd has no user \
             `nobody` to run them as; run the tests as an ordinary user",
        )),
    }
}

fn find_nobody() -> Option<User> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.starts_with("nobody:"))?;
    let mut fields = line.split(':').skip(2);
    Some(User {
        uid: fields.next()?.parse().ok()?,
        gid: fields.next()?.parse().ok()?,
    })
}

/// Gives a file or folder to the user, if there is one.
pub(crate) fn give(path: &Path, user: Option<User>) -> Result<(), Error> {
    let Some(User { uid, gid }) = user else {
        return Ok(());
    };
    chown(path, Some(uid), Some(gid)).context(|| format!("chown {}", path.display()))
}

/// Whether everyone can pass through this folder and all its parents.
pub(crate) fn is_reachable_by_all(folder: &Path) -> bool {
    folder
        .ancestors()
        .filter_map(|part| fs::metadata(part).ok())
        .all(|part| part.mode() & 0o001 != 0)
}
