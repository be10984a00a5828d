//! A replica set whose primary steps down and is killed, under load: writes go again as soon
//! as there is another one, reads from secondaries never stop, the ledger is true, and nothing
//! is left behind. One test, so that the process's threads and sockets are its own.

#[path = "../book/mod.rs"]
mod book;
mod load;
#[path = "../traced/mod.rs"]
mod traced;

use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use millpond::{ManageConnection as _, MongoDb, MongoDbConfig, Pool};
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{ReadPreference, WriteConcern};
use testbed::Mongo;

use book::Book;
use load::{Moments, while_working};

const DATABASE: &str = "ledger";
/// Keys of documents without an `_id` of their own, so that a second one would show.
const LOOSE: &str = "loose";
/// Documents whose `_id` is the key.
const NAMED: &str = "named";
/// Counters whose `_id` is the key.
const COUNTED: &str = "counted";

fn pool(config: MongoDbConfig) -> Pool<MongoDb> {
    let manager = MongoDb::new(config).expect("good settings");
    Pool::builder().max_size(8).build(manager).expect("opens")
}

fn config(mongo: &Mongo) -> MongoDbConfig {
    let config = MongoDbConfig::from_url(&mongo.uri()).expect("a good URI");
    config
        .database(DATABASE)
        .write_concern(WriteConcern::majority())
}

/// How often each key was written.
fn read(mongo: &Mongo) -> HashMap<i32, u64> {
    let manager = MongoDb::new(config(mongo)).expect("good settings");
    let conn = manager.connect().expect("connects");
    let mut there = HashMap::new();
    for (collection, field) in [(LOOSE, "key"), (NAMED, "_id"), (COUNTED, "_id")] {
        let collection = conn.database(DATABASE).collection::<Document>(collection);
        for document in collection.find(doc! {}).run().expect("finds") {
            let document = document.expect("reads");
            let key = testbed::which(document.get_i64(field).expect("a key"));
            let times = document.get("times").and_then(Bson::as_i32).unwrap_or(1);
            let key = i32::try_from(key).expect("ours");
            *there.entry(key).or_default() += u64::try_from(times).expect("positive");
        }
    }
    there
}

/// One member by itself.
fn direct(mongo: &Mongo, member: usize) -> MongoDb {
    let port = mongo.members()[member].port();
    let config = MongoDbConfig::new().host(format!("127.0.0.1:{port}"));
    let config = config.direct(true).write_concern(WriteConcern::majority());
    MongoDb::new(config).expect("good settings")
}

/// Has the primary step down, as before a planned restart.
fn step_down(mongo: &Mongo, primary: usize) {
    let conn = direct(mongo, primary).connect().expect("connects");
    let command = doc! { "replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 2 };
    let answer = conn.database("admin").run_command(command).run();
    answer.expect("steps down");
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Hurt {
    StepDown,
    Kill,
}

/// What happened, when it began, when the set had another primary, and when that one had a
/// write on most members: only then the failover is over.
struct Event {
    hurt: Hurt,
    begun: Instant,
    elected: Instant,
    over: Instant,
}

fn hurt(mongo: &Mongo, hurt: Hurt) -> Event {
    let old = mongo.await_primary().expect("a primary");
    let begun = Instant::now();
    match hurt {
        Hurt::StepDown => step_down(mongo, old),
        Hurt::Kill => mongo.members()[old].kill(),
    }
    let new = mongo.await_primary().expect("another primary");
    let elected = Instant::now();
    assert_ne!(old, new, "{hurt:?}");
    let conn = direct(mongo, new).connect().expect("connects");
    let own = conn.database(DATABASE).collection::<Document>("own");
    own.insert_one(doc! {}).run().expect("is taken");
    let over = Instant::now();
    thread::sleep(Duration::from_secs(1));
    if hurt == Hurt::Kill {
        mongo.members()[old].restart().expect("restarts");
        thread::sleep(Duration::from_secs(1));
    }
    Event {
        hurt,
        begun,
        elected,
        over,
    }
}

/// Threads, and descriptors that are sockets, of this process.
fn resources() -> (usize, usize) {
    let tasks = fs::read_dir("/proc/self/task").expect("procfs").count();
    let descriptors = fs::read_dir("/proc/self/fd").expect("procfs");
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let sockets = links.filter(|link| link.to_string_lossy().starts_with("socket:"));
    (tasks, sockets.count())
}

/// How long after the failover a write was acknowledged, and the pause that callers saw.
fn writes_go_again(moments: &Moments, event: &Event) {
    let again = moments.first_after(event.elected);
    let late = again.saturating_duration_since(event.over);
    println!(
        "{:?}: another primary after {:?}, which had a write on most members {:?} later; \
         acknowledged again {:?} after the election, {late:?} after that; longest pause {:?}",
        event.hurt,
        event.elected - event.begun,
        event.over - event.elected,
        again - event.elected,
        moments.longest_pause(event.begun, again),
    );
    assert!(late < Duration::from_secs(1), "{late:?}");
}

#[test]
fn writes_follow_the_primary_and_reads_go_on() {
    let mongo = Mongo::builder().replica_set(3).start().expect("a set");
    // What the process keeps for good is there from the first pool on.
    let book = Book::new();
    traced::traced();
    let first = pool(config(&mongo));
    while_working(&first, &first, &book, || {
        thread::sleep(Duration::from_millis(500));
    });
    drop(first);
    // The driver's own interface has threads of its own.
    read(&mongo);
    thread::sleep(Duration::from_secs(1));
    let before = resources();

    let writer = pool(config(&mongo));
    let reader = pool(config(&mongo).read_preference(ReadPreference::Secondary { options: None }));
    let meters = [&writer, &reader].map(|pool| pool.manager().meter());
    let mut events = Vec::new();
    let (writes, reads) = while_working(&writer, &reader, &book, || {
        thread::sleep(Duration::from_secs(1));
        for what in [Hurt::StepDown, Hurt::Kill] {
            events.push(hurt(&mongo, what));
        }
    });
    for event in &events {
        writes_go_again(&writes, event);
    }
    let from = events[0].begun;
    let to = events[events.len() - 1].elected;
    let pause = reads.longest_pause(from, to + Duration::from_secs(1));
    println!("{book}\nreads: {}, longest pause {pause:?}", reads.count());
    let there = read(&mongo);
    println!("{} keys are there", there.len());
    book.check(&there, |_| true);
    assert!(book.done() > 500, "it got on: {book}");
    assert!(
        pause < Duration::from_millis(500),
        "reads stopped: {pause:?}"
    );

    for meter in &meters {
        let sockets = meter.read();
        assert_eq!(sockets.in_use, 0, "{sockets:?}");
    }
    drop((writer, reader));
    let start = Instant::now();
    loop {
        let after = resources();
        if after.0 <= before.0 && after.1 <= before.1 {
            println!("threads, sockets: {before:?}, {after:?}");
            break;
        }
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(10), "{before:?}, {after:?}");
        thread::sleep(Duration::from_millis(50));
    }
}
