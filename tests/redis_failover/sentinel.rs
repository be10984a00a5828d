//! Behind Sentinel: the primary dies, or freezes; replicas come and go.

use std::thread;
use std::time::{Duration, Instant};

use millpond::backend::redis::SentinelRole;
use millpond::{Operation, RedisCommand, RedisConfig};
use testbed::RedisSentinel;

use super::ledger::{Ledger, read};
use super::{SOON, batch, pool, promoted, wants_its_replica};

fn config(set: &RedisSentinel) -> RedisConfig {
    let sentinels = set.sentinels().iter();
    let sentinels = sentinels.map(|node| ("127.0.0.1", node.port()));
    RedisConfig::new().sentinel(set.master_name(), sentinels.collect::<Vec<_>>())
}

/// The primary comes to harm under load; thawed or not, the ledger holds afterwards.
fn fails_over(what: &str, harm: impl Fn(&testbed::Redis), heal: impl Fn(&testbed::Redis)) {
    let set = RedisSentinel::start().unwrap();
    wants_its_replica(set.master());
    let pool = pool(config(&set));
    let batch = batch(&pool);
    let ledger = Ledger::new();
    let name = |key: usize| format!("key:{key}");
    let (failover, gaps) = ledger.load(&batch, &name, &name, || {
        thread::sleep(Duration::from_millis(500));
        harm(set.master());
        ledger.fault();
        let harmed = Instant::now();
        let moment = promoted(set.replica());
        let gaps = ledger.gaps_after(moment);
        heal(set.master());
        thread::sleep(Duration::from_millis(700));
        (moment - harmed, gaps)
    });
    let metrics = batch.close(Duration::from_secs(5));
    let counts = ledger.agrees_with(&read([set.replica()]));
    println!(
        "Sentinel, primary {what}: failover after {failover:?}, then writes one by one after {:?}, \
         in the batch after {:?}; {counts:?}; {metrics}\n  {}",
        gaps.0,
        gaps.1,
        ledger.errors()
    );
    assert!(gaps.0 < SOON && gaps.1 < SOON, "{gaps:?}");
    assert!(counts.done > 1000 && counts.rejected == 0, "{counts:?}");
}

#[test]
fn the_primary_is_killed() {
    fails_over("killed", testbed::Redis::kill, |_| ());
}

#[test]
fn the_primary_freezes_and_comes_back() {
    fails_over("frozen", testbed::Redis::freeze, testbed::Redis::thaw);
}

#[test]
fn replicas_come_and_go() {
    let set = RedisSentinel::start().unwrap();
    let pool = pool(config(&set).sentinel_role(SentinelRole::Replica));
    let get = || {
        let get = RedisCommand::new("GET").arg("k");
        pool.execute(get.deadline(Duration::from_millis(300)))
    };
    set.master().cli(&["SET", "k", "v"]).unwrap();
    let limit = Instant::now() + Duration::from_secs(10);
    while get().ok().as_ref().and_then(|reply| reply.as_text()) != Some("v") {
        assert!(Instant::now() < limit, "replicated");
    }
    // Without a replica there is nothing to read from, and the primary is not asked instead.
    set.replica().kill();
    let error = get().unwrap_err();
    assert!(error.is_retryable() || error.outcome_unknown() || error.phase() == millpond::Phase::Queue, "{error}");
    let reads = || set.master().cli(&["INFO", "commandstats"]).unwrap();
    assert!(!reads().contains("cmdstat_get:"), "{}", reads());
    set.replica().restart().unwrap();
    let healthy = || {
        let known = set.sentinels().iter();
        let mut known = known.map(|node| node.cli(&["SENTINEL", "REPLICAS", set.master_name()]));
        known.all(|answer| {
            let answer = answer.unwrap();
            !answer.contains("down") && answer.contains("\nok")
        })
    };
    let limit = Instant::now() + Duration::from_secs(20);
    while !healthy() {
        assert!(Instant::now() < limit, "Sentinel sees the replica");
        thread::sleep(Duration::from_millis(5));
    }
    let back = Instant::now();
    while get().ok().as_ref().and_then(|reply| reply.as_text()) != Some("v") {
        assert!(back.elapsed() < SOON, "reads go again");
    }
    println!("Sentinel, replica back: reads after {:?}", back.elapsed());
    // It becomes the primary, and the old one a replica: reads go on there.
    set.sentinels()[0]
        .cli(&["SENTINEL", "FAILOVER", set.master_name()])
        .unwrap();
    promoted(set.replica());
    let moment = Instant::now();
    let port = set.replica().port().to_string();
    while !set.master().cli(&["ROLE"]).unwrap().contains(&port) {
        assert!(moment.elapsed() < Duration::from_secs(20), "the old one follows");
        thread::sleep(Duration::from_millis(5));
    }
    let before = Instant::now();
    let served = || reads().contains("cmdstat_get:");
    while !served() {
        let _ = get();
        assert!(before.elapsed() < Duration::from_secs(10), "the old primary is read from");
    }
    println!("Sentinel, roles swapped: reads there after {:?}", before.elapsed());
}
