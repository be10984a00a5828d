//! The last requests of a pool: how long each took, and whether it failed.
//!
//! A ring of numbers that all connections write, in the order in which they claim places: a
//! connection claims a block of them at a time, notes its requests in a place of its own
//! ([`Meter`]), and copies them when the block is full. Whoever reads looks at the notes of
//! blocks that are not full yet. So connections write the same cache line once in a block only.
//!
//! A connection that takes so long for its block that others have claimed its places again
//! does not copy it: its requests are too few to matter.

use std::sync::atomic::Ordering::Relaxed;

use super::distribution::STEP;
use super::meter::Meter;
use crate::sync::{AtomicU32, AtomicU64};

/// The most places in a block.
pub(crate) const BLOCK: usize = if cfg!(millpond_loom) { 2 } else { 32 };
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
    claimed: AtomicU64,
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

impl Look {
    fn take_in(&mut self, entry: u32) {
        let took = u64::from(entry & !FAILED) * STEP + STEP / 2;
        self.requests += 1;
        self.failed += u64::from(entry & FAILED != 0);
        self.sum += took;
        self.max = self.max.max(took);
    }
}

impl Window {
    /// A window of so many requests, for about so many writers.
    pub(crate) fn new(requests: u32, writers: u32) -> Self {
        let (requests, writers) = (requests.clamp(1, MOST), writers.clamp(1, MOST));
        let block = (requests / (3 * writers)).clamp(1, BLOCK as u32);
        let block = 1 << block.ilog2();
        // Room for blocks that are not full.
        let places = (requests + block * writers).next_power_of_two();
        Self {
            ring: (0..places).map(|_| AtomicU32::new(EMPTY)).collect(),
            block: u64::from(block),
            claimed: AtomicU64::new(0),
        }
    }

    /// How many places a block has.
    #[inline]
    pub(crate) fn block(&self) -> usize {
        self.block as usize
    }

    /// A request that succeeded after so many nanoseconds, as the window has it.
    #[inline]
    pub(crate) fn entry(took: u64) -> u32 {
        (took / STEP).min(LONGEST) as u32
    }

    /// Claims a block for a writer; gives the number of its first place.
    pub(crate) fn claim(&self) -> u64 {
        self.claimed.fetch_add(self.block, Relaxed)
    }

    fn places(&self, first: u64) -> &[AtomicU32] {
        // Blocks begin at multiples of their size, which divides the ring's.
        let from = first as usize & (self.ring.len() - 1);
        &self.ring[from..][..self.block as usize]
    }

    /// Copies a full block into the places that begin with this one.
    pub(crate) fn fill(&self, first: u64, notes: &[AtomicU32]) {
        if self.claimed.load(Relaxed) - first > self.ring.len() as u64 {
            return;
        }
        for (place, note) in self.places(first).iter().zip(notes) {
            place.store(note.load(Relaxed), Relaxed);
        }
    }

    /// What the last so many requests were like; `writers` are all that write here.
    pub(crate) fn look<'a>(&self, requests: u32, writers: impl Iterator<Item = &'a Meter>) -> Look {
        let open: Vec<(u64, &[AtomicU32])> = writers.filter_map(Meter::open_block).collect();
        let mut look = Look::default();
        let end = self.claimed.load(Relaxed);
        let start = end.saturating_sub(self.ring.len() as u64);
        for block in (start / self.block..end / self.block).rev() {
            let first = block * self.block;
            let notes = open.iter().find(|(block, _)| *block == first);
            let places = notes.map_or_else(|| self.places(first), |(_, notes)| notes);
            for place in places.iter().rev() {
                if look.requests >= u64::from(requests) {
                    return look;
                }
                match place.load(Relaxed) {
                    EMPTY => {}
                    entry => look.take_in(entry),
                }
            }
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
        assert_eq!(window.look(100, [&meter].into_iter()), Look::default());
        for number in 0..1000_u64 {
            match number {
                0..900 => meter.failed(1_000_000),
                _ => meter.succeeded(1_000_000),
            }
        }
        let look = window.look(100, [&meter].into_iter());
        assert_eq!((look.requests, look.failed), (100, 0));
        assert!(look.max.abs_diff(1_000_000) <= STEP, "{look:?}");
        meter.failed(u64::MAX);
        let look = window.look(10, [&meter].into_iter());
        assert_eq!((look.requests, look.failed), (10, 1));
        assert!(look.max > 500_000_000_000);
    }

    #[test]
    fn writers_fill_blocks_of_their_own() {
        let window = Arc::new(Window::new(256, 4));
        let meters: Vec<_> = (0..4).map(|_| Meter::new(Arc::clone(&window))).collect();
        std::thread::scope(|scope| {
            for meter in &meters {
                scope.spawn(|| {
                    for _ in 0..10_001 {
                        meter.succeeded(512);
                    }
                });
            }
        });
        let look = window.look(256, meters.iter());
        assert_eq!((look.requests, look.failed), (256, 0));
    }

    #[test]
    fn a_window_of_one_holds_the_last() {
        let window = Arc::new(Window::new(1, 10));
        let meters = [0, 1].map(|_| Meter::new(Arc::clone(&window)));
        for number in 0..100 {
            let failed = number % 3 == 0;
            if failed {
                meters[number % 2].failed(256);
            } else {
                meters[number % 2].succeeded(256);
            }
            let look = window.look(1, meters.iter());
            assert_eq!((look.requests, look.failed == 1), (1, failed));
        }
    }
}
