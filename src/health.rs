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
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::backend::Service;
use crate::error::ErrorKind;
use crate::metrics::moment;
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
    /// The server is overloaded, and fewer connections are used at once.
    Overloaded,
    /// The circuit breaker is open: operations are not sent to a server that keeps failing. Or
    /// it is half-open, or its pause is over, and lets a few through to see whether the server is
    /// well again: then the pool is degraded by that, not down.
    Breaker,
    /// The pool was paused or closed.
    Stopped,
    /// A certificate has expired, or will within a few days.
    Certificate,
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

    /// The server takes no writes, and nobody said that none are meant.
    pub(crate) fn read_only() -> Self {
        let text = "the server takes no writes: point the pool at the primary, or declare that it \
                    is for reading (POOL_READ_ONLY=true)";
        Self::new(Health::Degraded, Concern::ReadOnly, text).with_error(ErrorKind::WrongRole)
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

/// When a certificate that a pool depends on expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Certificate {
    /// Which one it is.
    pub of: CertificateOf,
    /// The end of its validity.
    #[serde(with = "moment")]
    pub expires_at: SystemTime,
}

/// Which certificate one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CertificateOf {
    /// The server's, as it was shown at the last full handshake. Not known of Redis and
    /// MongoDB, whose drivers show it to nobody, nor where certificates are not checked.
    Server,
    /// The client's, in the file that the settings name.
    Client,
    /// The authority's, in the file that the settings name; of several there, the one that
    /// lasts longest.
    Authority,
}

impl CertificateOf {
    /// As a word for labels: `server`, `client`, `authority`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Authority => "authority",
        }
    }
}

/// How long before its end a certificate degrades a pool's health.
const EXPIRES_SOON: f64 = 7.0;

impl Certificate {
    #[cfg(any(feature = "_net", test))]
    pub(crate) fn new(of: CertificateOf, expires_at: SystemTime) -> Self {
        Self { of, expires_at }
    }

    /// Days until then; less than 0 when it has expired.
    pub(crate) fn days_left(&self, now: SystemTime) -> f64 {
        const DAY: f64 = 86_400.0;
        match self.expires_at.duration_since(now) {
            Ok(left) => left.as_secs_f64() / DAY,
            Err(over) => -over.duration().as_secs_f64() / DAY,
        }
    }

    /// Why a pool that depends on it is degraded, if that is so.
    pub(crate) fn reason(&self, now: SystemTime) -> Option<Reason> {
        let left = self.days_left(now);
        if left > EXPIRES_SOON {
            return None;
        }
        let (of, day) = (self.of.as_str(), moment::date(self.expires_at));
        let text = if left > 0.0 {
            format!("the {of}'s certificate expires on {day}, in {left:.1} days: renew it")
        } else {
            format!("the {of}'s certificate expired on {day}: renew it")
        };
        Some(Reason::new(Health::Degraded, Concern::Certificate, text))
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

impl PoolHealth {
    pub(crate) fn has(&self, concern: Concern) -> bool {
        self.reasons.iter().any(|reason| reason.concern == concern)
    }

    /// What is wrong in this respect is as it should be.
    pub(crate) fn forgive(&mut self, concern: Concern) {
        self.reasons.retain(|reason| reason.concern != concern);
        let left = self.reasons.iter().map(|reason| reason.health);
        self.health = left.max().unwrap_or_default();
    }

    /// Down is no worse than degraded for a fleet that has another endpoint.
    pub(crate) fn soften(&mut self) {
        for reason in &mut self.reasons {
            reason.health = reason.health.min(Health::Degraded);
        }
        self.health = self.health.min(Health::Degraded);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_of_concern_in_its_last_week() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_009_756_800);
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let reason = |expires_at| Certificate::new(CertificateOf::Server, expires_at).reason(now);
        assert!(reason(now + days(8)).is_none());
        let soon = reason(now + days(2)).expect("a reason");
        assert_eq!(soon.health, Health::Degraded);
        let text = "the server's certificate expires on 2002-01-02, in 2.0 days: renew it";
        assert_eq!(soon.text, text);
        let over = reason(now - days(365)).expect("a reason");
        let text = "the server's certificate expired on 2000-12-31: renew it";
        assert_eq!(over.text, text);
    }
}
