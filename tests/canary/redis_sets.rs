//! Redis on several nodes: behind Sentinels that want a password of their own, and a Cluster.

use std::time::Duration;

use millpond::{Operation as _, Pool, Redis, RedisCommand, RedisConfig};
use testbed::{RedisCluster, RedisSentinel};

use super::{fails, marked, run, run_batch, show, show_pool, show_refusal};

const LATE: Duration = Duration::from_millis(300);

fn command(name: &str) -> RedisCommand {
    RedisCommand::new(name).arg(marked("key"))
}

/// What both are put through.
fn works(pool: &Pool<Redis>) {
    show_pool(pool);
    run(pool, command("SET").arg(marked("value"))).expect("set");
    run(pool, command("GET")).expect("a value");
    fails(pool, command("LPUSH").arg(marked("value")));
    fails(pool, command("NOSUCH").arg(marked("value")));
    let commands = (0..20).map(|n| match n % 5 {
        4 => command("LPUSH").arg(marked("value")),
        _ => RedisCommand::new("SET")
            .arg(format!("{}:{n}", marked("key")))
            .arg(marked("value")),
    });
    assert_eq!(run_batch(pool, commands.collect()), 4);
}

pub(super) fn sentinel() {
    let set = RedisSentinel::with_passwords(&marked("node"), &marked("sentinel"));
    let set = set.expect("Sentinels");
    let sentinels: Vec<_> = set.sentinels().iter().map(testbed::Redis::port).collect();
    let config = || {
        let hosts = sentinels.iter().map(|port| ("127.0.0.1", *port));
        RedisConfig::new()
            .sentinel(set.master_name(), hosts)
            .connect_timeout(Duration::from_secs(1))
    };
    let login = |sentinel: &str, node: &str| {
        let config = config()
            .sentinel_login(None, marked(sentinel))
            .password(marked(node));
        show("Sentinel", &config);
        Redis::new(config)
    };
    let good = login("sentinel", "node").expect("settings");
    let pool = Pool::new(good).expect("opens");
    works(&pool);
    show_refusal("wrong-sentinel", login("wrong", "node"));
    show_refusal("wrong-node", login("sentinel", "wrong"));
    show_refusal("no-login", Redis::new(config()));

    set.master().freeze();
    fails(&pool, command("GET").deadline(LATE));
    set.master().thaw();
    set.freeze();
    show_refusal("frozen", login("sentinel", "node"));
    set.thaw();
}

pub(super) fn cluster() {
    let node = testbed::Redis::builder().password(&marked("node"));
    let cluster = RedisCluster::start_with(&node, false).expect("a Cluster");
    let login = |password: &str| {
        let nodes = cluster.nodes().iter();
        let nodes = nodes.map(|node| ("127.0.0.1", node.port()));
        let config = RedisConfig::new().cluster(nodes).password(marked(password));
        show("Cluster", &config);
        Redis::new(config)
    };
    let good = login("node").expect("settings");
    let pool = Pool::new(good).expect("opens");
    works(&pool);
    let apart = RedisCommand::new("RENAME").arg(&[marked("a"), marked("b")]);
    fails(&pool, apart);
    show_refusal("wrong", login("wrong"));
    cluster.freeze();
    fails(&pool, command("GET").deadline(LATE));
    cluster.thaw();
    cluster.nodes()[0].kill();
    for n in 0..3 {
        let get = RedisCommand::new("GET").arg(format!("{}:{n}", marked("key")));
        run(&pool, get.deadline(LATE));
    }
    show("pool", &pool);
}
