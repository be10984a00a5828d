//! The last requests of a pool: how long each took, and whether it failed.
//!
//! A ring of numbers that all connections write. To keep them from writing the same cache
//! line, a connection claims a block of places at a time and fills it by itself; places that
//! are claimed and not yet filled are empty, and the ring is larger than the window by as much.
//!
//! A connection that pauses for long in its block goes on writing there when others have
//! claimed its places again: then one of their requests is missing from the window, which is
//! all that happens.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use super::distribution::STEP;

/// The most places in a block.
pub(crate) const BLOCK: usize = 32;
/// The most requests that a window holds, and the most writers that it makes room for.
const MOST: u32 = 1 << 20;
/// A place that holds nothing.
const EMPTY: u32 = u32::MAX;
/// The request failed.
pub(crate) const FAILED: u32 = 1 << 31;
/// The longest time that is told apart, in steps: nine minutes.
const LONGEST: u64 = FAILED as u64 - 2;

/// The last requests. Each is the steps of time that it took, and whether it [`FAILED`].
pub(crate) struct Window {
    /// A power of two of places.
    ring: Box<[AtomicU32]>,
    /// Places in a block; a power of two.
    block: u64,
    /// Places claimed so far.
    claimed: CachePadded<AtomicU64>,
}

/// What the last requests were like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// Nanoseconds that they took, in all and at most.
    pub(crate) sum: u64,
    pub(crate) max: u64,
}

impl Window {
    /// A window of so many requests, for about so many writers.
    pub(crate) fn new(requests: u32, writers: u32) -> Self {
        let (requests, writers) = (requests.clamp(1, MOST), writers.clamp(1, MOST));
        let block = (requests / (3 * writers)).clamp(1, BLOCK as u32);
        let block = 1 << block.ilog2();
        // Room for what is claimed and empty.
        let places = (requests + block * writers).next_power_of_two();
        Self {
            ring: (0..places).map(|_| AtomicU32::new(EMPTY)).collect(),
            block: u64::from(block),
            claimed: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// How many places a block has.
    pub(crate) fn block(&self) -> usize {
        self.block as usize
    }

    /// Where in its block the place with this number is.
    #[inline]
    pub(crate) fn within_block(&self, number: u64) -> usize {
        (number & (self.block - 1)) as usize
    }

    fn place(&self, number: u64) -> &AtomicU32 {
        &self.ring[number as usize & (self.ring.len() - 1)]
    }

    /// A request that succeeded after so many nanoseconds, as the window has it.
    #[inline]
    pub(crate) fn entry(took: u64) -> u32 {
        (took.saturating_sub(1) / STEP).min(LONGEST) as u32
    }

    /// Writes the place with this number.
    #[inline]
    pub(crate) fn put(&self, number: u64, entry: u32) {
        self.place(number).store(entry, Relaxed);
    }

    /// Empties a block for a writer; gives the number of its first place.
    pub(crate) fn claim(&self) -> u64 {
        let first = self.claimed.fetch_add(self.block, Relaxed);
        for number in first..first + self.block {
            self.put(number, EMPTY);
        }
        first
    }

    /// What the last so many requests were like.
    pub(crate) fn look(&self, requests: u32) -> Look {
        let mut look = Look::default();
        let end = self.claimed.load(Relaxed);
        let start = end.saturating_sub(self.ring.len() as u64);
        for number in (start..end).rev() {
            if look.requests >= u64::from(requests) {
                break;
            }
            let entry = self.place(number).load(Relaxed);
            if entry == EMPTY {
                continue;
            }
            let took = u64::from(entry & !FAILED) * STEP + STEP / 2;
            look.requests += 1;
            look.failed += u64::from(entry & FAILED != 0);
            look.sum += took;
            look.max = look.max.max(took);
        }
        look
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metrics::meter::Meter;

    #[test]
    fn the_last_requests_are_seen_and_no_others() {
        let window = Arc::new(Window::new(100, 1));
        let meter = Meter::new(Arc::clone(&window));
        assert_eq!(window.look(100), Look::default());
        for number in 0..1000_u64 {
            match number {
                0..900 => meter.failed(1_000_000),
                _ => meter.succeeded(1_000_000),
            }
        }
        let look = window.look(100);
        assert_eq!((look.requests, look.failed), (100, 0));
        assert!(look.max.abs_diff(1_000_000) <= STEP, "{look:?}");
        meter.failed(u64::MAX);
        let look = window.look(10);
        assert_eq!((look.requests, look.failed), (10, 1));
        assert!(look.max > 500_000_000_000);
    }

    #[test]
    fn writers_fill_blocks_of_their_own() {
        let window = Arc::new(Window::new(256, 4));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let meter = Meter::new(Arc::clone(&window));
                    for _ in 0..10_000 {
                        meter.succeeded(512);
                    }
                });
            }
        });
        let look = window.look(256);
        assert_eq!((look.requests, look.failed), (256, 0));
    }

    #[test]
    fn a_window_of_one_holds_the_last() {
        let window = Arc::new(Window::new(1, 10));
        let meters = [0, 1].map(|_| Meter::new(Arc::clone(&window)));
        for number in 0..100 {
            let failed = number % 3 == 0;
            match failed {
                true => meters[number % 2].failed(256),
                false => meters[number % 2].succeeded(256),
            }
            let look = window.look(1);
            assert_eq!((look.requests, look.failed == 1), (1, failed));
        }
    }
}
