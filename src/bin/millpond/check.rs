//! `millpond check`: connects to everything, and says what is wrong and what to do.

use std::io::{IsTerminal as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use crate::report::Report;
use crate::{ConfigFile, Exit, print};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Prints JSON, with --watch one line each time
    #[arg(long)]
    json: bool,
    /// How long to wait for the servers, which are all asked at the same time
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,
    /// Checks again after so many seconds, until it is interrupted; the file is read again too
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    watch: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "seconds, more than 0, such as 2.5".to_owned())
}

pub(crate) fn run(args: &Args) -> Exit {
    let Some(interval) = args.watch else {
        let report = once(args);
        let text = if args.json {
            format!("{}\n", json(serde_json::to_string_pretty(&report)))
        } else {
            report.print()
        };
        print(&text);
        return report.exit();
    };
    let in_place = !args.json && std::io::stdout().is_terminal();
    loop {
        let began = Instant::now();
        let report = once(args);
        let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second());
        let now = now.unwrap_or_default();
        let text = if args.json {
            format!("{}\n", json(serde_json::to_string(&report)))
        } else if in_place {
            let every = interval.as_secs_f64();
            clear_screen();
            format!(
                "Every {every} s: millpond check  {now}\n\n{}",
                report.print()
            )
        } else {
            report.lines(&now.to_string())
        };
        if !print(&text) {
            return report.exit();
        }
        thread::sleep(interval.saturating_sub(began.elapsed()));
    }
}

/// What follows begins at the top. Not by way of [`print`], which takes such codes out where no
/// colours are wanted.
fn clear_screen() {
    // Whoever does not read this does not read what follows either.
    let _ = std::io::stdout().write_all(b"\x1b[2J\x1b[H");
}

fn json(text: serde_json::Result<String>) -> String {
    // Fails on maps with keys that are no texts, and there are none.
    text.unwrap_or_else(|error| error.to_string())
}

fn once(args: &Args) -> Report {
    let config = match args.file.load() {
        Ok(config) => config,
        Err(error) => return Report::unreadable(&error),
    };
    match config.check(args.timeout) {
        Ok(found) => Report::checked(&config, found),
        Err(_) => Report::mistaken(&config),
    }
}
