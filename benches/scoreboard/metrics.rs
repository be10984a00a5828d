//! What counting costs: leases with metrics on against leases with metrics off, recording one
//! operation against the `prometheus-client` crate, and a snapshot of many pools.
//!
//! Recording is a counter and a histogram on both sides, in nanoseconds that are known
//! already: no side reads a clock. Ours records on a lease, as `execute` does; each thread has
//! one of its own, as threads that run operations do. The peer's counter and histogram are
//! shared by all threads, as its registry has them.

use std::error::Error;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use millpond::{Hub, Pool, PooledConnection};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram as TheirHistogram, exponential_buckets};

use super::lease::nanos_per_lease;
use super::nothing::Nothing;
use super::options::Options;
use super::rounds::{Turn, take_turns};
use super::table::{Goal, Row, Table, Unit};

const CONNECTIONS: u32 = 8;
/// Recordings between two looks at the clock.
const STRIDE: u64 = 256;
const POOLS: usize = 100;

pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<(), Box<dyn Error>> {
    for threads in [1, 8] {
        leases(options, table, threads)?;
    }
    for threads in [1, 8] {
        recording(options, table, threads)?;
    }
    snapshots(options, table)
}

fn pool(metrics: bool) -> Result<Pool<Nothing>, millpond::Error> {
    Pool::builder()
        .max_size(CONNECTIONS)
        .metrics(metrics)
        .build(Nothing)
}

fn leases(options: &Options, table: &mut Table, threads: usize) -> Result<(), Box<dyn Error>> {
    let what =
        format!("metrics: lease + return, do-nothing manager, metrics on, {threads} threads");
    if !options.wants(&what) {
        return Ok(());
    }
    let (on, off) = (pool(true)?, pool(false)?);
    let (rounds, span) = options.rounds(41, 40);
    let mut sides: [Turn<'_, f64>; 2] = [
        Box::new(|| nanos_per_lease(&on, threads, span)),
        Box::new(|| nanos_per_lease(&off, threads, span)),
    ];
    let results = take_turns(rounds, &mut sides);
    table.add(Row::compared(
        &what,
        Unit::Nanoseconds,
        &results[0],
        "metrics off",
        &results[1],
        Some(Goal::AtMost(1.3)),
    ));
    Ok(())
}

fn recording(options: &Options, table: &mut Table, threads: usize) -> Result<(), Box<dyn Error>> {
    let what = format!("metrics: recording one operation, {threads} threads");
    if !options.wants(&what) {
        return Ok(());
    }
    let ours = pool(true)?;
    let (counter, histogram) = (
        Counter::<u64>::default(),
        TheirHistogram::new(exponential_buckets(1e-6, 2.0, 28)),
    );
    let (rounds, span) = options.rounds(41, 40);
    let mut sides: [Turn<'_, f64>; 2] = [
        Box::new(|| {
            nanos_per_call(threads, span, Duration::from_nanos, || {
                let lease = ours.get().expect("a lease");
                move |took| PooledConnection::record(&lease, took, Ok(()))
            })
        }),
        Box::new(|| {
            let seconds = |nanos| nanos as f64 / 1e9;
            nanos_per_call(threads, span, seconds, || {
                |took| {
                    counter.inc();
                    histogram.observe(took);
                }
            })
        }),
    ];
    let results = take_turns(rounds, &mut sides);
    table.add(Row::compared(
        &what,
        Unit::Nanoseconds,
        &results[0],
        "prometheus-client, counter + histogram of 28 buckets",
        &results[1],
        Some(Goal::AtMost(0.333)),
    ));
    Ok(())
}

/// Times as servers take them: from 50 microseconds to 12 milliseconds, in no order, always the
/// same.
fn response_times() -> impl Iterator<Item = u64> {
    (0..STRIDE).map(|number| {
        let scattered = number * 167 % STRIDE;
        // Eight octaves, of 32 steps each.
        let octave = 50_000 << (scattered / 32);
        octave + octave * (scattered % 32) / 32
    })
}

/// The wall time of one call in one thread, with all threads going at once.
fn nanos_per_call<T: Copy, F: FnMut(T)>(
    threads: usize,
    span: Duration,
    value: impl Fn(u64) -> T + Sync,
    prepare: impl Fn() -> F + Sync,
) -> f64 {
    let barrier = Barrier::new(threads);
    let worker = || {
        let mut call = prepare();
        let values: Vec<T> = response_times().map(&value).collect();
        barrier.wait();
        let start = Instant::now();
        let mut calls = 0;
        while start.elapsed() < span {
            for &took in black_box(&values) {
                call(took);
            }
            calls += STRIDE;
        }
        (start.elapsed(), calls)
    };
    let (time, calls) = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let done = workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"));
        done.fold((Duration::ZERO, 0), |sum, one| {
            (sum.0 + one.0, sum.1 + one.1)
        })
    });
    time.as_nanos() as f64 / calls as f64
}

fn snapshots(options: &Options, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let names = [
        format!("metrics: snapshot of {POOLS} pools of {CONNECTIONS} connections"),
        format!("metrics: p99 of lease + return while {POOLS} pools are snapshot without a pause"),
    ];
    if !names.iter().any(|name| options.wants(name)) {
        return Ok(());
    }
    let pools = (0..POOLS)
        .map(|_| pool(true))
        .collect::<Result<Vec<_>, _>>()?;
    let hub = Hub::new();
    for pool in &pools {
        hub.watch(pool);
        let lease = pool.get()?;
        PooledConnection::record(&lease, Duration::from_micros(70), Ok(()));
    }
    let mut times: Vec<f64> = (0..200)
        .map(|_| {
            let start = Instant::now();
            black_box(hub.metrics());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    table.add(Row::absolute(
        &names[0],
        Unit::Milliseconds,
        times[times.len() / 2],
        "no peer",
        None,
        Some(Goal::OursBelow(1.0)),
    ));
    let (rounds, span) = options.rounds(41, 40);
    let stop = AtomicBool::new(false);
    let busy = AtomicBool::new(false);
    let results = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                if busy.load(Relaxed) {
                    black_box(hub.metrics());
                } else {
                    thread::sleep(Duration::from_micros(50));
                }
            }
        });
        let measure = |meanwhile: bool| {
            busy.store(meanwhile, Relaxed);
            let p99 = p99_of_leases(&pools[0], span);
            busy.store(false, Relaxed);
            p99
        };
        let mut sides: [Turn<'_, f64>; 2] =
            [Box::new(|| measure(true)), Box::new(|| measure(false))];
        let results = take_turns(rounds, &mut sides);
        stop.store(true, Relaxed);
        results
    });
    table.add(Row::compared(
        &names[1],
        Unit::Nanoseconds,
        &results[0],
        "nobody looks",
        &results[1],
        Some(Goal::AtMost(2.0)),
    ));
    Ok(())
}

fn p99_of_leases(pool: &Pool<Nothing>, span: Duration) -> f64 {
    let mut times = Histogram::<u64>::new(3).expect("a histogram of three digits");
    let end = Instant::now() + span;
    loop {
        let start = Instant::now();
        drop(pool.get().expect("a lease"));
        let now = Instant::now();
        times.saturating_record((now - start).as_nanos() as u64);
        if now >= end {
            return times.value_at_quantile(0.99) as f64;
        }
    }
}
