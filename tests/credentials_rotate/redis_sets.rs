//! Redis under Sentinels and in a Cluster, with TLS.

use std::time::{Duration, Instant};

use ::redis::RedisResult;
use millpond::backend::redis::RedisConnection;
use millpond::{ErrorKind, Pool, Redis, RedisCommand, RedisConfig, Tls};
use testbed::{Ca, RedisCluster, RedisSentinel, secret};

use crate::{SOON, Secret, rotates};

/// Gives a user this password.
fn set_user(server: &testbed::Redis, user: &str, password: &str) {
    let password = format!(">{password}");
    let words = ["ACL", "SETUSER", user, "resetpass", "on", "~*", "+@all"];
    let words = [&words[..], &[&password]].concat();
    server.cli(&words).expect("changes");
}

/// How many logins this server has refused.
fn refused(server: &testbed::Redis) -> u64 {
    let log = server.cli(&["ACL", "LOG"]).expect("tells");
    let mut lines = log.lines();
    let mut all = 0;
    while let Some(line) = lines.next() {
        if line == "count" {
            let count = lines.next().and_then(|count| count.parse::<u64>().ok());
            all += count.expect("a number");
        }
    }
    all
}

/// The most that one of these has refused.
fn most_refused<'a>(servers: impl IntoIterator<Item = &'a testbed::Redis>) -> u64 {
    servers.into_iter().map(refused).max().expect("servers")
}

fn end_connections<'a>(nodes: impl IntoIterator<Item = &'a testbed::Redis>) {
    for node in nodes {
        node.cli(&["CLIENT", "KILL", "USER", "app"])
            .expect("ends them");
    }
}

fn addresses(servers: &[testbed::Redis]) -> Vec<(&str, u16)> {
    let servers = servers.iter();
    servers.map(|server| ("127.0.0.1", server.port())).collect()
}

fn pool(config: RedisConfig, ca: &Ca) -> Pool<Redis> {
    let config = config.tls(Tls::new().ca_file(ca.cert_path()));
    Pool::builder()
        .max_size(8)
        .build(Redis::new(config).expect("good settings"))
        .expect("opens")
}

fn ask(pool: &Pool<Redis>) -> Result<(), Box<dyn std::error::Error>> {
    let mut lease = pool.get()?;
    Ok(ask_on(&mut lease)?)
}

fn ask_on(lease: &mut RedisConnection) -> RedisResult<()> {
    // Of different slots.
    for key in ["a", "b", "c"] {
        ::redis::cmd("GET")
            .arg(key)
            .query::<Option<String>>(lease)?;
    }
    Ok(())
}

/// A set whose nodes and Sentinels know a user each.
struct Watched {
    set: RedisSentinel,
    of_nodes: Secret,
    of_sentinels: Secret,
    pool: Pool<Redis>,
    /// Its file is looked at again.
    _ca: Ca,
}

impl Watched {
    fn start() -> Self {
        let ca = Ca::new();
        let server = testbed::Redis::builder().tls(&ca);
        let set = RedisSentinel::start_with(&server, &server).expect("starts");
        for node in [set.master(), set.replica()] {
            set_user(node, "app", secret!("hunter1"));
        }
        for sentinel in set.sentinels() {
            set_user(sentinel, "asker", secret!("hunter1"));
        }
        let [of_nodes, of_sentinels] = [(); 2].map(|()| Secret::new(secret!("hunter1")));
        let config = RedisConfig::new()
            .sentinel(set.master_name(), addresses(set.sentinels()))
            .sentinel_login_file(Some("asker"), &of_sentinels.0)
            .user("app")
            .password_file(&of_nodes.0);
        Self {
            pool: pool(config, &ca),
            set,
            of_nodes,
            of_sentinels,
            _ca: ca,
        }
    }

    fn nodes(&self) -> [&testbed::Redis; 2] {
        [self.set.master(), self.set.replica()]
    }

    fn refused(&self) -> u64 {
        most_refused(self.set.sentinels().iter().chain(self.nodes()))
    }
}

#[test]
fn of_the_nodes_under_sentinels() {
    let watched = Watched::start();
    rotates(
        &watched.pool,
        ask,
        || {
            for node in watched.nodes() {
                set_user(node, "app", secret!("hunter2"));
            }
            end_connections(watched.nodes());
        },
        || watched.of_nodes.write(secret!("hunter2")),
        || watched.refused(),
    );
}

#[test]
fn of_the_sentinels() {
    let watched = Watched::start();
    rotates(
        &watched.pool,
        ask,
        || {
            for sentinel in watched.set.sentinels() {
                set_user(sentinel, "asker", secret!("hunter2"));
            }
            end_connections(watched.nodes());
        },
        || watched.of_sentinels.write(secret!("hunter2")),
        || watched.refused(),
    );
}

/// A Cluster whose nodes know a user, and the file of the password.
fn cluster(ca: &Ca) -> (RedisCluster, Secret, RedisConfig) {
    let node = testbed::Redis::builder().tls(ca);
    let cluster = RedisCluster::start_with(&node, false).expect("starts");
    set_all(&cluster, secret!("hunter1"));
    let file = Secret::new(secret!("hunter1"));
    let config = RedisConfig::new()
        .cluster(addresses(cluster.nodes()))
        .user("app")
        .password_file(&file.0);
    (cluster, file, config)
}

fn set_all(cluster: &RedisCluster, password: &str) {
    for node in cluster.nodes() {
        set_user(node, "app", password);
    }
}

#[test]
fn of_a_cluster() {
    let ca = Ca::new();
    let (cluster, file, config) = cluster(&ca);
    let pool = pool(config, &ca);
    // Each has the connections that it needs.
    let leases: Vec<_> = (0..8).map(|_| pool.get().expect("a lease")).collect();
    for mut lease in leases {
        ask_on(&mut lease).expect("works");
    }
    rotates(
        &pool,
        ask,
        || {
            set_all(&cluster, secret!("hunter2"));
            end_connections(cluster.nodes());
        },
        || file.write(secret!("hunter2")),
        || most_refused(cluster.nodes()),
    );
}

/// A lease that needs a further node of a Cluster logs in there: not once for each command.
#[test]
fn of_a_cluster_whose_connections_live_on() {
    let ca = Ca::new();
    let (cluster, file, config) = cluster(&ca);
    let pool = pool(config, &ca);
    drop(pool.get().expect("a lease"));
    set_all(&cluster, secret!("hunter2"));
    for round in 0..200 {
        let error = ask(&pool).expect_err("refused").to_string();
        assert!(!error.contains("hunter"), "{error}");
        let get = RedisCommand::new("GET").arg(format!("key{round}"));
        // One node has let the lease in before.
        if let Err(error) = pool.execute(get) {
            assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        }
    }
    let refused = most_refused(cluster.nodes());
    println!("{refused} logins refused");
    assert!((1..=3).contains(&refused), "{refused}");
    file.write(secret!("hunter2"));
    let start = Instant::now();
    while let Err(error) = ask(&pool) {
        assert!(start.elapsed() < SOON, "{error}");
    }
}

/// A program may keep its lease, so that the pool makes no new connection.
#[test]
fn of_a_cluster_of_which_a_lease_is_held() {
    let ca = Ca::new();
    let (cluster, _file, config) = cluster(&ca);
    let pool = pool(config, &ca);
    let mut lease = pool.get().expect("a lease");
    let mut other = pool.get().expect("a lease");
    set_all(&cluster, secret!("hunter2"));
    ask_on(&mut lease).expect_err("refused");
    set_all(&cluster, secret!("hunter1"));
    for lease in [&mut lease, &mut other] {
        let start = Instant::now();
        while let Err(error) = ask_on(lease) {
            assert!(start.elapsed() < 3 * SOON, "{error}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
