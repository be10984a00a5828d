//! The command `millpond`: tries a configuration out, shows it, and verifies audit logs.
//!
//! It reads the same variables and files as a program that uses Millpond, and says what is wrong
//! with them, what the servers answer, and what to do. Built on the library's public interface.
//!
//! Invariants: no secret is ever printed; what is meant for programs goes to standard output as
//! JSON and nothing else does then; nothing waits longer than it was told to.

#![allow(clippy::doc_markdown, reason = "`--help` prints comments as they are")]

mod audit;
mod check;
mod config;
mod hints;
mod journal;
mod paint;
mod report;
mod seal;
mod table;

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use millpond::{Config, Error};

/// For operators of programs that use Millpond: checks and shows their configuration.
#[derive(Parser)]
#[command(name = "millpond", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  all is well
  1  a server cannot be used: it is down, unreachable, or refuses the login or the certificate;
     or an audit log is not as it was written
  2  the configuration or the command line is wrong, or nothing is configured
  3  all servers can be used, but not as they should be: read-only, or a certificate about to
     expire; or an audit log says itself that operations are missing

Output is in colour on a terminal, unless NO_COLOR is set.";

#[derive(Subcommand)]
enum Command {
    /// Connects to every server that is configured, and says what is wrong and what to do
    #[command(after_help = EXIT_CODES)]
    Check(check::Args),
    /// Shows the configuration as it counts, without secrets, and where each value comes from
    #[command(after_help = EXIT_CODES)]
    Config(config::Args),
    /// Looks after audit logs
    #[command(subcommand)]
    Audit(audit::Command),
    /// Prints a secret in a form that may be written down, sealed with the key of the configuration
    #[command(after_help = seal::HELP)]
    Seal(seal::Args),
}

/// The file that takes part in the configuration.
#[derive(clap::Args)]
struct ConfigFile {
    /// A TOML file instead of the one that MILLPOND_CONFIG names; the environment overrules it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn load(&self) -> Result<Config, Error> {
        match &self.config {
            Some(path) => Ok(Config::new().with_file(path)?.with_env()),
            None => Config::from_env(),
        }
    }
}

/// How it went, as a program's exit code says it. The worst counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Well = 0,
    Failed = 1,
    Misconfigured = 2,
    Degraded = 3,
}

impl Exit {
    /// As a word for JSON.
    fn as_str(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Failed => "failed",
            Self::Misconfigured => "misconfigured",
            Self::Degraded => "degraded",
        }
    }
}

fn main() -> ExitCode {
    journal::install();
    let cli = Cli::parse();
    let exit = match &cli.command {
        Command::Check(args) => check::run(args),
        Command::Config(args) => config::run(args),
        Command::Audit(command) => audit::run(command),
        Command::Seal(args) => seal::run(args),
    };
    ExitCode::from(exit as u8)
}

/// Says on standard error why nothing was done.
fn complain(why: &str) -> Exit {
    let head = paint::painted("wrong", paint::BAD);
    anstream::eprintln!("{head}: {}", paint::wrapped(why, 7, 4));
    Exit::Misconfigured
}

/// Prints this, in colour where that is wanted; `false` if nobody reads any more.
fn print(text: &str) -> bool {
    let mut out = anstream::stdout().lock();
    let done = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    !matches!(done, Err(error) if io::Error::kind(&error) == ErrorKind::BrokenPipe)
}
