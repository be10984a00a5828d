//! A replica that is too far behind gets no reads, not even before anybody has been asked what it
//! is: just after a fleet's start.

use std::time::{Duration, Instant};

use millpond::backend::Role;
use millpond::{Fleet, Postgres, PostgresConfig, Sql};

use crate::load::alone;
use crate::station::until;

const MOST: Duration = Duration::from_millis(100);

/// A primary, and a replica that applies nothing any more and is too far behind.
fn primary_and_laggard() -> (testbed::Postgres, testbed::Postgres) {
    let primary = testbed::Postgres::start().expect("starts");
    let replica = primary.replica().expect("a replica");
    primary
        .psql("CREATE TABLE visits (n bigint)")
        .expect("a table");
    until("it has applied that", || {
        let found = replica.psql("SELECT count(*) FROM visits");
        found.is_ok_and(|found| found == "0")
    });
    replica
        .psql("SELECT pg_wal_replay_pause()")
        .expect("pauses");
    std::thread::sleep(2 * MOST);
    (primary, replica)
}

fn fleet_of(servers: [&testbed::Postgres; 2]) -> Fleet<Postgres> {
    let mut builder = Fleet::builder()
        .pool(|pool| pool.max_size(2))
        .max_lag(Some(MOST));
    for server in servers {
        let config = PostgresConfig::from_url(&server.url()).expect("a URL");
        builder = builder.endpoint(Postgres::new(config).expect("good settings"));
    }
    builder.build().expect("connects")
}

#[test]
fn the_first_read_does_not_go_there() {
    let (primary, replica) = primary_and_laggard();
    let is_replica = Sql::new("SELECT pg_is_in_recovery()");
    for round in 0..20 {
        let fleet = fleet_of([&replica, &primary]);
        // Both are ready, and neither has been asked.
        until("both are there", || {
            let pools = fleet.pools();
            pools.iter().all(|pool| pool.state().idle_connections > 0)
        });
        let begun = Instant::now();
        let answer = fleet.read().execute(&is_replica).expect("works");
        let took = begun.elapsed();
        assert_eq!(answer.rows()[0].text(0), Some("f"), "in {round}");
        assert!(took < Duration::from_millis(300), "{took:?} in {round}");
    }
}

/// Who does not answer does not hold reads up for long.
#[test]
fn a_first_read_does_not_wait_for_one_that_is_silent() {
    let _alone = alone();
    let (primary, replica) = primary_and_laggard();
    let fleet = fleet_of([&replica, &primary]);
    until("both are there", || {
        let pools = fleet.pools();
        pools.iter().all(|pool| pool.state().idle_connections > 0)
    });
    primary.freeze();
    let begun = Instant::now();
    let lease = fleet.read().get_timeout(Duration::from_secs(10));
    let took = begun.elapsed();
    drop(lease.expect("reads go on"));
    println!("{took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    // Half of the time of one who has less.
    let begun = Instant::now();
    let lease = fleet.read().get_timeout(Duration::from_millis(200));
    drop(lease.expect("reads go on"));
    assert!(begun.elapsed() < Duration::from_millis(200));
    until("the replica is known", || {
        let endpoints = fleet.endpoints();
        endpoints.iter().any(|one| one.role == Role::Replica)
    });
    primary.thaw();
}

/// Of whose connections all are leased, so that it cannot be asked.
#[test]
fn one_that_is_too_busy_to_be_asked_holds_up_the_first_reads_only() {
    let _alone = alone();
    let (primary, replica) = primary_and_laggard();
    let fleet = fleet_of([&replica, &primary]);
    let pools = fleet.pools();
    let held = [(); 2].map(|()| pools[1].get().expect("connects"));
    let read = || {
        let begun = Instant::now();
        drop(fleet.read().get().expect("reads go on"));
        begun.elapsed()
    };
    println!("{:?}", read());
    for _ in 0..5 {
        let took = read();
        assert!(took < Duration::from_millis(300), "{took:?}");
    }
    drop(held);
    let is_replica = Sql::new("SELECT pg_is_in_recovery()");
    until("reads go to the primary", || {
        let answer = fleet.read().execute(&is_replica).expect("works");
        answer.rows()[0].text(0) == Some("f")
    });
}
