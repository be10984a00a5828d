//! Batches on `fleet.write()`: they follow the primary, and what they said of each write is true.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use millpond::batch::wait_all;
use millpond::{Batch, Operation, Outcome, RedisCommand, RetryPolicy};

use crate::failover::Story;
use crate::load::{End, alone};
use crate::pair::{Fall, postgres_fleet, postgres_pair, redis_pair, swap_roles};
use crate::station::until;

/// The primary is hurt under a load of INSERTs and its replica promoted; then the ledger is
/// checked. A write may take so long.
fn follows(limit: Duration, hurt: impl FnOnce(&testbed::Postgres)) {
    let _alone = alone();
    let (primary, replica) = postgres_pair();
    let fleet = postgres_fleet(&[&replica, &primary]);
    let batch = Batch::builder(fleet.write())
        .size(50)
        .build()
        .expect("starts");
    let story = Arc::new(Story::default());
    let over = AtomicBool::new(false);
    let feed = || {
        while !over.load(SeqCst) {
            for _ in 0..5 {
                let (entry, insert) = story.insert();
                let ticket = batch.submit(insert.deadline(limit)).expect("room in time");
                let story = Arc::clone(&story);
                ticket.on_outcome(move |outcome| {
                    story.note(entry, outcome.into_result().map(drop));
                });
            }
            thread::sleep(Duration::from_millis(2));
        }
    };
    let fall = thread::scope(|scope| {
        scope.spawn(feed);
        scope.spawn(feed);
        let _end = End(&over);
        Fall::of(&primary, &replica, hurt)
    });
    let metrics = batch.close(Duration::from_secs(10));
    let (before, again) = story.around(&fall);
    let unknown = story.unknown.lock().expect("no poison").len();
    println!(
        "{before} writes before, again {again:?} after the promotion, {unknown} unknown, {} \
         certainly not; {metrics}, {} retries",
        story.certain.lock().expect("no poison").len(),
        metrics.retries,
    );
    assert!(before > 100, "only {before} writes before");
    assert!(again < Duration::from_secs(1), "{again:?}");
    // Those of the groups that were under way.
    assert!(unknown <= 4 * 50, "{unknown} unknown");
    let acknowledged = story.acknowledged.lock().expect("no poison").len();
    let told = acknowledged + unknown + story.certain.lock().expect("no poison").len();
    assert_eq!(told as u64, story.next.load(SeqCst), "each has its outcome");
    story.check(&replica);
}

#[test]
fn a_killed_primary() {
    follows(Duration::from_secs(5), testbed::Postgres::kill);
}

#[test]
fn a_frozen_primary() {
    // Nothing but their deadline frees the groups that wait for its answer.
    follows(Duration::from_millis(400), testbed::Postgres::freeze);
}

#[test]
fn a_demoted_primary_refuses_and_everything_is_done_at_the_new_one() {
    let _alone = alone();
    let (primary, replica, fleet) = redis_pair();
    // The second attempt is one at the new primary, or none helps.
    let batch = Batch::builder(fleet.write()).retry(RetryPolicy::new(2));
    let batch = batch.build().expect("starts");
    // A read between the writes is done by a replica: what is refused is seen all the same.
    let round = |name: &str| {
        let incr = |key| RedisCommand::new("INCR").arg(testbed::value(format!("{name}{key}")));
        let get = RedisCommand::new("GET").arg("key");
        let operations = (0..600).map(|key| if key % 3 == 0 { get.clone() } else { incr(key) });
        let tickets = batch.submit_all(operations.map(|one| one.deadline(Duration::from_secs(5))));
        let tickets = tickets.into_iter().map(|ticket| ticket.expect("room"));
        wait_all(tickets, |_| ())
    };
    for outcome in round("first") {
        assert!(outcome.is_done(), "{outcome:?}");
    }
    until("replicated", || {
        replica
            .cli(&["EXISTS", &testbed::value("first599")])
            .expect("an answer")
            == "1"
    });
    swap_roles(&primary, &replica);
    let start = Instant::now();
    for outcome in round("second") {
        assert!(outcome.is_done(), "{outcome:?}");
    }
    println!("all done after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(1));
    let client = redis::Client::open(replica.url()).expect("a good URL");
    let mut conn = client.get_connection().expect("connects");
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut conn).expect("keys");
    let counts = redis::cmd("MGET").arg(&keys).query::<Vec<u64>>(&mut conn);
    let there: HashMap<String, u64> = keys.into_iter().zip(counts.expect("numbers")).collect();
    assert_eq!(there.len(), 800);
    assert!(there.values().all(|count| *count == 1), "each once");
}

#[test]
fn without_a_primary_a_batch_waits_until_the_deadline_or_its_end() {
    let _alone = alone();
    let (_primary, replica) = postgres_pair();
    let fleet = postgres_fleet(&[&replica]);
    let batch = Batch::builder(fleet.write()).build().expect("starts");
    let story = Story::default();
    let submit = |limit: Duration| {
        let (_, insert) = story.insert();
        batch.submit(insert.deadline(limit)).expect("room")
    };
    let (brief, patient) = (
        submit(Duration::from_millis(200)),
        submit(Duration::from_secs(60)),
    );
    let start = Instant::now();
    let outcome = brief.wait();
    assert!(matches!(outcome, Outcome::NotExecuted(_)), "{outcome:?}");
    let took = start.elapsed();
    assert!(took < Duration::from_millis(500), "{took:?}");
    let metrics = batch.close(Duration::from_millis(200));
    assert_eq!((metrics.not_executed, metrics.queued), (2, 0), "{metrics}");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    let outcome = patient.wait();
    assert!(matches!(outcome, Outcome::NotExecuted(_)), "{outcome:?}");
}
