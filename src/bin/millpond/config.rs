//! `millpond config`: what counts, and who said so.

use std::fmt::Write as _;

use millpond::config::{PlannedPool, Setting, Source};
use serde::Serialize;

use crate::paint::{BAD, BOLD, DIM, of, painted, wrapped};
use crate::table::{Table, plain};
use crate::{ConfigFile, Exit, journal, print};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    /// Shows the settings that nobody set, too, with their defaults
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Shown {
    pools: Vec<PlannedPool>,
    settings: Vec<Setting>,
    mistakes: Vec<String>,
    warnings: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Exit {
    let shown = show(args);
    let exit = if shown.mistakes.is_empty() {
        Exit::Well
    } else {
        Exit::Misconfigured
    };
    let text = if args.json {
        let json = serde_json::to_string_pretty(&shown);
        // Fails on maps with keys that are no texts, and there are none.
        format!("{}\n", json.unwrap_or_else(|error| error.to_string()))
    } else {
        shown.print(args.all)
    };
    print(&text);
    exit
}

fn show(args: &Args) -> Shown {
    let config = match args.file.load() {
        Ok(config) => config,
        Err(error) => {
            return Shown {
                pools: Vec::new(),
                settings: Vec::new(),
                mistakes: vec![error.message().to_owned()],
                warnings: Vec::new(),
            };
        }
    };
    let mut settings = config.settings();
    let is_said = |setting: &Setting| setting.source != Source::Default && setting.value.is_some();
    settings.retain(|setting| args.all || is_said(setting));
    let mistakes = config.mistakes();
    let pools = config.plan().unwrap_or_default();
    let mut warnings = config.warnings();
    warnings.extend(journal::take());
    Shown {
        pools,
        settings,
        mistakes: mistakes.iter().map(ToString::to_string).collect(),
        warnings,
    }
}

impl Shown {
    fn print(&self, all: bool) -> String {
        let mut text = String::new();
        if !self.pools.is_empty() {
            let mut table = Table::new(&[("pool", 24), ("backend", 8), ("server", 0)]);
            for pool in &self.pools {
                table.row(vec![
                    (pool.pool.to_string(), BOLD),
                    plain(pool.backend),
                    plain(&*pool.endpoint),
                ]);
            }
            let _ = writeln!(text, "{}", table.print(""));
        }
        if !self.settings.is_empty() {
            text.push_str(&self.settings());
        }
        for (head, lines, style) in [
            ("wrong", &self.mistakes, BAD),
            ("warning", &self.warnings, of(Exit::Degraded)),
        ] {
            for line in lines {
                let _ = write!(
                    text,
                    "\n{}: {}\n",
                    painted(head, style),
                    wrapped(line, 9, 4)
                );
            }
        }
        if self.settings.is_empty() && self.mistakes.is_empty() {
            text.push_str("Nothing is set; `millpond check` says what to set.\n");
        } else if !all && !self.settings.is_empty() {
            let rest = "\nAll others have their defaults; --all shows them.\n";
            text.push_str(&painted(rest, DIM));
        }
        text
    }

    /// A table of those of everybody, then of those of each pool.
    fn settings(&self) -> String {
        let mut table = Table::new(&[("setting", 34), ("value", 0), ("from", 44)]);
        for setting in &self.settings {
            let variable = match &setting.pool {
                Some(pool) => format!("{pool}: {}", setting.variable),
                None => setting.variable.to_owned(),
            };
            table.row(vec![
                (variable, BOLD),
                plain(setting.value.as_deref().unwrap_or("-")),
                (setting.source.to_string(), DIM),
            ]);
        }
        table.print("")
    }
}
