//! Looks for marked secrets in what a run of the tests left behind:
//!
//! ```text
//! TESTBED_TRACE=DIR cargo test --workspace --all-features -- --show-output >DIR/output 2>&1
//! cargo run -p millpond-testbed --bin find-secrets -- DIR
//! ```
//!
//! Names each file and line that has one, and ends with 1 if there is any, with 2 if there is
//! nothing to look through.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use testbed::bears_mark;

#[derive(Default)]
struct Figures {
    files: usize,
    lines: usize,
    bytes: usize,
    found: usize,
}

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: find-secrets DIR");
        return ExitCode::from(2);
    };
    match search(&folder) {
        Ok(figures) => {
            println!(
                "{} files, {} lines, {} bytes: {} lines with a secret",
                figures.files, figures.lines, figures.bytes, figures.found
            );
            match figures {
                Figures { lines: 0, .. } => ExitCode::from(2),
                Figures { found: 0, .. } => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            ExitCode::from(2)
        }
    }
}

fn search(folder: &Path) -> io::Result<Figures> {
    let mut figures = Figures::default();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let mut file = BufReader::new(File::open(&path)?);
        figures.files += 1;
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            if file.read_until(b'\n', &mut bytes)? == 0 {
                break;
            }
            figures.lines += 1;
            figures.bytes += bytes.len();
            let line = String::from_utf8_lossy(&bytes);
            if bears_mark(&line) {
                figures.found += 1;
                println!("{}:{number}: {}", path.display(), line.trim_end());
            }
        }
    }
    Ok(figures)
}
