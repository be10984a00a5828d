//! A Cluster: slots move, a master dies, and batches are split by node.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::backend::redis::Reply;
use millpond::{Deadline, ManageConnection, Outcome, Redis, RedisCommand, RedisConfig, Tls};
use testbed::{RedisCluster, secret};

use super::ledger::{Ledger, read};
use super::{SOON, batch, is_primary, moment, pool, wants_its_replica};

fn config(cluster: &RedisCluster) -> RedisConfig {
    let nodes = cluster.nodes().iter();
    let nodes = nodes.map(|node| ("127.0.0.1", node.port()));
    RedisConfig::new().cluster(nodes.collect::<Vec<_>>())
}

fn slot_of(cluster: &RedisCluster, key: &str) -> u32 {
    let slot = cluster.nodes()[0].cli(&["CLUSTER", "KEYSLOT", key]);
    slot.unwrap().parse().unwrap()
}

/// A tag whose slot the first master owns.
fn tag_of_the_first(cluster: &RedisCluster) -> String {
    let mut tags = (0..).map(|number| format!("tag{number}"));
    tags.find(|tag| slot_of(cluster, tag) < 16_384 / 3).unwrap()
}

fn texts(texts: &[&str]) -> Reply {
    let texts = texts.iter().map(|text| Reply::Text((*text).to_owned()));
    Reply::List(texts.collect())
}

fn id(node: &testbed::Redis) -> String {
    node.cli(&["CLUSTER", "MYID"]).unwrap()
}

/// Moves a slot, some keys at a time, as `redis-cli --cluster reshard` does; these keys first,
/// one by one.
fn migrate(
    cluster: &RedisCluster,
    slot: u32,
    [from, to]: [&testbed::Redis; 2],
    first: &[String],
) -> usize {
    let slot = slot.to_string();
    let set = |node: &testbed::Redis, state: &str, id: &str| {
        let set = ["CLUSTER", "SETSLOT", &slot, state, id];
        node.cli(&set).unwrap();
    };
    set(to, "IMPORTING", &id(from));
    set(from, "MIGRATING", &id(to));
    let port = to.port().to_string();
    let send = |keys: &[&str]| {
        let head = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        from.cli(&[&head, keys].concat()).unwrap();
        keys.len()
    };
    let mut moved: usize = first.iter().map(|key| send(&[key])).sum();
    loop {
        let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "50"]);
        let keys = keys.unwrap();
        if keys.is_empty() {
            break;
        }
        moved += send(&keys.lines().collect::<Vec<_>>());
    }
    let owner = id(to);
    for node in [to, from].into_iter().chain(cluster.nodes()) {
        set(node, "NODE", &owner);
    }
    moved
}

/// How often the nodes have answered with this error.
fn answered(cluster: &RedisCluster, code: &str) -> u64 {
    let name = format!("errorstat_{code}:count=");
    let count = |node: &testbed::Redis| {
        let statistics = node.cli(&["INFO", "errorstats"]).unwrap();
        let mut lines = statistics.lines();
        let count = lines.find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok());
        count.unwrap_or_default()
    };
    cluster.nodes().iter().map(count).sum()
}

#[test]
fn slots_move_and_no_caller_sees_it() {
    let cluster = RedisCluster::start().unwrap();
    let tag = tag_of_the_first(&cluster);
    let slot = slot_of(&cluster, &tag);
    let pool = pool(config(&cluster));
    let batch = batch(&pool);
    let pair =
        |number: usize| ["a", "b"].map(|half| testbed::value(format!("{{{tag}}}{half}{number}")));
    let halves: Vec<_> = (0..100).map(|number| pair(number)[0].clone()).collect();
    for number in 0..100 {
        let [a, b] = pair(number);
        let set = RedisCommand::new("MSET").arg(a).arg(1).arg(b).arg(2);
        pool.execute(set).unwrap();
    }
    let ledger = Ledger::new();
    let in_slot = |key: usize| testbed::value(format!("{{{tag}}}:{key}"));
    // Every other one of the batch's keys is elsewhere.
    let mixed = |key: usize| match key % 2 {
        0 => in_slot(key),
        _ => testbed::value(format!("key:{key}")),
    };
    let ended = AtomicBool::new(false);
    let (moved, pairs) = thread::scope(|scope| {
        let pairs = scope.spawn(|| {
            let mut read = 0;
            while !ended.load(SeqCst) {
                let both = RedisCommand::new("MGET").arg(&pair(read % 100)[..]);
                let both = pool.execute(both).unwrap();
                assert_eq!(both, texts(&["1", "2"]), "a pair that is on its way");
                read += 1;
                thread::sleep(Duration::from_millis(1));
            }
            read
        });
        let moved = ledger.load(&batch, &in_slot, &mixed, || {
            let mut moved = 0;
            for turn in 0..4 {
                thread::sleep(Duration::from_millis(200));
                let ends = [turn % 3, (turn + 1) % 3].map(|node| &cluster.nodes()[node]);
                moved += migrate(&cluster, slot, ends, &halves);
            }
            thread::sleep(Duration::from_millis(200));
            moved
        });
        ended.store(true, SeqCst);
        (moved, pairs.join().unwrap())
    });
    let metrics = batch.close(Duration::from_secs(5));
    let counts = ledger.agrees_with(&read(cluster.nodes()));
    let answers = ["MOVED", "ASK", "TRYAGAIN"].map(|code| answered(&cluster, code));
    println!(
        "Cluster, a slot moved 4 times with {moved} keys, {pairs} pairs read; MOVED, ASK, \
         TRYAGAIN {answers:?} times: {counts:?}; {metrics}; {} retries",
        metrics.retries
    );
    assert!(answers.iter().all(|count| *count > 0), "{answers:?}");
    assert_eq!(ledger.errors(), "", "no caller sees it");
    assert_eq!(counts.lost_by_redis, 0);
    assert!(counts.done > 1000 && moved > 400, "{counts:?}");
}

/// A master comes to harm under load, and its replica takes over.
fn loses_a_master(what: &str, harm: impl Fn(&testbed::Redis), heal: impl Fn(&testbed::Redis)) {
    let cluster = RedisCluster::with_replicas().unwrap();
    let tag = tag_of_the_first(&cluster);
    let (master, replica) = (&cluster.nodes()[0], &cluster.replicas()[0]);
    wants_its_replica(master);
    let pool = pool(config(&cluster));
    let batch = batch(&pool);
    let ledger = Ledger::new();
    let at_first = |key: usize| testbed::value(format!("{{{tag}}}:{key}"));
    let anywhere = |key: usize| testbed::value(format!("key:{key}"));
    let (failover, gaps) = ledger.load(&batch, &at_first, &anywhere, || {
        thread::sleep(Duration::from_millis(500));
        harm(master);
        ledger.fault();
        let harmed = Instant::now();
        let promoted = moment("a failover", || is_primary(replica));
        let gaps = ledger.gaps_after(promoted);
        heal(master);
        thread::sleep(Duration::from_millis(500));
        (promoted - harmed, gaps)
    });
    let metrics = batch.close(Duration::from_secs(5));
    let left = [replica, &cluster.nodes()[1], &cluster.nodes()[2]];
    let counts = ledger.agrees_with(&read(left));
    println!(
        "Cluster, master {what}: failover after {failover:?}, then writes there after {:?}; \
         {counts:?}; {metrics}\n  {}",
        gaps.0,
        ledger.errors()
    );
    assert!(gaps.0 < SOON, "{gaps:?}");
    assert!(counts.done > 1000 && counts.rejected == 0, "{counts:?}");
}

#[test]
fn a_master_with_a_replica_is_killed() {
    loses_a_master("killed", testbed::Redis::kill, |_| ());
}

#[test]
fn a_master_with_a_replica_freezes_and_comes_back() {
    loses_a_master("frozen", testbed::Redis::freeze, testbed::Redis::thaw);
}

#[test]
fn a_batch_is_split_by_node() {
    let cluster = RedisCluster::start().unwrap();
    let manager = Redis::new(config(&cluster)).unwrap();
    let mut conn = manager.connect().unwrap();
    let deadline = Deadline::within(Duration::from_secs(30));
    let commands: Vec<_> = (0..1000)
        .map(|key| match key {
            500 => RedisCommand::new("INCRBY")
                .arg(testbed::value("key:500"))
                .arg("x"),
            501 => RedisCommand::new("MSET").arg(&["a", "1", "b", "2", "c", "3"]),
            502 => RedisCommand::new("MGET").arg(&["a", "b", "c"]),
            key => RedisCommand::new("INCRBY")
                .arg(testbed::value(format!("key:{key}")))
                .arg(key),
        })
        .collect();
    let all: Vec<_> = commands.iter().collect();
    let outcomes = manager.execute_batch(&mut conn, &all, deadline);
    assert_eq!(outcomes.len(), all.len());
    for (key, outcome) in outcomes.iter().enumerate() {
        match (key, outcome) {
            (500, Outcome::Rejected(error)) => assert!(error.to_string().contains("integer")),
            (501, Outcome::Done(reply)) => assert_eq!(reply.as_text(), Some("OK")),
            (502, Outcome::Done(reply)) => assert_eq!(*reply, texts(&["1", "2", "3"])),
            (key, Outcome::Done(reply)) => assert_eq!(reply.as_int(), i64::try_from(key).ok()),
            other => panic!("{other:?}"),
        }
    }
    // One by one and together, in turns, on the same connection.
    let gets: Vec<_> = (0..1000)
        .map(|key| {
            RedisCommand::new("SET")
                .arg(testbed::value(format!("key:{key}")))
                .arg(key)
        })
        .collect();
    let gets: Vec<_> = gets.iter().collect();
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    let mut ratios: Vec<f64> = (0..5)
        .map(|_| {
            let singly = time(&mut || {
                for get in &gets {
                    manager.execute(&mut conn, get, deadline).unwrap();
                }
            });
            let together = time(&mut || {
                let outcomes = manager.execute_batch(&mut conn, &gets, deadline);
                assert!(outcomes.iter().all(Outcome::is_done));
            });
            singly.as_secs_f64() / together.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!("Cluster, 1000 SETs over 3 nodes: together {ratios:.1?} times as fast as one by one");
    assert!(ratios[2] > 2.0, "{ratios:?}");
}

#[test]
fn a_frozen_node_costs_the_others_nothing() {
    let cluster = RedisCluster::start().unwrap();
    let manager = Redis::new(config(&cluster)).unwrap();
    let mut conn = manager.connect().unwrap();
    let name = |key: usize| testbed::value(format!("key:{key}"));
    let commands: Vec<_> = (0..300)
        .map(|key| RedisCommand::new("INCR").arg(name(key)))
        .collect();
    let all: Vec<_> = commands.iter().collect();
    let soon = |millis| Deadline::within(Duration::from_millis(millis));
    let outcomes = manager.execute_batch(&mut conn, &all, soon(10_000));
    assert!(outcomes.iter().all(Outcome::is_done));
    for frozen in cluster.nodes() {
        let mut conn = manager.connect().unwrap();
        let warm = manager.execute_batch(&mut conn, &all, soon(10_000));
        assert!(warm.iter().all(Outcome::is_done));
        frozen.freeze();
        let start = Instant::now();
        let outcomes = manager.execute_batch(&mut conn, &all, soon(300));
        let took = start.elapsed();
        frozen.thaw();
        assert!(took < Duration::from_millis(400), "{took:?}");
        let done = outcomes.iter().filter(|outcome| outcome.is_done()).count();
        let unknown = outcomes.iter();
        let unknown = unknown
            .filter(|outcome| matches!(outcome, Outcome::Unknown(_)))
            .count();
        assert_eq!(done + unknown, all.len());
        // A third of the keys each, more or less.
        assert!((50..150).contains(&unknown), "{unknown}");
        assert!(manager.has_broken(&mut conn));
    }
}

#[test]
fn with_tls_and_a_login() {
    let ca = testbed::Ca::new();
    let node = testbed::Redis::builder()
        .tls(&ca)
        .password(secret!("hunter2"));
    let cluster = RedisCluster::start_with(&node, false).unwrap();
    let config = config(&cluster).tls(Tls::new().ca_file(ca.cert_path()));
    let wrong = Redis::new(config.clone().password(secret!("wrong"))).unwrap();
    let error = wrong.connect().err().unwrap();
    assert_eq!(error.kind(), millpond::ErrorKind::Authentication, "{error}");
    let manager = Redis::new(config.password(secret!("hunter2"))).unwrap();
    let mut conn = manager.connect().unwrap();
    let tag = tag_of_the_first(&cluster);
    let slot = slot_of(&cluster, &tag);
    let commands: Vec<_> = (0..300)
        .map(|key| match key % 2 {
            0 => RedisCommand::new("SET")
                .arg(format!("{{{tag}}}:{key}"))
                .arg(key),
            _ => RedisCommand::new("SET")
                .arg(testbed::value(format!("key:{key}")))
                .arg(key),
        })
        .collect();
    let all: Vec<_> = commands.iter().collect();
    let run = |conn: &mut _| {
        let deadline = Deadline::within(Duration::from_secs(10));
        let outcomes = manager.execute_batch(conn, &all, deadline);
        let done = outcomes.iter().all(Outcome::is_done);
        assert!(
            done,
            "{:?}",
            outcomes.iter().find(|outcome| !outcome.is_done())
        );
    };
    run(&mut conn);
    // On its way to another node, without the keys that are there: each is asked for there.
    let (from, to) = (&cluster.nodes()[0], &cluster.nodes()[1]);
    let set = |node: &testbed::Redis, state: &str, id: &str| {
        node.cli(&["CLUSTER", "SETSLOT", &slot.to_string(), state, id])
            .unwrap();
    };
    set(to, "IMPORTING", &id(from));
    set(from, "MIGRATING", &id(to));
    let keys = from
        .cli(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "1000"])
        .unwrap();
    for key in keys.lines() {
        from.cli(&["DEL", key]).unwrap();
    }
    run(&mut conn);
    let moved = to
        .cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()])
        .unwrap();
    assert_eq!(moved, keys.lines().count().to_string());
    // And the whole slot is there by now.
    let owner = id(to);
    set(to, "NODE", &owner);
    set(from, "NODE", &owner);
    run(&mut conn);
    // The driver's own connection, too.
    let () = redis::Commands::set(&mut conn, "direct", 7).unwrap();
    let many = RedisCommand::new("MGET").arg("direct");
    let many = many.arg(testbed::value("key:1"));
    let reply = manager.execute(&mut conn, &many, Deadline::NEVER).unwrap();
    assert_eq!(reply, texts(&["7", "1"]));
    assert!(!manager.has_broken(&mut conn));
}
