//! A Redis master and its replica, watched by three Sentinels.

use crate::error::Error;
use crate::process::{Daemon, lifecycle};

use super::{Redis, RedisBuilder, until};

/// The name that the Sentinels know the master by.
const MASTER: &str = "mymaster";

/// One master, one replica, and three Sentinels that agree on both.
///
/// They fail over half a second after the master went silent. `freeze`, `kill`
/// and the like hit all five; for one of them ask [`master`](Self::master) and so
/// on.
pub struct RedisSentinel {
    nodes: [Redis; 2],
    sentinels: Vec<Redis>,
}

lifecycle!(RedisSentinel);

impl RedisSentinel {
    /// Starts the five, and waits until the Sentinels know of one another.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&RedisBuilder::default(), &RedisBuilder::default())
    }

    /// The same where master and replica require one password, and the Sentinels another.
    pub fn with_passwords(nodes: &str, sentinels: &str) -> Result<Self, Error> {
        Self::start_with(
            &Redis::builder().password(nodes),
            &Redis::builder().password(sentinels),
        )
    }

    /// The same of nodes and Sentinels like these: with TLS, all or none of them, a password, more
    /// options.
    pub fn start_with(node: &RedisBuilder, sentinel: &RedisBuilder) -> Result<Self, Error> {
        let login = |option: &str, of: &RedisBuilder| match &of.password {
            Some(password) => format!("{option} {password}\n"),
            None => String::new(),
        };
        let fast = [
            "--repl-diskless-sync-delay",
            "0",
            "--repl-ping-replica-period",
            "1",
        ];
        let start = |args: &[&str]| {
            let mut node = linked(node);
            if let Some(password) = node.password.clone() {
                node = node.arg("--masterauth").arg(password);
            }
            args.iter()
                .chain(&fast)
                .fold(node, |node, &arg| node.arg(arg))
                .start()
        };
        let master = start(&[])?;
        let replica = start(&["--replicaof", "127.0.0.1", &master.port().to_string()])?;
        until("replication", || {
            Ok(replica
                .cli(&["INFO", "replication"])?
                .contains("master_link_status:up"))
        })?;
        let config = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds {MASTER} 500\n\
             sentinel failover-timeout {MASTER} 2000\n{}{}",
            master.port(),
            login(&format!("sentinel auth-pass {MASTER}"), node),
            login("sentinel sentinel-pass", sentinel),
        );
        let sentinels = (0..3)
            .map(|_| {
                RedisBuilder {
                    sentinel_config: Some(config.clone()),
                    ..linked(sentinel)
                }
                .start()
            })
            .collect::<Result<Vec<_>, _>>()?;
        for sentinel in &sentinels {
            until("the Sentinels' agreement", || {
                let reply = sentinel.cli(&["SENTINEL", "MASTER", MASTER])?;
                let value = |name: &str| reply.lines().skip_while(|line| *line != name).nth(1);
                Ok(value("num-slaves") == Some("1") && value("num-other-sentinels") == Some("2"))
            })?;
        }
        Ok(Self {
            nodes: [master, replica],
            sentinels,
        })
    }

    /// The name that the Sentinels know the master by, `mymaster`.
    #[allow(clippy::unused_self, reason = "reads as a property of the set")]
    pub fn master_name(&self) -> &'static str {
        MASTER
    }

    /// The node that was the master at first.
    pub fn master(&self) -> &Redis {
        &self.nodes[0]
    }

    /// The node that was the replica at first.
    pub fn replica(&self) -> &Redis {
        &self.nodes[1]
    }

    /// The three Sentinels.
    pub fn sentinels(&self) -> &[Redis] {
        &self.sentinels
    }

    /// The Sentinels' URLs.
    pub fn sentinel_urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Redis::url).collect()
    }

    /// The port of the master as the first Sentinel sees it now.
    pub fn current_master_port(&self) -> Result<u16, Error> {
        let reply = self.sentinels[0].cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER])?;
        reply
            .lines()
            .nth(1)
            .and_then(|port| port.parse().ok())
            .ok_or_else(|| Error::new(format!("the Sentinel knows no master: {reply}")))
    }

    fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        self.nodes
            .iter()
            .chain(&self.sentinels)
            .flat_map(Redis::daemons)
    }
}

/// Talks TLS to the others too, if it talks TLS.
fn linked(like: &RedisBuilder) -> RedisBuilder {
    let like = like.clone();
    if like.tls.is_some() {
        like.arg("--tls-replication").arg("yes")
    } else {
        like
    }
}
