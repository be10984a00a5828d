//! Stripes under loom: threads that come, count and end, in every interleaving.

use std::sync::atomic::Ordering::Relaxed;

use loom::sync::Arc;
use loom::thread;

use super::{Alive, Stripe, Stripes};
use crate::sync::{AtomicU64, Mutex};

/// One less.
const LESS: u64 = u64::MAX;

struct World {
    alive: Mutex<Alive>,
    sum: Stripes<AtomicU64>,
    /// What the next thread is to end.
    passed_on: Mutex<u32>,
}

impl World {
    fn add(&self, stripe: Stripe, what: u64) {
        stripe.add(self.sum.of(stripe), what);
    }

    fn sum(&self) -> u64 {
        let others = self.sum.others(Stripe::SHARED);
        let others = others.map(|part| part.load(Relaxed));
        others.fold(self.sum.of(Stripe::SHARED).load(Relaxed), u64::wrapping_add)
    }

    /// A thread's life: it takes two things and passes one of them on, ends the other one or what
    /// somebody else passed on, and ends another one when its stripe is not its own any more.
    fn live(&self) {
        let stripe = self.alive.lock().enlist();
        self.add(stripe, 1);
        self.add(stripe, 1);
        *self.passed_on.lock() += 1;
        let mut passed_on = self.passed_on.lock();
        let ours = *passed_on > 0;
        *passed_on -= u32::from(ours);
        drop(passed_on);
        if ours {
            self.add(stripe, LESS);
        }
        self.alive.lock().dismiss(stripe);
        self.add(Stripe::SHARED, LESS);
    }
}

/// There is one private stripe: the second thread gets it when the first has ended, or shares the
/// other one.
#[test]
fn sums_do_not_drift_while_threads_come_and_go() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let world = Arc::new(World {
            alive: Mutex::new(Alive::nobody()),
            sum: Stripes::new(|_| AtomicU64::new(0)),
            passed_on: Mutex::new(0),
        });
        let threads = [(); 2].map(|()| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.live())
        });
        // Whoever looks meanwhile may see a part of it.
        let seen = world.sum().cast_signed();
        assert!((-4..=4).contains(&seen), "{seen}");
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(world.sum(), u64::from(*world.passed_on.lock()));
        assert_eq!(world.sum(), 0);
    });
}
