//! Debian's packages, unpacked instead of installed.
//!
//! `apt-get` works on folders of ours and a copy of dpkg's list of what is
//! installed, so it needs no root, touches nothing of the system, and downloads
//! just the missing dependencies too. Their signatures are checked as ever.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Context, Error};
use crate::locate::{Program, find_in_path};

use super::{progress, run, stored};

/// Packages that make one program, and where it is in them.
pub(crate) struct DebianTree {
    pub(crate) name: &'static str,
    pub(crate) packages: &'static [&'static str],
    pub(crate) program: &'static str,
}

/// The program, from the store or from Debian.
pub(crate) fn debian(tree: &DebianTree) -> Result<Program, Error> {
    let root = stored(tree.name, |folder| {
        progress(&format!(
            "fetching {} from Debian into the target folder",
            tree.packages.join(", ")
        ));
        unpack(folder, tree.packages)
    })
    .map_err(|error| {
        Error::new(format!(
            "{} is not installed and could not be fetched; install it with \
             `apt-get install {}`, or put it on PATH. {error}",
            tree.name,
            tree.packages.join(" ")
        ))
    })?;
    Ok(Program {
        path: root.join(tree.program),
        libraries: library_path(&root),
    })
}

/// The folders of shared libraries in an unpacked tree.
pub(super) fn library_path(root: &Path) -> Option<OsString> {
    let folders: Vec<PathBuf> = ["usr/lib", "lib"]
        .iter()
        .flat_map(|lib| fs::read_dir(root.join(lib)).into_iter().flatten().flatten())
        .filter(|entry| entry.file_name().to_string_lossy().contains("-linux-gnu"))
        .map(|entry| entry.path())
        .collect();
    if folders.is_empty() {
        return None;
    }
    env::join_paths(folders).ok()
}

/// Downloads the packages with what they need and unpacks them into the folder.
pub(super) fn unpack(folder: &Path, packages: &[&str]) -> Result<(), Error> {
    if find_in_path("apt-get").is_none() {
        return Err(Error::new("(No `apt-get` here: not a Debian machine.)"));
    }
    let work = folder.join("apt");
    let archives = work.join("cache/archives");
    for part in [&work.join("state/lists/partial"), &archives.join("partial")] {
        fs::create_dir_all(part).context(|| format!("create {}", part.display()))?;
    }
    let status = work.join("status");
    fs::copy("/var/lib/dpkg/status", &status)
        .context(|| "copy dpkg's list of installed packages".into())?;
    let config = work.join("apt.conf");
    let text = format!(
        "Dir::State \"{work}/state\";\n\
         Dir::State::status \"{work}/status\";\n\
         Dir::Cache \"{work}/cache\";\n\
         Dir::Log \"{work}\";\n\
         APT::Sandbox::User \"root\";\n\
         APT::Keep-Downloaded-Packages \"true\";\n\
         #clear APT::Update::Pre-Invoke;\n\
         #clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n\
         #clear DPkg::Pre-Invoke;\n\
         #clear DPkg::Post-Invoke;\n",
        work = work.display()
    );
    fs::write(&config, text).context(|| format!("write {}", config.display()))?;
    let apt = |args: &[&str], what: &str| {
        let mut command = Command::new("apt-get");
        command.arg("-c").arg(&config).arg("-qq").args(args);
        run(command, what, "apt")
    };
    apt(&["update"], "reading Debian's package lists")?;
    let mut install = vec![
        "-y",
        "--no-install-recommends",
        "--download-only",
        "install",
    ];
    install.extend(packages);
    apt(&install, "downloading Debian's packages")?;
    for entry in fs::read_dir(&archives).context(|| format!("read {}", archives.display()))? {
        let package = entry
            .context(|| format!("read {}", archives.display()))?
            .path();
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        // A C library other than the one of the running loader would crash it.
        if package.extension().is_none_or(|end| end != "deb") || name.starts_with("libc6_") {
            continue;
        }
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(&package).arg(folder);
        run(command, "unpacking a Debian package", "dpkg")?;
    }
    fs::remove_dir_all(&work).context(|| format!("remove {}", work.display()))
}
