//! What the process uses of the machine, and may use.

use std::fmt;

use serde::Serialize;

/// What the process uses, and may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ResourceMetrics {
    /// Memory in use (resident), in bytes.
    pub memory_bytes: u64,
    /// The memory that it may use, in bytes: the configured limit or the control group's,
    /// whichever is less.
    pub memory_limit_bytes: Option<u64>,
    /// Processor time used since the last sample, as a share of what the process may use
    /// (all processors, or the control group's quota), in percent.
    pub cpu_percent: f64,
    /// The share that it may use, in percent.
    pub cpu_limit_percent: Option<f64>,
    /// Processor time used in all, in seconds.
    pub cpu_seconds: f64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_files: u64,
    /// Whether the library sheds load because memory is short.
    pub short_of_memory: bool,
    /// Whether the library sheds load because the processors are.
    pub short_of_cpu: bool,
}

impl fmt::Display for ResourceMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} MiB of memory, {:.0} % of the processors, {} threads, {} open files",
            self.memory_bytes >> 20,
            self.cpu_percent,
            self.threads,
            self.open_files
        )
    }
}
