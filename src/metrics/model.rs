//! A slot's meter under loom: one thread records, another reads, in every interleaving.

use std::sync::Arc as StdArc;
use std::sync::atomic::Ordering::{Acquire, Release};

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;

use super::distribution::Distribution;
use super::meter::Meter;
use super::window::Window;

/// Blocks of two, so that the third begins a new one.
const OPERATIONS: u64 = 3;

/// What a reader counts, if it may believe it.
fn count(meter: &Meter) -> Option<u64> {
    let mut own = Distribution::default();
    meter.try_read(&mut own).then(|| own.count())
}

/// Readers see every operation that they know of, and none twice.
#[test]
fn reading_while_recording_counts_each_operation_once() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let window = StdArc::new(Window::new(6, 1));
        assert_eq!(window.block(), 2);
        let meter = Arc::new((Meter::new(window), AtomicU64::new(0)));
        let writer = {
            let meter = Arc::clone(&meter);
            thread::spawn(move || {
                for number in 1..=OPERATIONS {
                    meter.0.succeeded(1);
                    meter.1.store(number, Release);
                }
            })
        };
        let reader = {
            let meter = Arc::clone(&meter);
            thread::spawn(move || {
                let known = meter.1.load(Acquire);
                if let Some(count) = count(&meter.0) {
                    assert!((known..=OPERATIONS).contains(&count), "{count} of {known}");
                }
            })
        };
        reader.join().expect("no panic");
        writer.join().expect("no panic");
        assert_eq!(count(&meter.0), Some(OPERATIONS));
    });
}
