//! Cluster: a connection to each node that is needed, and a map that says which.
//!
//! Commands run as operations go to the node that owns their slot, those of one node
//! together ([`run`]); what the nodes answer about moved slots is followed. A program that
//! uses the lease itself, and commands for several nodes at once, get the driver's own Cluster
//! connection ([`driver`]), which is opened when it is first needed.
//!
//! Invariants:
//! - A node's connection that failed is closed at once. Where it failed under commands the
//!   lease is broken then, so that the pool looks at its other connections too.
//! - A lease whose login at a further node is refused is broken, and none tries another until a
//!   new connection was made or some seconds are over: a wrong password is not tried once for
//!   each command.
//! - The map is only a guess that saves a redirection: a server that has not the slot says so
//!   and does nothing.
//! - Only [`driver`] and this folder know that there are several nodes.

mod driver;
mod keys;
mod map;
mod refused;
mod run;
mod several;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::cluster::{ClusterClient, ClusterConnection};
use redis::{RedisResult, Value, cmd};

use super::config::{Address, Topology};
use super::connection::{Inner, RedisConnection};
use super::errors;
use super::manager::Redis;
use super::wire::{remaining, timed_out};
use crate::deadline::{Deadline, moment_in};
use crate::error::{Error, ErrorKind, Phase};
use driver::Driver;
use map::Map;

pub(super) use driver::client;
pub(super) use map::Shared;
use refused::NOT_TRIED;
pub(super) use refused::Refused;

/// What a lease of a Cluster has open.
pub(super) struct Cluster {
    nodes: Vec<Node>,
    driver: Driver,
}

/// A connection to one node.
struct Node {
    address: Address,
    connection: redis::Connection,
}

impl Cluster {
    pub(super) fn is_open(&self) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.all(|node| redis::ConnectionLike::is_open(&node.connection)) && self.driver.is_open()
    }

    fn position(&self, address: &Address) -> Option<usize> {
        self.nodes.iter().position(|node| node.address == *address)
    }

    fn has(&self, address: &Address) -> bool {
        self.position(address).is_some()
    }

    /// The driver's own connection. It is opened within this time and the connect timeout where it
    /// is not, unless what is open is lost: then the lease is at an end, and logging in is the
    /// business of who connects anew, which pauses where a login is refused.
    pub(super) fn driver(
        &mut self,
        limit: Option<Duration>,
    ) -> RedisResult<&mut ClusterConnection> {
        let limit = limit.unwrap_or(Duration::MAX);
        let limit = limit.min(self.driver.connect_timeout());
        if self.driver.is_opened() {
            return self.driver.get(limit);
        }
        let end = moment_in(limit);
        let nodes = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let share = limit / 4 / nodes.max(1);
        let mut index = 0;
        while let Some(node) = self.nodes.get_mut(index) {
            match self.driver.ping(&mut node.connection, share) {
                Ok(()) => index += 1,
                // Not lost, as far as one can know; but its answer is still due.
                Err(error) if error.is_timeout() => drop(self.nodes.swap_remove(index)),
                Err(error) => return Err(error),
            }
        }
        self.driver.get(remaining(end)?)
    }

    /// A node to ask what any of them knows.
    pub(super) fn any(&mut self) -> RedisResult<&mut redis::Connection> {
        let first = self.nodes.first_mut();
        first.map(|node| &mut node.connection).ok_or_else(timed_out)
    }
}

impl Redis {
    /// A connection to the first node that answers, by the connect timeout.
    pub(super) fn connect_cluster(&self, client: ClusterClient) -> Result<RedisConnection, Error> {
        let deadline = moment_in(self.config.connect_timeout);
        let node = self.first_node(deadline)?;
        self.refused.forget();
        let driver = Driver::new(client, self.refused.clone(), &self.config);
        let inner = Inner::Cluster(Box::new(Cluster {
            nodes: vec![node],
            driver,
        }));
        Ok(RedisConnection::new(inner, &self.config))
    }

    /// The first node that answers with the map, which is put for all.
    fn first_node(&self, deadline: Instant) -> Result<Node, Error> {
        let mut known = self.map.get().primaries().to_vec();
        if let Topology::Cluster(nodes) = &self.config.topology {
            let configured = nodes.iter();
            let configured = configured.map(|(host, port)| Address::Tcp(host.clone(), *port));
            for address in configured {
                if !known.contains(&address) {
                    known.push(address);
                }
            }
        }
        let total = known.len().max(1);
        // The one that answered last time, so that a silent one costs its share once.
        let start = self.turn.load(Ordering::Relaxed) % total;
        known.rotate_left(start);
        let mut last = None;
        for (index, address) in known.into_iter().enumerate() {
            let left = u32::try_from(total - index).unwrap_or(1);
            let Ok(time) = remaining(deadline) else {
                break;
            };
            match self.learn_from(address, Instant::now() + time / left) {
                Ok(node) => {
                    if index > 0 {
                        let turn = (start + index) % total;
                        self.turn.store(turn, Ordering::Relaxed);
                    }
                    return Ok(node);
                }
                // Another node does not make a password right.
                Err(error) if error.kind() == ErrorKind::Authentication => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| errors::connecting(timed_out(), self.endpoint_text())))
    }

    /// Connects to this node and reads the map there.
    fn learn_from(&self, address: Address, deadline: Instant) -> Result<Node, Error> {
        let connection = self.dial(&address, deadline)?;
        let mut node = Node {
            address,
            connection,
        };
        self.ask_for_map(&mut node, deadline)
            .map_err(|error| errors::connecting(error, &node.text()))?;
        Ok(node)
    }

    /// Reads the map at this node.
    fn ask_for_map(&self, node: &mut Node, deadline: Instant) -> RedisResult<()> {
        let connection = &mut node.connection;
        connection.set_read_timeout(Some(remaining(deadline)?))?;
        let answer: Value = cmd("CLUSTER").arg("SLOTS").query(connection)?;
        connection.set_read_timeout(self.config.read_timeout)?;
        let host = match &node.address {
            Address::Tcp(host, _) => host,
            Address::Unix(_) => "",
        };
        let odd = (redis::ErrorKind::Parse, "not an answer to CLUSTER SLOTS");
        self.map.put(Map::read(&answer, host).ok_or(odd)?);
        Ok(())
    }

    /// Reads the map anew, at whatever node answers; without one it stays as it is.
    fn refresh(&self, cluster: &mut Cluster, deadline: Deadline) {
        let end = || {
            let limit = deadline.remaining_within(self.config.check_timeout);
            moment_in(limit)
        };
        while let Some(mut node) = cluster.nodes.pop() {
            if self.ask_for_map(&mut node, end()).is_ok() {
                cluster.nodes.push(node);
                return;
            }
        }
        match self.first_node(end()) {
            Ok(node) => cluster.nodes.push(node),
            Err(_) => self.map.doubt(),
        }
    }

    /// The liveness check: of each node that this lease has open.
    pub(super) fn verify_cluster(&self, cluster: &mut Cluster) -> RedisResult<()> {
        let deadline = moment_in(self.config.check_timeout);
        for node in &mut cluster.nodes {
            let connection = &mut node.connection;
            let left = Some(remaining(deadline)?);
            connection.set_read_timeout(left)?;
            connection.set_write_timeout(left)?;
            cmd("PING").exec(connection)?;
            connection.set_read_timeout(self.config.read_timeout)?;
            connection.set_write_timeout(self.config.write_timeout)?;
        }
        cluster.driver.verify(remaining(deadline)?)
    }

    /// The number in the list of this node's connection, which is opened where there is none,
    /// within this time and the connect timeout.
    fn node(
        &self,
        cluster: &mut Cluster,
        address: &Address,
        limit: Option<Duration>,
    ) -> Result<usize, Error> {
        if let Some(index) = cluster.position(address) {
            return Ok(index);
        }
        let limit = limit
            .unwrap_or(Duration::MAX)
            .min(self.config.connect_timeout);
        if self.refused.is_fresh() {
            let error = Error::new(ErrorKind::Authentication, Phase::Connect, NOT_TRIED);
            return Err(error.with_endpoint(address.to_string()));
        }
        let connection = self.dial(address, moment_in(limit)).inspect_err(|error| {
            if error.kind() == ErrorKind::Authentication {
                self.refused.note();
            }
        })?;
        cluster.nodes.push(Node {
            address: address.clone(),
            connection,
        });
        Ok(cluster.nodes.len() - 1)
    }
}

impl Node {
    /// Its address, for messages.
    fn text(&self) -> String {
        self.address.to_string()
    }
}

/// Why a command that has no node was not executed.
fn nowhere(endpoint: &str) -> Error {
    let message = "no node of the Cluster owns the slot of its key; see CLUSTER INFO";
    Error::new(ErrorKind::WrongRole, Phase::Operation, message).with_endpoint(endpoint)
}

/// One node cannot be reached, and others can: the Cluster is there, and will give the slot to
/// another node. So this is not said of the server as a whole, which would open the pool's
/// circuit breaker for the other nodes too.
fn unreachable(error: &Error) -> Error {
    let message = format!(
        "the node that owns the slot of its key cannot be reached, until a replica takes over: {}",
        error.message()
    );
    let ours = Error::new(ErrorKind::WrongRole, Phase::Operation, message);
    let ours = match error.endpoint() {
        Some(endpoint) => ours.with_endpoint(endpoint),
        None => ours,
    };
    ours.with_source(Arc::new(error.clone()))
}
