//! Ten thousand waiters that time out at the same moment must not hold up those who
//! give connections back (vitess #20310): a waiter that gives up takes no lock that a
//! returning thread needs for long, and is handed no connection any more.
//!
//! One test in this file: it wants the machine for itself.

mod scripted;

use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{ErrorKind, Pool};
use scripted::{Manager, until};

const WAITERS: u32 = 10_000;
const SIZE: u32 = 8;
/// How often each holder leases and gives back while the waiters leave.
const AGAIN: u64 = 4;
const STACK: usize = 64 * 1024;
/// What giving a connection back may take, the median of the runs' maxima.
const BOUND: Duration = Duration::from_millis(1);

/// Lets ten thousand callers time out together, this long after they started, while
/// connections come back; says how long the slowest return took, unless some callers
/// came to wait too late.
fn melt(pool: &Pool<Manager>, lead: Duration) -> Option<Duration> {
    let (served, timed_out) = (AtomicU64::new(0), AtomicU64::new(0));
    let (slowest, returns) = (AtomicU64::new(0), AtomicU64::new(0));
    let before = pool.metrics();
    let mut all_waited = false;
    // Told when all threads are there.
    let deadline = RwLock::new(None);
    thread::scope(|scope| {
        let held: Vec<_> = (0..SIZE).map(|_| pool.get().expect("one")).collect();
        let mut starting = deadline.write().expect("no poison");
        for _ in 0..WAITERS {
            let body = || {
                let deadline: Option<Instant> = *deadline.read().expect("no poison");
                let deadline = deadline.expect("told before they may read it");
                let timeout = deadline.saturating_duration_since(Instant::now());
                match pool.get_timeout(timeout) {
                    Ok(lease) => {
                        drop(lease);
                        served.fetch_add(1, SeqCst);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Exhausted);
                        timed_out.fetch_add(1, SeqCst);
                    }
                }
            };
            thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, body)
                .expect("starts");
        }
        let common = Instant::now() + lead;
        *starting = Some(common);
        drop(starting);
        while !all_waited && Instant::now() < common {
            thread::sleep(Duration::from_millis(1));
            all_waited = pool.state().waiters == WAITERS;
        }
        // They come back one after the other, around the deadline, and once more after
        // having been leased again amid those who leave.
        let early = common.checked_sub(Duration::from_millis(3));
        let early = early.expect("the clock began long ago");
        for (number, lease) in (0..).zip(held) {
            let back = early + Duration::from_millis(number);
            let (slowest, returns) = (&slowest, &returns);
            scope.spawn(move || {
                let give_back = |lease| {
                    let before = preemptions();
                    let start = Instant::now();
                    drop(lease);
                    let took = start.elapsed().as_nanos() as u64;
                    returns.fetch_add(1, SeqCst);
                    // Else it is the kernel that took the time, for the other ten thousand.
                    // Waiting for a lock is no preemption, and counts.
                    if preemptions() == before {
                        slowest.fetch_max(took, SeqCst);
                    }
                };
                thread::sleep(back.saturating_duration_since(Instant::now()));
                give_back(lease);
                for _ in 0..AGAIN {
                    give_back(pool.get().expect("others give up or give back"));
                }
            });
        }
    });
    assert_eq!(
        served.load(SeqCst) + timed_out.load(SeqCst),
        u64::from(WAITERS)
    );
    let state = pool.state();
    assert_eq!((state.waiters, state.leased), (0, 0));
    until("all are idle", || pool.state().idle_connections == SIZE);
    let after = pool.metrics();
    assert_eq!(after.timeouts - before.timeouts, timed_out.load(SeqCst));
    assert_eq!(after.created, u64::from(SIZE), "no connection was lost");
    assert_eq!(returns.load(SeqCst), u64::from(SIZE) * (1 + AGAIN));
    assert!(timed_out.load(SeqCst) > 0);
    let slowest = Duration::from_nanos(slowest.load(SeqCst));
    println!("all waited: {all_waited}; the slowest return took {slowest:?}; {served:?} served");
    all_waited.then_some(slowest)
}

/// How often the kernel took the processor from this thread.
#[cfg(target_os = "linux")]
fn preemptions() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("Linux has it");
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    let count = count.and_then(|count| count.trim().parse().ok());
    count.expect("a number of switches")
}

#[cfg(not(target_os = "linux"))]
fn preemptions() -> u64 {
    0
}

#[test]
fn returns_stay_fast_while_ten_thousand_waiters_give_up() {
    let pool = Pool::builder()
        .max_size(SIZE)
        .build(Manager::new())
        .expect("opens");
    let mut slowest = Vec::new();
    let mut lead = Duration::from_secs(1);
    while slowest.len() < 5 {
        match melt(&pool, lead) {
            Some(took) => slowest.push(took),
            // Starting so many takes longer on this machine.
            None => lead *= 2,
        }
        assert!(lead < Duration::from_secs(60), "too slow a machine");
    }
    slowest.sort();
    assert!(slowest[2] <= BOUND, "{slowest:?}");
    let leases: Vec<_> = (0..SIZE).map(|_| pool.get().expect("one")).collect();
    assert_eq!(pool.state().leased, SIZE);
    drop(leases);
}
