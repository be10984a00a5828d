//! What it costs to choose among three endpoints: a fleet beside a single pool of the same
//! manager.
//!
//! What two threads share costs something only while both run, so turns are short, and one in
//! which they did not run side by side is taken again.

use std::convert::Infallible;
use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use millpond::backend::{self, Backend};
use millpond::endpoints::{
    Balance, FleetBuilder, LeastConnections, PeakEwma, PowerOfTwo, Random, RoundRobin, Weighted,
};
use millpond::{Deadline, ErrorKind, Fleet, ManageConnection, NoOperation, Pool};

use super::lease::nanos_side_by_side;
use super::lender::{Lender, Work};
use super::options::Options;
use super::rounds::{Turn, take_turns};
use super::table::{Goal, Row, Table, Unit};

const CONNECTIONS: u32 = 8;

/// A manager of nothing at one of several places.
struct Spot(u8);

impl ManageConnection for Spot {
    type Connection = u64;
    type Error = Infallible;

    fn connect(&self) -> Result<u64, Infallible> {
        Ok(7)
    }

    fn is_valid(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

impl Backend for Spot {
    const NAME: &'static str = "spot";

    type Operation = NoOperation;

    type Reply = ();

    fn endpoint(&self) -> String {
        self.0.to_string()
    }

    fn classify(error: &Infallible) -> ErrorKind {
        match *error {}
    }

    fn execute(
        &self,
        _: &mut u64,
        operation: &NoOperation,
        _: Deadline,
    ) -> Result<(), millpond::Error> {
        match *operation {}
    }
}

impl Lender for Pool<Spot> {
    fn lend(&self, work: &mut impl Work) {
        while work.goes_on() {
            let lease = black_box(self.get().expect("a lease"));
            work.holding();
            drop(lease);
        }
    }
}

impl Lender for Fleet<Spot> {
    fn lend(&self, work: &mut impl Work) {
        while work.goes_on() {
            let lease = black_box(self.get().expect("a lease"));
            work.holding();
            drop(lease);
        }
    }
}

fn fleet(balance: impl Balance) -> Result<Fleet<Spot>, Box<dyn Error>> {
    let builder = Fleet::builder().pool(|pool| pool.max_size(CONNECTIONS));
    let builder = [1, 2, 3]
        .into_iter()
        .map(Spot)
        .fold(builder, FleetBuilder::endpoint);
    let fleet = builder.balance(balance).build()?;
    let open = |pool: &Pool<Spot>| pool.state().idle_connections == CONNECTIONS;
    while !fleet.pools().iter().all(open) {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(fleet)
}

pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<(), Box<dyn Error>> {
    for threads in [1, 2] {
        let s = if threads == 1 { "" } else { "s" };
        let what = format!(
            "lease + return, fleet of 3 endpoints, do-nothing manager, {CONNECTIONS} connections \
             each, {threads} thread{s}: wall time per lease of one thread"
        );
        if !options.wants(&what) {
            continue;
        }
        backend::adopt::<Spot>();
        let pool = Pool::builder().max_size(CONNECTIONS).build(Spot(0))?;
        let fleets = [
            ("power of two", fleet(PowerOfTwo)?),
            ("round-robin", fleet(RoundRobin::new())?),
            ("random", fleet(Random)?),
            ("weighted", fleet(Weighted::new())?),
            ("least-connections", fleet(LeastConnections)?),
            ("peak EWMA", fleet(PeakEwma)?),
        ];
        let (rounds, span) = options.rounds(121, 3);
        let mut sides: Vec<Turn<'_, f64>> =
            vec![Box::new(|| nanos_side_by_side(&pool, threads, span))];
        sides.extend(fleets.iter().map(|(_, fleet)| -> Turn<'_, f64> {
            Box::new(move || nanos_side_by_side(fleet, threads, span))
        }));
        let results = take_turns(rounds, &mut sides);
        for ((strategy, _), ours) in fleets.iter().zip(&results[1..]) {
            table.add(Row::compared(
                &format!("{what}, {strategy}"),
                Unit::Nanoseconds,
                ours,
                "Millpond, a single pool",
                &results[0],
                Some(Goal::AtMost(2.0)),
            ));
        }
    }
    Ok(())
}
