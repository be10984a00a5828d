//! Endpoints are added and removed, ejected and brought back, under load, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use millpond::endpoints::{Ejection, PowerOfTwo, RoundRobin};
use millpond::{ErrorKind, Fleet, Health, Hub, Operation};

use crate::load::under_load;
use crate::station::{Errand, Station, Way, builder, fleet, stations, until, warm};

#[test]
fn added_and_removed_under_load_nothing_is_lost() {
    let stations = stations(3);
    let fleet = fleet(&stations, PowerOfTwo);
    for station in &stations {
        station.takes(Duration::from_micros(500));
    }
    under_load(&fleet, 6, Errand::default, |log| {
        for number in 0..20 {
            let newcomer = Station::new(&format!("new{number}"));
            newcomer.takes(Duration::from_micros(500));
            fleet.add(Way(Arc::clone(&newcomer))).expect("is new");
            until("it is used", || newcomer.served() > 0);
            let gone = fleet.remove(&newcomer.name, Duration::from_secs(5));
            gone.expect("all come back");
            let served = newcomer.served();
            thread::sleep(Duration::from_millis(5));
            assert_eq!(newcomer.served(), served, "used after it was removed");
        }
        let errors = log.errors.lock().expect("no poison");
        assert!(errors.is_empty(), "{errors:?}");
    });
}

#[test]
fn whoever_waits_at_an_endpoint_that_is_removed_goes_on() {
    let stations = stations(2);
    let fleet = fleet(&stations, RoundRobin::new());
    let held: Vec<_> = (0..16)
        .map(|_| fleet.get().expect("a connection"))
        .collect();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| fleet.get().map(|lease| lease.name.clone()));
        thread::sleep(Duration::from_millis(30));
        // It is not all back in time, which is no harm.
        fleet.remove("a", Duration::ZERO).expect_err("it is held");
        drop(held);
        assert_eq!(waiter.join().expect("no panic").expect("a connection"), "b");
    });
    assert_eq!(fleet.endpoints().len(), 1);
}

#[test]
fn mistakes_are_named() {
    let stations = stations(1);
    let fleet = fleet(&stations, RoundRobin::new());
    let twice = fleet
        .add(Way(Arc::clone(&stations[0])))
        .expect_err("there already");
    assert_eq!(twice.kind(), ErrorKind::Configuration);
    let unknown = fleet.remove("z", Duration::ZERO).expect_err("not there");
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    let none = Fleet::<Way>::builder().build().expect_err("none");
    assert_eq!(none.kind(), ErrorKind::Configuration);
    fleet.remove("a", Duration::from_secs(1)).expect("is there");
    let empty = fleet.get().expect_err("nowhere to go");
    assert!(empty.to_string().contains("no endpoints"), "{empty}");
    fleet
        .close(Duration::from_secs(1))
        .expect("nothing is held");
    let late = fleet
        .add(Way(Arc::clone(&stations[0])))
        .expect_err("closed");
    assert_eq!(late.kind(), ErrorKind::Closed);
}

fn ejected(fleet: &Fleet<Way>) -> Vec<String> {
    let endpoints = fleet.endpoints().into_iter();
    let ejected = endpoints.filter(|endpoint| endpoint.ejected.is_some());
    ejected
        .map(|endpoint| endpoint.endpoint.to_string())
        .collect()
}

#[test]
fn ejected_after_failures_in_succession_for_longer_each_time_and_never_all() {
    let stations = stations(3);
    let rules = Ejection::default()
        .base(Duration::from_millis(100))
        .slow_start(Duration::from_millis(200));
    let fleet = builder(&stations)
        .ejection(rules)
        .balance(RoundRobin::new());
    let fleet = fleet.build().expect("connects");
    warm(&fleet);
    stations[0].failing.store(true, SeqCst);
    let go = || fleet.execute(Errand::default().retry(millpond::RetryPolicy::never()));
    let failed = (0..30).filter(|_| go().is_err()).count();
    assert_eq!(failed, 5, "after five it is left out");
    assert_eq!(ejected(&fleet), ["a"]);
    let state = &fleet.endpoints()[0];
    assert_eq!((state.ejections, state.share), (1, 0.0));
    // It comes back, with less than its share, and fails again.
    until("it is back", || ejected(&fleet).is_empty());
    assert!(fleet.endpoints()[0].share < 1.0);
    until("it is out again", || {
        go().is_err() && ejected(&fleet) == ["a"]
    });
    assert_eq!(fleet.endpoints()[0].ejections, 2);
    for station in &stations {
        station.failing.store(true, SeqCst);
    }
    for _ in 0..100 {
        assert!(go().is_err());
        assert!(ejected(&fleet).len() <= 2, "never all");
    }
    for station in &stations {
        station.failing.store(false, SeqCst);
    }
    until("all are back", || {
        ejected(&fleet).is_empty() && go().is_ok()
    });
    until("with their full share", || {
        fleet
            .endpoints()
            .iter()
            .all(|endpoint| endpoint.share >= 1.0)
    });
}

#[test]
fn what_may_be_tried_again_is_tried_elsewhere() {
    let stations = stations(2);
    let fleet = fleet(&stations, RoundRobin::new());
    stations[0].failing.store(true, SeqCst);
    for _ in 0..10 {
        assert_eq!(fleet.execute(Errand::default()).expect("elsewhere"), "b");
    }
}

#[test]
fn an_attempt_that_takes_too_long_goes_on_elsewhere() {
    let stations = stations(2);
    let fleet = builder(&stations).balance(RoundRobin::new());
    let fleet = fleet.attempt_timeout(Some(Duration::from_millis(20)));
    let fleet = fleet.build().expect("connects");
    warm(&fleet);
    stations[0].takes(Duration::from_secs(5));
    for _ in 0..4 {
        let patient = Errand::default().deadline(Duration::from_secs(2));
        assert_eq!(
            fleet.execute(patient.idempotent(true)).expect("elsewhere"),
            "b"
        );
    }
}

#[test]
fn a_dead_endpoint_degrades_what_watches_the_fleet_and_no_more() {
    let stations = stations(2);
    let hub = Hub::new();
    let fleet = fleet(&stations, RoundRobin::new());
    hub.watch_fleet(&fleet);
    assert_eq!(hub.health().health, Health::Up);
    stations[0].down.store(true, SeqCst);
    until("it is noticed", || {
        let _ = fleet.execute(Errand::default());
        hub.health().health == Health::Degraded
    });
    until("it is left out", || ejected(&fleet) == ["a"]);
    assert!(hub.health().is_ready());
    fleet.add(Way(Station::new("c"))).expect("is new");
    fleet.remove("a", Duration::from_secs(1)).expect("is there");
    let health = hub.health();
    assert_eq!(health.health, Health::Up, "{health}");
    let names: Vec<_> = health.pools.iter().map(|pool| &*pool.pool).collect();
    assert_eq!(names, ["station@a", "station@b", "station@c"]);
    let _ = hub.shut_down(Duration::from_secs(1));
    assert_eq!(fleet.get().expect_err("closed").kind(), ErrorKind::Closed);
}
