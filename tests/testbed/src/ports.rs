//! Loopback ports that stay ours.
//!
//! The ports lie below the kernel's ephemeral range: a port inside it may be
//! taken by any outgoing connection while our server is down for a moment, even
//! by a client that retries that very port and so ends up connected to itself.
//!
//! Invariant: at most one [`Port`] of a number exists among all processes of the
//! network namespace. An abstract Unix socket of that name is the lock; the
//! kernel frees it when the process dies, and its scope is that of the ports.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::error::Error;

/// Below the usual ephemeral range, which begins at 32768.
const RANGE: Range<u16> = 20_000..32_000;
/// A Redis Cluster node also listens on its port plus 10000.
const BUS_OFFSET: u16 = 10_000;

/// A reserved port; the reservation ends with the value.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: UnixListener,
}

impl Port {
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Reserves a port on which nothing listens, for a server that is yet to start.
    pub(crate) fn reserve() -> Result<Self, Error> {
        Self::listen().map(|(port, _)| port)
    }

    /// Reserves a port and listens on it, for a server in this process.
    ///
    /// Whoever wants to listen takes this and not a [reserved](Self::reserve) port: a
    /// process that another thread starts meanwhile has our sockets too until it runs
    /// its program, so that one that we closed may be bound a little longer.
    pub(crate) fn listen() -> Result<(Self, TcpListener), Error> {
        candidates(RANGE)
            .find_map(Self::try_listen)
            .ok_or_else(|| Error::new("no free loopback port between 20000 and 32000"))
    }

    /// Reserves a port and the one 10000 above it, for a Redis Cluster node.
    pub(crate) fn reserve_with_bus() -> Result<(Self, Self), Error> {
        candidates(RANGE.start - BUS_OFFSET..RANGE.end - BUS_OFFSET)
            .find_map(|number| {
                Some((
                    Self::try_listen(number)?.0,
                    Self::try_listen(number + BUS_OFFSET)?.0,
                ))
            })
            .ok_or_else(|| Error::new("no free pair of loopback ports for a Redis Cluster node"))
    }

    fn try_listen(number: u16) -> Option<(Self, TcpListener)> {
        let name = format!("millpond-testbed-port-{number}");
        let address = SocketAddr::from_abstract_name(name).ok()?;
        let lock = UnixListener::bind_addr(&address).ok()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        let port = Self {
            number,
            _lock: lock,
        };
        Some((port, listener))
    }
}

/// Every port of the range once, from a random one on.
fn candidates(range: Range<u16>) -> impl Iterator<Item = u16> {
    let length = u64::from(range.end - range.start);
    let start = RandomState::new().hash_one(std::process::id()) % length;
    (0..length).map(move |step| range.start + ((start + step) % length) as u16)
}

/// Starts a server on a reserved port; another one if a stranger took it meanwhile.
pub(crate) fn on_free_port<T>(mut start: impl FnMut(Port) -> Result<T, Error>) -> Result<T, Error> {
    let mut attempts = 0;
    loop {
        match start(Port::reserve()?) {
            Err(error) if error.is_port_taken() && attempts < 5 => attempts += 1,
            other => return other,
        }
    }
}

/// A loopback port on which nothing listens, nor will until this process ends.
///
/// # Panics
///
/// If all twelve thousand ports of the range are taken.
pub fn refused_port() -> u16 {
    let port = Port::reserve().expect("a free loopback port");
    let number = port.number();
    // The reservation must outlive every use of the number.
    std::mem::forget(port);
    number
}
