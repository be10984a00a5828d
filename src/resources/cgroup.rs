//! What the process's control group (version 2) allows: the least of its own limits and those
//! of the groups around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const ROOT: &str = "/sys/fs/cgroup";

/// The folders of the process's group and those around it, the innermost first. A process does
/// not usually change its group, so this is looked up once.
fn groups() -> &'static [PathBuf] {
    static GROUPS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    GROUPS.get_or_init(|| {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        folders(Path::new(ROOT), &own)
    })
}

/// The same, given the text of `/proc/self/cgroup`: the line of version 2 is `0::/a/b`.
pub(super) fn folders(root: &Path, own: &str) -> Vec<PathBuf> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let Some(own) = own else {
        return Vec::new();
    };
    let own = root.join(own);
    let around = own
        .ancestors()
        .take_while(|folder| folder.starts_with(root));
    around.map(Path::to_path_buf).collect()
}

/// The memory that it may use, in bytes, if that is limited.
pub(super) fn memory_limit() -> Option<u64> {
    memory_limit_of(groups())
}

pub(super) fn memory_limit_of(groups: &[PathBuf]) -> Option<u64> {
    let files = groups
        .iter()
        .flat_map(|folder| [folder.join("memory.max"), folder.join("memory.high")]);
    // Without a limit it says `max`.
    let limit = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse().ok();
    files.filter_map(limit).min()
}

/// The processors that it may use, if that is limited.
pub(super) fn processors() -> Option<f64> {
    processors_of(groups())
}

pub(super) fn processors_of(groups: &[PathBuf]) -> Option<f64> {
    let limit = |folder: &PathBuf| {
        let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
        // So many microseconds in each period of so many.
        let (quota, period) = text.trim().split_once(' ')?;
        let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
        (period > 0.0).then(|| quota / period)
    };
    groups.iter().filter_map(limit).min_by(f64::total_cmp)
}
