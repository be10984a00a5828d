use std::thread;
use std::time::Instant;

use r2d2_sqlite::SqliteConnectionManager;

use super::*;
use crate::error::Phase;
use crate::{Breaker, BreakerState, Pool, PooledConnection};

const MS: Ticks = 1_000_000;
const MAX: u32 = 20;

/// A limit, and a server that answers to it.
#[derive(Default)]
struct Scene {
    limit: Limit,
    now: Ticks,
    leases: u64,
}

impl Scene {
    fn look(&self, in_use: u32) -> Look {
        Look {
            max_size: MAX,
            in_use,
            hold: Duration::from_millis(10),
            leases: self.leases,
        }
    }

    fn most(&self) -> u32 {
        self.limit.most().min(MAX)
    }

    fn refused(&mut self, in_use: u32) -> Option<Change> {
        let look = self.look(in_use);
        self.limit.operation_refused(self.now, "busy", || look)
    }

    fn full(&mut self, open: u32) -> Option<Change> {
        self.limit.connect_refused(open, MAX, self.now, "full")
    }

    /// Time passes, a tenth of a second at a time, with so many leases each.
    fn pass(&mut self, millis: u64, leases: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        for _ in 0..millis / 100 {
            self.now += 100 * MS;
            self.leases += leases;
            changes.extend(self.limit.step(self.now, &self.look(0)).0);
        }
        changes
    }
}

#[test]
fn one_overload_counts_once() {
    let mut scene = Scene::default();
    assert_eq!(scene.refused(20), Some(Change::Begun));
    assert_eq!(scene.most(), 14);
    // The others that were under way then.
    for in_use in (1..20).rev() {
        assert_eq!(scene.refused(in_use), None);
    }
    scene.now += 26 * MS;
    assert_eq!(scene.refused(14), Some(Change::Lowered));
    assert_eq!(scene.most(), 9);
    // What counts is what was in use, not what might have been.
    scene.now += 26 * MS;
    assert_eq!(scene.refused(4), Some(Change::Lowered));
    assert_eq!(scene.most(), 2);
}

#[test]
fn a_long_lease_is_one_overload_too() {
    let mut scene = Scene::default();
    let slow = Look {
        hold: Duration::from_secs(2),
        ..scene.look(20)
    };
    let mut at = |seconds: u64| {
        let now = seconds * 1000 * MS;
        scene.limit.operation_refused(now, "busy", || slow)
    };
    assert_eq!(at(1), Some(Change::Begun));
    assert_eq!(at(2), None);
    assert_eq!(at(3), Some(Change::Lowered));
}

#[test]
fn it_never_falls_below_one() {
    let mut scene = Scene::default();
    for _ in 0..100 {
        scene.refused(MAX);
        scene.full(0);
        scene.now += 1000 * MS;
        assert!(scene.most() >= 1);
    }
    assert_eq!(scene.most(), 1);
    // Where there is one at most, there is nothing to lower.
    let mut alone = Limit::default();
    let look = || Look {
        max_size: 1,
        ..Scene::default().look(1)
    };
    assert_eq!(alone.operation_refused(MS, "busy", look), None);
    assert!(alone.low.is_none());
}

#[test]
fn it_grows_with_what_succeeds_and_is_forgotten() {
    let mut scene = Scene::default();
    scene.refused(MAX);
    // The first look only notes where it stands; then ten leases each are one more.
    assert_eq!(scene.pass(100, 1000), []);
    assert_eq!(scene.pass(200, 70), [Change::Raised]);
    assert_eq!(scene.most(), 15);
    assert_eq!(scene.pass(100, 149), []);
    assert_eq!(scene.pass(100, 1), [Change::Raised]);
    assert_eq!(scene.pass(300, 1000), [const { Change::Raised }; 3]);
    assert_eq!(scene.most(), MAX - 1);
    // As many as were too many are not tried so soon.
    assert_eq!(scene.pass(900, 1000), []);
    assert_eq!(scene.pass(100, 1000), [Change::Raised]);
    assert_eq!(scene.pass(4900, 1000), []);
    let lasted = Duration::from_millis(6800);
    assert_eq!(scene.pass(100, 1000), [Change::Lifted(lasted)]);
    assert!(scene.limit.low.is_none());
}

#[test]
fn it_grows_without_traffic_too() {
    let mut scene = Scene::default();
    scene.refused(MAX);
    assert_eq!(scene.pass(900, 0), []);
    assert_eq!(scene.pass(100, 0), [Change::Raised]);
    // However long leases are.
    for _ in 0..5 {
        let endless = Look {
            hold: Duration::from_secs(3600),
            ..scene.look(MAX)
        };
        scene.now += 9_900 * MS;
        assert_eq!(scene.limit.step(scene.now, &endless).0, None);
        scene.now += 100 * MS;
        let change = scene.limit.step(scene.now, &endless).0;
        assert_eq!(change, Some(Change::Raised));
    }
}

#[test]
fn refusals_begin_the_wait_anew() {
    let mut scene = Scene::default();
    scene.refused(MAX);
    for _ in 0..50 {
        assert_eq!(scene.pass(100, 139), []);
        scene.limit.goes_on(scene.now);
    }
    assert_eq!(scene.most(), 14);
}

#[test]
fn what_is_open_is_the_limit_where_a_connect_is_refused() {
    let mut scene = Scene::default();
    assert_eq!(scene.full(8), Some(Change::Begun));
    assert_eq!(scene.full(7), Some(Change::Lowered));
    assert_eq!(scene.most(), 7);
    // Traffic says nothing about whether there is room: one is tried each second.
    assert_eq!(scene.pass(900, 10_000), []);
    assert_eq!(scene.pass(100, 10_000), [Change::Raised]);
    assert_eq!(scene.full(7), Some(Change::Lowered));
    assert_eq!(scene.pass(1000, 10_000), [Change::Raised]);
    // Once it has taken one more, the next are tried soon.
    assert_eq!(scene.pass(300, 10_000), [const { Change::Raised }; 3]);
    assert_eq!(scene.most(), 11);
}

#[test]
fn it_leaves_room_for_threads_that_take_several() {
    let mut scene = Scene::default();
    scene.refused(2);
    assert_eq!(scene.most(), 1);
    scene.limit.make_room(6);
    assert_eq!(scene.most(), 6);
    scene.now += 1000 * MS;
    scene.refused(6);
    assert_eq!(scene.most(), 6);
    // Not where the server has no more.
    scene.full(3);
    assert_eq!(scene.most(), 3);
}

/// Programs that want all that they can get share a server that bears 20 at once, in steps of a
/// tenth of a second.
#[test]
fn those_that_share_a_server_get_equal_shares() {
    const BEARS: u32 = 20;
    let mut early = Scene::default();
    let mut late = Scene::default();
    late.refused(2);
    let mut total = [0_u32; 2];
    let mut refusals = 0;
    for round in 0..20_000 {
        let wanted = [early.most(), late.most()];
        let refused = wanted.iter().sum::<u32>() > BEARS;
        refusals += u32::from(refused);
        for (scene, all) in [&mut early, &mut late].into_iter().zip(&mut total) {
            let in_use = scene.most();
            if refused {
                scene.refused(in_use);
            }
            scene.pass(100, 500);
            if round >= 1000 {
                *all += in_use;
            }
        }
    }
    let [early, late] = total.map(|all| f64::from(all) / 19_000.0);
    assert!((early - late).abs() < 0.5, "{early} and {late}");
    assert!(early + late > 0.7 * f64::from(BEARS), "{early} and {late}");
    assert!(refusals < 20_000 / 5, "{refusals} of 20000 were too many");
}

/// A pool of so many, of which each lease is a connection of its own.
fn pool_of(max_size: u32, breaker: Breaker) -> Pool<SqliteConnectionManager> {
    let builder = Pool::builder().max_size(max_size).breaker(breaker);
    builder
        .build(SqliteConnectionManager::memory())
        .expect("opens")
}

/// All that there may be are in use, and an operation on one of them is refused.
fn overload(pool: &Pool<SqliteConnectionManager>, others: u32) -> u32 {
    let count = pool.state().limit - others;
    let leases: Vec<_> = (0..count).map(|_| pool.get().expect("a lease")).collect();
    let busy = Error::new(ErrorKind::Overloaded, Phase::Operation, "busy");
    PooledConnection::record(&leases[0], Duration::from_millis(1), Err(&busy));
    pool.state().limit
}

#[test]
fn a_lease_that_is_kept_does_not_make_the_others_look_long() {
    let pool = pool_of(10, Breaker::new());
    let kept = pool.get().expect("a lease");
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(overload(&pool, 1), 7);
    thread::sleep(Duration::from_millis(60));
    assert_eq!(overload(&pool, 1), 4);
    drop(kept);
}

#[test]
fn it_grows_while_nobody_asks_the_circuit_breaker() {
    let pause = Duration::from_millis(10);
    let breaker = Breaker::new()
        .failures(1)
        .lasting(Duration::ZERO)
        .open_for(pause, pause);
    let pool = pool_of(4, breaker);
    assert_eq!(overload(&pool, 0), 2);
    let busy = Error::new(ErrorKind::Overloaded, Phase::Operation, "busy");
    let pass = pool.admit().expect("closed");
    pool.call_ends(pass, None, Err(&busy));
    assert_eq!(pool.metrics().breaker, BreakerState::Open);
    // From here on the program takes leases, which no circuit breaker is asked about.
    let until = Instant::now() + Duration::from_secs(5);
    while pool.state().limit == 2 {
        drop(pool.get().expect("a lease"));
        assert!(Instant::now() < until, "it stays where it is");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(pool.metrics().breaker, BreakerState::Open);
}
