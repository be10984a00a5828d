//! Threads for what may block: connecting, pinging, resetting, closing.
//!
//! A few threads serve all pools. While they keep up, no more are started; when the
//! first job in the queue has waited [`PATIENCE`] and none was begun meanwhile, the
//! others must be stuck, and the keeper starts one more, then two, four, and so on until
//! jobs are begun again: on a starved machine the crew only looks stuck. While jobs
//! are begun, as when a thousand pools ping at once, the crew is only busy, and the
//! patience is that of [`PATIENCE_WHEN_BUSY`]. A thread without work ends after
//! [`LINGER`], or at once when the last pool is gone. How many of these threads one
//! frozen server can hold is bounded by its pool, not here.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock::{Clock, NEVER, Ticks, after};

/// Something that may block.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Threads that are started without hesitation.
const USUAL: usize = 4;
/// The most threads, whatever happens.
const MOST: usize = 512;
/// How long a job waits before the crew counts as stuck.
const PATIENCE: Duration = Duration::from_millis(5);
/// How long it may wait while others are begun.
const PATIENCE_WHEN_BUSY: Duration = Duration::from_millis(50);
/// How long a thread without work stays.
const LINGER: Duration = Duration::from_secs(2);

struct Crew {
    queue: VecDeque<(Ticks, Job)>,
    /// Jobs begun so far, and how many the keeper saw at its last look.
    begun: u64,
    begun_before: u64,
    /// Threads to start at the next look that finds the crew stuck.
    relief: usize,
    threads: usize,
    idle: usize,
    open: bool,
}

static CREW: Mutex<Crew> = Mutex::new(Crew {
    queue: VecDeque::new(),
    begun: 0,
    begun_before: 0,
    relief: 1,
    threads: 0,
    idle: 0,
    open: false,
});
static BELL: Condvar = Condvar::new();

/// Has the crew do this soon. While there is no keeper that could relieve it, no job
/// waits for another.
pub(crate) fn submit(job: Job) {
    let now = Clock::System.now();
    let mut crew = CREW.lock();
    crew.queue.push_back((now, job));
    if crew.queue.len() <= crew.idle {
        drop(crew);
        BELL.notify_one();
    } else if (crew.open && crew.threads >= USUAL) || !crew.hire() {
        drop(crew);
        super::watch_crew(after(now, PATIENCE));
    }
}

/// From now on, threads linger.
pub(super) fn open() {
    CREW.lock().open = true;
}

/// Threads without work end now.
pub(super) fn close() {
    CREW.lock().open = false;
    BELL.notify_all();
}

/// Starts more threads if the crew is stuck; says when to look again.
pub(super) fn relieve(now: Ticks) -> Ticks {
    let mut crew = CREW.lock();
    let Some(&(since, _)) = crew.queue.front() else {
        return NEVER;
    };
    let stuck_at = after(since, PATIENCE);
    if now < stuck_at {
        return stuck_at;
    }
    let begun = crew.begun;
    let busy = std::mem::replace(&mut crew.begun_before, begun) != begun;
    if busy {
        crew.relief = 1;
    }
    if busy && now < after(since, PATIENCE_WHEN_BUSY) {
        return after(now, PATIENCE);
    }
    let missing = crew.queue.len().saturating_sub(crew.idle);
    for _ in 0..missing.min(crew.relief) {
        crew.hire();
    }
    crew.relief = (crew.relief * 2).min(MOST);
    after(now, PATIENCE)
}

impl Crew {
    /// Starts a thread, if that can be done.
    fn hire(&mut self) -> bool {
        if self.threads >= MOST {
            return false;
        }
        match thread::Builder::new()
            .name("millpond-crew".into())
            .spawn(work)
        {
            Ok(_) => {
                self.threads += 1;
                true
            }
            Err(error) => {
                log::error!("millpond: cannot start a crew thread: {error}");
                false
            }
        }
    }
}

fn work() {
    let mut crew = CREW.lock();
    loop {
        if let Some((_, job)) = crew.queue.pop_front() {
            crew.begun += 1;
            drop(crew);
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                log::error!("millpond: a panic in background work; the connection was given up");
            }
            crew = CREW.lock();
            continue;
        }
        if !crew.open {
            break;
        }
        crew.idle += 1;
        let timed_out = BELL.wait_for(&mut crew, LINGER).timed_out();
        crew.idle -= 1;
        if timed_out && crew.queue.is_empty() {
            break;
        }
    }
    crew.threads -= 1;
}

/// How many threads there are.
#[cfg(test)]
pub(super) fn threads() -> usize {
    CREW.lock().threads
}
