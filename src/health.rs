//! How the connections, pools, servers and the process are, and why.
//!
//! A pool is [`Down`](Health::Down) when nothing can be done with its server, and
//! [`Degraded`](Health::Degraded) when something can, but not everything or not as well as it
//! should. Whatever is not [`Up`](Health::Up) comes with its [`Reason`]s. What decides is
//! known already when it is asked for, so asking costs no round trip: the keeper checks each
//! pool's server every [`health_check_interval`](crate::Builder::health_check_interval), and at
//! once when an operation or a connect fails in a way that puts the server in doubt.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::backend::Service;
use crate::error::ErrorKind;
use crate::recovery::seconds;

/// How something is. The worse is the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    #[default]
    Up,
    /// It works, but not all of it, or not well.
    Degraded,
    /// It does not work.
    Down,
}

impl Health {
    /// As a word for labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Concern {
    /// No connection can be established.
    Connecting,
    /// The server did not answer the last check as it should.
    Check,
    /// An operation failed in a way that puts the server in doubt; it is being checked.
    Operation,
    /// The server takes no writes, and the pool is meant for some.
    ReadOnly,
    /// All connections are in use and callers wait for longer than they should.
    Saturated,
    /// Too large a share of the last requests failed.
    Errors,
    /// The circuit breaker is open: operations are not sent to a server that keeps failing.
    Breaker,
    /// The pool was paused or closed.
    Stopped,
    /// The process has less memory left than it should.
    Memory,
    /// The process uses more of the processors than it should.
    Cpu,
}

/// Why something is not [`Up`](Health::Up).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Reason {
    /// How bad this is by itself.
    pub health: Health,
    /// What is wrong.
    pub concern: Concern,
    /// The kind of the error behind it, if there is one.
    pub error: Option<ErrorKind>,
    /// What is wrong and what to do, in words.
    pub text: String,
}

impl Reason {
    pub(crate) fn new(health: Health, concern: Concern, text: impl Into<String>) -> Self {
        Self {
            health,
            concern,
            error: None,
            text: text.into(),
        }
    }

    pub(crate) fn with_error(mut self, kind: ErrorKind) -> Self {
        self.error = Some(kind);
        self
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How a pool and its server are.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolHealth {
    /// The pool's name.
    pub pool: Arc<str>,
    /// The backend's name.
    pub backend: &'static str,
    /// The server's address.
    pub endpoint: Arc<str>,
    /// The worst of the reasons.
    pub health: Health,
    /// Why it is not up.
    pub reasons: Vec<Reason>,
    /// What the server said of itself at the last check that it passed.
    pub service: Option<Service>,
    /// How long ago the last check ended, passed or not.
    #[serde(rename = "checked_seconds_ago", with = "seconds::optional")]
    pub checked: Option<Duration>,
}

/// How one connection is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConnectionHealth {
    /// The connection's number.
    pub id: u64,
    /// Up when it was used or checked lately, degraded when it is suspect or held for
    /// longer than the leak threshold, down when it is being closed.
    pub health: Health,
    /// What it does: `idle`, `leased`, `in care`, `closing`.
    pub doing: &'static str,
    /// For how long.
    #[serde(rename = "seconds", with = "seconds")]
    pub since: Duration,
}

/// How the pools of a [`Hub`](crate::Hub) and the process are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HealthReport {
    /// The worst of everything.
    pub health: Health,
    /// Each pool.
    pub pools: Vec<PoolHealth>,
    /// What is wrong with the process, if anything.
    pub resources: Vec<Reason>,
}

impl HealthReport {
    pub(crate) fn new(pools: Vec<PoolHealth>, resources: Vec<Reason>) -> Self {
        let pool = pools.iter().map(|pool| pool.health);
        let own = resources.iter().map(|reason| reason.health);
        Self {
            health: pool.chain(own).max().unwrap_or_default(),
            pools,
            resources,
        }
    }

    /// Whether the program can do its work: no pool is down. What a load balancer asks for.
    pub fn is_ready(&self) -> bool {
        self.pools.iter().all(|pool| pool.health != Health::Down)
    }
}

impl fmt::Display for HealthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.health)?;
        for pool in &self.pools {
            write!(f, "\n{}: {}", pool.pool, pool.health)?;
            for reason in &pool.reasons {
                write!(f, "; {reason}")?;
            }
        }
        for reason in &self.resources {
            write!(f, "\n{reason}")?;
        }
        Ok(())
    }
}
