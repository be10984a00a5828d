//! One of three real servers is killed, freezes, refuses, and comes back, under load.

use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::endpoints::{Ejection, EndpointState, FleetBuilder};
use millpond::{Fleet, HttpRequest, Operation, RedisCommand};
use testbed::{Nginx, Proxy};

use crate::load::{Log, under_load};
use crate::station::{until, warm};
use crate::subjects::Subject;

const THREADS: usize = 6;
/// What an operation may take.
const LIMIT: Duration = Duration::from_millis(300);

/// A server that can be hurt, and operations on it.
trait Server: Subject {
    fn operation() -> <Self::Manager as Backend>::Operation;
}

impl Server for testbed::Redis {
    fn operation() -> RedisCommand {
        // Not one that may be tried again once it was sent.
        RedisCommand::new("INCR").arg("visits").deadline(LIMIT)
    }
}

impl Server for Nginx {
    fn operation() -> HttpRequest {
        HttpRequest::post("/echo").deadline(LIMIT)
    }
}

/// Three servers, the first behind a proxy, and a fleet of them.
struct Trio<S: Server> {
    servers: [S; 3],
    proxy: Proxy,
    fleet: Fleet<S::Manager>,
}

impl<S: Server> Trio<S> {
    fn start() -> Self {
        let servers = [S::start(), S::start(), S::start()];
        let proxy = Proxy::start(servers[0].port()).expect("a proxy");
        let ports = [proxy.port(), servers[1].port(), servers[2].port()];
        let builder = Fleet::builder()
            .pool(|pool| {
                pool.max_size(THREADS as u32)
                    .validation_timeout(LIMIT)
                    .retry_delay(Duration::from_millis(100))
            })
            .ejection(
                Ejection::default()
                    .failures(2)
                    .base(Duration::from_millis(200))
                    .slow_start(Duration::from_secs(1)),
            );
        let managers = ports.into_iter().map(|port| S::at(port, LIMIT, LIMIT));
        let fleet = managers.fold(builder, FleetBuilder::endpoint);
        let fleet = fleet.build().expect("connects");
        warm(&fleet);
        Self {
            servers,
            proxy,
            fleet,
        }
    }

    fn first(&self) -> EndpointState {
        self.fleet.endpoints().swap_remove(0)
    }

    /// How many operations of each endpoint succeeded so far.
    fn succeeded(&self) -> u64 {
        let pools = self.fleet.pools();
        pools[0].metrics().operations.succeeded
    }

    /// Hurts the first server under load, and mends it.
    fn suffer(&self, what: &str, hurt: impl FnOnce(), mend: impl FnOnce()) {
        under_load(&self.fleet, THREADS, S::operation, |log| {
            std::thread::sleep(Duration::from_millis(300));
            let begun = Instant::now();
            hurt();
            std::thread::sleep(Duration::from_millis(1500));
            self.judge(what, log, begun);
            mend();
            self.comes_back(what, log);
        });
    }

    fn judge(&self, what: &str, log: &Log, begun: Instant) {
        let [before, after] = log.errors_around(begun);
        let gap = log.longest_gap(begun);
        let ejected = self.first().ejected;
        println!(
            "{what}: {} errors of what was in flight, {} of what came later, longest gap {gap:?}",
            before.len(),
            after.len()
        );
        assert!(
            before.len() + after.len() <= THREADS,
            "{what}: {before:#?} {after:#?}"
        );
        assert!(
            gap < Duration::from_millis(100),
            "{what}: nothing for {gap:?}"
        );
        assert!(ejected.is_some(), "{what}: {:?}", self.first());
    }

    fn comes_back(&self, what: &str, log: &Log) {
        let mended = Instant::now();
        let before = self.succeeded();
        until("it is back", || self.first().ejected.is_none());
        let share = self.first().share;
        println!("{what}: back after {:?} with {share:.2}", mended.elapsed());
        assert!(share < 0.5, "{what}: back with {share}");
        until("it serves", || self.succeeded() > before);
        until("its full share", || self.first().share >= 1.0);
        let errors = log.errors_around(mended).concat();
        assert!(errors.is_empty(), "{what}, mended: {errors:#?}");
    }
}

fn killed<S: Server>() {
    let trio = Trio::<S>::start();
    let server = &trio.servers[0];
    let hurt = || {
        server.kill();
        // Nobody listens there any more.
        trio.proxy.refuse(true);
        trio.proxy.cut();
    };
    let mend = || {
        server.restart();
        trio.proxy.refuse(false);
    };
    trio.suffer("killed", hurt, mend);
}

fn frozen<S: Server>() {
    let trio = Trio::<S>::start();
    let server = &trio.servers[0];
    trio.suffer("frozen", || server.freeze(), || server.thaw());
}

fn refusing<S: Server>() {
    let trio = Trio::<S>::start();
    let hurt = || {
        trio.proxy.refuse(true);
        trio.proxy.cut();
    };
    trio.suffer("refusing", hurt, || trio.proxy.refuse(false));
}

fn restarted<S: Server>() {
    let trio = Trio::<S>::start();
    under_load(&trio.fleet, THREADS, S::operation, |log| {
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        trio.servers[0].kill();
        trio.servers[0].restart();
        std::thread::sleep(Duration::from_millis(500));
        let before = trio.succeeded();
        until("it serves", || trio.succeeded() > before);
        let ([before, after], gap) = (log.errors_around(begun), log.longest_gap(begun));
        println!(
            "restarted: {} errors of what was in flight, {} of what came later, gap {gap:?}",
            before.len(),
            after.len()
        );
        assert!(
            before.len() + after.len() <= THREADS,
            "{before:#?} {after:#?}"
        );
        assert!(gap < Duration::from_millis(100), "nothing for {gap:?}");
    });
}

#[test]
fn redis_killed() {
    killed::<testbed::Redis>();
}

#[test]
fn redis_frozen() {
    frozen::<testbed::Redis>();
}

#[test]
fn redis_refusing() {
    refusing::<testbed::Redis>();
}

#[test]
fn redis_restarted() {
    restarted::<testbed::Redis>();
}

#[test]
fn http_killed() {
    killed::<Nginx>();
}

#[test]
fn http_frozen() {
    frozen::<Nginx>();
}

#[test]
fn http_refusing() {
    refusing::<Nginx>();
}

#[test]
fn http_restarted() {
    restarted::<Nginx>();
}

#[test]
fn when_all_are_killed_some_stay_in_service_and_all_come_back() {
    let trio = Trio::<testbed::Redis>::start();
    for server in &trio.servers {
        server.kill();
    }
    let ejected = || {
        let endpoints = trio.fleet.endpoints();
        let ejected = endpoints
            .iter()
            .filter(|endpoint| endpoint.ejected.is_some());
        ejected.count()
    };
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        let error = trio.fleet.execute(<testbed::Redis as Server>::operation());
        error.expect_err("all are dead");
        assert!(ejected() <= 2, "never all");
    }
    assert_eq!(ejected(), 2);
    trio.servers.iter().for_each(Subject::restart);
    let back = Instant::now();
    until("one works again", || {
        trio.fleet
            .execute(<testbed::Redis as Server>::operation())
            .is_ok()
    });
    assert!(
        back.elapsed() < Duration::from_secs(1),
        "{:?}",
        back.elapsed()
    );
    until("all are back", || ejected() == 0);
}
