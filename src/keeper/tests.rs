use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::{Tended, crew, join};
use crate::clock::{Clock, Ticks, after};

struct Counter {
    visits: AtomicU64,
    every: Duration,
}

impl Tended for Counter {
    fn tend(self: Arc<Self>, now: Ticks) -> Ticks {
        self.visits.fetch_add(1, Ordering::SeqCst);
        after(now, self.every)
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_joined_is_visited_until_it_leaves() {
    let counter = Arc::new(Counter {
        visits: AtomicU64::new(0),
        every: Duration::from_millis(5),
    });
    let weak: Weak<Counter> = Arc::downgrade(&counter);
    let membership = join(weak);
    membership.wake(Clock::System.now());
    until("never visited", || {
        counter.visits.load(Ordering::SeqCst) >= 3
    });
    drop(membership);
    std::thread::sleep(Duration::from_millis(20));
    let seen = counter.visits.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(counter.visits.load(Ordering::SeqCst), seen);
}

#[test]
fn a_wake_up_brings_a_visit_forward() {
    let counter = Arc::new(Counter {
        visits: AtomicU64::new(0),
        every: Duration::from_secs(3600),
    });
    let weak: Weak<Counter> = Arc::downgrade(&counter);
    let now = Clock::System.now();
    let membership = join(weak);
    membership.wake(after(now, Duration::from_secs(3600)));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(counter.visits.load(Ordering::SeqCst), 0);
    membership.wake(now);
    until("never visited", || {
        counter.visits.load(Ordering::SeqCst) == 1
    });
}

/// Jobs that hang hold up others for a few milliseconds only.
#[test]
fn a_stuck_crew_is_relieved() {
    let counter = Arc::new(Counter {
        visits: AtomicU64::new(0),
        every: Duration::from_secs(3600),
    });
    let weak: Weak<Counter> = Arc::downgrade(&counter);
    let membership = join(weak);
    membership.wake(Clock::System.now());
    let gate = Arc::new(parking_lot::RwLock::new(()));
    let closed = gate.write();
    for _ in 0..10 {
        let gate = Arc::clone(&gate);
        crew::submit(Box::new(move || drop(gate.read())));
    }
    let (done, finished) = mpsc::channel();
    let start = Instant::now();
    crew::submit(Box::new(move || {
        done.send(start.elapsed()).expect("the test waits");
    }));
    let delay = finished
        .recv_timeout(Duration::from_secs(10))
        .expect("the job runs");
    assert!(delay < Duration::from_millis(500), "{delay:?}");
    assert!(crew::threads() >= 11);
    drop(closed);
    drop(membership);
    until("threads stay", || crew::threads() <= 4);
}
