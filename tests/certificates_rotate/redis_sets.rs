//! The same for Redis under Sentinels, and for a Cluster: every server renews its certificate, and
//! the client is shown to each of them.

use std::error::Error;
use std::time::{Duration, Instant, SystemTime};

use millpond::{ConnectFailure, ErrorKind, Pool, Redis, RedisConfig};
use testbed::{Ca, Identity, RedisCluster, RedisSentinel};

use crate::crowd::Crowd;
use crate::files::Files;
use crate::subject::tls;
use crate::{MEANWHILE, SOON};

const LIFETIME: Duration = Duration::from_secs(4);
/// A certificate that is not accepted is one of these.
const REFUSED: [ErrorKind; 2] = [
    ErrorKind::Authentication,
    ErrorKind::Connect(ConnectFailure::Tls),
];

fn addresses(servers: &[testbed::Redis]) -> Vec<(&str, u16)> {
    let servers = servers.iter();
    servers.map(|server| ("127.0.0.1", server.port())).collect()
}

/// Several servers.
trait Set: Sized + Sync {
    const NAME: &'static str;

    fn start(node: &testbed::RedisBuilder) -> Self;

    fn all(&self) -> impl Iterator<Item = &testbed::Redis>;

    fn config(&self) -> RedisConfig;

    /// How many handshakes each server has refused, or seen refused.
    fn refusals(&self) -> Vec<u64> {
        let count = |server: &testbed::Redis| {
            let log = std::fs::read_to_string(server.folder().join("log")).unwrap();
            let refused = "Error accepting a client connection";
            log.lines().filter(|line| line.contains(refused)).count() as u64
        };
        self.all().map(count).collect()
    }

    /// Every connection ends, and each server begins anew with what is in its folder.
    fn restart(&self) {
        // Together, as none of them trusts who has not changed yet.
        std::thread::scope(|scope| {
            for server in self.all() {
                scope.spawn(|| server.restart().unwrap());
            }
        });
    }

    fn show(&self, ca: &Ca, identity: &Identity) {
        for server in self.all() {
            let write = |name, text: &str| std::fs::write(server.folder().join(name), text);
            write("ca.pem", ca.cert_pem()).unwrap();
            write("server.pem", identity.cert_pem()).unwrap();
            write("server.key", identity.key_pem()).unwrap();
        }
        self.restart();
    }
}

impl Set for RedisSentinel {
    const NAME: &'static str = "Sentinel";

    fn start(node: &testbed::RedisBuilder) -> Self {
        Self::start_with(node, node).unwrap()
    }

    fn all(&self) -> impl Iterator<Item = &testbed::Redis> {
        let nodes = [self.master(), self.replica()];
        self.sentinels().iter().chain(nodes)
    }

    fn config(&self) -> RedisConfig {
        RedisConfig::new().sentinel(self.master_name(), addresses(self.sentinels()))
    }
}

impl Set for RedisCluster {
    const NAME: &'static str = "Cluster";

    fn start(node: &testbed::RedisBuilder) -> Self {
        Self::start_with(node, false).unwrap()
    }

    fn all(&self) -> impl Iterator<Item = &testbed::Redis> {
        self.nodes().iter()
    }

    fn config(&self) -> RedisConfig {
        RedisConfig::new().cluster(addresses(self.nodes()))
    }
}

/// A set and a pool over it.
struct Stage<S> {
    set: S,
    files: Files,
    pool: Pool<Redis>,
}

impl<S: Set> Stage<S> {
    fn set(node: &testbed::RedisBuilder, shows: bool, fill: impl FnOnce(&Files)) -> Self {
        let set = S::start(node);
        let files = Files::new();
        fill(&files);
        let redis = Redis::new(set.config().tls(tls(&files, shows))).unwrap();
        let pool = Pool::builder()
            .max_size(8)
            .health_check_interval(Some(Duration::from_millis(100)));
        let pool = pool.build(redis).unwrap();
        let stage = Self { set, files, pool };
        stage.ask().unwrap();
        stage
    }

    fn ask(&self) -> Result<(), Box<dyn Error>> {
        let mut lease = self.pool.get()?;
        // Of different slots.
        for key in ["a", "b", "c"] {
            ::redis::cmd("GET")
                .arg(key)
                .query::<Option<String>>(&mut *lease)?;
        }
        Ok(())
    }

    /// How many attempts have failed for a certificate's sake, and what each server saw of that.
    fn refusals(&self) -> (u64, Vec<u64>) {
        let failures = self.pool.metrics().connect_failures;
        let failures = failures.iter().filter(|(kind, _)| REFUSED.contains(kind));
        (failures.map(|(_, count)| count).sum(), self.set.refusals())
    }

    /// Sixteen threads ask: in vain, then the files are changed. Since `before` there are so many
    /// attempts at most, and as many for each server.
    fn recovers(&self, before: &(u64, Vec<u64>), most: u64, change: impl FnOnce(), words: &[&str]) {
        Crowd::during(
            || self.ask(),
            |crowd| {
                std::thread::sleep(MEANWHILE);
                let (failed, refused) = self.refusals();
                let failed = failed - before.0;
                let refused = refused.into_iter().zip(&before.1);
                let refused: Vec<_> = refused.map(|(now, before)| now - before).collect();
                let told = crowd.errors();
                let changed = Instant::now();
                change();
                crowd.all_served();
                let took = changed.elapsed();
                println!(
                    "{}: {failed} attempts failed, {refused:?} handshakes refused, {} callers told; all \
                     served {took:?} after the files changed",
                    S::NAME,
                    told.len()
                );
                assert!(took < SOON, "{took:?}");
                for word in words {
                    assert!(
                        told.iter().any(|told| told.contains(word)),
                        "{word}: {told:?}"
                    );
                }
                assert!((1..=most).contains(&failed), "{failed}");
                assert!(refused.iter().all(|count| *count <= most), "{refused:?}");
                assert!(refused.iter().any(|count| *count > 0), "{refused:?}");
            },
        );
    }
}

fn client_is_renewed<S: Set>() {
    let ca = Ca::new();
    let node = testbed::Redis::builder().tls_identity(&ca, &ca.server(&["127.0.0.1"]));
    let node = node.client_certificates(true);
    let mut expired = SystemTime::now();
    let stage = Stage::<S>::set(&node, true, |files| {
        files.write("ca.pem", ca.cert_pem());
        files.write_client(&ca.issue().expiring_in(LIFETIME).client("test"));
        expired = SystemTime::now() + LIFETIME + Duration::from_secs(1);
    });
    // What exists is left alone.
    let left = expired.duration_since(SystemTime::now());
    std::thread::sleep(left.unwrap_or_default());
    stage.ask().unwrap();
    let before = stage.refusals();
    stage.set.restart();
    stage.recovers(
        &before,
        3,
        || stage.files.write_client(&ca.client("test")),
        &[
            "authentication failed",
            "certificate",
            "REDIS_SSL_CERT_FILE",
        ],
    );
}

fn authority_is_replaced<S: Set>() {
    let (old, new) = (Ca::new(), Ca::new());
    let node = testbed::Redis::builder().tls_identity(&old, &old.server(&["127.0.0.1"]));
    let stage = Stage::<S>::set(&node, false, |files| files.write("ca.pem", old.cert_pem()));
    stage.set.show(&new, &new.server(&["127.0.0.1"]));
    // The servers have refused one another until now.
    let before = stage.refusals();
    // No login: so it may be tried every second or two, as the servers may mend it.
    stage.recovers(
        &before,
        6,
        || stage.files.write("ca.pem", new.cert_pem()),
        &["TLS failed", "the authority of the server's certificate"],
    );
}

#[test]
fn client_is_renewed_under_sentinels() {
    client_is_renewed::<RedisSentinel>();
}

#[test]
fn client_is_renewed_in_a_cluster() {
    client_is_renewed::<RedisCluster>();
}

#[test]
fn authority_is_replaced_under_sentinels() {
    authority_is_replaced::<RedisSentinel>();
}

#[test]
fn authority_is_replaced_in_a_cluster() {
    authority_is_replaced::<RedisCluster>();
}
