//! The scoreboard: Millpond beside its peers and the bare drivers, in one table.
//!
//! ```text
//! cargo bench --bench scoreboard                     # everything, about 3 minutes
//! cargo bench --bench scoreboard -- --quick          # everything, shorter
//! cargo bench --bench scoreboard -- --only lease     # the rows with this in their name
//! cargo bench --bench scoreboard -- --json FILE      # the same as data, too
//! cargo bench --bench scoreboard -- --test           # one tiny round of everything
//! cargo bench --bench scoreboard --features exporter # with the row about hostile clients
//! ```
//!
//! # What is compared with what
//!
//! Every row names it. All sides of a row do the same work on the same machine, in
//! the same process, with pools of the same size; where a side is not as it comes out
//! of the box, the row says so. Servers are throw-away ones of the testbed, on loopback:
//! no row profits from a slow network.
//!
//! # How noise is handled
//!
//! A shared machine is faster in one second than in the next, by more than what is to
//! be measured. So the sides take turns in many short rounds, in changing order. Each
//! round gives one ratio of neighbours in time, and the table shows the median of
//! these with their quartiles; the columns of absolute numbers are medians too. A run
//! on a busy machine still says less: the load is printed below the table.
//!
//! A goal that was missed is marked, and nothing else follows from it.

use std::error::Error;
use std::fs;
use std::io::Write as _;

use self::scoreboard::options::Options;
use self::scoreboard::table::Table;
use self::scoreboard::{
    batches, burst, contention, engine, fleet, idle, latency, lease, metrics, queries, shared,
};

mod scoreboard {
    pub(crate) mod batches;
    pub(crate) mod burst;
    pub(crate) mod contention;
    pub(crate) mod engine;
    pub(crate) mod fleet;
    #[cfg(feature = "exporter")]
    pub(crate) mod hostile;
    pub(crate) mod idle;
    pub(crate) mod latency;
    pub(crate) mod lease;
    pub(crate) mod lender;
    pub(crate) mod metrics;
    pub(crate) mod nothing;
    pub(crate) mod options;
    pub(crate) mod queries;
    pub(crate) mod rounds;
    pub(crate) mod shared;
    pub(crate) mod table;
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    if let Some(probe) = options.idle_probe {
        return idle::probe(probe);
    }
    let mut table = Table::start();
    lease::measure(&options, &mut table)?;
    fleet::measure(&options, &mut table)?;
    metrics::measure(&options, &mut table)?;
    #[cfg(feature = "exporter")]
    scoreboard::hostile::measure(&options, &mut table)?;
    contention::measure(&options, &mut table)?;
    idle::measure(&options, &mut table)?;
    burst::measure(&options, &mut table)?;
    queries::measure(&options, &mut table)?;
    engine::measure(&options, &mut table)?;
    batches::measure(&options, &mut table)?;
    latency::measure(&options, &mut table)?;
    shared::measure(&options, &mut table)?;
    if let Some(file) = &options.json {
        fs::write(file, format!("{:#}\n", table.to_json()))?;
    }
    // Not `println!`: a reader that has seen enough is no reason to panic.
    let _ = writeln!(std::io::stdout(), "{table}");
    Ok(())
}
