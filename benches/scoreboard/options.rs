//! What the command line asks for. Cargo adds arguments of its own, so what is not
//! understood is mentioned and ignored.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use super::idle;

/// How long and how often the sides of a row take their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Full,
    Quick,
    /// Only to see that it runs; the numbers mean nothing.
    Tiny,
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) pace: Pace,
    only: Option<String>,
    pub(crate) json: Option<PathBuf>,
    /// This process was started by the idle row, to build so many pools.
    pub(crate) idle_probe: Option<idle::Probe>,
}

impl Options {
    pub(crate) fn from_args() -> Result<Self, String> {
        let mut options = Self {
            pace: Pace::Full,
            only: None,
            json: None,
            idle_probe: None,
        };
        let mut bench = false;
        let mut args = env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--bench" => bench = true,
                "--test" => options.pace = Pace::Tiny,
                "--quick" => options.pace = Pace::Quick,
                "--only" => options.only = Some(value()?.to_lowercase()),
                "--json" => options.json = Some(value()?.into()),
                idle::PROBE => options.idle_probe = Some(idle::Probe::parse(&value()?)?),
                _ => eprintln!("scoreboard: `{arg}` is ignored"),
            }
        }
        // Without `--bench` this is `cargo test`, which wants to be done soon.
        if !bench && options.idle_probe.is_none() {
            options.pace = Pace::Tiny;
        }
        Ok(options)
    }

    /// Whether the row of this name is asked for.
    pub(crate) fn wants(&self, row: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| row.to_lowercase().contains(only))
    }

    /// So many rounds, each side for so long.
    pub(crate) fn rounds(&self, rounds: usize, millis: u64) -> (usize, Duration) {
        match self.pace {
            Pace::Full => (rounds, Duration::from_millis(millis)),
            Pace::Quick => (rounds.div_ceil(2), Duration::from_millis(millis / 2)),
            Pace::Tiny => (1, Duration::from_millis(10)),
        }
    }
}
