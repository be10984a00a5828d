//! What the process uses of the machine, and may use; and shedding load when it is too much.
//!
//! While [`Limits`] are set, the keeper takes a sample every half second. When two in a row
//! are over a limit, the library sheds load instead of adding to it, until two in a row are
//! below nine tenths of it: pools do not grow, batches make their groups half as large, and
//! operations of the lowest priority are refused with
//! [`ResourceLimit`](crate::ErrorKind::ResourceLimit). Whoever is on the way of a lease or an
//! operation reads one atomic.
//!
//! Linux only; elsewhere nothing is known and nothing is shed.

mod cgroup;
mod sampler;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::Serialize;

use crate::config::Vars;
use crate::error::{Error, ErrorKind, Phase};
use crate::health::{Concern, Health, Reason};
use crate::keeper::{self, Membership, Tended};
use crate::operation::Priority;

use self::sampler::{Sampler, Usage};

const MEMORY: u8 = 1;
const CPU: u8 = 2;

/// What is short at the moment.
static SHORT: AtomicU8 = AtomicU8::new(0);
/// Times that shedding began.
static SHEDS: AtomicU64 = AtomicU64::new(0);
/// Operations refused because of it.
static REFUSED: AtomicU64 = AtomicU64::new(0);

static GUARD: Mutex<Option<Guard>> = Mutex::new(None);

/// The limits that are watched, and the keeper's care for them.
struct Guard {
    limits: Limits,
    _sampler: Arc<Sampler>,
    _membership: Membership,
}

/// How much the process may use before the library sheds load.
///
/// ```
/// use millpond::resources::{self, Limits};
///
/// resources::set_limits(Limits::new().memory_mib(4096).cpu_percent(95.0));
/// # resources::set_limits(Limits::new());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[must_use = "limits do nothing before `set_limits`"]
pub struct Limits {
    memory_bytes: Option<u64>,
    cpu_percent: Option<f64>,
}

impl Limits {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// `PERFORMANCE_MEMORY_LIMIT_MB` and `PERFORMANCE_CPU_LIMIT_PERCENT` of the environment;
    /// no limit where they are not set.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), naming every variable that cannot be
    /// understood.
    pub fn from_env() -> Result<Self, Error> {
        Vars::process().read(Self::from_vars)
    }

    pub(crate) fn from_vars(vars: &mut Vars<'_>) -> Self {
        let (name, accepted) = ("PERFORMANCE_MEMORY_LIMIT_MB", "megabytes, at least 1");
        let memory = vars.parse::<u32>(name, accepted);
        if memory == Some(0) {
            vars.mistake(name, "0", accepted);
        }
        let (name, accepted) = ("PERFORMANCE_CPU_LIMIT_PERCENT", "more than 0, at most 100");
        let cpu = vars.parse::<f64>(name, accepted);
        if let Some(cpu) = cpu.filter(|cpu| !(*cpu > 0.0 && *cpu <= 100.0)) {
            vars.mistake(name, &cpu.to_string(), accepted);
        }
        Self {
            memory_bytes: memory.map(|memory| u64::from(memory) << 20),
            cpu_percent: cpu,
        }
    }

    /// At most so much resident memory, in MiB.
    pub fn memory_mib(mut self, mebibytes: u64) -> Self {
        self.memory_bytes = Some(mebibytes.saturating_mul(1 << 20));
        self
    }

    /// At most this share of the processors that the process may use, in percent; over half a
    /// second.
    pub fn cpu_percent(mut self, percent: f64) -> Self {
        self.cpu_percent = Some(percent);
        self
    }
}

/// Watches these limits from now on, for the whole process, instead of those before. A memory
/// limit of the control group counts too, at 95 percent of it.
pub fn set_limits(limits: Limits) {
    let guard = if limits == Limits::default() {
        None
    } else {
        let sampler = Arc::new(Sampler::default());
        let tended: std::sync::Weak<dyn Tended> = Arc::downgrade(&sampler) as _;
        let membership = keeper::join(tended);
        membership.wake(crate::clock::Clock::System.now());
        Some(Guard {
            limits,
            _sampler: sampler,
            _membership: membership,
        })
    };
    // The old guard goes after the lock: leaving the keeper takes its lock.
    let old = std::mem::replace(&mut *GUARD.lock(), guard);
    drop(old);
    if limits == Limits::default() {
        SHORT.store(0, Relaxed);
    }
}

/// What the process may use: what is configured, or its control group allows.
fn limits() -> Limits {
    let own = GUARD.lock().as_ref().map(|guard| guard.limits);
    let own = own.unwrap_or_default();
    let group = cgroup::memory_limit().map(|limit| limit / 100 * 95);
    let memory_bytes = own.memory_bytes.into_iter().chain(group).min();
    Limits {
        memory_bytes,
        ..own
    }
}

/// Whether something is short, so that nothing should grow.
#[inline]
pub(crate) fn is_short() -> bool {
    SHORT.load(Relaxed) != 0
}

/// Why an operation of this priority is not accepted now, if it is not.
#[inline]
pub(crate) fn refuse(priority: Priority) -> Option<Error> {
    if priority != Priority::Low || !is_short() {
        return None;
    }
    Some(refusal())
}

#[cold]
fn refusal() -> Error {
    REFUSED.fetch_add(1, Relaxed);
    let reasons = reasons();
    let texts: Vec<_> = reasons.iter().map(|reason| &*reason.text).collect();
    let message = format!(
        "operations of low priority are refused while resources are short: {}",
        texts.join("; ")
    );
    Error::new(ErrorKind::ResourceLimit, Phase::Queue, message)
}

/// What is short, in words.
pub(crate) fn reasons() -> Vec<Reason> {
    let short = SHORT.load(Relaxed);
    if short == 0 {
        return Vec::new();
    }
    let (limits, usage) = (limits(), sampler::usage());
    let mut reasons = Vec::new();
    if short & MEMORY != 0 {
        let text = format!(
            "the process uses {} MiB of memory, and {} are allowed (PERFORMANCE_MEMORY_LIMIT_MB, or \
             95 % of the control group's limit)",
            usage.memory_bytes >> 20,
            limits.memory_bytes.unwrap_or(0) >> 20
        );
        reasons.push(Reason::new(Health::Degraded, Concern::Memory, text));
    }
    if short & CPU != 0 {
        let text = format!(
            "the process uses {:.0} % of its processors, and {:.0} % are allowed \
             (PERFORMANCE_CPU_LIMIT_PERCENT)",
            usage.cpu_percent,
            limits.cpu_percent.unwrap_or(0.0)
        );
        reasons.push(Reason::new(Health::Degraded, Concern::Cpu, text));
    }
    reasons
        .into_iter()
        .map(|reason| reason.with_error(ErrorKind::ResourceLimit))
        .collect()
}

/// What the process uses, and may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ResourceMetrics {
    /// Memory in use (resident), in bytes.
    pub memory_bytes: u64,
    /// The memory that it may use, in bytes: the configured limit or 95 percent of the control
    /// group's, whichever is less.
    pub memory_limit_bytes: Option<u64>,
    /// Processor time used over the last half second or more, as a share of what the process
    /// may use (the processors, or the control group's quota), in percent.
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
    /// Times that shedding began.
    pub sheds: u64,
    /// Operations of low priority that were refused meanwhile.
    pub refused: u64,
}

/// What the process uses now; looked up at most each quarter of a second.
///
/// ```
/// let process = millpond::resources::metrics();
/// println!("{process}"); // 12 MiB of memory, 3 % of the processors, 9 threads, 14 open files
/// ```
pub fn metrics() -> ResourceMetrics {
    let Usage {
        memory_bytes,
        cpu_percent,
        cpu_seconds,
        threads,
        open_files,
    } = sampler::usage();
    let limits = limits();
    let short = SHORT.load(Relaxed);
    ResourceMetrics {
        memory_bytes,
        memory_limit_bytes: limits.memory_bytes,
        cpu_percent,
        cpu_limit_percent: limits.cpu_percent,
        cpu_seconds,
        threads,
        open_files,
        short_of_memory: short & MEMORY != 0,
        short_of_cpu: short & CPU != 0,
        sheds: SHEDS.load(Relaxed),
        refused: REFUSED.load(Relaxed),
    }
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
