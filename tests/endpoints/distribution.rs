//! Each strategy gives each endpoint what it promises.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use millpond::endpoints::{
    Balance, LeastConnections, PeakEwma, PowerOfTwo, Random, RoundRobin, Weighted,
};
use millpond::{Fleet, ManageConnection};

use crate::station::{Way, builder, fleet, stations, warm};

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

#[test]
fn round_robin_is_even() {
    is_even(RoundRobin::new(), 4);
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
    is_even(Weighted::new(), 4);
}

#[test]
fn weighted_keeps_to_the_weights() {
    let stations = stations(3);
    let mut heavy = builder(&stations[..1]).balance(Weighted::new());
    for (station, weight) in stations[1..].iter().zip([2.0, 5.0]) {
        heavy = heavy.weighted(Way(Arc::clone(station)), weight);
    }
    let fleet = heavy.build().expect("connects");
    warm(&fleet);
    let promised = [("a", 0.125), ("b", 0.25), ("c", 0.625)];
    within_five_percent(&spread(&fleet, 4), &promised);
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
