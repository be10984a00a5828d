//! Finding a host, and what it means when nothing comes of it.
//!
//! A TCP connection has a [fuse](super::fuse) from its first byte, which bounds the whole
//! login: the driver's `connect_timeout` covers TCP only, and a server that accepts and then
//! says nothing (stopped, out of memory, a wrong port) would hold a thread for ever.
//!
//! A Unix socket has none, so there the server is first asked on a socket of our own whether
//! it answers at all: we ask for GSS encryption (code 80877104, "Message Formats" in the
//! PostgreSQL manual), wait for the one byte of the answer, whatever it is, and hang up. The
//! request for TLS would do as well, but a server that hangs up on it writes to its log.

use std::io::{Read, Write};
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{ConnectFailure, Error, ErrorKind, Phase, classify_io};

const GSS_ENCRYPTION_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

/// The addresses of this host. The look-up is the operating system's and has its own time.
pub(super) fn resolve(host: &str, port: u16) -> Result<Vec<IpAddr>, Error> {
    match (host, port).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
        Err(error) => {
            let message = format!(
                "the name of the host, {host}, cannot be resolved ({error}); check DB_HOST"
            );
            let kind = ErrorKind::Connect(ConnectFailure::Dns);
            Err(Error::new(kind, Phase::Connect, message).with_source(error_source(error)))
        }
    }
}

/// Whether a server answers at the socket in this folder.
pub(super) fn unix(folder: &Path, port: u16, timeout: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + timeout;
    let asked =
        UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).and_then(|mut socket| {
            socket.set_write_timeout(Some(left(deadline)?))?;
            socket.write_all(&GSS_ENCRYPTION_REQUEST)?;
            socket.set_read_timeout(Some(left(deadline)?))?;
            socket.read_exact(&mut [0])
        });
    asked.map_err(|error| silent_or_refused(error, timeout, "the socket's folder (DB_HOST)"))
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

fn silent_or_refused(error: std::io::Error, timeout: Duration, check: &str) -> Error {
    let kind = match classify_io(&error) {
        // It accepted and hung up at once: going down, coming up, or no PostgreSQL.
        ErrorKind::ConnectionLost => ErrorKind::Connect(ConnectFailure::Refused),
        kind => kind,
    };
    let message = match kind {
        ErrorKind::Connect(ConnectFailure::Timeout) => silent(timeout, check),
        _ => refused(&error.to_string(), check),
    };
    Error::new(kind, Phase::Connect, message).with_source(error_source(error))
}

/// The message where nobody answered.
fn silent(timeout: Duration, check: &str) -> String {
    format!(
        "no answer within {:.3} s (connect_timeout, DB_CONNECT_TIMEOUT); check {check}, or \
         whether the server hangs",
        timeout.as_secs_f64()
    )
}

/// The message where nobody was there.
fn refused(why: &str, check: &str) -> String {
    format!("{why}; check {check}, and that the server runs")
}

/// A failed attempt to connect by TCP, as it is told.
pub(super) fn explain(error: Error, timeout: Duration) -> Error {
    const CHECK: &str = "DB_HOST and DB_PORT";
    let (kind, message) = match error.kind() {
        ErrorKind::Connect(ConnectFailure::Timeout) => (error.kind(), silent(timeout, CHECK)),
        kind @ ErrorKind::Connect(ConnectFailure::Refused) => {
            (kind, refused(error.message(), CHECK))
        }
        // It accepted and hung up: going down, coming up, or no PostgreSQL.
        ErrorKind::ConnectionLost => (
            ErrorKind::Connect(ConnectFailure::Refused),
            refused(error.message(), CHECK),
        ),
        _ => return error,
    };
    let explained = Error::new(kind, Phase::Connect, message);
    match error.cause() {
        Some(cause) => explained.with_source(cause),
        None => explained,
    }
}

fn error_source(error: std::io::Error) -> crate::Source {
    std::sync::Arc::new(error)
}
