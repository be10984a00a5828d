//! Behind Sentinel: the primary dies, or freezes; replicas come and go.

use std::thread;
use std::time::{Duration, Instant};

use millpond::backend::redis::SentinelRole;
use millpond::{Operation, RedisCommand, RedisConfig};
use testbed::{Pace, RedisSentinel};

use super::ledger::{Ledger, read};
use super::{SOON, batch, is_primary, moment, pool, wants_its_replica};

fn config(set: &RedisSentinel) -> RedisConfig {
    let sentinels = set.sentinels().iter();
    let sentinels = sentinels.map(|node| ("127.0.0.1", node.port()));
    RedisConfig::new().sentinel(set.master_name(), sentinels.collect::<Vec<_>>())
}

/// Whether a Sentinel names the node that was the replica. From then on it can be found.
fn names_the_replica(set: &RedisSentinel) -> bool {
    let port = set.replica().port().to_string();
    let ask = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", set.master_name()];
    let mut sentinels = set.sentinels().iter();
    sentinels.any(|sentinel| {
        sentinel
            .cli(&ask)
            .is_ok_and(|answer| answer.ends_with(&port))
    })
}

/// The primary comes to harm under load; thawed or not, the ledger holds afterwards.
fn fails_over(what: &str, harm: impl Fn(&testbed::Redis), heal: impl Fn(&testbed::Redis)) {
    let set = RedisSentinel::start().unwrap();
    wants_its_replica(set.master());
    let pool = pool(config(&set));
    let batch = batch(&pool);
    let ledger = Ledger::new();
    let name = |key: usize| testbed::value(format!("key:{key}"));
    let (failover, gaps) = ledger.load(&batch, &name, &name, || {
        thread::sleep(Duration::from_millis(500));
        harm(set.master());
        ledger.fault();
        let harmed = Instant::now();
        let promoted = moment("a promotion", || is_primary(set.replica()));
        let named = moment("the failover", || names_the_replica(&set));
        let gaps = ledger.gaps_after(named);
        heal(set.master());
        thread::sleep(Duration::from_millis(700));
        ((promoted - harmed, named - harmed), gaps)
    });
    let metrics = batch.close(Duration::from_secs(5));
    let counts = ledger.agrees_with(&read([set.replica()]));
    println!(
        "Sentinel, primary {what}: replica promoted and then named after {failover:?}; writes one \
         by one {:?} after that, in the batch {:?}; {counts:?}; {metrics}\n  {}",
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
    let reads = || get().ok().as_ref().and_then(|reply| reply.as_text()) == Some("v");
    moment("it is replicated", reads);
    // Without a replica there is nothing to read from, and the primary is not asked instead.
    set.replica().kill();
    get().unwrap_err();
    let asked = || {
        let statistics = set.master().cli(&["INFO", "commandstats"]);
        statistics.is_ok_and(|text| text.contains("cmdstat_get:"))
    };
    assert!(!asked());
    set.replica().restart().unwrap();
    let healthy = |sentinel: &testbed::Redis| {
        let answer = sentinel
            .cli(&["SENTINEL", "REPLICAS", set.master_name()])
            .unwrap();
        let value = |name: &str| answer.lines().skip_while(|line| *line != name).nth(1);
        value("flags") == Some("slave") && value("master-link-status") == Some("ok")
    };
    let pace = Pace::start();
    let seen = moment("a Sentinel sees it", || set.sentinels().iter().any(healthy));
    let back = pace.between(seen, moment("reads go again", reads));
    // It becomes the primary, and the old one a replica: reads go on there.
    let failover = ["SENTINEL", "FAILOVER", set.master_name()];
    let begun = || set.sentinels()[0].cli(&failover).is_ok();
    moment("the replica is fit to take over", begun);
    let follows = || {
        let role = set.master().cli(&["ROLE"]);
        role.is_ok_and(|role| role.starts_with("slave") && role.contains("connected"))
    };
    let swapped = moment("the old one follows", follows);
    let there = moment("reads go there", || reads() && asked()) - swapped;
    println!("Sentinel, a replica back: reads {back:?} later; roles swapped: {there:?} later");
    assert!(back < SOON, "{back:?}");
}
