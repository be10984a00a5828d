//! Threads that execute operations all the time, and what they saw.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::{Error, Fleet};
use testbed::Pace;

/// What the threads of a load saw, in the order of time.
pub(crate) struct Log {
    pace: Pace,
    pub(crate) successes: Mutex<Vec<Instant>>,
    pub(crate) errors: Mutex<Vec<Failure>>,
}

/// An operation that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) error: Error,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            pace: Pace::start(),
            successes: Mutex::default(),
            errors: Mutex::default(),
        }
    }
}

impl Log {
    /// What failed from this moment on of what had begun before it, and of what began later.
    pub(crate) fn errors_around(&self, moment: Instant) -> [Vec<String>; 2] {
        let errors = self.errors.lock().expect("no poison");
        let errors = errors.iter().filter(|failure| failure.ended >= moment);
        let (before, after): (Vec<_>, Vec<_>) = errors.partition(|failure| failure.begun < moment);
        [before, after].map(|failures| {
            let errors = failures.iter().map(|failure| failure.error.to_string());
            errors.collect()
        })
    }

    /// The longest time after this moment in which nothing succeeded, as a busy machine has it.
    pub(crate) fn longest_gap(&self, from: Instant) -> Duration {
        let mut successes = self.successes.lock().expect("no poison").clone();
        successes.sort_unstable();
        let mut longest = Duration::ZERO;
        let mut last = from;
        for at in successes.into_iter().filter(|at| *at >= from) {
            if at - last > longest {
                longest = longest.max(self.pace.between(last, at));
            }
            last = at;
        }
        longest
    }
}

/// What is timed on a machine of two cores is not to be disturbed by its neighbours here.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `test` while so many threads execute what `make` gives, with a short pause each.
pub(crate) fn under_load<B: Backend>(
    fleet: &Fleet<B>,
    threads: usize,
    make: impl Fn() -> B::Operation + Sync,
    test: impl FnOnce(&Log),
) {
    let _alone = alone();
    let log = Log::default();
    let over = AtomicBool::new(false);
    let work = || {
        while !over.load(SeqCst) {
            let begun = Instant::now();
            let result = fleet.execute(make());
            let ended = Instant::now();
            match result {
                Ok(_) => log.successes.lock().expect("no poison").push(ended),
                Err(error) => log.errors.lock().expect("no poison").push(Failure {
                    begun,
                    ended,
                    error,
                }),
            }
            thread::sleep(Duration::from_micros(300));
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
        let _end = End(&over);
        test(&log);
    });
}

/// Sets the flag when it is dropped, also by a panic.
pub(crate) struct End<'a>(pub(crate) &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
