//! One endpoint's circuit breaker is open, and the endpoint in service all the same: nobody waits
//! for it, and nobody is refused because of it, neither a single operation nor a batch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use millpond::batch::wait_all;
use millpond::endpoints::{Ejection, RoundRobin};
use millpond::{Batch, Breaker, BreakerState, Fleet, Hub, Operation, Outcome, RetryPolicy};

use crate::load::alone;
use crate::station::{Errand, Station, Way, builder, stations, until, warm};

/// Longer than a test.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A fleet of these, none of which is ever ejected. Their breakers open at the third failure.
pub(crate) fn fleet(stations: &[Arc<Station>], open_for: Duration, connections: u32) -> Fleet<Way> {
    fleet_with(stations, open_for, connections, Duration::from_secs(5))
}

/// The same; for a connection one waits for so long.
pub(crate) fn fleet_with(
    stations: &[Arc<Station>],
    open_for: Duration,
    connections: u32,
    timeout: Duration,
) -> Fleet<Way> {
    let breaker = Breaker::new()
        .failures(3)
        .lasting(Duration::ZERO)
        .open_for(open_for, open_for);
    let fleet = builder(stations)
        .balance(RoundRobin::new())
        .ejection(Ejection::default().at_most(0.0))
        .pool(move |pool| {
            pool.max_size(connections)
                .connection_timeout(timeout)
                .retry_delay(Duration::from_millis(50))
                .breaker(breaker.clone())
        })
        .build()
        .expect("connects");
    warm(&fleet);
    fleet
}

pub(crate) fn breaker(fleet: &Fleet<Way>, place: usize) -> BreakerState {
    fleet.pools()[place].metrics().breaker
}

/// Has the breaker of this one open.
fn break_it(fleet: &Fleet<Way>, station: &Station, place: usize) {
    station.failing.store(true, SeqCst);
    until("it is broken", || {
        let once = Errand::default().retry(RetryPolicy::never());
        let _ = fleet.execute(once);
        breaker(fleet, place) == BreakerState::Open
    });
}

/// These as operations that say who they are.
pub(crate) fn errands(ids: impl Iterator<Item = String>) -> Vec<Errand> {
    ids.map(|id| Errand::default().id(id)).collect()
}

pub(crate) fn submit(batch: &Batch<Way>, errands: Vec<Errand>) -> Vec<millpond::Ticket<String>> {
    let submitted = batch.submit_all(errands).into_iter();
    submitted
        .collect::<Result<_, _>>()
        .expect("there is room for them")
}

#[test]
fn an_operation_waits_for_the_one_that_is_well() {
    let _alone = alone();
    let stations = stations(2);
    let fleet = fleet(&stations, LONG, 1);
    break_it(&fleet, &stations[1], 1);
    let busy = fleet.pools()[0].get().expect("a connection");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| fleet.execute(Errand::default()));
        thread::sleep(Duration::from_millis(100));
        drop(busy);
        let reply = waiting.join().expect("no panic");
        assert_eq!(reply.expect("the first one does it"), "a");
    });
    assert_eq!(breaker(&fleet, 1), BreakerState::Open);
}

#[test]
fn a_batch_goes_on_at_the_others() {
    let _alone = alone();
    let stations = stations(3);
    let fleet = fleet(&stations, LONG, 8);
    break_it(&fleet, &stations[1], 1);
    let before = stations[1].groups.lock().expect("no poison").len();
    let batch = Batch::builder(fleet.clone()).build().expect("starts");
    let hub = Hub::new();
    hub.watch_batch(&batch);
    let tickets = submit(&batch, errands((0..1000).map(|number| number.to_string())));
    for outcome in wait_all(tickets, |_| ()) {
        assert!(outcome.is_done(), "{outcome:?}");
    }
    let served = [0, 1, 2].map(|place: usize| stations[place].served());
    println!("served: {served:?}");
    assert!(served[0] > 0 && served[2] > 0, "{served:?}");
    let after = stations[1].groups.lock().expect("no poison").len();
    assert_eq!(before, after, "nothing is sent to the one that is broken");
    let watched = &hub.metrics().batches[0];
    assert_eq!((&*watched.pool, watched.done), ("station", 1000));
    assert_eq!(batch.pools().len(), 3);
}

/// How long the threads of this name have worked, in hundredths of a second.
#[cfg(target_os = "linux")]
fn worked(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has it");
    let of_task = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        let (said, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<_> = rest.split(' ').collect();
        let ticks = |field: usize| fields[field].parse::<u64>().ok();
        said.ends_with(name).then_some(ticks(11)? + ticks(12)?)
    };
    tasks.filter_map(of_task).sum()
}

#[test]
#[cfg(target_os = "linux")]
fn a_batch_that_waits_for_long_does_not_work() {
    let _alone = alone();
    let stations = stations(1);
    let fleet = fleet(&stations, LONG, 2);
    break_it(&fleet, &stations[0], 0);
    let batch = Batch::builder(fleet)
        .name("waits-for-long")
        .timeout(Duration::from_millis(50))
        .build()
        .expect("starts");
    let tickets = submit(&batch, errands((0..10).map(|number| number.to_string())));
    thread::sleep(Duration::from_millis(100));
    let before = worked("waits-for-long");
    thread::sleep(Duration::from_millis(500));
    let worked = worked("waits-for-long") - before;
    assert!(worked <= 5, "{worked} hundredths of half a second");
    batch.close(Duration::ZERO);
    for outcome in wait_all(tickets, |_| ()) {
        assert!(matches!(outcome, Outcome::NotExecuted(_)), "{outcome:?}");
    }
}

#[test]
fn one_that_recovers_is_tried_with_one_operation_beside_full_groups() {
    let _alone = alone();
    let stations = stations(2);
    let fleet = fleet(&stations, Duration::from_millis(200), 8);
    break_it(&fleet, &stations[1], 1);
    stations[1].failing.store(false, SeqCst);
    stations[1].groups.lock().expect("no poison").clear();
    for station in &stations {
        station.takes(Duration::from_micros(50));
    }
    let batch = Batch::builder(fleet.clone()).build().expect("starts");
    let mut number = 0;
    until("it is well", || {
        let tickets = submit(&batch, errands((0..300).map(|of| format!("{number}-{of}"))));
        number += 1;
        for outcome in wait_all(tickets, |_| ()) {
            assert!(outcome.is_done(), "{outcome:?}");
        }
        breaker(&fleet, 1) == BreakerState::Closed && stations[1].served() > 300
    });
    let groups = stations[1].groups.lock().expect("no poison");
    let first: Vec<_> = groups.iter().take(2).collect();
    assert_eq!(first, [&1, &1], "probes: {groups:?}");
    assert!(groups.iter().any(|size| *size > 10), "{groups:?}");
    let mut times = HashMap::<String, u32>::new();
    for station in &stations {
        for (_, id) in &*station.diary.lock().expect("no poison") {
            *times.entry(id.clone()).or_default() += 1;
        }
    }
    assert_eq!(times.len(), number * 300);
    assert!(times.values().all(|count| *count == 1), "each once");
}

/// Nobody asks the breaker of an endpoint that is left out, which is over all the same.
#[test]
fn one_that_is_left_out_too_comes_back() {
    let _alone = alone();
    let stations = stations(2);
    let (short, breaker) = (Duration::from_millis(100), Breaker::new().failures(3));
    let breaker = breaker.lasting(Duration::ZERO).open_for(short, short);
    let rules = Ejection::default().failures(3).base(short);
    let fleet = builder(&stations)
        .balance(RoundRobin::new())
        .ejection(rules.slow_start(Duration::ZERO))
        .pool(move |pool| pool.max_size(2).breaker(breaker.clone()))
        .build()
        .expect("connects");
    warm(&fleet);
    break_it(&fleet, &stations[1], 1);
    until("it is left out", || fleet.endpoints()[1].ejected.is_some());
    stations[1].failing.store(false, SeqCst);
    let before = stations[1].served();
    until("it is in service again", || {
        fleet.execute(Errand::default()).expect("one is well");
        stations[1].served() > before + 10
    });
    assert_eq!(self::breaker(&fleet, 1), BreakerState::Closed);
}

#[test]
fn each_attempt_is_made_elsewhere_and_at_once() {
    let _alone = alone();
    let stations = stations(3);
    let fleet = builder(&stations)
        .balance(RoundRobin::new())
        .ejection(Ejection::default().at_most(0.0))
        .pool(|pool| pool.max_size(8).breaker(None))
        .build()
        .expect("connects");
    warm(&fleet);
    for station in &stations[..2] {
        station.failing.store(true, SeqCst);
    }
    let batch = Batch::builder(fleet).retry(RetryPolicy::new(3).first_pause(LONG));
    let batch = batch.build().expect("starts");
    let start = Instant::now();
    let tickets = submit(&batch, errands((0..300).map(|number| number.to_string())));
    for outcome in wait_all(tickets, |_| ()) {
        assert!(
            matches!(&outcome, Outcome::Done(name) if name == "c"),
            "{outcome:?}"
        );
    }
    let (took, retries) = (start.elapsed(), batch.metrics().retries);
    println!("{retries} retries in {took:?}");
    assert!(retries > 0 && took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn of_one_key_the_order_holds_over_all_endpoints() {
    let _alone = alone();
    let stations = stations(3);
    let fleet = fleet(&stations, Duration::from_millis(20), 8);
    let batch = Batch::builder(fleet)
        .max_operations(5000)
        .retry(RetryPolicy::new(50).first_pause(Duration::from_millis(1)))
        .build()
        .expect("starts");
    let mut tickets = Vec::new();
    for number in 0..600 {
        for key in ["x", "y", "z"] {
            let errand = Errand::default().id(format!("{key}{number:04}"));
            tickets.push(batch.submit(errand.ordering_key(key)).expect("room"));
        }
        tickets.push(batch.submit(Errand::default()).expect("room"));
    }
    let failing = |place: usize, yes| stations[place].failing.store(yes, SeqCst);
    let start = Instant::now();
    for round in 0..30 {
        failing(round % 3, true);
        thread::sleep(Duration::from_millis(5));
        failing(round % 3, false);
    }
    let outcomes = wait_all(tickets, |_| ());
    let done = outcomes.iter().filter(|outcome| outcome.is_done()).count();
    let error = outcomes.iter().find_map(Outcome::error);
    println!("{done} done in {:?}, {error:?}", start.elapsed());
    assert!(batch.metrics().retries > 0);
    let mut diary: Vec<_> = stations
        .iter()
        .flat_map(|station| station.diary.lock().expect("no poison").clone())
        .collect();
    diary.sort();
    for key in ["x", "y", "z"] {
        let served: Vec<_> = diary.iter().filter(|(_, id)| id.starts_with(key)).collect();
        assert!(served.windows(2).all(|pair| pair[0].1 < pair[1].1), "{key}");
    }
    let places = stations.iter().filter(|station| station.served() > 0);
    assert_eq!(places.count(), 3);
    // The budget for retries may be spent; then it is said so.
    for outcome in &outcomes {
        assert!(
            matches!(outcome, Outcome::Done(_) | Outcome::NotExecuted(_)),
            "{outcome:?}"
        );
    }
    assert!(done > 1200, "{done}");
    assert_eq!(
        diary.len(),
        outcomes
            .iter()
            .enumerate()
            .filter(|(place, outcome)| place % 4 != 3 && outcome.is_done())
            .count()
    );
}
