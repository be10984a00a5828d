//! Random sequences of what callers, servers and operators do, on several threads at
//! once, against what must always hold: no connection is in two hands, there are
//! never more than allowed, and in the end none is lost.

mod scripted;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use millpond::{Error, ErrorKind, Phase, Pool, PooledConnection};
use proptest::prelude::*;
use scripted::{Act, Manager, until};

const LARGEST: u32 = 6;

#[derive(Clone, Debug)]
enum Step {
    Get(Duration),
    TryGet,
    /// Gives back the lease with this number, of those that the thread holds.
    Return(usize),
    Break(usize),
    Discard(usize),
    PanicWith(usize),
    /// The server has too much to do, says the lease with this number.
    Overload(usize),
    /// The server ends every connection.
    Kill,
    /// The next connect, check or `has_broken` fails or panics.
    Trip(Trip),
    Resize(u32),
    Clear,
    Pause,
    Resume,
    Drain,
    Sleep,
}

#[derive(Clone, Copy, Debug)]
enum Trip {
    Connect(bool),
    Check(bool),
    HasBroken,
}

fn step() -> impl Strategy<Value = Step> {
    let lease = 0..4_usize;
    prop_oneof![
        8 => (0..4_u64).prop_map(|ms| Step::Get(Duration::from_millis(ms))),
        3 => Just(Step::TryGet),
        6 => lease.clone().prop_map(Step::Return),
        1 => lease.clone().prop_map(Step::Break),
        1 => lease.clone().prop_map(Step::Discard),
        1 => lease.prop_map(Step::PanicWith),
        1 => Just(Step::Kill),
        1 => prop_oneof![
            any::<bool>().prop_map(Trip::Connect),
            any::<bool>().prop_map(Trip::Check),
            Just(Trip::HasBroken),
        ].prop_map(Step::Trip),
        1 => (1..=LARGEST).prop_map(Step::Resize),
        1 => Just(Step::Clear),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => Just(Step::Drain),
        2 => Just(Step::Sleep),
    ]
}

/// The same while the server has too much to do now and then.
fn step_of_overload() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..4_usize).prop_map(Step::Overload),
        12 => step(),
    ]
}

/// The pool, and which connections are in somebody's hands.
struct World {
    pool: Pool<Manager>,
    manager: Manager,
    held: Mutex<HashSet<u64>>,
    /// The largest size that was ever set.
    largest: AtomicU32,
}

type Lease = PooledConnection<Manager>;

impl World {
    fn held(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.held.lock().expect("no poison")
    }

    fn took(&self, lease: Lease, leases: &mut Vec<Lease>) {
        let fresh = self.held().insert(lease.number);
        assert!(fresh, "connection {} is in two hands", lease.number);
        leases.push(lease);
    }

    fn take(&self, leases: &mut Vec<Lease>, which: usize) -> Option<Lease> {
        if leases.is_empty() {
            return None;
        }
        let lease = leases.swap_remove(which % leases.len());
        // Before it can be anybody else's.
        self.held().remove(&lease.number);
        Some(lease)
    }

    fn perform(&self, step: &Step, leases: &mut Vec<Lease>) {
        match *step {
            Step::Get(timeout) => {
                let start = Instant::now();
                match self.pool.get_timeout(timeout) {
                    Ok(lease) => self.took(lease, leases),
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
                // Generous, for a machine that does other things too.
                assert!(start.elapsed() < timeout + Duration::from_secs(2));
            }
            Step::TryGet => {
                if let Some(lease) = self.pool.try_get() {
                    self.took(lease, leases);
                }
            }
            Step::Return(which) => drop(self.take(leases, which)),
            Step::Break(which) => {
                if let Some(mut lease) = self.take(leases, which) {
                    lease.broken = true;
                }
            }
            Step::Discard(which) => {
                if let Some(lease) = self.take(leases, which) {
                    PooledConnection::discard(lease);
                }
            }
            Step::PanicWith(which) => {
                if let Some(lease) = self.take(leases, which) {
                    let caught = catch_unwind(AssertUnwindSafe(|| {
                        let _lease = lease;
                        std::panic::resume_unwind(Box::new("in the caller's code"));
                    }));
                    assert!(caught.is_err());
                }
            }
            Step::Overload(which) => {
                if let Some(lease) = leases.get(which) {
                    let busy = Error::new(ErrorKind::Overloaded, Phase::Operation, "busy");
                    PooledConnection::record(lease, Duration::ZERO, Err(&busy));
                }
            }
            Step::Kill => self.manager.0.kill_all(),
            Step::Trip(trip) => self.trip(trip),
            Step::Resize(size) => {
                self.largest.fetch_max(size, SeqCst);
                self.pool.set_max_size(size);
            }
            Step::Clear => self.pool.clear(),
            Step::Pause => self.pool.pause(),
            Step::Resume => self.pool.resume(),
            Step::Drain => drop(self.pool.drain(Duration::from_millis(1))),
            Step::Sleep => std::thread::sleep(Duration::from_millis(1)),
        }
        let live = self.manager.0.live();
        let largest = self.largest.load(SeqCst);
        assert!(live <= u64::from(largest), "{live} open, {largest} allowed");
    }

    fn trip(&self, trip: Trip) {
        let act = |panics| if panics { Act::Panic } else { Act::Refuse };
        let script = &self.manager.0;
        match trip {
            Trip::Connect(panics) => script.set(|script| &script.at_connect, act(panics)),
            Trip::Check(panics) => script.set(|script| &script.at_check, act(panics)),
            Trip::HasBroken => script.set(|script| &script.at_has_broken, Act::Refuse),
        }
    }
}

/// With `detection`, whoever takes all connections in the end is given room for that soon.
fn run(threads: &[Vec<Step>], detection: Option<Duration>) {
    let manager = Manager::new();
    let pool = Pool::builder()
        .max_size(3)
        .min_idle(Some(1))
        .retry_delay(Duration::from_millis(2))
        .validation_bypass(Duration::from_millis(1))
        .deadlock_detection(detection)
        .error_handler(Box::new(millpond::NopErrorHandler))
        .build(manager.clone())
        .expect("opens");
    let world = World {
        pool,
        manager,
        held: Mutex::default(),
        largest: AtomicU32::new(3),
    };
    std::thread::scope(|scope| {
        for steps in threads {
            let world = &world;
            scope.spawn(move || {
                let mut leases = Vec::new();
                for step in steps {
                    world.perform(step, &mut leases);
                }
                while world.take(&mut leases, 0).is_some() {}
            });
        }
    });

    // Whatever happened, the pool is whole: all its connections can be leased at once.
    let World { pool, manager, .. } = world;
    for trip in [&manager.0.at_connect, &manager.0.at_check] {
        *trip.lock().expect("no poison") = None;
    }
    pool.resume();
    let all = (0..pool.max_size()).map(|_| pool.get_timeout(Duration::from_secs(10)));
    let all: Result<Vec<_>, _> = all.collect();
    let all = all.expect("every slot gives a connection");
    let distinct: HashSet<u64> = all.iter().map(|lease| lease.number).collect();
    assert_eq!(distinct.len(), all.len());
    drop(all);
    until("nothing is under way", || {
        let state = pool.state();
        state.in_care + state.closing + state.connecting + state.leased == 0
    });
    let state = pool.state();
    assert!(state.connections <= pool.max_size(), "{state}");
    assert_eq!(u64::from(state.connections), manager.0.live());
    pool.close(Duration::from_secs(10)).expect("all came back");
    assert_eq!(manager.0.live(), 0);
    let metrics = pool.metrics();
    let closed: u64 = metrics.closed.iter().map(|(_, count)| count).sum();
    assert_eq!(metrics.created, closed, "none lost, none doubled");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_one_thread_does(steps in proptest::collection::vec(step(), 1..60)) {
        run(&[steps], None);
    }

    #[test]
    fn whatever_three_threads_do(
        threads in proptest::collection::vec(proptest::collection::vec(step(), 1..40), 3)
    ) {
        run(&threads, None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 50,
        max_shrink_iters: 50,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_three_threads_do_under_overload(
        threads in proptest::collection::vec(
            proptest::collection::vec(step_of_overload(), 1..40),
            3,
        )
    ) {
        run(&threads, Some(Duration::from_millis(5)));
    }
}
