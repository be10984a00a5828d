//! The four pools of nothing, behind one face: a thread takes leases and returns
//! them for as long as it is told to.
//!
//! The asynchronous pools get the most favourable way to be used from threads: one
//! `Handle::block_on` for a thread's whole life, not one per lease, on a runtime of
//! two workers that does nothing else.

use std::error::Error;
use std::hint::black_box;

use tokio::runtime::{Builder, Runtime};

use super::nothing::Nothing;

/// What a thread does around its leases.
pub(crate) trait Work {
    /// Whether to take another lease.
    fn goes_on(&mut self) -> bool;

    /// Called with the lease in hand.
    fn holding(&mut self) {}
}

pub(crate) trait Lender: Sync {
    /// Takes and returns leases on this thread while the work goes on.
    fn lend(&self, work: &mut impl Work);
}

impl Lender for millpond::Pool<Nothing> {
    fn lend(&self, work: &mut impl Work) {
        while work.goes_on() {
            let lease = black_box(self.get().expect("a lease"));
            work.holding();
            drop(lease);
        }
    }
}

impl Lender for r2d2::Pool<Nothing> {
    fn lend(&self, work: &mut impl Work) {
        while work.goes_on() {
            let lease = black_box(self.get().expect("a lease"));
            work.holding();
            drop(lease);
        }
    }
}

/// A pool that needs a runtime.
pub(crate) struct Asynchronous<P> {
    pool: P,
    runtime: Runtime,
}

impl Lender for Asynchronous<deadpool::managed::Pool<Nothing>> {
    fn lend(&self, work: &mut impl Work) {
        self.runtime.handle().block_on(async {
            while work.goes_on() {
                let lease = black_box(self.pool.get().await.expect("a lease"));
                work.holding();
                drop(lease);
            }
        });
    }
}

impl Lender for Asynchronous<bb8::Pool<Nothing>> {
    fn lend(&self, work: &mut impl Work) {
        self.runtime.handle().block_on(async {
            while work.goes_on() {
                let lease = black_box(self.pool.get().await.expect("a lease"));
                work.holding();
                drop(lease);
            }
        });
    }
}

/// The pools, each with so many connections open.
pub(crate) struct Lenders {
    /// With its defaults.
    pub(crate) millpond: millpond::Pool<Nothing>,
    /// With `test_on_check_out(false)`.
    pub(crate) r2d2: r2d2::Pool<Nothing>,
    /// With its defaults.
    pub(crate) deadpool: Asynchronous<deadpool::managed::Pool<Nothing>>,
    /// With `test_on_check_out(false)`.
    pub(crate) bb8: Asynchronous<bb8::Pool<Nothing>>,
}

impl Lenders {
    pub(crate) fn build(connections: u32) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            millpond: millpond::Pool::builder()
                .max_size(connections)
                .build(Nothing)?,
            r2d2: r2d2::Pool::builder()
                .max_size(connections)
                .test_on_check_out(false)
                .build(Nothing)?,
            deadpool: deadpool(connections as usize)?,
            bb8: bb8(connections)?,
        })
    }
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

fn deadpool(
    connections: usize,
) -> Result<Asynchronous<deadpool::managed::Pool<Nothing>>, Box<dyn Error>> {
    let runtime = runtime()?;
    let pool = deadpool::managed::Pool::builder(Nothing)
        .max_size(connections)
        .build()?;
    // It opens connections only while all others are in use.
    runtime.block_on(async {
        let mut leases = Vec::new();
        for _ in 0..connections {
            leases.push(pool.get().await);
        }
    });
    Ok(Asynchronous { pool, runtime })
}

fn bb8(connections: u32) -> Result<Asynchronous<bb8::Pool<Nothing>>, Box<dyn Error>> {
    let runtime = runtime()?;
    let pool = runtime.block_on(
        bb8::Pool::builder()
            .max_size(connections)
            .min_idle(Some(connections))
            .test_on_check_out(false)
            .build(Nothing),
    )?;
    Ok(Asynchronous { pool, runtime })
}
