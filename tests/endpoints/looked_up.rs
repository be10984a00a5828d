//! Endpoints that are looked up come and go with their addresses.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millpond::endpoints::FleetBuilder;
use millpond::{ConnectFailure, ErrorKind, Fleet, Hub, Redis, RedisCommand, RedisConfig};

use crate::load::{alone, under_load};
use crate::station::{Errand, Station, Way, builder, stations, until};

const EVERY: Duration = Duration::from_millis(20);

/// What a name server says, and how often it was asked.
#[derive(Default)]
struct Names {
    addresses: Mutex<Option<Vec<SocketAddr>>>,
    asked: Mutex<u32>,
    stations: Mutex<HashMap<SocketAddr, Arc<Station>>>,
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 1))
}

impl Names {
    fn say(&self, numbers: &[u8]) {
        let addresses = numbers.iter().copied().map(address).collect();
        *self.addresses.lock().expect("no poison") = Some(addresses);
        self.be_asked(3);
    }

    fn fail(&self) {
        *self.addresses.lock().expect("no poison") = None;
        self.be_asked(3);
    }

    /// Waits until it was asked so often.
    fn be_asked(&self, times: u32) {
        let asked = || *self.asked.lock().expect("no poison");
        let before = asked();
        until("it is asked", || asked() >= before + times);
    }

    fn answer(&self) -> io::Result<Vec<SocketAddr>> {
        *self.asked.lock().expect("no poison") += 1;
        let addresses = self.addresses.lock().expect("no poison").clone();
        addresses.ok_or_else(|| io::Error::other("no name server"))
    }

    fn builder(self: &Arc<Self>) -> FleetBuilder<Way> {
        let (names, makers) = (Arc::clone(self), Arc::clone(self));
        Fleet::builder()
            .pool(|pool| {
                pool.max_size(4)
                    .connection_timeout(Duration::from_millis(500))
            })
            .discover(
                EVERY,
                move || names.answer(),
                move |at| {
                    let mut stations = makers.stations.lock().expect("no poison");
                    let station = stations.entry(at);
                    let station = station.or_insert_with(|| Station::new(&at.to_string()));
                    Ok(Way(Arc::clone(station)))
                },
            )
    }
}

fn endpoints(fleet: &Fleet<Way>) -> Vec<String> {
    let endpoints = fleet.endpoints();
    let mut names: Vec<_> = endpoints
        .iter()
        .map(|one| one.endpoint.to_string())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn addresses_come_and_go_under_load() {
    let names = Arc::new(Names::default());
    *names.addresses.lock().expect("no poison") = Some(vec![address(1), address(2)]);
    let fleet = names.builder().build().expect("connects");
    until("both are there", || {
        endpoints(&fleet) == ["10.0.0.1:1", "10.0.0.2:1"]
    });
    under_load(&fleet, 4, Errand::default, |log| {
        names.say(&[2, 3]);
        until("it has changed", || {
            endpoints(&fleet) == ["10.0.0.2:1", "10.0.0.3:1"]
        });
        // Neither an error nor an empty answer means that they are gone.
        names.fail();
        names.say(&[]);
        assert_eq!(endpoints(&fleet), ["10.0.0.2:1", "10.0.0.3:1"]);
        names.say(&[1]);
        until("it has changed", || endpoints(&fleet) == ["10.0.0.1:1"]);
        let errors = log.errors.lock().expect("no poison");
        assert!(errors.is_empty(), "{errors:?}");
    });
}

#[test]
fn a_name_that_is_not_known_is_said_to_be() {
    let names = Arc::new(Names::default());
    let begun = Instant::now();
    let error = names.builder().build().expect_err("nobody knows it");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "the pools' own limit holds"
    );
    assert_eq!(error.kind(), ErrorKind::Connect(ConnectFailure::Dns));
    assert!(error.to_string().contains("no name server"), "{error}");
}

#[test]
fn the_addresses_of_a_real_name() {
    let server = testbed::Redis::start().expect("starts");
    let config = RedisConfig::new();
    let name = format!("localhost:{}", server.port());
    let fleet = Fleet::builder()
        .resolve(name, EVERY, move |address| Redis::new(config.at(address)))
        .build()
        .expect("connects");
    let set = RedisCommand::new("SET")
        .arg("key")
        .arg(testbed::value("it"));
    fleet.execute(set).expect("works");
    assert_eq!(
        server.cli(&["GET", "key"]).expect("an answer"),
        testbed::value("it")
    );
}

#[test]
fn what_is_found_while_a_hub_begins_to_watch_is_watched_too() {
    let _alone = alone();
    let stations = stations(20);
    for round in 0..200 {
        let begun = Arc::new(AtomicBool::new(false));
        let (found, wait) = (Station::new("found"), Arc::clone(&begun));
        let make = move |_| {
            while !wait.load(SeqCst) {
                std::hint::spin_loop();
            }
            Ok(Way(Arc::clone(&found)))
        };
        let fleet = builder(&stations)
            .pool(|pool| pool.min_idle(Some(0)))
            .discover(Duration::from_secs(60), || Ok(vec![address(1)]), make)
            .build_unchecked()
            .expect("builds");
        let hub = Hub::new();
        begun.store(true, SeqCst);
        hub.watch_fleet(&fleet);
        until("it is found", || fleet.pools().len() == 21);
        let start = Instant::now();
        while hub.metrics().pools.len() < 21 {
            assert!(start.elapsed() < Duration::from_secs(1), "not in {round}");
        }
    }
}
