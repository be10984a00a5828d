//! What a connection's slot counts: how long its leases and operations take.
//!
//! Only the slot's owner of the moment writes it, so recording is a few plain loads and stores,
//! on cache lines that no other lease touches. An operation is only noted at first; each time a
//! block of the pool's [`Window`] is full, its notes are added to the histogram, which costs
//! less for many at once. Whoever reads counts what is noted on top.
//!
//! `version` tells a reader that notes were added meanwhile, so that it reads again: a sequence
//! lock ("Can Seqlocks Get Along with Programming Language Memory Models?", Boehm, 2012). The
//! writer never waits.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use super::distribution::Distribution;
use super::histogram::Histogram;
use super::window::{BLOCK, FAILED, Window};
use crate::sync::{AtomicU32, AtomicU64, fence};

/// So often a reader tries at once to read while nothing is added; it takes a fraction of the time
/// that a block of operations does.
const TRIES: usize = 100;
/// So often it tries again after a pause, in case the writer was interrupted while it added.
const PATIENT_TRIES: usize = 300;
const PAUSE: Duration = Duration::from_micros(100);

/// The counters of a slot.
pub(crate) struct Meter {
    /// How long leases are held.
    pub(crate) use_time: Histogram,
    /// The pool's last requests.
    window: Arc<Window>,
    /// Odd while notes are being added.
    version: AtomicU64,
    /// Where the block under way begins in the window.
    first: AtomicU64,
    /// Notes in a block.
    block: u32,
    /// Notes of the block under way; a full block before there is one.
    noted: AtomicU32,
    /// The operations of the block, as the window has them.
    notes: [AtomicU32; BLOCK],
    /// How long operations took that succeeded, before those that are noted.
    response_time: Histogram,
}

impl Meter {
    /// Counters of a slot whose operations are also noted in this window.
    pub(crate) fn new(window: Arc<Window>) -> Self {
        Self {
            use_time: Histogram::default(),
            version: AtomicU64::new(0),
            first: AtomicU64::new(0),
            block: window.block() as u32,
            noted: AtomicU32::new(window.block() as u32),
            window,
            notes: std::array::from_fn(|_| AtomicU32::new(0)),
            response_time: Histogram::default(),
        }
    }

    /// An operation succeeded after so many nanoseconds.
    #[inline]
    pub(crate) fn succeeded(&self, took: u64) {
        self.note(Window::entry(took));
    }

    /// An operation failed after so many nanoseconds; it is counted by its kind elsewhere.
    pub(crate) fn failed(&self, took: u64) {
        self.note(Window::entry(took) | FAILED);
    }

    #[inline]
    fn note(&self, entry: u32) {
        let noted = self.noted.load(Relaxed);
        if noted == self.block {
            self.begin_block(entry);
            return;
        }
        self.notes[noted as usize % BLOCK].store(entry, Relaxed);
        // After the note, for readers.
        self.noted.store(noted + 1, Release);
    }

    /// Adds what is noted to the histogram and to the window, and begins a new block.
    #[cold]
    #[inline(never)]
    fn begin_block(&self, entry: u32) {
        let version = self.version.load(Relaxed);
        let notes = match version {
            0 => &[],
            _ => &self.notes[..self.window.block()],
        };
        self.window.fill(self.first.load(Relaxed), notes);
        self.version.store(version + 1, Relaxed);
        // Whoever sees something of what follows sees the odd version too.
        fence(Release);
        let notes = notes.iter().map(|note| note.load(Relaxed));
        self.response_time
            .record_steps_alone(notes.filter(|note| note & FAILED == 0));
        self.first.store(self.window.claim(), Relaxed);
        self.notes[0].store(entry, Relaxed);
        self.noted.store(1, Relaxed);
        self.version.store(version + 2, Release);
    }

    /// What is noted of the block under way.
    fn notes(&self) -> &[AtomicU32] {
        // Before the first block it counts as full and has nothing.
        let noted = self.noted.load(Acquire);
        if self.version.load(Relaxed) < 2 {
            return &[];
        }
        &self.notes[..noted as usize % (BLOCK + 1)]
    }

    /// The block under way: the number of its first place, and what is noted.
    pub(crate) fn open_block(&self) -> Option<(u64, &[AtomicU32])> {
        let notes = self.notes();
        (!notes.is_empty()).then(|| (self.first.load(Relaxed), notes))
    }

    /// Adds how long operations took to a distribution.
    pub(crate) fn read_response_time(&self, all: &mut Distribution) {
        let mut own = Distribution::default();
        for tried in 0..TRIES + PATIENT_TRIES {
            if self.try_read(&mut own) {
                break;
            }
            if tried < TRIES {
                std::hint::spin_loop();
            } else {
                std::thread::sleep(PAUSE);
            }
        }
        all.add(&own);
    }

    /// Reads how long operations took; whether nothing was being added meanwhile.
    pub(super) fn try_read(&self, own: &mut Distribution) -> bool {
        let version = self.version.load(Acquire);
        own.clear();
        self.response_time.read_into(own);
        for note in self.notes().iter().map(|note| note.load(Relaxed)) {
            if note & FAILED == 0 {
                own.add_step(note);
            }
        }
        fence(Acquire);
        version.is_multiple_of(2) && self.version.load(Relaxed) == version
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn read(meter: &Meter) -> Distribution {
        let mut all = Distribution::default();
        meter.read_response_time(&mut all);
        all
    }

    #[test]
    fn what_is_noted_is_read_at_once() {
        for requests in [1, 10, 100, 1000, 100_000] {
            let window = Arc::new(Window::new(requests, 1));
            let meter = Meter::new(Arc::clone(&window));
            for number in 1..=200 {
                meter.succeeded(1_000_000);
                meter.failed(5_000_000_000);
                let all = read(&meter);
                assert_eq!(all.count(), number);
                assert!(
                    (all.mean() - 1e-3).abs() < 1e-6 && all.max() < 1.001e-3,
                    "{all}"
                );
            }
            let look = window.look(requests.min(100), [&meter].into_iter());
            assert_eq!(look.requests, u64::from(requests.min(100)));
        }
    }

    #[test]
    fn readers_never_see_a_count_go_backwards() {
        let meter = Meter::new(Arc::new(Window::new(1000, 8)));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut last, mut reads) = (0, 0);
                while !stop.load(Relaxed) {
                    let count = read(&meter).count();
                    assert!(count >= last, "{count} after {last}");
                    last = count;
                    reads += 1;
                }
                reads
            });
            for number in 0..3_000_000 {
                meter.succeeded(number % 50_000_000);
            }
            stop.store(true, Relaxed);
            assert!(reader.join().expect("no panic") > 0);
        });
        assert_eq!(read(&meter).count(), 3_000_000);
    }
}
