//! A Redis Cluster of three masters.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::ports::Port;
use crate::process::{Daemon, lifecycle};

use super::{Redis, until};

const NODES: u16 = 3;
const SLOTS: u16 = 16_384;

/// Three masters, a third of the hash slots each.
///
/// `freeze`, `kill` and the like hit all three; for one of them see
/// [`nodes`](Self::nodes).
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

lifecycle!(RedisCluster);

impl RedisCluster {
    /// Starts the three, and waits until each finds the Cluster complete.
    pub fn start() -> Result<Self, Error> {
        let nodes = (0..NODES)
            .map(|_| start_node())
            .collect::<Result<Vec<_>, _>>()?;
        for (index, node) in (0..NODES).zip(&nodes) {
            let slots = (0..SLOTS).filter(|slot| slot * NODES / SLOTS == index);
            let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
            let mut command = vec!["CLUSTER", "ADDSLOTS"];
            command.extend(slots.iter().map(String::as_str));
            node.cli(&command)?;
            // Equal epochs would have to be fought out first.
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
        }
        let cluster = Self { nodes };
        let mut met = Instant::now();
        cluster.introduce()?;
        for node in &cluster.nodes {
            until("the Redis Cluster", || {
                // A node that was too busy to shake hands in time is forgotten.
                if met.elapsed() > Duration::from_secs(3) {
                    met = Instant::now();
                    cluster.introduce()?;
                }
                let info = node.cli(&["CLUSTER", "INFO"])?;
                Ok(info.contains("cluster_state:ok")
                    && info.contains("cluster_known_nodes:3")
                    && info.contains("cluster_size:3"))
            })?;
        }
        Ok(cluster)
    }

    /// Makes the others known to the first; meeting again does no harm.
    fn introduce(&self) -> Result<(), Error> {
        let port = self.nodes[0].port().to_string();
        self.nodes[1..]
            .iter()
            .try_for_each(|node| node.cli(&["CLUSTER", "MEET", "127.0.0.1", &port]).map(drop))
    }

    /// The three masters.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The masters' URLs.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        self.nodes.iter().flat_map(Redis::daemons)
    }
}

fn start_node() -> Result<Redis, Error> {
    let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
    let builder = options
        .into_iter()
        .fold(Redis::builder(), super::RedisBuilder::arg);
    let mut attempts = 0;
    loop {
        let (port, bus) = Port::reserve_with_bus()?;
        match builder.start_on(port, Some(bus)) {
            Err(error) if error.is_port_taken() && attempts < 5 => attempts += 1,
            other => return other,
        }
    }
}
