//! Callers who ask all the time.

use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const THREADS: usize = 16;

pub(super) struct Crowd {
    answers: Vec<AtomicU64>,
    errors: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Crowd {
    /// Sixteen threads ask while this happens.
    pub(super) fn during(
        ask: impl Fn() -> Result<(), Box<dyn Error>> + Sync,
        what: impl FnOnce(&Self),
    ) {
        let crowd = Self {
            answers: (0..THREADS).map(|_| AtomicU64::new(0)).collect(),
            errors: Mutex::default(),
            over: AtomicBool::new(false),
        };
        std::thread::scope(|scope| {
            for answers in &crowd.answers {
                scope.spawn(|| {
                    while !crowd.over.load(SeqCst) {
                        match ask() {
                            Ok(()) => {
                                answers.fetch_add(1, SeqCst);
                            }
                            Err(error) => crowd.errors.lock().unwrap().push(error.to_string()),
                        }
                        std::thread::sleep(Duration::from_millis(20));
                    }
                });
            }
            let _end = End(&crowd);
            what(&crowd);
        });
    }

    /// What callers were told so far.
    pub(super) fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap().clone()
    }

    /// Waits until everybody has had answers, and says how long that took.
    pub(super) fn all_served(&self) -> Duration {
        let start = Instant::now();
        let before: Vec<_> = self.answers.iter().map(|own| own.load(SeqCst)).collect();
        let served = || {
            let mut both = self.answers.iter().zip(&before);
            both.all(|(own, before)| own.load(SeqCst) > before + 1)
        };
        while !served() {
            let last = self.errors.lock().unwrap().last().cloned();
            assert!(start.elapsed() < Duration::from_secs(20), "{last:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        start.elapsed()
    }
}

/// The threads end however the test does.
struct End<'a>(&'a Crowd);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, SeqCst);
    }
}
