//! What many pools cost that do nothing: threads and memory.
//!
//! Counted in a process of its own for each side, as memory that other rows have
//! given back would be used again unseen. One pool comes first, and what there is
//! after it has settled is not counted; then the others. Threads: the most seen after
//! any of the others was built, and how many stay. Memory: what the process holds
//! in anonymous pages (`RssAnon`) when all has settled. Both sides are as they come
//! out of the box, but for the size of 2.

use std::env;
use std::error::Error;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::nothing::Nothing;
use super::options::{Options, Pace};
use super::table::{Goal, Row, Table, Unit};

/// The argument that makes this program count one side, followed by `side:pools`.
pub(crate) const PROBE: &str = "--idle-probe";

/// Longer than our helper threads linger.
const SETTLING: Duration = Duration::from_secs(3);
const CONNECTIONS: u32 = 2;

/// Which pools to build, and how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    side: Side,
    pools: usize,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Millpond,
    R2d2,
}

impl Probe {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{PROBE}: `{text}` is not `millpond:` or `r2d2:` and a number");
        let (side, pools) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self {
            side: match side {
                "millpond" => Side::Millpond,
                "r2d2" => Side::R2d2,
                _ => return Err(wrong()),
            },
            pools: pools.parse().map_err(|_| wrong())?,
        })
    }
}

pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let pools = if options.pace == Pace::Tiny { 20 } else { 1000 };
    let scene = format!("{pools} idle pools of {CONNECTIONS} do-nothing connections");
    let peak = format!("{scene}: threads more than one pool has, at most");
    let stay = format!("{scene}: threads more than one pool has, settled");
    let memory = format!("{scene}: memory per pool");
    if ![&peak, &stay, &memory].iter().any(|row| options.wants(row)) {
        return Ok(());
    }
    let ours = run(&format!("millpond:{pools}"))?;
    // It needs three threads for each pool, which not every machine allows.
    let theirs = run(&format!("r2d2:{pools}")).ok();
    let peer = "r2d2, as it comes";
    for (what, key, unit, goal) in [
        (&peak, "peak", Unit::Threads, Goal::OursAtMost(4.0)),
        (&stay, "stay", Unit::Threads, Goal::OursAtMost(4.0)),
        (&memory, "kib", Unit::Kibibytes, Goal::OursBelow(64.0)),
    ] {
        let number = |counts: &Value| counts[key].as_f64();
        let ours = number(&ours).ok_or_else(|| format!("the count has no `{key}`"))?;
        let theirs = theirs.as_ref().and_then(number);
        table.add(Row::absolute(what, unit, ours, peer, theirs, Some(goal)));
    }
    Ok(())
}

/// Has another process count.
fn run(probe: &str) -> Result<Value, Box<dyn Error>> {
    let output = Command::new(env::current_exe()?)
        .args([PROBE, probe])
        .stderr(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(format!("counting {probe}: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Counts, in the process that was started for it, and prints.
pub(crate) fn probe(probe: Probe) -> Result<(), Box<dyn Error>> {
    let counts = match probe.side {
        Side::Millpond => count(probe.pools, || {
            millpond::Pool::builder()
                .max_size(CONNECTIONS)
                .build(Nothing)
        }),
        Side::R2d2 => count(probe.pools, || {
            r2d2::Pool::builder().max_size(CONNECTIONS).build(Nothing)
        }),
    }?;
    println!("{counts}");
    Ok(())
}

fn count<P, E: Error + 'static>(
    pools: usize,
    build: impl Fn() -> Result<P, E>,
) -> Result<Value, Box<dyn Error>> {
    let mut all = Vec::with_capacity(pools);
    all.push(build()?);
    thread::sleep(SETTLING);
    let (threads, memory) = (status("Threads:")?, status("RssAnon:")?);
    let mut peak = threads;
    for _ in 1..pools {
        all.push(build()?);
        peak = peak.max(status("Threads:")?);
    }
    thread::sleep(SETTLING);
    let more = pools.saturating_sub(1).max(1) as f64;
    Ok(json!({
        "peak": peak - threads,
        "stay": status("Threads:")? - threads,
        "kib": (status("RssAnon:")? - memory) / more,
    }))
}

/// A number from what the system says of this process.
fn status(key: &str) -> Result<f64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.ok_or("no such line")?.parse()?)
}
