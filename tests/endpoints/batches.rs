//! Batches over three real servers, one of which is killed or freezes under their load: every
//! outcome is true, and the others go on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use millpond::endpoints::{Ejection, FleetBuilder};
use millpond::{Batch, Fleet, Operation, Outcome, Redis, RedisCommand};

use crate::book::Book;
use crate::load::{End, Log, alone};
use crate::station::{until, warm};
use crate::subjects::Subject as _;

const WORKERS: usize = 4;
const SIZE: usize = 50;

/// A server that forgets nothing that it has answered.
fn server() -> testbed::Redis {
    let args = ["--appendonly", "yes", "--appendfsync", "always"];
    let server = args
        .into_iter()
        .fold(testbed::Redis::builder(), testbed::RedisBuilder::arg);
    server.start().expect("starts")
}

fn fleet_of(servers: &[testbed::Redis]) -> FleetBuilder<Redis> {
    let builder = Fleet::builder()
        .name("counters")
        .pool(|pool| {
            pool.max_size(WORKERS as u32)
                .retry_delay(Duration::from_millis(100))
        })
        .ejection(
            Ejection::default()
                .failures(2)
                .base(Duration::from_millis(200)),
        );
    let limit = Duration::from_millis(300);
    let manager = |server: &testbed::Redis| testbed::Redis::at(server.port(), limit, limit);
    servers
        .iter()
        .map(manager)
        .fold(builder, FleetBuilder::endpoint)
}

/// How often each key is there, on all servers together.
fn there(servers: &[testbed::Redis]) -> HashMap<i32, u64> {
    let mut there = HashMap::new();
    for server in servers {
        let client = redis::Client::open(server.url()).expect("a good URL");
        let mut conn = client.get_connection().expect("connects");
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut conn).expect("keys");
        if keys.is_empty() {
            continue;
        }
        let counts = redis::cmd("MGET").arg(&keys).query::<Vec<u64>>(&mut conn);
        for (key, count) in keys.into_iter().zip(counts.expect("numbers")) {
            let key = testbed::what(&key).parse().expect("ours");
            *there.entry(key).or_default() += count;
        }
    }
    there
}

/// What became of a load.
#[derive(Default)]
struct Account {
    book: Book,
    log: Log,
    open: AtomicUsize,
    unknown: Mutex<Vec<Instant>>,
}

/// Keys by the thousand go through a batch while `test` runs; then all have their outcome.
fn under_load(
    fleet: &Fleet<Redis>,
    make: impl Fn(i32) -> RedisCommand + Sync,
    test: impl FnOnce(&Account),
) -> Arc<Account> {
    let _alone = alone();
    let batch = Batch::builder(fleet.clone())
        .workers(WORKERS)
        .size(SIZE)
        .build()
        .expect("starts");
    let account = Arc::new(Account {
        book: Book::new(),
        ..Account::default()
    });
    let over = AtomicBool::new(false);
    let feed = || {
        while !over.load(SeqCst) {
            for _ in 0..10 {
                let key = account.book.open();
                account.open.fetch_add(1, SeqCst);
                let ticket = batch.submit(make(key)).expect("room in time");
                let account = Arc::clone(&account);
                ticket.on_outcome(move |outcome| account.enter(key, &outcome));
            }
            thread::sleep(Duration::from_millis(1));
        }
    };
    thread::scope(|scope| {
        scope.spawn(feed);
        scope.spawn(feed);
        let _end = End(&over);
        test(&account);
    });
    let metrics = batch.close(Duration::from_secs(5));
    println!("{metrics}; {} retries", metrics.retries);
    until("all have their outcome", || account.open.load(SeqCst) == 0);
    account
}

impl Account {
    fn enter(&self, key: i32, outcome: &Outcome<millpond::backend::redis::Reply>) {
        let now = Instant::now();
        self.book.enter(key, outcome.error());
        match outcome {
            Outcome::Done(_) => self.log.successes.lock().expect("no poison").push(now),
            Outcome::Unknown(_) => self.unknown.lock().expect("no poison").push(now),
            _ => {}
        }
        self.open.fetch_sub(1, SeqCst);
    }
}

#[test]
fn one_of_three_is_killed() {
    let servers = [server(), server(), server()];
    let fleet = fleet_of(&servers).build().expect("connects");
    warm(&fleet);
    let incr = |key: i32| RedisCommand::new("INCR").arg(testbed::value(key));
    let mut killed = Instant::now();
    let account = under_load(&fleet, incr, |_| {
        thread::sleep(Duration::from_millis(300));
        killed = Instant::now();
        servers[0].kill();
        thread::sleep(Duration::from_millis(1200));
    });
    let gap = account.log.longest_gap(killed);
    let unknown = account.unknown.lock().expect("no poison").len();
    println!("{}\n{unknown} unknown, longest gap {gap:?}", account.book);
    assert!(gap < Duration::from_millis(300), "nothing for {gap:?}");
    assert!(unknown <= WORKERS * SIZE, "{unknown} unknown");
    assert!(account.book.done() > 1000, "{}", account.book);
    servers[0].restart().expect("restarts");
    let lost = |error: &str| error.contains("counters@");
    account.book.check(&there(&servers), lost);
}

/// All of these are done, whatever is done to a server.
fn all_are_done(
    fleet: &Fleet<Redis>,
    servers: &[testbed::Redis],
    hurt: impl FnOnce(),
    mend: impl FnOnce(),
) {
    let set = |key: i32| {
        let set = RedisCommand::new("SET").arg(testbed::value(key)).arg(1);
        set.idempotent(true).deadline(Duration::from_secs(3))
    };
    let mut hurt_at = Instant::now();
    let account = under_load(fleet, set, |_| {
        thread::sleep(Duration::from_millis(300));
        hurt_at = Instant::now();
        hurt();
        thread::sleep(Duration::from_secs(1));
    });
    let gap = account.log.longest_gap(hurt_at);
    println!("{}, longest gap {gap:?}", account.book);
    mend();
    let mut there = there(servers);
    // On the one that was hurt and on another one, perhaps.
    for count in there.values_mut() {
        *count = 1.min(*count);
    }
    account.book.check(&there, |_| false);
}

#[test]
fn what_may_run_twice_is_done_elsewhere() {
    let servers = [server(), server(), server()];
    let fleet = fleet_of(&servers).build().expect("connects");
    warm(&fleet);
    let restart = || servers[0].restart().expect("restarts");
    all_are_done(&fleet, &servers, || servers[0].kill(), restart);
}

#[test]
fn it_does_not_wait_long_for_one_that_froze() {
    let servers = [server(), server(), server()];
    let fleet = fleet_of(&servers).attempt_timeout(Some(Duration::from_millis(150)));
    let fleet = fleet.build().expect("connects");
    warm(&fleet);
    all_are_done(
        &fleet,
        &servers,
        || servers[0].freeze(),
        || servers[0].thaw(),
    );
}
