//! What a lease of a Redis pool gives.

use std::fmt;

use redis::cluster::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Arg, Cmd, ConnectionLike, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use super::cluster::Cluster;
use super::config::{RedisConfig, Topology};
use super::notice::{Ending, Noticed};
use super::reply::Reply;
use crate::error::Error;

/// A connection to a Redis server, or to all nodes of a Cluster.
///
/// It implements the driver's [`ConnectionLike`], and so does a lease of it: every
/// command function of `redis::Commands`, `redis::cmd`, `redis::pipe`, scripts and
/// iterators work on it directly. For what only the driver's own types can do
/// (publish/subscribe, `cluster_pipe`), see [`single_mut`](Self::single_mut) and
/// [`cluster_mut`](Self::cluster_mut).
pub struct RedisConnection {
    pub(super) inner: Inner,
    pub(super) noticed: Noticed,
    pub(super) broken: bool,
    pub(super) commands: u64,
    pub(super) decode_responses: bool,
    /// What operations are gathered in before they are sent; kept for the next ones.
    pub(super) packed: Vec<u8>,
    /// The driver does not know it, as we select it ourselves.
    db: i64,
    /// Whether another server may have taken over the role of this one, so that
    /// READONLY means: connect again.
    pub(super) role_can_move: bool,
}

pub(super) enum Inner {
    Single(Box<redis::Connection>),
    Cluster(Box<Cluster>),
}

impl RedisConnection {
    pub(super) fn new(inner: Inner, config: &RedisConfig) -> Self {
        Self {
            inner,
            noticed: Noticed::default(),
            broken: false,
            commands: 0,
            decode_responses: config.decode_responses,
            packed: Vec::new(),
            db: config.db,
            role_can_move: !matches!(config.topology, Topology::Single(_)),
        }
    }

    /// Runs one command and gives the reply as plain data: strings as text or as
    /// bytes, as `decode_responses` (`REDIS_DECODE_RESPONSES`) says.
    ///
    /// # Errors
    /// What the server refused, and what befell the connection.
    ///
    /// ```no_run
    /// # fn f(lease: &mut millpond::backend::redis::RedisConnection) -> Result<(), millpond::Error> {
    /// let reply = lease.run(redis::cmd("GET").arg("greeting"))?;
    /// assert_eq!(reply.as_text(), Some("hello"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn run(&mut self, command: &Cmd) -> Result<Reply, Error> {
        let value = self.req_command(command)?.extract_error()?;
        Ok(Reply::from_value(value, self.decode_responses))
    }

    /// The driver's own connection, unless this is a Cluster. What is done with it
    /// is not noticed, so the connection is cleaned when the lease ends.
    ///
    /// ```no_run
    /// # fn f(lease: &mut millpond::backend::redis::RedisConnection) -> redis::RedisResult<()> {
    /// if let Some(connection) = lease.single_mut() {
    ///     let mut messages = connection.as_pubsub();
    ///     messages.subscribe("news")?;
    ///     let message = messages.get_message()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn single_mut(&mut self) -> Option<&mut redis::Connection> {
        let Inner::Single(connection) = &mut self.inner else {
            return None;
        };
        self.noticed.mark_unseen();
        Some(connection)
    }

    /// The driver's own Cluster connection, if this is one. It is opened when it is first
    /// needed, which can fail, and replaced when the lease ends, as what is done with it is
    /// not noticed.
    ///
    /// ```no_run
    /// # fn f(lease: &mut millpond::backend::redis::RedisConnection) -> redis::RedisResult<()> {
    /// if let Some(connection) = lease.cluster_mut() {
    ///     let mut pipe = redis::cluster::cluster_pipe();
    ///     let (a, b): (i64, i64) = pipe.incr("a", 1).incr("b", 1).query(connection?)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn cluster_mut(&mut self) -> Option<RedisResult<&mut ClusterConnection>> {
        let Inner::Cluster(cluster) = &mut self.inner else {
            return None;
        };
        self.noticed.mark_unseen();
        let opened = cluster.driver(None);
        self.broken |= opened.is_err();
        Some(opened)
    }

    /// Commands sent over this connection so far.
    pub fn commands(&self) -> u64 {
        self.commands
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken || !self.is_open()
    }

    fn see(&mut self, command: &Cmd) -> Ending {
        let mut ending = Ending::default();
        let mut arguments = command.args_iter();
        if let Some(Arg::Simple(name)) = arguments.next() {
            let argument = move || match arguments.next() {
                Some(Arg::Simple(argument)) => Some(argument),
                _ => None,
            };
            self.noticed.see(name, argument, &mut ending);
        }
        ending
    }

    /// Draws the conclusions from one reply.
    #[inline]
    fn conclude(&mut self, result: &RedisResult<Value>, ending: Ending) {
        match result {
            Ok(Value::ServerError(error)) => {
                self.conclude_refusal(error.code(), ending);
            }
            Ok(_) => self.noticed.confirm(ending),
            Err(error) => self.conclude_failure(error, ending),
        }
    }

    #[cold]
    fn conclude_refusal(&mut self, code: &str, ending: Ending) {
        match code {
            "EXECABORT" => self.noticed.confirm(ending),
            "READONLY" if self.role_can_move => self.broken = true,
            "NOAUTH" => self.broken = true,
            _ => {}
        }
    }

    #[cold]
    fn conclude_failure(&mut self, error: &RedisError, ending: Ending) {
        match error.kind() {
            // A reply may still be on its way, or the connection is gone, or a further one is refused.
            ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::AuthenticationFailed => {
                self.broken = true;
            }
            _ => {
                if let Some(code) = error.code() {
                    self.conclude_refusal(code, ending);
                }
            }
        }
    }
}

/// Sends the command where the cluster said the key is now. With its own retries
/// on, the driver would do this, but would also send a timed-out write again.
fn follow(
    cluster: &mut ClusterConnection,
    command: &Cmd,
    result: RedisResult<Value>,
) -> RedisResult<Value> {
    let Err(error) = &result else { return result };
    let asking = match error.kind() {
        ErrorKind::Server(ServerErrorKind::Moved) => false,
        ErrorKind::Server(ServerErrorKind::Ask) => true,
        _ => return result,
    };
    let node = error.redirect_node().and_then(|(address, _)| {
        let (host, port) = address.rsplit_once(':')?;
        Some((host.to_owned(), port.parse::<u16>().ok()?))
    });
    let Some((host, port)) = node.filter(|_| !spans_nodes(command)) else {
        return result;
    };
    let to = || {
        let host = host.clone();
        RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress { host, port })
    };
    if asking {
        cluster.route_command(&redis::cmd("ASKING"), to())?;
    }
    cluster.route_command(command, to())
}

/// Whether the driver may have cut this command up for several nodes, so that the
/// whole of it fits none.
pub(super) fn spans_nodes(command: &Cmd) -> bool {
    const CUT_UP: [&[u8]; 8] = [
        b"MGET",
        b"MSET",
        b"DEL",
        b"EXISTS",
        b"UNLINK",
        b"TOUCH",
        b"WATCH",
        b"JSON.MGET",
    ];
    let mut arguments = command.args_iter();
    matches!(arguments.next(), Some(Arg::Simple(name))
        if CUT_UP.iter().any(|cut_up| name.eq_ignore_ascii_case(cut_up)))
        && arguments.len() > 1
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command(&mut self, packed: &[u8]) -> RedisResult<Value> {
        self.commands += 1;
        let mut ending = Ending::default();
        self.noticed.see_packed(packed, &mut ending);
        let result = match &mut self.inner {
            Inner::Single(connection) => connection.req_packed_command(packed),
            Inner::Cluster(cluster) => {
                (cluster.driver(None)).and_then(|connection| connection.req_packed_command(packed))
            }
        };
        self.conclude(&result, ending);
        result
    }

    fn req_packed_commands(
        &mut self,
        packed: &[u8],
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        self.commands += (offset + count) as u64;
        let mut ending = Ending::default();
        self.noticed.see_packed(packed, &mut ending);
        let result = match &mut self.inner {
            Inner::Single(connection) => connection.req_packed_commands(packed, offset, count),
            Inner::Cluster(cluster) => (cluster.driver(None))
                .and_then(|connection| connection.req_packed_commands(packed, offset, count)),
        };
        match &result {
            Ok(values) => {
                let mut refused = false;
                for value in values {
                    if let Value::ServerError(error) = value {
                        refused = true;
                        self.conclude_refusal(error.code(), ending);
                    }
                }
                if !refused && !ending.is_nothing() {
                    self.noticed.confirm(ending);
                }
            }
            Err(error) => self.conclude_failure(error, ending),
        }
        result
    }

    fn req_command(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.commands += 1;
        let ending = self.see(command);
        match &mut self.inner {
            Inner::Single(connection) => {
                let result = connection.req_command(command);
                self.conclude(&result, ending);
                result
            }
            Inner::Cluster(cluster) => {
                let opened = cluster.driver(None);
                self.broken |= opened.is_err();
                let connection = opened?;
                let first = connection.req_command(command);
                let moved = matches!(&first, Err(error) if error.is_cluster_error());
                let result = follow(connection, command, first);
                if moved {
                    // The map of slots is out of date: read it before the next lease.
                    self.noticed.mark_unseen();
                }
                self.conclude(&result, ending);
                result
            }
        }
    }

    fn get_db(&self) -> i64 {
        self.db
    }

    fn supports_pipelining(&self) -> bool {
        match &self.inner {
            Inner::Single(connection) => connection.supports_pipelining(),
            // As the driver's Cluster connection says.
            Inner::Cluster(_) => false,
        }
    }

    fn check_connection(&mut self) -> bool {
        match &mut self.inner {
            Inner::Single(connection) => connection.check_connection(),
            Inner::Cluster(cluster) => {
                let connection = cluster.driver(None);
                connection.is_ok_and(ClusterConnection::check_connection)
            }
        }
    }

    fn is_open(&self) -> bool {
        match &self.inner {
            Inner::Single(connection) => connection.is_open(),
            Inner::Cluster(cluster) => cluster.is_open(),
        }
    }
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection")
            .field("db", &self.db)
            .field("commands", &self.commands)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
