//! A Redis Cluster of three masters, with replicas where a test wants some.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::ports::Port;
use crate::process::{Daemon, lifecycle};

use super::{Redis, RedisBuilder, until};

const NODES: u16 = 3;
const SLOTS: u16 = 16_384;

/// Three masters, a third of the hash slots each.
///
/// `freeze`, `kill` and the like hit all nodes; for one of them see
/// [`nodes`](Self::nodes) and [`replicas`](Self::replicas).
pub struct RedisCluster {
    nodes: Vec<Redis>,
    replicas: Vec<Redis>,
}

lifecycle!(RedisCluster);

impl RedisCluster {
    /// Starts the three, and waits until each finds the Cluster complete.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&RedisBuilder::default(), false)
    }

    /// The same with one replica for each master, which takes over a second after its master
    /// went silent.
    pub fn with_replicas() -> Result<Self, Error> {
        Self::start_with(&RedisBuilder::default(), true)
    }

    /// The same of nodes like this one: with TLS, a password, more options.
    pub fn start_with(node: &RedisBuilder, replicas: bool) -> Result<Self, Error> {
        let nodes = || {
            (0..NODES)
                .map(|_| start_node(node))
                .collect::<Result<Vec<_>, _>>()
        };
        let mut cluster = Self {
            nodes: nodes()?,
            replicas: Vec::new(),
        };
        if replicas {
            cluster.replicas = nodes()?;
        }
        for (index, node) in (0..NODES).zip(&cluster.nodes) {
            let slots = (0..SLOTS).filter(|slot| slot * NODES / SLOTS == index);
            let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
            let mut command = vec!["CLUSTER", "ADDSLOTS"];
            command.extend(slots.iter().map(String::as_str));
            node.cli(&command)?;
            // Equal epochs would have to be fought out first.
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
        }
        cluster.agree()?;
        for (master, replica) in cluster.nodes.iter().zip(&cluster.replicas) {
            let id = master.cli(&["CLUSTER", "MYID"])?;
            replica.cli(&["CLUSTER", "REPLICATE", &id])?;
        }
        for replica in &cluster.replicas {
            until("replication in the Redis Cluster", || {
                let info = replica.cli(&["INFO", "replication"])?;
                Ok(info.contains("master_link_status:up"))
            })?;
        }
        Ok(cluster)
    }

    /// Makes all known to all, and waits until each finds the Cluster complete.
    fn agree(&self) -> Result<(), Error> {
        let all = || self.nodes.iter().chain(&self.replicas);
        let known = format!("cluster_known_nodes:{}\r", all().count());
        let mut met = Instant::now();
        self.introduce()?;
        for node in all() {
            until("the Redis Cluster", || {
                // A node that was too busy to shake hands in time is forgotten.
                if met.elapsed() > Duration::from_secs(3) {
                    met = Instant::now();
                    self.introduce()?;
                }
                let info = node.cli(&["CLUSTER", "INFO"])?;
                Ok(info.contains("cluster_state:ok")
                    && info.contains(&known)
                    && info.contains("cluster_size:3"))
            })?;
        }
        Ok(())
    }

    /// Makes the others known to the first; meeting again does no harm.
    fn introduce(&self) -> Result<(), Error> {
        let port = self.nodes[0].port().to_string();
        self.nodes[1..]
            .iter()
            .chain(&self.replicas)
            .try_for_each(|node| node.cli(&["CLUSTER", "MEET", "127.0.0.1", &port]).map(drop))
    }

    /// The three masters.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The replicas, each that of the master of the same number; none unless started
    /// [`with_replicas`](Self::with_replicas).
    pub fn replicas(&self) -> &[Redis] {
        &self.replicas
    }

    /// The masters' URLs.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        let all = self.nodes.iter().chain(&self.replicas);
        all.flat_map(Redis::daemons)
    }
}

fn start_node(like: &RedisBuilder) -> Result<Redis, Error> {
    let mut options = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
    options.extend([
        "--repl-diskless-sync-delay",
        "0",
        "--repl-ping-replica-period",
        "1",
    ]);
    let mut builder = options.into_iter().fold(like.clone(), RedisBuilder::arg);
    if builder.tls.is_some() {
        let words = ["--tls-cluster", "yes", "--tls-replication", "yes"];
        builder = words.into_iter().fold(builder, RedisBuilder::arg);
    }
    if let Some(password) = builder.password.clone() {
        builder = builder.arg("--masterauth").arg(password);
    }
    let mut attempts = 0;
    loop {
        let (port, bus) = Port::reserve_with_bus()?;
        match builder.start_on(port, Some(bus)) {
            Err(error) if error.is_port_taken() && attempts < 5 => attempts += 1,
            other => return other,
        }
    }
}
