//! What the audit log costs the thread that runs an operation: the same operations of a backend
//! that does nothing, with a log and without.
//!
//! They come in bursts that the queue can hold; the time in which they are written, on another
//! thread, counts only as far as it disturbs this one.

use std::borrow::Cow;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use criterion::Criterion;
use millpond::audit::Audit;
use millpond::backend::{self, Backend};
use millpond::{Deadline, Envelope, Error, ErrorKind, ManageConnection, Operation, Pool};
use serde::{Deserialize, Serialize};

const BURST: u64 = 1000;

struct Nothing;

#[derive(Serialize, Deserialize)]
struct Insert(Envelope);

impl Operation for Insert {
    fn envelope(&self) -> &Envelope {
        &self.0
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.0
    }

    fn statement(&self) -> Cow<'_, str> {
        "INSERT INTO orders (id, customer, item, amount) VALUES ($1, $2, $3, $4)".into()
    }
}

impl ManageConnection for Nothing {
    type Connection = ();
    type Error = Infallible;

    fn connect(&self) -> Result<(), Infallible> {
        Ok(())
    }

    fn is_valid(&self, (): &mut ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, (): &mut ()) -> bool {
        false
    }
}

impl Backend for Nothing {
    const NAME: &'static str = "nothing";

    type Operation = Insert;

    type Reply = ();

    fn endpoint(&self) -> String {
        "nowhere.internal:5432/shop".into()
    }

    fn classify(_: &Infallible) -> ErrorKind {
        ErrorKind::Other
    }

    fn execute(&self, (): &mut (), _: &Insert, _: Deadline) -> Result<(), Error> {
        Ok(())
    }
}

/// The time of so many operations.
fn run(pool: &Pool<Nothing>, insert: &Insert, count: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        pool.execute(insert).expect("nothing can fail");
    }
    start.elapsed()
}

/// The same where each comes alone, to cold caches, as in a program that mostly waits. A hundred
/// stand for more.
fn alone(pool: &Pool<Nothing>, insert: &Insert, count: u64) -> Duration {
    let one = |_| {
        std::thread::sleep(Duration::from_millis(1));
        run(pool, insert, 1)
    };
    let some = count.min(100);
    let took: Duration = (0..some).map(one).sum();
    took.mul_f64(count as f64 / some as f64)
}

fn execute(criterion: &mut Criterion) {
    backend::adopt::<Nothing>();
    let pool = Pool::builder().max_size(2).build(Nothing).expect("a pool");
    let insert = Insert(Envelope::default())
        .id("order 48213")
        .comment("nightly import");
    let mut group = criterion.benchmark_group("execute");
    group.bench_function("without an audit log", |bencher| {
        bencher.iter_custom(|count| run(&pool, &insert, count));
    });

    group.bench_function("without an audit log, one at a time", |bencher| {
        bencher.iter_custom(|count| alone(&pool, &insert, count));
    });

    let path = std::env::temp_dir().join(format!("millpond-bench-{}", std::process::id()));
    let audit = Audit::builder(&path).keep(1).install().expect("a log");
    group.bench_function("with an audit log, one at a time", |bencher| {
        bencher.iter_custom(|count| alone(&pool, &insert, count));
    });
    group.bench_function("with an audit log, in bursts", |bencher| {
        bencher.iter_custom(|count| {
            let bursts = (0..count).step_by(BURST as usize);
            let burst = |start| {
                let took = run(&pool, &insert, BURST.min(count - start));
                audit.flush();
                took
            };
            bursts.map(burst).sum()
        });
    });
    assert_eq!(audit.dropped(), 0, "all bursts are written");
    group.bench_function("with an audit log that falls behind", |bencher| {
        bencher.iter_custom(|count| run(&pool, &insert, count));
    });
    group.finish();
    let metrics = audit.metrics();
    println!("{} written, {} dropped", metrics.written, metrics.dropped);
    drop(audit);
    for file in millpond::audit::verify(&path).expect("a log").files {
        let _ = std::fs::remove_file(file);
    }
}

// Without criterion's macros, which make a public function that nobody documents.
fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    execute(&mut criterion);
    criterion.final_summary();
}
