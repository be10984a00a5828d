//! Many more threads than connections: how long the unluckiest wait, and how much
//! gets done.
//!
//! Each lease is held for `thread::sleep(100 µs)`, which stands for a query: the
//! thread waits for something else than the processor. (Linux sleeps half as long
//! again, on all sides.) The wait is that for the lease, of every lease of every
//! thread, also of those that came after the end of the round: who waits longest
//! must not escape. Leases count towards the throughput when their hold ended within
//! the round. What ended in the first moments of a round counts for neither: it tells
//! how fast the system starts threads.

use std::error::Error;
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::lender::{Lender, Lenders, Work};
use super::options::Options;
use super::rounds::{Turn, take_turns};
use super::table::{Goal, Row, Table, Unit};

const CONNECTIONS: u32 = 8;
const HOLD: Duration = Duration::from_micros(100);
/// What part of a round is over before anything counts.
const LEAD_IN: u32 = 6;
/// The longest wait that the histogram can tell from a longer one, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<(), Box<dyn Error>> {
    for (threads, goal) in [(64, 0.2), (256, 0.1)] {
        let scene = format!(
            "contention, {threads} threads on {CONNECTIONS} connections, each held for a sleep of \
             100 µs"
        );
        let waits = format!("{scene}: p99.9 of the wait");
        let throughput = format!("{scene}: leases per second");
        if !options.wants(&waits) && !options.wants(&throughput) {
            continue;
        }
        let lenders = Lenders::build(CONNECTIONS)?;
        let (rounds, span) = options.rounds(5, 1500);
        let mut sides: [Turn<'_, Result<Crowd, _>>; 4] = [
            Box::new(|| crowd(&lenders.millpond, threads, span)),
            Box::new(|| crowd(&lenders.r2d2, threads, span)),
            Box::new(|| crowd(&lenders.deadpool, threads, span)),
            Box::new(|| crowd(&lenders.bb8, threads, span)),
        ];
        let results = take_turns(rounds, &mut sides)
            .into_iter()
            .map(|side| side.into_iter().collect::<Result<Vec<_>, _>>())
            .collect::<Result<Vec<_>, _>>()?;
        let peers = [
            ("r2d2, `test_on_check_out(false)`", true),
            ("deadpool, one `block_on` per thread", false),
            (
                "bb8, `test_on_check_out(false)`, one `block_on` per thread",
                false,
            ),
        ];
        for (what, unit, goal, value) in [
            (
                &waits,
                Unit::Milliseconds,
                Goal::AtMost(goal),
                (|crowd| crowd.wait) as fn(&Crowd) -> f64,
            ),
            (&throughput, Unit::PerSecond, Goal::AtLeast(0.97), |crowd| {
                crowd.throughput
            }),
        ] {
            let values = |side: &[Crowd]| side.iter().map(value).collect::<Vec<_>>();
            let ours = values(&results[0]);
            for ((peer, counts), theirs) in peers.into_iter().zip(&results[1..]) {
                let goal = counts.then_some(goal);
                table.add(Row::compared(
                    what,
                    unit,
                    &ours,
                    peer,
                    &values(theirs),
                    goal,
                ));
            }
        }
    }
    Ok(())
}

/// What one round gave.
struct Crowd {
    /// The 99.9th percentile of those that ended after the lead-in, in milliseconds.
    wait: f64,
    /// Leases per second.
    throughput: f64,
}

/// Leases of one thread, each held for [`HOLD`].
struct Holds {
    counts_from: Instant,
    until: Instant,
    asked: Instant,
    waits: Histogram<u64>,
    in_time: u64,
}

impl Work for Holds {
    fn goes_on(&mut self) -> bool {
        self.asked = Instant::now();
        self.asked < self.until
    }

    fn holding(&mut self) {
        let now = Instant::now();
        if now >= self.counts_from {
            let waited = now.duration_since(self.asked).as_nanos() as u64;
            self.waits.saturating_record(waited);
        }
        thread::sleep(HOLD);
        let ended = Instant::now();
        self.in_time += u64::from(ended >= self.counts_from && ended < self.until);
    }
}

fn crowd(
    lender: &impl Lender,
    threads: usize,
    span: Duration,
) -> Result<Crowd, hdrhistogram::CreationError> {
    let barrier = Barrier::new(threads);
    let begin = OnceLock::new();
    let lead_in = span / LEAD_IN;
    let empty = Histogram::<u64>::new_with_bounds(100, LONGEST, 2)?;
    let worker = || {
        let waits = empty.clone();
        barrier.wait();
        let begin = *begin.get_or_init(Instant::now);
        let mut holds = Holds {
            counts_from: begin + lead_in,
            until: begin + span,
            asked: begin,
            waits,
            in_time: 0,
        };
        lender.lend(&mut holds);
        (holds.waits, holds.in_time)
    };
    let mut waits = empty.clone();
    let in_time: u64 = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let done = workers.into_iter().map(|worker| {
            let (theirs, in_time) = worker.join().expect("no panic");
            waits.add(theirs).expect("histograms of the same bounds");
            in_time
        });
        done.sum()
    });
    Ok(Crowd {
        wait: waits.value_at_quantile(0.999) as f64 / 1e6,
        throughput: in_time as f64 / span.saturating_sub(lead_in).as_secs_f64(),
    })
}
