//! What comes before a login: the addresses of a name, and for a Unix socket the
//! question whether anybody answers.
//!
//! A login over TCP is bounded by its [fuse](super::fuse). On a Unix socket the driver
//! gives us no hold, and a server that accepts and then says nothing (stopped, out of
//! memory) would keep a thread for ever. So there we first open a socket of our own, ask for
//! GSS encryption (code 80877104, "Message Formats" in the PostgreSQL manual), wait for
//! the one byte of the answer, whatever it is, and hang up. The request for TLS would
//! do as well, but a server that hangs up on it writes to its log.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::errors::{chain_of, kind_of, ours};
use crate::config::host_of;
use crate::deadline::moment_in;
use crate::error::{ConnectFailure, Error, ErrorKind, Phase, classify_io};

const GSS_ENCRYPTION_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

/// The addresses of this host, but for those that count in a zone only, as the driver drops the
/// zone. The look-up is the operating system's and has its own time.
pub(super) fn addresses(host: &str, port: u16) -> Result<Vec<IpAddr>, Error> {
    match (host, port).to_socket_addrs() {
        Ok(addresses) => without_zone(host, addresses),
        Err(error) => {
            let message = format!(
                "the name of the host, {host}, cannot be resolved ({error}); check DB_HOST"
            );
            let kind = ErrorKind::Connect(ConnectFailure::Dns);
            Err(Error::new(kind, Phase::Connect, message).with_source(Arc::new(error)))
        }
    }
}

fn without_zone(
    host: &str,
    addresses: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<IpAddr>, Error> {
    let has_zone = |address: &SocketAddr| match address {
        SocketAddr::V6(address) => address.scope_id() != 0,
        SocketAddr::V4(_) => false,
    };
    let (with, without): (Vec<_>, Vec<_>) = addresses.partition(has_zone);
    match with.first() {
        Some(address) if without.is_empty() => {
            let message = format!(
                "the host {host} has no address but {}, whose zone (%) the driver drops; check \
                 DB_HOST",
                host_of(address)
            );
            Err(Error::new(
                ErrorKind::Configuration,
                Phase::Connect,
                message,
            ))
        }
        _ => Ok(without.iter().map(SocketAddr::ip).collect()),
    }
}

/// Whether somebody answers at the socket in this folder.
pub(super) fn unix(folder: &Path, port: u16, timeout: Duration) -> Result<(), Error> {
    let deadline = moment_in(timeout);
    let asked =
        UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).and_then(|mut socket| {
            socket.set_write_timeout(Some(left(deadline)?))?;
            socket.write_all(&GSS_ENCRYPTION_REQUEST)?;
            socket.set_read_timeout(Some(left(deadline)?))?;
            socket.read_exact(&mut [0])
        });
    asked.map_err(|error| {
        let kind = match classify_io(&error) {
            // It accepted and hung up at once: going down, coming up, or no PostgreSQL.
            ErrorKind::ConnectionLost => ErrorKind::Connect(ConnectFailure::Refused),
            kind => kind,
        };
        let text = error.to_string();
        unreached(kind, &text, timeout, "the socket's folder (DB_HOST)")
            .with_source(Arc::new(error))
    })
}

/// The error of a login over TCP.
pub(super) fn login_failed(error: postgres::Error, timeout: Duration) -> Error {
    match kind_of(&error, Phase::Connect) {
        kind @ ErrorKind::Connect(ConnectFailure::Refused | ConnectFailure::Timeout)
            if error.as_db_error().is_none() =>
        {
            unreached(kind, &chain_of(&error), timeout, "DB_HOST and DB_PORT")
                .with_source(Arc::new(error))
        }
        _ => ours(error, Phase::Connect),
    }
}

/// The time that is left; an error once there is none.
fn left(deadline: Instant) -> std::io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(std::io::ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

fn unreached(kind: ErrorKind, text: &str, timeout: Duration, check: &str) -> Error {
    let message = if kind == ErrorKind::Connect(ConnectFailure::Timeout) {
        format!(
            "no answer within {:.3} s (connect_timeout, DB_CONNECT_TIMEOUT); check {check}, or \
             whether the server hangs",
            timeout.as_secs_f64()
        )
    } else {
        format!("{text}; check {check}, and that the server runs")
    };
    Error::new(kind, Phase::Connect, message)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;

    #[test]
    fn an_address_that_counts_in_a_zone_only_is_left_out_or_told() {
        let in_zone = SocketAddrV6::new("fe80::1".parse().expect("an address"), 1, 0, 2);
        let other = SocketAddr::from(([10, 0, 0, 1], 1));
        let both = without_zone("db", [in_zone.into(), other].into_iter());
        assert_eq!(both.expect("one is left"), [other.ip()]);
        let error = without_zone("db", [in_zone.into()].into_iter()).expect_err("none is left");
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.message().contains("fe80::1%2"), "{error}");
    }
}
