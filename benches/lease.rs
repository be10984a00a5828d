//! What a lease costs by itself: taking and returning a connection of a manager
//! that does nothing, on one thread, next to r2d2.
//!
//! Millpond runs with its defaults, r2d2 with `test_on_check_out(false)`, as it
//! would otherwise call the manager each time. Criterion samples one pool after the
//! other, so compare these numbers on a quiet machine only; the scoreboard compares
//! in turns.

use std::convert::Infallible;
use std::hint::black_box;

use criterion::Criterion;
use millpond::ManageConnection;

struct Nothing;

impl ManageConnection for Nothing {
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

fn lease(criterion: &mut Criterion) {
    let millpond = millpond::Pool::builder()
        .max_size(8)
        .build(Nothing)
        .expect("a pool");
    let hooked = millpond::Pool::builder()
        .max_size(8)
        .before_lease(|connection| {
            black_box(connection);
            Ok(())
        })
        .after_return(|connection| {
            black_box(connection);
            Ok(())
        })
        .build(Nothing)
        .expect("a pool");
    let r2d2 = r2d2::Pool::builder()
        .max_size(8)
        .test_on_check_out(false)
        .build(Nothing)
        .expect("a pool");

    let mut group = criterion.benchmark_group("get and return");
    group.bench_function("millpond", |bencher| {
        bencher.iter(|| drop(black_box(millpond.get().expect("a lease"))));
    });
    group.bench_function("millpond, before_lease and after_return", |bencher| {
        bencher.iter(|| drop(black_box(hooked.get().expect("a lease"))));
    });
    group.bench_function("r2d2", |bencher| {
        bencher.iter(|| drop(black_box(r2d2.get().expect("a lease"))));
    });
    group.finish();

    let mut group = criterion.benchmark_group("try_get and return");
    group.bench_function("millpond", |bencher| {
        bencher.iter(|| drop(black_box(millpond.try_get().expect("a lease"))));
    });
    group.bench_function("r2d2", |bencher| {
        bencher.iter(|| drop(black_box(r2d2.try_get().expect("a lease"))));
    });
    group.finish();
}

// Without criterion's macros, which make a public function that nobody documents.
fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    lease(&mut criterion);
    criterion.final_summary();
}
