//! What taking and returning a lease costs when the manager does nothing and
//! connections are idle.
//!
//! Measured is the wall time of one thread from lease to lease, all threads going at
//! once: where there are more threads than cores, it contains the time that a thread
//! spends waiting for a core, on all sides alike. The clock is read once in 256
//! leases, so it costs nothing.

use std::error::Error;
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::lender::{Lender, Lenders, Work};
use super::options::Options;
use super::rounds::{Turn, take_turns};
use super::table::{Goal, Row, Table, Unit};

const CONNECTIONS: u32 = 8;
/// Leases between two looks at the clock.
const STRIDE: u64 = 256;
/// What part of a turn is over before leases count.
const LEAD_IN: u32 = 10;
/// How often a turn is taken in which threads are to run side by side.
const TRIES: usize = 20;
/// The part of a turn in which each of them is to run.
const ALL_THE_TIME: f64 = 0.97;

pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<(), Box<dyn Error>> {
    for (threads, goal) in [(1, 0.2), (2, 0.1), (8, 0.1)] {
        let s = if threads == 1 { "" } else { "s" };
        let what = format!(
            "lease + return, do-nothing manager, {CONNECTIONS} connections, {threads} thread{s}: \
             wall time per lease of one thread"
        );
        if !options.wants(&what) {
            continue;
        }
        let lenders = Lenders::build(CONNECTIONS)?;
        let (rounds, span) = options.rounds(41, 40);
        let mut sides: [Turn<'_, f64>; 4] = [
            Box::new(|| nanos_per_lease(&lenders.millpond, threads, span)),
            Box::new(|| nanos_per_lease(&lenders.r2d2, threads, span)),
            Box::new(|| nanos_per_lease(&lenders.deadpool, threads, span)),
            Box::new(|| nanos_per_lease(&lenders.bb8, threads, span)),
        ];
        let results = take_turns(rounds, &mut sides);
        let peers = [
            ("r2d2, `test_on_check_out(false)`", Some(Goal::AtMost(goal))),
            ("deadpool, one `block_on` per thread", None),
            (
                "bb8, `test_on_check_out(false)`, one `block_on` per thread",
                None,
            ),
        ];
        for ((peer, goal), theirs) in peers.into_iter().zip(&results[1..]) {
            table.add(Row::compared(
                &what,
                Unit::Nanoseconds,
                &results[0],
                peer,
                theirs,
                goal,
            ));
        }
    }
    Ok(())
}

/// Leases until the time is over.
struct Count {
    until: Instant,
    leases: u64,
}

impl Work for Count {
    fn goes_on(&mut self) -> bool {
        self.leases += 1;
        !self.leases.is_multiple_of(STRIDE) || Instant::now() < self.until
    }
}

pub(super) fn nanos_per_lease(lender: &impl Lender, threads: usize, span: Duration) -> f64 {
    turn(lender, threads, span).nanos
}

/// The same of a turn in which all threads ran all the time, each on a core of its own, or of
/// the one of [`TRIES`] that came closest: threads that run one after the other do not get in
/// each other's way, however much they share.
pub(super) fn nanos_side_by_side(lender: &impl Lender, threads: usize, span: Duration) -> f64 {
    let mut best = turn(lender, threads, span);
    for _ in 1..TRIES {
        if best.share >= ALL_THE_TIME {
            break;
        }
        let next = turn(lender, threads, span);
        if next.share > best.share {
            best = next;
        }
    }
    best.nanos
}

/// What a turn gave.
struct TurnTaken {
    /// Wall time per lease of one thread.
    nanos: f64,
    /// The part of the time since the first of them began in which that thread ran that ran
    /// least.
    share: f64,
}

fn turn(lender: &impl Lender, threads: usize, span: Duration) -> TurnTaken {
    let barrier = Barrier::new(threads);
    let begun = OnceLock::new();
    let worker = || {
        barrier.wait();
        let begun = *begun.get_or_init(Instant::now);
        let ran = time_on_a_core();
        // What a thread has to do once is not what a lease costs.
        lender.lend(&mut Count {
            until: begun + span / LEAD_IN,
            leases: 0,
        });
        let start = Instant::now();
        let mut count = Count {
            until: start + span,
            leases: 0,
        };
        lender.lend(&mut count);
        let time = start.elapsed();
        let ran = time_on_a_core().saturating_sub(ran);
        let share = ran.as_secs_f64() / begun.elapsed().as_secs_f64();
        (time, count.leases, share)
    };
    let (time, leases, share) = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let done = workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"));
        done.fold((Duration::ZERO, 0, 1.0_f64), |sum, one| {
            (sum.0 + one.0, sum.1 + one.1, sum.2.min(one.2))
        })
    });
    TurnTaken {
        nanos: time.as_nanos() as f64 / leases as f64,
        share,
    }
}

/// For how long this thread has been running.
fn time_on_a_core() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.try_into().expect("it is not negative")
}
