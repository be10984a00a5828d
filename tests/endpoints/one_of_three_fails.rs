//! One of three real servers is killed, freezes, refuses, and comes back, under load.

use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::endpoints::{Ejection, EndpointState, FleetBuilder};
use millpond::{ErrorKind, Fleet, HttpRequest, Operation, RedisCommand, Sql};
use testbed::{Nginx, Proxy};

use crate::load::{Log, under_load};
use crate::station::{until, warm};
use crate::subjects::Subject;

const THREADS: usize = 6;
/// What an operation may take.
const LIMIT: Duration = Duration::from_millis(300);

/// A server that can be hurt, and operations on it.
trait Server: Subject + Send {
    /// Whether the driver's socket can be looked at before anything is sent, so that nothing fails
    /// but what is in flight when the server dies.
    const IS_EXACT: bool;
    /// Not one that may be tried again once it was sent.
    fn operation() -> <Self::Manager as Backend>::Operation;
}

impl Server for testbed::Redis {
    const IS_EXACT: bool = false;

    fn operation() -> RedisCommand {
        RedisCommand::new("INCR")
            .arg(testbed::value("visits"))
            .deadline(LIMIT)
    }
}

impl Server for testbed::Postgres {
    const IS_EXACT: bool = true;

    fn operation() -> Sql {
        Sql::new("SELECT $1::text")
            .bind(testbed::value("visit"))
            .idempotent(false)
            .deadline(LIMIT)
    }
}

impl Server for Nginx {
    const IS_EXACT: bool = false;

    fn operation() -> HttpRequest {
        HttpRequest::post("/echo")
            .header("X-Visit", testbed::value("header"))
            .body(testbed::value("body"))
            .deadline(LIMIT)
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
        let servers = std::thread::scope(|scope| {
            let starting = [(); 3].map(|()| scope.spawn(S::start));
            starting.map(|starting| starting.join().expect("no panic"))
        });
        let proxy = Proxy::start(servers[0].port()).expect("a proxy");
        let fleet = Self::fleet_of(&servers, &proxy);
        Self {
            servers,
            proxy,
            fleet,
        }
    }

    fn fleet_of(servers: &[S; 3], proxy: &Proxy) -> Fleet<S::Manager> {
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
        fleet
    }

    fn first(&self) -> EndpointState {
        self.fleet.endpoints().swap_remove(0)
    }

    /// How many operations of each endpoint succeeded so far.
    fn succeeded(&self) -> u64 {
        let pools = self.fleet.pools();
        pools[0].metrics().operations.succeeded
    }

    /// Hurts the first server under load, and mends it. Whether it `hangs_up` on its callers.
    fn suffer(&self, what: &str, hangs_up: bool, hurt: impl FnOnce(), mend: impl FnOnce()) {
        under_load(&self.fleet, THREADS, S::operation, |log| {
            std::thread::sleep(Duration::from_millis(300));
            let begun = Instant::now();
            hurt();
            let hurt = Instant::now();
            std::thread::sleep(Duration::from_millis(1500));
            judge(what, log, begun);
            if hangs_up && S::IS_EXACT {
                only_what_was_in_flight(what, log, begun, hurt);
            }
            let ejected = self.first().ejected;
            assert!(ejected.is_some(), "{what}: {:?}", self.first());
            mend();
            self.comes_back(what, log);
        });
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

/// Errors and pauses are few, whatever happened.
fn judge(what: &str, log: &Log, begun: Instant) {
    let [before, after] = log.errors_around(begun);
    let gap = log.longest_gap(begun);
    println!(
        "{what}: {} errors of what had begun, {} of what came later, longest gap {gap:?}",
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
}

/// Whatever was lost was in flight when the server died, connection by connection, between these
/// moments: it had begun by then, and had been sent. (A busy machine may hold up others for longer
/// than they have time.)
fn only_what_was_in_flight(what: &str, log: &Log, begun: Instant, hurt: Instant) {
    let errors = log.errors.lock().expect("no poison");
    let errors = errors.iter().filter(|one| one.ended >= begun);
    for one in errors.filter(|one| one.error.kind() != ErrorKind::DeadlineExceeded) {
        assert!(one.begun < hurt, "{what}: {one:#?}");
        assert!(one.error.outcome_unknown(), "{what}: {one:#?}");
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
    trio.suffer("killed", true, hurt, mend);
}

fn frozen<S: Server>() {
    let trio = Trio::<S>::start();
    let server = &trio.servers[0];
    trio.suffer("frozen", false, || server.freeze(), || server.thaw());
}

fn refusing<S: Server>() {
    let trio = Trio::<S>::start();
    let hurt = || {
        trio.proxy.refuse(true);
        trio.proxy.cut();
    };
    trio.suffer("refusing", true, hurt, || trio.proxy.refuse(false));
}

fn restarted<S: Server>() {
    let trio = Trio::<S>::start();
    under_load(&trio.fleet, THREADS, S::operation, |log| {
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        trio.servers[0].kill();
        let killed = Instant::now();
        trio.servers[0].restart();
        std::thread::sleep(Duration::from_millis(500));
        let before = trio.succeeded();
        until("it serves", || trio.succeeded() > before);
        judge("restarted", log, begun);
        if S::IS_EXACT {
            only_what_was_in_flight("restarted", log, begun, killed);
        }
    });
}

/// Dies while nothing is in flight, and then everybody comes at once.
fn hurt_while_idle<S: Server>(trio: &mut Trio<S>, what: &str, hurt: impl FnOnce(&Trio<S>)) {
    trio.fleet = Trio::fleet_of(&trio.servers, &trio.proxy);
    under_load(&trio.fleet, THREADS, S::operation, |_| {
        std::thread::sleep(Duration::from_millis(100));
    });
    let begun = Instant::now();
    hurt(trio);
    under_load(&trio.fleet, THREADS, S::operation, |log| {
        std::thread::sleep(Duration::from_millis(300));
        let errors = log.errors_around(begun).concat();
        println!("{what} while idle: {} errors", errors.len());
        let most = if S::IS_EXACT { 0 } else { THREADS };
        assert!(errors.len() <= most, "{what}: {errors:#?}");
    });
}

fn while_idle<S: Server>() {
    let mut trio = Trio::<S>::start();
    hurt_while_idle(&mut trio, "restarted", |trio| {
        trio.servers[0].kill();
        trio.servers[0].restart();
    });
    hurt_while_idle(&mut trio, "refusing", |trio| {
        trio.proxy.refuse(true);
        trio.proxy.cut();
    });
    trio.proxy.refuse(false);
    hurt_while_idle(&mut trio, "killed", |trio| {
        trio.servers[0].kill();
        trio.proxy.refuse(true);
        trio.proxy.cut();
    });
}

#[test]
fn redis_while_idle() {
    while_idle::<testbed::Redis>();
}

#[test]
fn postgres_while_idle() {
    while_idle::<testbed::Postgres>();
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
fn postgres_killed() {
    killed::<testbed::Postgres>();
}

#[test]
fn postgres_frozen() {
    frozen::<testbed::Postgres>();
}

#[test]
fn postgres_refusing() {
    refusing::<testbed::Postgres>();
}

#[test]
fn postgres_restarted() {
    restarted::<testbed::Postgres>();
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
