//! What a pool does by the clock, on a clock that is moved by hand. The keeper does
//! not know these pools: each test visits them itself.

use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use r2d2::ManageConnection;

use super::CloseReason;
use super::entry::Entry;
use super::settings::Settings;
use super::shared::Shared;
use crate::clock::{Clock, Ticks, between, ticks};

#[derive(Default)]
struct Plain {
    connects: AtomicU64,
    attempts: AtomicU64,
    pings: AtomicU64,
    refuses: AtomicBool,
    dead_below: AtomicU64,
    /// Pings and connects wait while this is set.
    slow: AtomicBool,
}

impl Plain {
    fn wait(&self) {
        while self.slow.load(SeqCst) {
            std::thread::yield_now();
        }
    }
}

struct Manager(Arc<Plain>);

impl ManageConnection for Manager {
    type Connection = u64;
    type Error = io::Error;

    fn connect(&self) -> io::Result<u64> {
        self.0.attempts.fetch_add(1, SeqCst);
        if self.0.refuses.load(SeqCst) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.0.wait();
        Ok(self.0.connects.fetch_add(1, SeqCst))
    }

    fn is_valid(&self, number: &mut u64) -> io::Result<()> {
        self.0.pings.fetch_add(1, SeqCst);
        self.0.wait();
        if *number < self.0.dead_below.load(SeqCst) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

struct House {
    shared: Arc<Shared<Manager>>,
    plain: Arc<Plain>,
    now: Arc<AtomicU64>,
}

const START: Ticks = 1_000_000_000_000;

fn seconds(seconds: f64) -> Ticks {
    ticks(Duration::from_secs_f64(seconds))
}

fn house(size: u32, change: impl FnOnce(&mut Settings<Manager>)) -> House {
    let plain = Arc::new(Plain::default());
    let mut settings = Settings {
        max_size: size,
        max_lifetime: None,
        idle_timeout: None,
        keepalive_interval: None,
        ..Settings::default()
    };
    change(&mut settings);
    let now = Arc::new(AtomicU64::new(START));
    let clock = Clock::Manual(Arc::clone(&now));
    let shared = Shared::new(settings, Manager(Arc::clone(&plain)), clock);
    House { shared, plain, now }
}

/// A house with all its connections open.
fn full_house(size: u32, change: impl FnOnce(&mut Settings<Manager>)) -> House {
    let house = house(size, change);
    house.settle(|| house.shared.state().idle_connections == size);
    house
}

impl House {
    fn at(&self, moment: f64) -> Ticks {
        let now = START + seconds(moment);
        self.now.store(now, SeqCst);
        now
    }

    /// Moves the clock and does what the keeper would do; says in how many seconds it
    /// would come again.
    fn visit(&self, moment: f64) -> f64 {
        let now = self.at(moment);
        between(now, self.shared.round(now)).as_secs_f64()
    }

    /// Waits for the crew.
    #[track_caller]
    fn settle(&self, done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            self.shared.stir(self.shared.clock.now());
            assert!(start.elapsed() < Duration::from_secs(10), "in vain");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn idle(&self) -> u32 {
        self.shared.state().idle_connections
    }

    fn in_work(&self) -> u32 {
        let state = self.shared.state();
        state.in_care + state.closing + state.connecting
    }

    fn closed_by(&self, reason: CloseReason) -> u64 {
        self.shared.counters.closed()[reason as usize].1
    }

    fn take(&self) -> Option<Box<Entry<Manager>>> {
        self.shared.take(self.shared.clock.now())
    }

    /// The same before what is in work can come back.
    fn take_meanwhile(&self) -> Option<Box<Entry<Manager>>> {
        self.plain.slow.store(true, SeqCst);
        let taken = self.take();
        self.plain.slow.store(false, SeqCst);
        taken
    }
}

#[test]
fn lifetimes_end_in_time_and_not_together() {
    let house = full_house(40, |settings| {
        settings.max_lifetime = Some(Duration::from_secs(100));
        settings.min_idle = Some(40);
    });
    house.visit(89.9);
    assert_eq!(house.plain.connects.load(SeqCst), 40);
    house.visit(95.0);
    house.settle(|| house.in_work() == 0);
    let early = house.closed_by(CloseReason::Expired);
    assert!((5..=35).contains(&early), "{early} of 40 in the first half");
    house.visit(100.0);
    house.settle(|| house.closed_by(CloseReason::Expired) == 40);
    house.settle(|| house.idle() == 40);
}

#[test]
fn an_expired_connection_is_not_leased() {
    let house = full_house(1, |settings| {
        settings.max_lifetime = Some(Duration::from_secs(100));
    });
    house.at(100.0);
    assert!(house.take_meanwhile().is_none());
    house.settle(|| house.idle() == 1);
    assert_eq!(house.take().map(|entry| entry.conn), Some(1));
}

#[test]
fn idle_ones_end_within_a_tenth_of_the_timeout() {
    let house = full_house(30, |settings| {
        settings.idle_timeout = Some(Duration::from_secs(100));
        settings.test_on_check_out = Some(false);
    });
    house.visit(99.9);
    assert_eq!(house.closed_by(CloseReason::Idle), 0);
    // One is used meanwhile.
    let entry = house.take().expect("an idle one");
    let used = entry.id;
    let lease = house
        .shared
        .lease(entry, Location::caller(), 0, START)
        .expect("no hook");
    drop(lease);
    house.visit(110.1);
    house.settle(|| house.closed_by(CloseReason::Idle) == 29 && house.idle() == 30);
    let mut all = std::iter::from_fn(|| house.take());
    assert!(all.any(|entry| entry.id == used));
}

#[test]
fn pings_keep_idle_connections_alive_two_at_a_time() {
    let house = full_house(10, |settings| {
        settings.keepalive_interval = Some(Duration::from_secs(60));
    });
    house.visit(59.9);
    assert_eq!(house.in_work(), 0);
    house.plain.slow.store(true, SeqCst);
    let next = house.visit(60.0);
    assert_eq!(house.in_work(), 2, "the others stay for callers");
    assert!(next < 0.1, "soon again: {next} s");
    house.plain.slow.store(false, SeqCst);
    for _ in 0..20 {
        house.settle(|| house.in_work() == 0);
        house.visit(60.0);
    }
    house.settle(|| house.in_work() == 0);
    assert_eq!(house.plain.pings.load(SeqCst), 10, "one for each");
    assert_eq!(house.idle(), 10);
    let next = house.visit(61.0);
    assert!(next <= 59.0, "the next ping, in {next} s");
}

#[test]
fn who_was_used_lately_is_not_checked_and_the_others_are() {
    let house = full_house(1, |_| ());
    house.at(0.49);
    house
        .shared
        .put(house.take().expect("fresh"), START + seconds(0.49));
    assert_eq!(house.plain.pings.load(SeqCst), 0);
    house.at(0.51);
    assert!(house.take_meanwhile().is_none(), "it is being checked");
    house.settle(|| house.idle() == 1);
    assert_eq!(house.plain.pings.load(SeqCst), 1);
    assert!(house.take().is_some(), "fresh again");
}

#[test]
fn one_dead_connection_makes_all_that_were_idle_suspect() {
    let house = full_house(5, |_| ());
    house.plain.dead_below.store(5, SeqCst);
    let now = house.at(0.4);
    let mut all: Vec<_> = (0..5).map(|_| house.take().expect("fresh")).collect();
    let mut old = all.pop().expect("five");
    old.fresh_at = START - seconds(1.0);
    house.shared.put(old, now);
    assert!(house.take_meanwhile().is_none(), "it is being checked");
    house.settle(|| house.closed_by(CloseReason::Invalid) == 1);
    // These look fresh: they were used within the bypass window.
    for entry in all {
        house.shared.put(entry, now);
    }
    house.settle(|| {
        let all: Vec<_> = std::iter::from_fn(|| house.take()).collect();
        for entry in all {
            assert!(entry.conn >= 5, "a dead one was leased");
            house.shared.put(entry, now);
        }
        house.closed_by(CloseReason::Invalid) == 5 && house.idle() == 5
    });
}

#[test]
fn attempts_thin_out_while_the_server_is_away() {
    let house = house(1, |settings| settings.min_idle = Some(1));
    house.plain.refuses.store(true, SeqCst);
    house.shared.stir(START);
    let (mut moment, mut attempts) = (0.0, Vec::new());
    while moment < 60.0 {
        let before = house.plain.attempts.load(SeqCst);
        let start = Instant::now();
        while house.in_work() > 0 || house.shared.ledger.lock().connecting > 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "in vain");
            std::thread::yield_now();
        }
        attempts.push(before);
        moment += house.visit(moment).clamp(0.001, 30.0);
        house.visit(moment);
    }
    let made = house.plain.attempts.load(SeqCst);
    // The circuit breaker is open: full jitter up to half a second, four a second in the mean.
    assert!((120..=360).contains(&made), "{made} attempts in a minute");
    house.plain.refuses.store(false, SeqCst);
    moment += 1.0;
    house.visit(moment);
    house.settle(|| house.idle() == 1);
}

#[test]
fn a_shortage_of_idle_connections_is_refilled_soon() {
    let house = house(4, |settings| settings.min_idle = Some(2));
    house.settle(|| house.idle() == 2);
    let entry = house.take().expect("idle");
    let lease = house.shared.lease(entry, Location::caller(), START, START);
    let next = house.visit(0.0);
    assert!((0.4..=0.5).contains(&next), "again in {next} s");
    assert_eq!(house.plain.attempts.load(SeqCst), 2);
    house.visit(0.5);
    house.settle(|| house.idle() == 2);
    assert_eq!(house.plain.connects.load(SeqCst), 3);
    drop(lease);
}

#[test]
fn a_leak_is_counted_once() {
    let house = full_house(1, |settings| {
        settings.leak_threshold = Some(Duration::from_secs(5));
    });
    let entry = house.take().expect("idle");
    let lease = house.shared.lease(entry, Location::caller(), START, START);
    let next = house.visit(1.0);
    assert!((3.9..=4.0).contains(&next), "due in {next} s");
    house.visit(5.0);
    house.visit(11.0);
    assert_eq!(house.shared.counters.leaks.load(SeqCst), 1);
    drop(lease);
}
