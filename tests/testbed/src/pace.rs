//! Time as a busy machine has it: what took longer because others had the processors is not held
//! against those who are timed.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

const STEP: Duration = Duration::from_millis(10);
/// What of a step is work. A thread that only slept would hardly be late on a busy machine.
const WORK: Duration = Duration::from_millis(3);

/// A thread that takes one step after the other, each of them a short sleep and a little work: as
/// the threads of a pool and of a server do; a third of a processor in all. On a machine that has
/// nothing else to do a step takes ten milliseconds; on another one it takes longer, and so does
/// whatever is timed in the same moment. What something took, [by this measure](Pace::between), is
/// the steps meanwhile.
pub struct Pace {
    steps: Arc<Mutex<Vec<Instant>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pace {
    /// Begins to take steps.
    #[must_use]
    pub fn start() -> Self {
        let steps = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let (own, until) = (Arc::clone(&steps), Arc::clone(&over));
        let walk = move || {
            while !until.load(Relaxed) {
                thread::sleep(STEP.saturating_sub(WORK));
                let enough = processor_time() + WORK;
                while processor_time() < enough {
                    std::hint::spin_loop();
                }
                lock(&own).push(Instant::now());
            }
        };
        Self {
            steps,
            over,
            thread: Some(thread::spawn(walk)),
        }
    }

    /// The time between these moments, to a hundredth of a second, and never more than it was.
    #[must_use]
    pub fn between(&self, from: Instant, to: Instant) -> Duration {
        let steps = lock(&self.steps);
        let meanwhile = steps.iter().filter(|step| (from..to).contains(*step));
        let count = u32::try_from(meanwhile.count()).unwrap_or(u32::MAX);
        STEP.saturating_mul(count)
            .min(to.saturating_duration_since(from))
    }

    /// The time since this moment.
    #[must_use]
    pub fn since(&self, from: Instant) -> Duration {
        self.between(from, Instant::now())
    }

    /// Runs this, and the time that it took.
    pub fn time<T>(&self, work: impl FnOnce() -> T) -> (T, Duration) {
        let start = Instant::now();
        let result = work();
        (result, self.since(start))
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(steps: &Mutex<Vec<Instant>>) -> MutexGuard<'_, Vec<Instant>> {
    steps.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What this thread has had of the processors.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_ahead_of_the_clock_and_goes_on() {
        let pace = Pace::start();
        let start = Instant::now();
        let ((), took) = pace.time(|| thread::sleep(Duration::from_millis(300)));
        assert!(took <= start.elapsed(), "{took:?}");
        while pace.since(start) < Duration::from_millis(100) {
            assert!(start.elapsed() < Duration::from_secs(20), "it stands still");
            thread::sleep(STEP);
        }
        assert_eq!(pace.between(start, start), Duration::ZERO);
    }
}
