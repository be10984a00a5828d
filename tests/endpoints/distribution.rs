//! Each strategy gives each endpoint what it promises.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use millpond::endpoints::{
    Balance, FleetBuilder, LeastConnections, PeakEwma, PowerOfTwo, Random, RoundRobin, Weighted,
};
use millpond::{ErrorKind, Fleet, ManageConnection};

use crate::station::{Station, Way, builder, fleet, stations, warm};

const LEASES: u32 = 100_000;

/// Where 100,000 leases went, taken by so many threads.
fn spread(fleet: &Fleet<Way>, threads: u32) -> HashMap<String, u32> {
    let lease = || {
        let mut counts = HashMap::<String, u32>::new();
        for _ in 0..LEASES / threads {
            let lease = fleet.get().expect("a connection");
            let station: &<Way as ManageConnection>::Connection = &lease;
            match counts.get_mut(&station.name) {
                Some(count) => *count += 1,
                None => drop(counts.insert(station.name.clone(), 1)),
            }
        }
        counts
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(lease)).collect();
        let mut all = HashMap::new();
        for counts in threads {
            for (name, count) in counts.join().expect("no panic") {
                *all.entry(name).or_default() += count;
            }
        }
        all
    })
}

#[track_caller]
fn within_five_percent(counts: &HashMap<String, u32>, promised: &[(&str, f64)]) {
    for (name, share) in promised {
        let expected = f64::from(LEASES) * share;
        let got = f64::from(counts.get(*name).copied().unwrap_or(0));
        assert!(
            (got - expected).abs() <= expected * 0.05,
            "{name}: {got} instead of {expected}; {counts:?}"
        );
    }
}

fn is_even(balance: impl Balance, threads: u32) {
    let fleet = fleet(&stations(3), balance);
    let third = 1.0 / 3.0;
    let promised = [("a", third), ("b", third), ("c", third)];
    within_five_percent(&spread(&fleet, threads), &promised);
}

/// As many threads as never need more connections than an endpoint has.
const CROWDS: [u32; 2] = [1, 8];

#[test]
fn round_robin_is_even() {
    for threads in CROWDS {
        is_even(RoundRobin::new(), threads);
    }
}

/// Many threads that take one lease each do not all begin with the same endpoint.
#[test]
fn round_robin_of_short_threads_is_even() {
    let fleet = fleet(&stations(3), RoundRobin::new());
    let one = || fleet.get().expect("a connection").name.clone();
    let mut counts = HashMap::<String, u32>::new();
    for _ in 0..40 {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(one)).collect();
            for thread in threads {
                *counts.entry(thread.join().expect("no panic")).or_default() += 1;
            }
        });
    }
    assert!(
        counts.values().all(|count| (60..=100).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn random_is_even() {
    is_even(Random, 4);
}

// Those that count callers keep away from the endpoint of a thread that was interrupted with a
// lease in hand, as they should: so here there is one thread.

#[test]
fn least_connections_is_even() {
    is_even(LeastConnections, 1);
}

#[test]
fn power_of_two_is_even() {
    is_even(PowerOfTwo, 1);
}

#[test]
fn peak_ewma_is_even_for_leases() {
    is_even(PeakEwma, 1);
}

#[test]
fn weighted_of_equal_weights_is_even() {
    for threads in CROWDS {
        is_even(Weighted::new(), threads);
    }
}

/// A builder of a fleet of three with these weights.
fn heavy(weights: [f64; 3], balance: impl Balance) -> FleetBuilder<Way> {
    let stations = stations(3);
    let heavy = builder(&[]).balance(balance);
    let ways = stations.iter().zip(weights);
    ways.fold(heavy, |heavy, (station, weight)| {
        heavy.weighted(Way(Arc::clone(station)), weight)
    })
}

#[test]
fn weighted_keeps_to_the_weights() {
    for (weights, threads) in [
        ([1.0, 2.0, 5.0], 1),
        ([1.0, 2.0, 5.0], 4),
        ([1.0, 2.0, 5.0], 8),
        ([1.25e8, 2.5e8, 6.25e8], 4),
        ([1e-9, 2e-9, 5e-9], 4),
    ] {
        let fleet = heavy(weights, Weighted::new()).build().expect("connects");
        warm(&fleet);
        let promised = [("a", 0.125), ("b", 0.25), ("c", 0.625)];
        within_five_percent(&spread(&fleet, threads), &promised);
    }
}

#[test]
fn the_widest_weights_are_kept_to() {
    let weights = [1e9, 1e-9, 1e9];
    let promised = [("a", 0.5), ("b", 0.0), ("c", 0.5)];
    let fleet = heavy(weights, Weighted::new()).build().expect("connects");
    warm(&fleet);
    within_five_percent(&spread(&fleet, 4), &promised);
    // One that counts callers leaves the smallest alone as soon as it has any.
    let fleet = heavy(weights, LeastConnections).build().expect("connects");
    warm(&fleet);
    let held: Vec<_> = (0..9).map(|_| fleet.get().expect("a connection")).collect();
    let small = held.iter().filter(|lease| lease.name == "b").count();
    assert_eq!(small, 1);
}

#[test]
fn a_weight_that_cannot_be_one_is_told() {
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX, 1e-10, 1e10] {
        let wrong = heavy([1.0, weight, 1.0], Weighted::new()).build_unchecked();
        let error = wrong.expect_err("no weight");
        assert_eq!(error.kind(), ErrorKind::Configuration);
        let said = error.to_string();
        let told = format!("the weight of b is {weight:e}, accepted: 1e-9 to 1e9");
        assert!(said.contains(&told), "{said}");
        let fleet = heavy([1.0; 3], Weighted::new()).build().expect("connects");
        let late = Way(Station::new("d"));
        let error = fleet.add_weighted(late, weight).expect_err("no weight");
        assert_eq!(error.kind(), ErrorKind::Configuration);
    }
}

#[test]
fn least_connections_goes_where_fewest_are() {
    let fleet = fleet(&stations(3), LeastConnections);
    let mut held: Vec<_> = (0..15)
        .map(|_| fleet.get().expect("a connection"))
        .collect();
    for pool in fleet.pools() {
        assert_eq!(pool.state().leased, 5);
    }
    held.retain(|lease| lease.name != "b");
    for _ in 0..5 {
        held.push(fleet.get().expect("a connection"));
    }
    for pool in fleet.pools() {
        assert_eq!(pool.state().leased, 5);
    }
}

#[test]
fn a_strategy_of_ones_own_decides_and_may_miscount() {
    #[derive(Debug)]
    struct Beyond;
    impl Balance for Beyond {
        fn pick(&self, candidates: &millpond::endpoints::Candidates<'_>) -> usize {
            assert!(candidates.at(0).endpoint() == "a" && candidates.at(1).weight() > 0.0);
            candidates.len() + 1
        }
    }
    let fleet = fleet(&stations(3), Beyond);
    assert_eq!(spread(&fleet, 4).get("b"), Some(&LEASES));
}
