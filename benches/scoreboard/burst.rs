//! A burst of short requests on a small pool that may grow: how many connections it
//! opens for them in the end, and how long the last request waits for its answer.
//!
//! Connecting takes much longer than five connections need for all requests, so
//! opening more is a waste; but a pool must not be stingy at the cost of the
//! requests, hence the second row.

use std::convert::Infallible;
use std::error::Error;
use std::ops::DerefMut;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use super::options::{Options, Pace};
use super::rounds::Spread;
use super::table::{Goal, Row, Table, Unit};

const REQUESTS: usize = 50;
const REQUEST: Duration = Duration::from_millis(2);
const CONNECT: Duration = Duration::from_millis(150);
const MAX_SIZE: u32 = 50;
const MIN_IDLE: u32 = 5;
/// When no connect has begun for so long, none will.
const QUIET: Duration = Duration::from_millis(1500);

/// Connects slowly, and counts.
struct Slow {
    opened: Arc<AtomicU32>,
}

impl r2d2::ManageConnection for Slow {
    type Connection = u64;
    type Error = Infallible;

    fn connect(&self) -> Result<u64, Infallible> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        thread::sleep(CONNECT);
        Ok(7)
    }

    fn is_valid(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let scene = format!(
        "{REQUESTS} requests at once of {} ms, connects take {} ms, max_size {MAX_SIZE}, \
         min_idle {MIN_IDLE}",
        REQUEST.as_millis(),
        CONNECT.as_millis()
    );
    let opened = format!("{scene}: connections opened in the end");
    let answered = format!("{scene}: until the last is answered");
    if !options.wants(&opened) && !options.wants(&answered) {
        return Ok(());
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let rounds = if options.pace == Pace::Full { 3 } else { 1 };
    for _ in 0..rounds {
        let slow = Slow {
            opened: Arc::default(),
        };
        let counter = Arc::clone(&slow.opened);
        let pool = millpond::Pool::builder()
            .max_size(MAX_SIZE)
            .min_idle(Some(MIN_IDLE))
            .build(slow)?;
        ours.push(burst(&counter, || pool.get()));

        let slow = Slow {
            opened: Arc::default(),
        };
        let counter = Arc::clone(&slow.opened);
        let pool = r2d2::Pool::builder()
            .max_size(MAX_SIZE)
            .min_idle(Some(MIN_IDLE))
            .build(slow)?;
        theirs.push(burst(&counter, || pool.get()));
    }
    let median = |side: &[(f64, f64)], value: fn(&(f64, f64)) -> f64| {
        Spread::of(side.iter().map(value).collect()).median
    };
    for (what, unit, value, goal) in [
        (
            &opened,
            Unit::Connections,
            (|burst| burst.0) as fn(&(f64, f64)) -> f64,
            Some(Goal::OursAtMost(6.0)),
        ),
        (&answered, Unit::Milliseconds, |burst| burst.1, None),
    ] {
        table.add(Row::absolute(
            what,
            unit,
            median(&ours, value),
            "r2d2",
            Some(median(&theirs, value)),
            goal,
        ));
    }
    Ok(())
}

/// The connections opened in the end, and the milliseconds until the last answer.
fn burst<L: DerefMut, E: Error>(
    opened: &AtomicU32,
    get: impl Fn() -> Result<L, E> + Sync,
) -> (f64, f64) {
    let barrier = Barrier::new(REQUESTS);
    let request = || {
        barrier.wait();
        let start = Instant::now();
        let lease = get().expect("a lease");
        thread::sleep(REQUEST);
        drop(lease);
        start.elapsed()
    };
    let last = thread::scope(|scope| {
        let requests: Vec<_> = (0..REQUESTS).map(|_| scope.spawn(request)).collect();
        let times = requests
            .into_iter()
            .map(|request| request.join().expect("no panic"));
        times.max().unwrap_or_default()
    });
    let mut count = opened.load(Ordering::Relaxed);
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < QUIET {
        thread::sleep(Duration::from_millis(20));
        let now = opened.load(Ordering::Relaxed);
        if now != count {
            count = now;
            quiet_since = Instant::now();
        }
    }
    (f64::from(count), last.as_secs_f64() * 1e3)
}
