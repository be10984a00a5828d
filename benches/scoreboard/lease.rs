//! What taking and returning a lease costs when the manager does nothing and
//! connections are idle.
//!
//! Measured is the wall time of one thread from lease to lease, all threads going at
//! once: where there are more threads than cores, it contains the time that a thread
//! spends waiting for a core, on all sides alike. The clock is read once in 256
//! leases, so it costs nothing.

use std::error::Error;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::lender::{Lender, Lenders, Work};
use super::options::Options;
use super::rounds::{Turn, take_turns};
use super::table::{Goal, Row, Table, Unit};

const CONNECTIONS: u32 = 8;
/// Leases between two looks at the clock.
const STRIDE: u64 = 256;

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
    let barrier = Barrier::new(threads);
    let worker = || {
        barrier.wait();
        let start = Instant::now();
        let mut count = Count {
            until: start + span,
            leases: 0,
        };
        lender.lend(&mut count);
        (start.elapsed(), count.leases)
    };
    let (time, leases) = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let done = workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"));
        done.fold((Duration::ZERO, 0), |sum, one| {
            (sum.0 + one.0, sum.1 + one.1)
        })
    });
    time.as_nanos() as f64 / leases as f64
}
