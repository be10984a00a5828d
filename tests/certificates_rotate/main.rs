//! Certificates that are renewed, on both sides, while the program runs: it works again without a
//! restart, soon; connections that exist are left alone; and files that cannot be used do no harm.
#![allow(clippy::unwrap_used, missing_docs)]

mod authority;
mod client;
mod crowd;
mod files;
mod redis_sets;
mod subject;
#[path = "../subjects/mod.rs"]
mod subjects;

use std::error::Error;
use std::time::{Duration, Instant};

use millpond::Pool;

use subjects::Subject;

/// How long the files are behind.
const MEANWHILE: Duration = Duration::from_secs(4);
/// The pool looks four times a second; the rest is for slow machines.
const SOON: Duration = Duration::from_secs(5);

fn ask<S: Subject>(pool: &Pool<S::Manager>) -> Result<(), Box<dyn Error>> {
    S::work(&mut *pool.get()?)
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: not yet");
        std::thread::sleep(Duration::from_millis(20));
    }
}
