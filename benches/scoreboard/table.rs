//! The table: Markdown for people, JSON for programs.

use std::fmt;
use std::fs;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::rounds::Spread;

/// What the numbers of a row are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Nanoseconds,
    Milliseconds,
    PerSecond,
    Kibibytes,
    Threads,
    Connections,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Milliseconds => "ms",
            Self::PerSecond => "/s",
            Self::Kibibytes => "KiB",
            Self::Threads => "threads",
            Self::Connections => "connections",
        }
    }

    fn show(self, value: f64) -> String {
        let decimals = match self {
            Self::Threads | Self::Connections | Self::PerSecond => 0,
            _ if value >= 100.0 => 0,
            _ => 1,
        };
        format!("{value:.decimals$} {}", self.name())
    }
}

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// A ratio of at most this.
    AtMost(f64),
    /// A ratio of at least this.
    AtLeast(f64),
    /// Our own number, whatever the peer's is: at most this.
    OursAtMost(f64),
    /// Our own number, whatever the peer's is: below this.
    OursBelow(f64),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "ratio ≤ {bound}"),
            Self::AtLeast(bound) => write!(f, "ratio ≥ {bound}"),
            Self::OursAtMost(bound) => write!(f, "≤ {bound}"),
            Self::OursBelow(bound) => write!(f, "< {bound}"),
        }
    }
}

pub(crate) struct Row {
    what: String,
    unit: Unit,
    ours: f64,
    peer: &'static str,
    theirs: Option<f64>,
    ratio: Option<Spread>,
    goal: Option<Goal>,
}

impl Row {
    /// Two sides, by round.
    pub(crate) fn compared(
        what: &str,
        unit: Unit,
        ours: &[f64],
        peer: &'static str,
        theirs: &[f64],
        goal: Option<Goal>,
    ) -> Self {
        Self {
            what: what.to_owned(),
            unit,
            ours: Spread::of(ours.to_vec()).median,
            peer,
            theirs: Some(Spread::of(theirs.to_vec()).median),
            ratio: Some(Spread::of_ratios(ours, theirs)),
            goal,
        }
    }

    /// Ours, with a goal for itself; the peer's only to compare, where it has one.
    pub(crate) fn absolute(
        what: &str,
        unit: Unit,
        ours: f64,
        peer: &'static str,
        theirs: Option<f64>,
        goal: Option<Goal>,
    ) -> Self {
        Self {
            what: what.to_owned(),
            unit,
            ours,
            peer,
            theirs,
            ratio: theirs.map(|theirs| Spread::of_ratios(&[ours], &[theirs])),
            goal,
        }
    }

    fn met(&self) -> Option<bool> {
        let ratio = self.ratio.map_or(f64::NAN, |ratio| ratio.median);
        self.goal.map(|goal| match goal {
            Goal::AtMost(bound) => ratio <= bound,
            Goal::AtLeast(bound) => ratio >= bound,
            Goal::OursAtMost(bound) => self.ours <= bound,
            Goal::OursBelow(bound) => self.ours < bound,
        })
    }

    fn to_json(&self) -> Value {
        json!({
            "what": self.what,
            "unit": self.unit.name(),
            "millpond": self.ours,
            "peer": self.peer,
            "peer_value": self.theirs,
            "ratio": self.ratio.map(|ratio| ratio.median),
            "ratio_quartiles": self.ratio.map(|ratio| [ratio.low, ratio.high]),
            "goal": self.goal.map(|goal| goal.to_string()),
            "met": self.met(),
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, peer, .. } = self;
        let ours = self.unit.show(self.ours);
        let theirs = match self.theirs {
            Some(theirs) => format!("{}, {peer}", self.unit.show(theirs)),
            None => format!("–, {peer}"),
        };
        let ratio = match self.ratio {
            Some(Spread { low, median, high }) if low < high => {
                format!("{median:.3} ({low:.3}–{high:.3})")
            }
            Some(Spread { median, .. }) => format!("{median:.3}"),
            None => "–".to_owned(),
        };
        let goal = match (self.goal, self.met()) {
            (Some(goal), Some(true)) => format!("{goal}: met"),
            (Some(goal), _) => format!("{goal}: **missed**"),
            (None, _) => "–".to_owned(),
        };
        write!(f, "| {what} | {ours} | {theirs} | {ratio} | {goal} |")
    }
}

pub(crate) struct Table {
    rows: Vec<Row>,
    started: Instant,
    load_before: String,
}

impl Table {
    /// An empty table. Notes how busy the machine is before anything has run.
    pub(crate) fn start() -> Self {
        Self {
            rows: Vec::new(),
            started: Instant::now(),
            load_before: load(),
        }
    }

    /// Adds a row, and shows it to whoever waits.
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("{row}");
        self.rows.push(row);
    }

    fn missed(&self) -> usize {
        let missed = |row: &&Row| row.met() == Some(false);
        self.rows.iter().filter(missed).count()
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "machine": {
                "cores": cores(),
                "processor": processor(),
                "load_before": self.load_before,
                "load_after": load(),
            },
            "optimised": OPTIMISED,
            "seconds": self.started.elapsed().as_secs_f64(),
            "missed": self.missed(),
            "rows": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| what | Millpond | peer | ratio | goal |")?;
        writeln!(f, "|---|---:|---:|---:|---|")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        let build = if OPTIMISED {
            "release build"
        } else {
            "**not an optimised build: the numbers mean nothing**"
        };
        write!(
            f,
            "\nRatio: Millpond's number by the peer's, the median of the rounds and its \
             quartiles. Goals missed: {}.\n{} cores ({}), {build}, load {} before and {} after, \
             {:.0} s.",
            self.missed(),
            cores(),
            processor(),
            self.load_before,
            load(),
            self.started.elapsed().as_secs_f64(),
        )
    }
}

/// Optimised builds have no debug assertions, unless somebody asked for both.
const OPTIMISED: bool = !cfg!(debug_assertions);

fn cores() -> usize {
    thread::available_parallelism().map_or(0, usize::from)
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name"));
    let name = model.and_then(|line| line.split_once(": "));
    name.map_or("unknown processor", |(_, name)| name)
        .to_owned()
}

/// The load average over the last minute.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}
