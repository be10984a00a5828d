//! Does this host answer at all? Asked on a socket of our own, by the clock.
//!
//! The driver's login cannot be bounded: its `connect_timeout` covers TCP, and a
//! server that accepts and then says nothing (stopped, out of memory, a wrong port)
//! would hold a thread for ever. So before each connect we open a socket, ask for
//! GSS encryption (code 80877104, "Message Formats" in the PostgreSQL manual), wait for
//! the one byte of the answer, whatever it is, and hang up. The request for TLS would
//! do as well, but a server that hangs up on it writes to its log. PgBouncer answers
//! it too.
//!
//! The address that answered is the one that the driver is then given.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{ConnectFailure, Error, ErrorKind, Phase, classify_io};

const GSS_ENCRYPTION_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

/// The address of this host that answered within `timeout`, all its addresses
/// together. The name look-up is the operating system's and has its own time.
pub(super) fn tcp(host: &str, port: u16, timeout: Duration) -> Result<IpAddr, Error> {
    let addresses: Vec<SocketAddr> = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            let message = format!(
                "the name of the host, {host}, cannot be resolved ({error}); check DB_HOST"
            );
            let kind = ErrorKind::Connect(ConnectFailure::Dns);
            return Err(Error::new(kind, Phase::Connect, message).with_source(error_source(error)));
        }
    };
    let deadline = Instant::now() + timeout;
    let mut failure = None;
    for address in addresses {
        match ask(address, deadline) {
            Ok(()) => return Ok(address.ip()),
            Err(error) => failure = Some(error),
        }
    }
    let error = failure.unwrap_or_else(|| std::io::ErrorKind::AddrNotAvailable.into());
    Err(silent_or_refused(error, timeout, "DB_HOST and DB_PORT"))
}

fn ask(address: SocketAddr, deadline: Instant) -> std::io::Result<()> {
    let mut socket = TcpStream::connect_timeout(&address, left(deadline)?)?;
    socket.set_write_timeout(Some(left(deadline)?))?;
    socket.write_all(&GSS_ENCRYPTION_REQUEST)?;
    socket.set_read_timeout(Some(left(deadline)?))?;
    socket.read_exact(&mut [0])
}

/// The same for the socket in this folder.
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
    let message = if kind == ErrorKind::Connect(ConnectFailure::Timeout) {
        format!(
            "no answer within {:.3} s (connect_timeout, DB_CONNECT_TIMEOUT); check {check}, or \
             whether the server hangs",
            timeout.as_secs_f64()
        )
    } else {
        format!("{error}; check {check}, and that the server runs")
    };
    Error::new(kind, Phase::Connect, message).with_source(error_source(error))
}

fn error_source(error: std::io::Error) -> crate::Source {
    std::sync::Arc::new(error)
}
