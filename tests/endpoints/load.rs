//! Threads that execute operations all the time, and what they saw.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::{Error, Fleet};

/// What the threads of a load saw, in the order of time.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) successes: Mutex<Vec<Instant>>,
    pub(crate) errors: Mutex<Vec<(Instant, Error)>>,
}

impl Log {
    pub(crate) fn errors_since(&self, moment: Instant) -> Vec<String> {
        let errors = self.errors.lock().expect("no poison");
        let errors = errors.iter().filter(|(at, _)| *at >= moment);
        errors.map(|(_, error)| error.to_string()).collect()
    }

    /// The longest time after this moment in which nothing succeeded.
    pub(crate) fn longest_gap(&self, from: Instant) -> Duration {
        let mut successes = self.successes.lock().expect("no poison").clone();
        successes.sort_unstable();
        let mut longest = Duration::ZERO;
        let mut last = from;
        for at in successes.into_iter().filter(|at| *at >= from) {
            longest = longest.max(at - last);
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
            let result = fleet.execute(make());
            let now = Instant::now();
            match result {
                Ok(_) => log.successes.lock().expect("no poison").push(now),
                Err(error) => log.errors.lock().expect("no poison").push((now, error)),
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
