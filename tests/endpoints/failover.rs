//! A primary dies and its replica is promoted: writes follow, reads go on, the ledger is true.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use millpond::backend::Role;
use millpond::{Error, ErrorKind, Fleet, Operation, Postgres, RedisCommand, Sql};

use crate::load::{End, alone};
use crate::pair::{Fall, postgres_fleet, postgres_pair, redis_pair, swap_roles};
use crate::station::until;

/// What became of the writes, and when reads succeeded.
#[derive(Default)]
pub(crate) struct Story {
    pub(crate) next: AtomicU64,
    pub(crate) acknowledged: Mutex<Vec<(u64, Instant)>>,
    pub(crate) unknown: Mutex<Vec<u64>>,
    pub(crate) certain: Mutex<Vec<u64>>,
    reads: Mutex<Vec<Instant>>,
    failed_reads: Mutex<Vec<String>>,
}

impl Story {
    /// A number of its own, and what enters it.
    pub(crate) fn insert(&self) -> (u64, Sql) {
        let entry = self.next.fetch_add(1, SeqCst);
        let insert = Sql::new("INSERT INTO ledger VALUES ($1)");
        (entry, insert.bind(testbed::number(entry.cast_signed())))
    }

    fn write(&self, fleet: &Fleet<Postgres>, limit: Duration) {
        let (entry, insert) = self.insert();
        let result = fleet.write().execute(insert.deadline(limit));
        self.note(entry, result.map(drop));
    }

    /// What became of it.
    pub(crate) fn note(&self, entry: u64, result: Result<(), Error>) {
        let place = match result {
            Ok(()) => {
                let acknowledged = (entry, Instant::now());
                return self
                    .acknowledged
                    .lock()
                    .expect("no poison")
                    .push(acknowledged);
            }
            Err(error) if error.outcome_unknown() => &self.unknown,
            Err(_) => &self.certain,
        };
        place.lock().expect("no poison").push(entry);
    }

    fn read(&self, fleet: &Fleet<Postgres>) {
        let count = Sql::new("SELECT count(*) FROM ledger").deadline(Duration::from_secs(1));
        match fleet.read().execute(count) {
            Ok(_) => self.reads.lock().expect("no poison").push(Instant::now()),
            Err(error) => {
                let mut failed = self.failed_reads.lock().expect("no poison");
                failed.push(error.to_string());
            }
        }
    }

    /// How many writes were acknowledged before the fall, and how soon after the promotion the
    /// first was.
    pub(crate) fn around(&self, fall: &Fall) -> (usize, Duration) {
        let acknowledged = self.acknowledged.lock().expect("no poison");
        let moments = acknowledged.iter().map(|(_, at)| *at);
        let before = moments.clone().filter(|at| *at < fall.hurt).count();
        let again = moments.filter(|at| *at >= fall.promoted).min();
        (before, again.expect("writes go again") - fall.promoted)
    }

    /// Whether what the servers said is what is there.
    pub(crate) fn check(&self, server: &testbed::Postgres) {
        let entries = server.psql("SELECT entry FROM ledger").expect("an answer");
        let mut found = HashMap::<u64, u32>::new();
        for entry in entries.lines() {
            let entry = testbed::which(entry.parse().expect("a number"));
            *found.entry(entry.cast_unsigned()).or_default() += 1;
        }
        assert!(
            found.values().all(|count| *count == 1),
            "doubled: {found:?}"
        );
        for (entry, _) in &*self.acknowledged.lock().expect("no poison") {
            assert!(found.contains_key(entry), "{entry} is missing");
        }
        for entry in &*self.certain.lock().expect("no poison") {
            assert!(
                !found.contains_key(entry),
                "{entry} was said not to be applied"
            );
        }
    }
}

/// Writes and reads all the time while `test` runs.
fn while_working(fleet: &Fleet<Postgres>, limit: Duration, test: impl FnOnce(&Story)) -> Story {
    let _alone = alone();
    let story = Story::default();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    story.write(fleet, limit);
                    thread::sleep(Duration::from_millis(1));
                }
            });
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    story.read(fleet);
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let _end = End(&over);
        test(&story);
    });
    story
}

fn longest_gap(moments: &[Instant], from: Instant) -> Duration {
    let mut moments: Vec<_> = moments.iter().filter(|moment| **moment > from).collect();
    moments.sort_unstable();
    let gaps = moments.windows(2).map(|pair| *pair[1] - *pair[0]);
    gaps.max().unwrap_or(Duration::MAX)
}

/// The primary is hurt, its replica promoted; then the ledger is checked. A write may take so
/// long.
fn follows(limit: Duration, hurt: impl FnOnce(&testbed::Postgres)) {
    let (primary, replica) = postgres_pair();
    // The replica first: it is the role that counts.
    let fleet = postgres_fleet(&[&replica, &primary]);
    let mut fall = None;
    let story = while_working(&fleet, limit, |story| {
        fall = Some(Fall::of(&primary, &replica, hurt));
        println!("{} entries begun", story.next.load(SeqCst));
    });
    let fall = fall.expect("it ran");
    let (before, again) = story.around(&fall);
    let reads = story.reads.lock().expect("no poison").clone();
    println!(
        "{before} writes before, again {again:?} after the promotion, {} in all, {} unknown, {} \
         certainly not; longest pause of reads {:?} of {}",
        story.acknowledged.lock().expect("no poison").len(),
        story.unknown.lock().expect("no poison").len(),
        story.certain.lock().expect("no poison").len(),
        longest_gap(&reads, fall.hurt),
        reads.len(),
    );
    assert!(before > 10, "only {before} writes before");
    assert!(again < Duration::from_secs(1), "{again:?}");
    let failed = story.failed_reads.lock().expect("no poison");
    assert!(failed.is_empty(), "{failed:?}");
    let pause = longest_gap(&reads, fall.hurt);
    assert!(pause < Duration::from_millis(500), "{pause:?}");
    story.check(&replica);
}

#[test]
fn a_killed_primary() {
    follows(Duration::from_secs(5), testbed::Postgres::kill);
}

#[test]
fn a_frozen_primary() {
    // Nothing but their deadline frees those that wait for its answer.
    follows(Duration::from_millis(400), testbed::Postgres::freeze);
}

#[test]
fn one_that_was_superseded_does_not_get_the_writes_back() {
    let (primary, replica) = postgres_pair();
    let fleet = postgres_fleet(&[&primary, &replica]);
    let insert = || Sql::new("INSERT INTO ledger VALUES (1)").deadline(Duration::from_secs(5));
    fleet
        .write()
        .execute(insert())
        .expect("the primary takes it");
    let replicas = || {
        let endpoints = fleet.endpoints();
        endpoints
            .iter()
            .filter(|one| one.role == Role::Replica)
            .count()
    };
    until("the replica is known", || replicas() == 1);
    primary.kill();
    replica.promote().expect("is promoted");
    // Those that were open to the old one may have to fail first.
    until("the new one takes it", || {
        fleet.write().execute(insert()).is_ok()
    });
    // It comes back as if nothing had happened: it would even wait for no replica.
    let alone = primary.data_dir().join("postgresql.auto.conf");
    std::fs::write(alone, "synchronous_standby_names = ''\n").expect("its settings");
    primary.restart().expect("starts");
    let two_claim = || {
        let endpoints = fleet.endpoints();
        endpoints.iter().all(|one| one.role == Role::Primary)
    };
    until("two claim to be it", two_claim);
    for _ in 0..20 {
        fleet.write().execute(insert()).expect("works");
    }
    assert_eq!(
        primary
            .psql("SELECT count(*) FROM ledger")
            .expect("an answer"),
        "1"
    );
    assert_eq!(
        replica
            .psql("SELECT count(*) FROM ledger")
            .expect("an answer"),
        "22"
    );
    // And not even when the new one is gone.
    replica.kill();
    let late = fleet
        .write()
        .execute(insert().deadline(Duration::from_millis(1500)));
    late.expect_err("nobody is to take it");
    assert_eq!(
        primary
            .psql("SELECT count(*) FROM ledger")
            .expect("an answer"),
        "1"
    );
}

#[test]
fn redis_by_the_same_code() {
    let (primary, replica, fleet) = redis_pair();
    let set = |value: &str| {
        let set = RedisCommand::new("SET")
            .arg("key")
            .arg(testbed::value(value));
        fleet.write().execute(set.deadline(Duration::from_secs(5)))
    };
    set("one").expect("the primary takes it");
    assert_eq!(
        primary.cli(&["GET", "key"]).expect("an answer"),
        testbed::value("one")
    );
    until("the replica is known", || {
        fleet
            .endpoints()
            .iter()
            .any(|one| one.role == Role::Replica)
    });
    let reads = |server: &testbed::Redis| {
        let stats = server.cli(&["INFO", "commandstats"]).expect("an answer");
        stats.contains("cmdstat_get:calls=5")
    };
    until("replicated", || {
        replica.cli(&["EXISTS", "key"]).expect("an answer") == "1"
    });
    for _ in 0..5 {
        fleet
            .read()
            .execute(RedisCommand::new("GET").arg("key"))
            .expect("works");
    }
    assert!(reads(&replica), "the replica is read from");
    swap_roles(&primary, &replica);
    let begun = Instant::now();
    set("two").expect("the new primary takes it");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        replica.cli(&["GET", "key"]).expect("an answer"),
        testbed::value("two")
    );
}

#[test]
fn without_a_primary_writes_say_so_and_reads_go_on() {
    let (primary, replica) = postgres_pair();
    let fleet = postgres_fleet(&[&replica]);
    let error = fleet.write().get_timeout(Duration::from_millis(300));
    let error = error.expect_err("a replica only");
    assert_eq!(error.kind(), ErrorKind::WrongRole, "{error}");
    let count = Sql::new("SELECT count(*) FROM ledger");
    fleet.read().execute(&count).expect("reads go on");
    primary.kill();
    fleet.read().execute(&count).expect("reads go on");
}
