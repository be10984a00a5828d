//! A process that really exceeds its limits: load is shed within two samples, and no more once
//! resources suffice again.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use millpond::health::Concern;
use millpond::resources::{self, Limits};
use millpond::{Batch, ErrorKind, Health, Hub, Operation, Pool, Priority};

use work::{Scripted, until, work};

mod work;

/// How often the library looks.
const SAMPLE: Duration = Duration::from_millis(500);

/// Within two samples, as a thread counts them that looks as often at as much: on a busy machine
/// both are late. One more is the time to the first of the two, and one for those who are told.
#[track_caller]
fn soon(what: &str, condition: impl FnMut() -> bool) {
    let (over, samples) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let stopper = Stopper(&over);
        scope.spawn(|| {
            while !over.load(Relaxed) {
                std::thread::sleep(SAMPLE);
                std::fs::read_to_string("/proc/self/status").expect("Linux");
                samples.fetch_add(1, Relaxed);
            }
        });
        until(what, condition);
        drop(stopper);
        let samples = samples.load(Relaxed);
        assert!(samples <= 4, "{what} after {samples} samples");
    });
}

struct House {
    pool: Pool<Scripted>,
    batch: Batch<Scripted>,
    hub: Hub,
}

impl House {
    fn new() -> Self {
        millpond::backend::adopt::<Scripted>();
        let pool = Pool::builder().max_size(3).min_idle(Some(0));
        let pool = pool.build(Scripted::default()).expect("opens");
        let batch = Batch::builder(pool.clone()).workers(1).build();
        let batch = batch.expect("starts");
        let hub = Hub::new();
        hub.watch(&pool);
        Self { pool, batch, hub }
    }

    fn everything_is_accepted(&self) {
        let low = work(1).priority(Priority::Low);
        assert!(
            self.batch
                .submit(low.clone())
                .expect("room")
                .wait()
                .is_done()
        );
        self.pool.execute(low).expect("runs");
        assert_eq!(self.hub.health().health, Health::Up);
    }

    fn load_is_shed(&self, concern: Concern, setting: &str) {
        let low = work(1).priority(Priority::Low);
        let refused = self.batch.submit(low.clone()).expect_err("not now");
        assert_eq!(refused.error().kind(), ErrorKind::ResourceLimit);
        let error = self.pool.execute(low).expect_err("not now");
        assert_eq!(error.kind(), ErrorKind::ResourceLimit);
        assert!(error.to_string().contains(setting), "{error}");
        let health = self.hub.health();
        assert_eq!(health.health, Health::Degraded);
        assert_eq!(health.resources[0].concern, concern);
        // What is more urgent is served.
        assert!(self.batch.submit(work(2)).expect("room").wait().is_done());
        self.pool.execute(work(2)).expect("runs");
        // With what there is: no connection is added.
        let lease = self.pool.get().expect("a lease");
        let before = self.pool.state().connections;
        assert!(self.pool.get_timeout(Duration::from_millis(100)).is_err() || before > 1);
        assert_eq!(self.pool.state().connections, before);
        drop(lease);
        assert!(self.hub.metrics().resources.refused >= 2);
    }
}

/// Ends what spins, whatever happens.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn load_is_shed_while_resources_are_short() {
    let house = House::new();
    house.everything_is_accepted();

    let used = resources::metrics().memory_bytes >> 20;
    assert!(used > 0, "a process uses memory");
    resources::set_limits(Limits::new().memory_mib(used + 100));
    let hoard = vec![7_u8; 300 << 20];
    let short = || resources::metrics().short_of_memory;
    soon("memory is short", short);
    house.load_is_shed(Concern::Memory, "PERFORMANCE_MEMORY_LIMIT_MB");
    assert!(std::hint::black_box(&hoard)[hoard.len() - 1] == 7);
    drop(hoard);
    soon("memory suffices", || !short());
    house.everything_is_accepted();
    assert_eq!(resources::metrics().sheds, 1);

    // Low, as a busy machine gives this process only a part of it.
    resources::set_limits(Limits::new().cpu_percent(5.0));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopper = Stopper(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let short = || resources::metrics().short_of_cpu;
        soon("processors are short", short);
        house.load_is_shed(Concern::Cpu, "PERFORMANCE_CPU_LIMIT_PERCENT");
        drop(stopper);
        soon("processors suffice", || !short());
    });
    house.everything_is_accepted();
    assert_eq!(resources::metrics().sheds, 2);

    // Without limits, nothing is short.
    resources::set_limits(Limits::new());
    house.everything_is_accepted();
}
