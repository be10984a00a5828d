use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use super::*;

const THREADS: usize = 40;
const ROUNDS: usize = 2_000;

impl Tally {
    /// What there is, without a view.
    fn exactly(&self) -> u64 {
        let stripe = Stripe::own();
        let others = self.look(stripe, Clock::System.now());
        self.0.of(stripe).own.load(Relaxed).wrapping_add(others)
    }
}

/// Something that is counted and can go anywhere.
struct Held(Arc<Tally>);

impl Held {
    fn new(tally: &Arc<Tally>) -> Self {
        tally.add();
        Self(Arc::clone(tally))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.remove();
    }
}

thread_local! {
    static KEPT: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
}

/// More threads than stripes, which keep things, pass them on, panic, and end with things in
/// their thread-locals, while others begin.
#[test]
fn nothing_is_counted_twice_or_forgotten() {
    let tally = Arc::new(Tally::new());
    let table = Arc::new(Mutex::new(Vec::new()));
    let live = |seed: usize| {
        let mut random = fastrand::Rng::with_seed(seed as u64);
        for _ in 0..ROUNDS {
            let held = Held::new(&tally);
            assert!(tally.count(Clock::System.coarse()) <= (THREADS * ROUNDS) as u32);
            match random.u32(..8) {
                0 => table.lock().expect("no poison").push(held),
                1 => drop(table.lock().expect("no poison").pop()),
                2 => {
                    let panics = AssertUnwindSafe(|| {
                        let _held = held;
                        std::panic::resume_unwind(Box::new(()));
                    });
                    catch_unwind(panics).expect_err("it panics");
                }
                3 => KEPT.with_borrow_mut(|kept| kept.push(held)),
                4 => drop(KEPT.with_borrow_mut(Vec::pop)),
                _ => {}
            }
        }
    };
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let live = &live;
            scope.spawn(move || {
                // One that begins when others have ended.
                live(seed);
                thread::scope(|scope| scope.spawn(move || live(seed + THREADS)).join())
                    .expect("no panic");
            });
        }
    });
    let left = std::mem::take(&mut *table.lock().expect("no poison"));
    // A scope does not wait for the ends of thread-locals.
    while Arc::strong_count(&tally) > left.len() + 1 {
        thread::yield_now();
    }
    assert_eq!(tally.exactly(), left.len() as u64);
    drop(left);
    assert_eq!(tally.exactly(), 0);
    assert_eq!(tally.count(Clock::System.coarse()), 0);
}

/// A clock at this moment.
fn at(now: Ticks) -> Clock {
    Clock::Manual(Arc::new(now.into()))
}

/// This thread's stripe, and a tally in which another thread, which lives as long as `test`,
/// adds one whenever it is told to.
fn beside_another(test: impl FnOnce(Stripe, &Tally, &dyn Fn())) {
    let tally = Tally::new();
    let (tell, told) = mpsc::channel();
    let (done, wait) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            for () in told {
                tally.add();
                done.send(()).expect("it is awaited");
            }
        });
        // Gone when this ends, however it does, and the other thread with it.
        let one_more = move || {
            tell.send(()).expect("it lives");
            wait.recv().expect("it lives");
        };
        test(Stripe::own(), &tally, &one_more);
    });
}

#[test]
fn who_asks_now_and_then_sees_everything() {
    beside_another(|own, tally, one_more| {
        for number in 1..100 {
            one_more();
            let now = Ticks::from(number) * (FRESH + 1);
            assert_eq!(tally.count_from(own, &at(now), now), number);
        }
    });
}

#[test]
fn who_asks_all_the_time_sees_its_own_at_once_and_the_others_soon() {
    const STEP: Ticks = 100;
    beside_another(|own, tally, one_more| {
        let mut now = 1_000_000;
        let coarse = now;
        let mut ask = || {
            now += STEP;
            (now, tally.count_from(own, &at(now), coarse))
        };
        for _ in 0..10_000 {
            ask();
        }
        let mut worst = 0;
        let mut own_leases = 0;
        for number in 1..100 {
            let before = ask().0;
            one_more();
            tally.add();
            own_leases += 1;
            let seen = ask().1;
            assert!(seen >= number - 1 + own_leases, "{seen}");
            let soon = loop {
                let (now, seen) = ask();
                if seen == number + own_leases {
                    break now;
                }
            };
            worst = worst.max(soon - before);
        }
        assert!((FRESH / 4..=FRESH + 2 * STEP).contains(&worst), "{worst}");
    });
}

#[test]
fn who_paused_sees_everything_once_the_coarse_clock_has_moved() {
    beside_another(|own, tally, one_more| {
        let now = 1_000_000;
        for step in 0..1000 {
            tally.count_from(own, &at(now + step * 10), now);
        }
        one_more();
        let later = now + 20_000;
        assert_eq!(tally.count_from(own, &at(later), later), 0);
        let later = later + 2 * FRESH;
        assert_eq!(tally.count_from(own, &at(later), later), 1);
    });
}
