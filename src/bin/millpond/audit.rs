//! `millpond audit verify`: whether an audit log is as it was written.

use std::path::PathBuf;

use clap::Subcommand;
use millpond::audit::{self, Verification};
use millpond::{Error, Secret};
use serde::Serialize;

use crate::paint::{of, painted, wrapped};
use crate::{ConfigFile, EXIT_CODES, Exit, complain, print};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Says whether an audit log, and the files that were it before, are as they were written
    #[command(after_help = EXIT_CODES)]
    Verify(Args),
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The log; FILE.1, FILE.2, ... beside it are its older parts
    file: PathBuf,
    /// The key that the log was made with, in the first line of this file; else what AUDIT_KEY or
    /// AUDIT_KEY_FILE say, if they are set. It may be sealed
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    verdict: &'static str,
    exit_code: u8,
    #[serde(flatten)]
    found: &'a Verification,
}

pub(crate) fn run(command: &Command) -> Exit {
    let Command::Verify(args) = command;
    let found = key(args).and_then(|key| match &key {
        Some(key) => audit::verify_with_key(&args.file, key),
        None => audit::verify(&args.file),
    });
    match found {
        Ok(found) => tell(args, &found),
        Err(error) => complain(error.message()),
    }
}

fn tell(args: &Args, found: &Verification) -> Exit {
    let exit = match &found.fault {
        Some(_) => Exit::Failed,
        None if found.dropped > 0 => Exit::Degraded,
        None => Exit::Well,
    };
    if args.json {
        let report = Report {
            verdict: exit.as_str(),
            exit_code: exit as u8,
            found,
        };
        let json = serde_json::to_string_pretty(&report);
        // Fails on maps with keys that are no texts, and there are none.
        print(&format!(
            "{}\n",
            json.unwrap_or_else(|error| error.to_string())
        ));
        return exit;
    }
    let verdict = match exit {
        Exit::Well => "The log is as it was written.",
        Exit::Degraded => {
            "The log is as it was written, and says itself that operations are missing."
        }
        Exit::Failed | Exit::Misconfigured => "The log is not as it was written.",
    };
    let said = wrapped(&format!("{found}."), 0, 4);
    print(&format!("{said}\n\n{}\n", painted(verdict, of(exit))));
    exit
}

fn key(args: &Args) -> Result<Option<Secret>, Error> {
    let config = args.config.load()?;
    match &args.key_file {
        Some(path) => config
            .set("AUDIT_KEY_FILE", path.to_string_lossy().into_owned())
            .audit_key(),
        None => config.audit_key(),
    }
}
