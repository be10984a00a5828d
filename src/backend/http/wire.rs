//! One socket to the service: plain or TLS, with a deadline on every read and
//! write.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::unversioned::transport::ShutdownHandle;
use ureq::{Error, Timeout};

/// What went over the sockets of one connection.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    /// How often a part of a request was handed to a socket.
    pub(super) transmits: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

/// The socket itself, shared with those who may only shut it down.
#[derive(Debug)]
pub(super) struct Socket(TcpStream);

impl ShutdownHandle for Socket {
    fn shutdown(&self) {
        // It may be gone already, which is what was wanted.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// A socket whose reads and writes end by a deadline.
#[derive(Debug)]
struct Timed {
    socket: Arc<Socket>,
    counters: Arc<Counters>,
    deadline: Option<Instant>,
    /// The socket's timeouts as they are set now. To set one is a system call, so
    /// one that is right within a millisecond is left as it is.
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

/// Whether a timeout that is set will do for this one.
fn will_do(set: Option<Duration>, wanted: Option<Duration>) -> bool {
    match (set, wanted) {
        (None, None) => true,
        (Some(set), Some(wanted)) => set.abs_diff(wanted) < Duration::from_millis(1),
        _ => false,
    }
}

impl Timed {
    /// The time left, or none for no limit.
    fn left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else {
            return Ok(None);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Some(left))
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stream = &self.socket.0;
        loop {
            let left = self.left()?;
            if !will_do(self.read_timeout, left) {
                stream.set_read_timeout(left)?;
                self.read_timeout = left;
            }
            match stream.read(buffer) {
                // Too early by a fraction of a millisecond: `left` decides.
                Err(error) if is_timeout(&error) => self.read_timeout = None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(count) => {
                    self.counters
                        .received
                        .fetch_add(count as u64, Ordering::Relaxed);
                    return Ok(count);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let mut stream = &self.socket.0;
        let left = self.left()?;
        if !will_do(self.write_timeout, left) {
            stream.set_write_timeout(left)?;
            self.write_timeout = left;
        }
        let count = stream.write(buffer)?;
        self.counters
            .sent
            .fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
enum Stream {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

/// One open connection to the service.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    /// Whether the driver knows the socket, for its `shutdown`.
    registered: bool,
}

impl Wire {
    /// Connects to the first of these addresses that answers, each with its share
    /// of the time left, and does the TLS handshake if a name is given for it.
    pub(super) fn open(
        addresses: &[SocketAddr],
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
        counters: &Arc<Counters>,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let stream = dial(addresses, deadline)?;
        stream.set_nodelay(true)?;
        let mut timed = Timed {
            socket: Arc::new(Socket(stream)),
            counters: Arc::clone(counters),
            deadline: Some(deadline),
            read_timeout: None,
            write_timeout: None,
        };
        let Some((config, name)) = tls else {
            return Ok(Self {
                stream: Stream::Plain(timed),
                registered: false,
            });
        };
        let mut session = ClientConnection::new(config, name).map_err(Error::Rustls)?;
        while session.is_handshaking() {
            session.complete_io(&mut timed).map_err(handshake_failed)?;
        }
        Ok(Self {
            stream: Stream::Tls(Box::new(StreamOwned::new(session, timed))),
            registered: false,
        })
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// The socket, the first time that it is asked for.
    pub(super) fn unregistered(&mut self) -> Option<Arc<Socket>> {
        let first = !std::mem::replace(&mut self.registered, true);
        first.then(|| Arc::clone(&self.timed().socket))
    }

    pub(super) fn write_all(&mut self, bytes: &[u8], until: Option<Instant>) -> io::Result<()> {
        self.timed_mut().deadline = until;
        match &mut self.stream {
            Stream::Plain(timed) => timed.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8], until: Option<Instant>) -> io::Result<usize> {
        self.timed_mut().deadline = until;
        match &mut self.stream {
            Stream::Plain(timed) => timed.read(buffer),
            Stream::Tls(tls) => tls.read(buffer),
        }
    }

    /// Whether the server has neither closed the connection nor said anything that
    /// nobody asked for. Does not block.
    pub(super) fn is_quiet(&mut self) -> bool {
        let quiet = match &mut self.stream {
            Stream::Plain(timed) => {
                let mut stream = &timed.socket.0;
                stream.set_nonblocking(true).is_ok() && would_block(&stream.read(&mut [0]))
            }
            // Session tickets come unasked and are no reply: rustls takes them in.
            Stream::Tls(tls) => {
                tls.sock.socket.0.set_nonblocking(true).is_ok() && {
                    let (session, mut stream) = (&mut tls.conn, &tls.sock.socket.0);
                    loop {
                        match session.read_tls(&mut stream) {
                            Ok(1..) => {}
                            outcome => break would_block(&outcome),
                        }
                        match session.process_new_packets() {
                            Ok(state)
                                if state.plaintext_bytes_to_read() == 0
                                    && !state.peer_has_closed() => {}
                            _ => break false,
                        }
                    }
                }
            }
        };
        quiet && self.timed().socket.0.set_nonblocking(false).is_ok()
    }

    fn timed(&self) -> &Timed {
        match &self.stream {
            Stream::Plain(timed) => timed,
            Stream::Tls(tls) => &tls.sock,
        }
    }

    fn timed_mut(&mut self) -> &mut Timed {
        match &mut self.stream {
            Stream::Plain(timed) => timed,
            Stream::Tls(tls) => &mut tls.sock,
        }
    }
}

fn would_block(outcome: &io::Result<usize>) -> bool {
    matches!(outcome, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

fn dial(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, Error> {
    let mut last = Error::HostNotFound;
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Timeout(Timeout::Connect));
        }
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(1);
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) if is_timeout(&error) => last = Error::Timeout(Timeout::Connect),
            Err(error) => last = Error::Io(error),
        }
    }
    Err(last)
}

fn handshake_failed(error: io::Error) -> Error {
    if is_timeout(&error) {
        return Error::Timeout(Timeout::Connect);
    }
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(tls) => Error::Rustls(tls.clone()),
        None => Error::Io(error),
    }
}
