//! Samples of what the process uses, and what follows from them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{CPU, Limits, MEMORY, SHEDS, SHORT, cgroup};
use crate::clock::{Ticks, after};
use crate::keeper::Tended;

/// How often the limits are looked at.
const EVERY: Duration = Duration::from_millis(500);
/// How long figures count as the present ones.
const FRESH: Duration = Duration::from_millis(250);
/// Over how much time at least the processors' use is measured.
const SPAN: Duration = Duration::from_millis(400);
/// So many samples in a row decide.
const IN_A_ROW: u32 = 2;
/// Shedding stops below this share of the limit.
const CLEAR: f64 = 0.9;

/// What the process uses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) memory_bytes: u64,
    pub(super) cpu_percent: f64,
    pub(super) cpu_seconds: f64,
    pub(super) threads: u64,
    pub(super) open_files: u64,
}

struct Last {
    at: Instant,
    usage: Usage,
    /// Where the span that the processors' use is measured over began.
    span: (Instant, f64),
}

static LAST: Mutex<Option<Last>> = Mutex::new(None);

/// What the process uses now, or did a moment ago.
pub(super) fn usage() -> Usage {
    let now = Instant::now();
    if let Some(last) = &*LAST.lock()
        && now - last.at < FRESH
    {
        return last.usage;
    }
    sample(now)
}

fn sample(now: Instant) -> Usage {
    // Not under the lock: this reads files.
    let mut usage = look();
    let mut last = LAST.lock();
    let span = match &*last {
        None => (now, usage.cpu_seconds),
        Some(last) => {
            let passed = now.saturating_duration_since(last.span.0);
            usage.cpu_percent = last.usage.cpu_percent;
            if passed < SPAN {
                last.span
            } else {
                let used = usage.cpu_seconds - last.span.1;
                let allowed = passed.as_secs_f64() * processors();
                usage.cpu_percent = (used / allowed * 100.0).max(0.0);
                (now, usage.cpu_seconds)
            }
        }
    };
    *last = Some(Last {
        at: now,
        usage,
        span,
    });
    usage
}

/// The processors that the process may use.
fn processors() -> f64 {
    let all = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    cgroup::processors().map_or(all, |limit| limit.min(all))
}

#[cfg(target_os = "linux")]
fn look() -> Usage {
    use procfs::process::Process;

    let Ok((process, stat)) = Process::myself().and_then(|me| {
        let stat = me.stat()?;
        Ok((me, stat))
    }) else {
        return Usage::default();
    };
    let ticks = (stat.utime + stat.stime) as f64;
    Usage {
        memory_bytes: stat.rss.saturating_mul(procfs::page_size()),
        cpu_percent: 0.0,
        cpu_seconds: ticks / procfs::ticks_per_second() as f64,
        threads: stat.num_threads.unsigned_abs(),
        open_files: process.fd_count().unwrap_or(0) as u64,
    }
}

#[cfg(not(target_os = "linux"))]
fn look() -> Usage {
    Usage::default()
}

/// Looks at the limits from time to time.
#[derive(Default)]
pub(super) struct Sampler(Mutex<[Watch; 2]>);

/// How often in a row a figure was over its limit, and well below.
#[derive(Clone, Copy, Default)]
pub(super) struct Watch {
    over: u32,
    below: u32,
}

impl Watch {
    /// Takes in a sample; whether there is a shortage after it, given whether there was one
    /// before.
    pub(super) fn judge(&mut self, short: bool, used: f64, limit: Option<f64>) -> bool {
        let Some(limit) = limit else {
            return false;
        };
        self.over = if used > limit { self.over + 1 } else { 0 };
        self.below = if used < limit * CLEAR {
            self.below + 1
        } else {
            0
        };
        if short {
            self.below < IN_A_ROW
        } else {
            self.over >= IN_A_ROW
        }
    }
}

impl Sampler {
    fn look(&self, limits: Limits) {
        let usage = sample(Instant::now());
        let before = SHORT.load(Relaxed);
        let mut watches = self.0.lock();
        let [memory, cpu] = &mut *watches;
        let limit = limits.memory_bytes.map(|limit| limit as f64);
        let memory = memory.judge(before & MEMORY != 0, usage.memory_bytes as f64, limit);
        let cpu = cpu.judge(before & CPU != 0, usage.cpu_percent, limits.cpu_percent);
        drop(watches);
        let after = u8::from(memory) * MEMORY + u8::from(cpu) * CPU;
        SHORT.store(after, Relaxed);
        if after & !before != 0 {
            SHEDS.fetch_add(1, Relaxed);
            for reason in super::reasons() {
                log::warn!("millpond: shedding load: {reason}");
            }
        } else if after == 0 && before != 0 {
            log::info!("millpond: no more shedding: resources suffice again");
        }
    }
}

impl Tended for Sampler {
    fn tend(self: Arc<Self>, now: Ticks) -> Ticks {
        // Reading the process's own figures blocks nowhere.
        self.look(super::limits());
        after(now, EVERY)
    }
}
