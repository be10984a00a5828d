//! Random and mutated configurations, URLs and headers: nothing panics or hangs, each mistake says
//! where it is, and no secret is told.
//!
//! A case is made from its number alone, so that a failure can be run again:
//! `MILLPOND_RANDOM_FIRST=number MILLPOND_RANDOM_CASES=1`. CI runs a share; as many as wanted run
//! with `MILLPOND_RANDOM_CASES`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;

use case::Case;

mod case;
mod judge;
mod texts;

/// What no text may contain, in any writing.
const CANARY: &str = "kanarienvogel";

/// Longer than any case may take.
const PATIENCE: Duration = Duration::from_secs(5);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("millpond-random-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).expect("written");
    };
    write("empty", "");
    write("secret", "kanarienvogel\n");
    write(
        "garbage.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let ca = testbed::Ca::new();
    write("good.pem", &ca.client("app").combined_pem());
    let pipe = folder.join("pipe");
    if !pipe.exists() {
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|made| made.success()), "mkfifo");
    }
    folder
}

#[test]
fn nothing_panics_hangs_or_tells_a_secret() {
    let cases = number("MILLPOND_RANDOM_CASES").unwrap_or(2_500);
    let first = number("MILLPOND_RANDOM_FIRST").unwrap_or(0);
    let folder = folder();
    let threads = 2;
    let run = &|thread: u64| {
        let (mut slowest, mut failed) = ((Duration::ZERO, 0), Vec::new());
        for number in (first + thread..first + cases).step_by(threads) {
            let rng = Rng::with_seed(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut case = Case {
                rng,
                folder: folder.clone(),
            };
            let begun = Instant::now();
            let ended = catch_unwind(AssertUnwindSafe(|| case.run()));
            let took = begun.elapsed();
            if ended.is_err() || took >= PATIENCE {
                failed.push((number, took));
            }
            slowest = slowest.max((took, number));
        }
        (slowest, failed)
    };
    let begun = Instant::now();
    let ended: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads as u64)
            .map(|thread| scope.spawn(move || run(thread)))
            .collect();
        all.into_iter()
            .map(|thread| thread.join().expect("what a case panics with is caught"))
            .collect()
    });
    let _ = std::fs::remove_dir_all(&folder);
    println!(
        "{cases} cases in {:?}, the slowest {:?}",
        begun.elapsed(),
        ended.iter().map(|(slowest, _)| slowest).max()
    );
    let failed: Vec<_> = ended.iter().flat_map(|(_, failed)| failed).collect();
    assert!(
        failed.is_empty(),
        "cases that failed, see above: {failed:?}"
    );
}
