//! The last requests of a pool: how long each took, and whether it failed.
//!
//! A ring of numbers that all connections write. To keep them from writing the same cache
//! line, a connection claims a block of places at a time and fills it by itself; places that
//! are claimed and not yet filled are empty, and the ring is larger than the window by as much.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The most requests that a window holds, and the most writers that it makes room for.
const MOST: u32 = 1 << 20;
/// A place that holds nothing.
const EMPTY: u32 = u32::MAX;
/// The request failed.
const FAILED: u32 = 1 << 31;
/// The longest time that is told apart, in units of 256 ns: nine minutes.
const LONGEST: u32 = FAILED - 2;
/// The units of time, as a shift of nanoseconds.
const UNIT: u32 = 8;

/// The last requests.
pub(crate) struct Window {
    /// A power of two of places.
    ring: Box<[AtomicU32]>,
    /// Places in a block; a power of two.
    block: u32,
    /// Places claimed so far; it may wrap around.
    claimed: AtomicU32,
}

/// Where one writer of a window goes on; for a writer at a time.
#[derive(Default)]
pub(crate) struct Cursor(AtomicU32);

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
        let block = (requests / (4 * writers)).clamp(1, 16);
        let block = 1 << block.ilog2();
        // Room for what is claimed and empty.
        let places = (requests + block * writers).next_power_of_two();
        Self {
            ring: (0..places).map(|_| AtomicU32::new(EMPTY)).collect(),
            block,
            claimed: AtomicU32::new(0),
        }
    }

    fn place(&self, number: u32) -> &AtomicU32 {
        &self.ring[number as usize & (self.ring.len() - 1)]
    }

    /// Notes a request that took so many nanoseconds.
    #[inline]
    pub(crate) fn note(&self, cursor: &Cursor, took: u64, failed: bool) {
        let mut next = cursor.0.load(Relaxed);
        if next & (self.block - 1) == 0 {
            next = self.claim();
        }
        let time = (took >> UNIT).min(u64::from(LONGEST)) as u32;
        let entry = if failed { time | FAILED } else { time };
        self.place(next).store(entry, Relaxed);
        cursor.0.store(next.wrapping_add(1), Relaxed);
    }

    /// Empties a block for a writer; gives its first place.
    fn claim(&self) -> u32 {
        let first = self.claimed.fetch_add(self.block, Relaxed);
        for place in 0..self.block {
            self.place(first + place).store(EMPTY, Relaxed);
        }
        first
    }

    /// What the last so many requests were like.
    pub(crate) fn look(&self, requests: u32) -> Look {
        let mut look = Look::default();
        let end = self.claimed.load(Relaxed);
        for back in 1..=self.ring.len() as u32 {
            if look.requests >= u64::from(requests) {
                break;
            }
            let entry = self.place(end.wrapping_sub(back)).load(Relaxed);
            if entry == EMPTY {
                continue;
            }
            let took = u64::from(entry & !FAILED) << UNIT;
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
    use super::*;

    #[test]
    fn the_last_requests_are_seen_and_no_others() {
        let window = Window::new(100, 1);
        let cursor = Cursor::default();
        assert_eq!(window.look(100), Look::default());
        for number in 0..1000_u64 {
            window.note(&cursor, 1000 * 256, number < 900);
        }
        let look = window.look(100);
        assert_eq!((look.requests, look.failed), (100, 0));
        assert_eq!((look.sum, look.max), (100 * 256_000, 256_000));
        window.note(&cursor, u64::MAX, true);
        let look = window.look(10);
        assert_eq!((look.requests, look.failed), (10, 1));
        assert!(look.max > 500_000_000_000);
    }

    #[test]
    fn writers_fill_blocks_of_their_own() {
        let window = Window::new(256, 4);
        let cursors: [Cursor; 4] = Default::default();
        std::thread::scope(|scope| {
            for cursor in &cursors {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        window.note(cursor, 512, false);
                    }
                });
            }
        });
        let look = window.look(256);
        assert_eq!((look.requests, look.sum), (256, 256 * 512));
    }

    #[test]
    fn a_window_of_one_holds_the_last() {
        let window = Window::new(1, 10);
        let cursors: [Cursor; 2] = Default::default();
        for number in 0..100 {
            window.note(&cursors[number % 2], 256, number % 3 == 0);
            let look = window.look(1);
            assert_eq!((look.requests, look.failed == 1), (1, number % 3 == 0));
        }
    }

    #[test]
    fn counting_places_may_wrap_around() {
        let window = Window::new(64, 1);
        window.claimed.store(u32::MAX - 31, Relaxed);
        let cursor = Cursor::default();
        for _ in 0..200 {
            window.note(&cursor, 256, false);
        }
        assert_eq!(window.look(64).requests, 64);
    }
}
