//! How long an operation takes in a batch: alone on an idle engine, beside `pool.execute`;
//! and under saturation, by priority.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use millpond::{Batch, Operation as _, Pool, Postgres, PostgresConfig, Priority, Sql};

use super::options::Options;
use super::rounds::{Turn, take_turns};
use super::table::{Goal, Row, Table, Unit};

type Outcome = Result<(), Box<dyn Error>>;

const LONE: [(&str, &str, f64); 2] = [
    (
        "a lone durable INSERT on an idle batch, PostgreSQL, fsync: p50 of the time",
        "INSERT INTO lone (id) VALUES (1)",
        1.3,
    ),
    (
        "a lone `SELECT 1` on an idle batch, PostgreSQL: p50 of the time",
        "SELECT 1",
        3.0,
    ),
];

const PRIORITIES: &str = "a saturated batch, PostgreSQL INSERTs, 4 threads for each of 4 \
     priorities, groups of 100: p99 of the time from submission to outcome";

pub(crate) fn measure(options: &Options, table: &mut Table) -> Outcome {
    let wanted = LONE.map(|(what, ..)| what).into_iter().chain([PRIORITIES]);
    if !wanted.into_iter().any(|what| options.wants(what)) {
        return Ok(());
    }
    let server = testbed::Postgres::builder().fsync(true).start()?;
    let manager = Postgres::new(PostgresConfig::from_url(&server.url())?)?;
    let pool = Pool::builder().max_size(4).build(manager)?;
    pool.get()?.batch_execute("CREATE TABLE lone (id int)")?;
    for (what, sql, goal) in LONE {
        if !options.wants(what) {
            continue;
        }
        let batch = Batch::new(pool.clone())?;
        let (rounds, span) = options.rounds(31, 100);
        let mut sides: [Turn<'_, f64>; 2] = [
            Box::new(|| {
                median(span, || {
                    let ticket = batch.submit(Sql::new(sql)).expect("room");
                    ticket.wait().into_result().expect("done");
                })
            }),
            Box::new(|| {
                median(span, || {
                    pool.execute(Sql::new(sql)).expect("done");
                })
            }),
        ];
        let results = take_turns(rounds, &mut sides);
        let (ours, theirs) = (&results[0], &results[1]);
        let goal = Some(Goal::AtMost(goal));
        table.add(Row::compared(
            what,
            Unit::Milliseconds,
            ours,
            "`pool.execute`",
            theirs,
            goal,
        ));
    }
    if options.wants(PRIORITIES) {
        let (rounds, span) = options.rounds(5, 2000);
        let (mut critical, mut low) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let [first, .., last] = saturated(&pool, span)?;
            critical.push(first);
            low.push(last);
        }
        let goal = Some(Goal::AtMost(0.1));
        let row = Row::compared(
            PRIORITIES,
            Unit::Milliseconds,
            &critical,
            "of Low, ours being Critical",
            &low,
            goal,
        );
        table.add(row);
    }
    Ok(())
}

/// The median of how long this takes, in milliseconds.
fn median(span: Duration, mut run: impl FnMut()) -> f64 {
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < span {
        let start = Instant::now();
        run();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// The 99th percentiles of the four priorities, the most urgent first, in milliseconds,
/// while threads of each keep the queue full.
fn saturated(pool: &Pool<Postgres>, span: Duration) -> Result<[f64; 4], Box<dyn Error>> {
    const WINDOW: usize = 200;
    let batch = Batch::builder(pool.clone())
        .size(100)
        .workers(2)
        .max_operations(20_000)
        .aging(Duration::from_millis(500))
        .build()?;
    let over = AtomicBool::new(false);
    let worker = |priority: Priority| {
        let mut times = micros();
        // The urgent are few: what is urgent as a rule is not urgent.
        let window = if priority == Priority::Critical {
            4
        } else {
            WINDOW
        };
        while !over.load(Relaxed) {
            let start = Instant::now();
            let insert = || Sql::new("INSERT INTO lone (id) VALUES (1)").priority(priority);
            let submitted = (0..window).map(|_| batch.submit(insert()).expect("room"));
            let tickets: Vec<_> = submitted.collect();
            for ticket in tickets {
                ticket.wait().into_result().expect("done");
                times.saturating_record(start.elapsed().as_micros() as u64);
            }
        }
        times
    };
    let times = thread::scope(|scope| {
        let worker = &worker;
        let threads = Priority::ALL.map(|priority| {
            let spawn = |_| scope.spawn(move || worker(priority));
            (0..4).map(spawn).collect::<Vec<_>>()
        });
        thread::sleep(span);
        over.store(true, Relaxed);
        threads.map(|threads| {
            let mut all = micros();
            for thread in threads {
                all += thread.join().expect("no panic");
            }
            all.value_at_quantile(0.99) as f64 / 1e3
        })
    });
    Ok(times)
}

/// Microseconds, up to an hour.
fn micros() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("valid bounds")
}
