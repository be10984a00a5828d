//! Lends the driver the connection's one socket, and takes it back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::time::Duration as DriverDuration;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};
use ureq::{Error, Timeout};

use super::config::Base;
use super::wire::{Counters, Wire, is_timeout};
use crate::deadline::moment_in;
use crate::security::Renewed;

/// The service and the one connection to it.
#[derive(Debug)]
pub(super) struct Line {
    base: Base,
    uri: Uri,
    tls: Arc<Renewed<Arc<ClientConfig>>>,
    kept: Mutex<Option<Kept>>,
    keep_alive: bool,
    pub(super) counters: Arc<Counters>,
}

/// A connection between two requests. Its buffers are kept with it: to clear new
/// ones, 256 KiB, costs a fifth of a small request.
#[derive(Debug)]
struct Kept {
    wire: Wire,
    buffers: LazyBuffers,
}

impl Line {
    pub(super) fn new(
        base: Base,
        uri: Uri,
        tls: Arc<Renewed<Arc<ClientConfig>>>,
        keep_alive: bool,
    ) -> Self {
        Self {
            base,
            uri,
            tls,
            kept: Mutex::new(None),
            keep_alive,
            counters: Arc::default(),
        }
    }

    /// Opens the connection before anything is asked of it.
    pub(super) fn open_ahead(&self, config: &Config, timeout: Duration) -> Result<(), Error> {
        let wire = self.open(&self.uri, config, moment_in(timeout))?;
        let buffers = buffers(config);
        *self.kept.lock() = Some(Kept { wire, buffers });
        Ok(())
    }

    /// Whether a connection is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.lock().is_some()
    }

    /// Whether the kept connection is still open on the other side. Does not block.
    pub(super) fn is_alive(&self) -> bool {
        let mut kept = self.kept.lock();
        kept.as_mut().is_some_and(|kept| kept.wire.is_quiet())
    }

    fn is_home(&self, uri: &Uri) -> bool {
        let port = uri.port_u16().or(match uri.scheme_str() {
            Some("https") => Some(443),
            Some("http") => Some(80),
            _ => None,
        });
        uri.scheme() == self.uri.scheme()
            && port == Some(self.base.port)
            && uri
                .host()
                .zip(self.uri.host())
                .is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
    }

    /// The kept connection if it is still good, else a new one.
    fn take(&self, config: &Config, deadline: Instant) -> Result<Kept, Error> {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let kept = self.kept.lock().take();
        if let Some(mut kept) = kept
            && kept.wire.is_quiet()
        {
            return Ok(kept);
        }
        self.open_with_buffers(&self.uri, config, deadline)
    }

    fn open_with_buffers(
        &self,
        uri: &Uri,
        config: &Config,
        deadline: Instant,
    ) -> Result<Kept, Error> {
        let wire = self.open(uri, config, deadline)?;
        let buffers = buffers(config);
        Ok(Kept { wire, buffers })
    }

    fn open(&self, uri: &Uri, config: &Config, deadline: Instant) -> Result<Wire, Error> {
        let addresses = resolve(uri, config, deadline)?;
        let tls = if uri.scheme_str() == Some("https") {
            let host = bare_host(uri);
            let name = ServerName::try_from(host.to_owned());
            let name = name.map_err(|_| Error::Tls("the host name fits no certificate"))?;
            Some((self.tls.current(), name))
        } else {
            None
        };
        Wire::open(&addresses, tls, &self.counters, deadline)
    }
}

fn buffers(config: &Config) -> LazyBuffers {
    LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size())
}

fn bare_host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The addresses of a host. A name is looked up on a thread of the driver's that
/// is waited for until the deadline and ends by itself.
fn resolve(uri: &Uri, config: &Config, deadline: Instant) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(ip) = bare_host(uri).parse::<IpAddr>() {
        let port = uri.port_u16();
        let port = port.unwrap_or(if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        });
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let timeout = NextTimeout {
        after: deadline.saturating_duration_since(Instant::now()).into(),
        reason: Timeout::Resolve,
        ..NextTimeout::default()
    };
    let found = DefaultResolver::default().resolve(uri, config, timeout)?;
    Ok(found.to_vec())
}

/// The driver looks a name up before each request, on a new thread, even when the
/// socket is open already. Where the answer would not be needed, it gets none.
#[derive(Debug)]
pub(super) struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut nowhere = self.empty();
        nowhere.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
        Ok(nowhere)
    }
}

/// Hands the kept connection to the driver.
#[derive(Debug)]
pub(super) struct Lender(pub(super) Arc<Line>);

impl Connector for Lender {
    type Out = Lent;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Lent>, Error> {
        let line = &self.0;
        let deadline = until(details.timeout).unwrap_or_else(far);
        let home = line.is_home(details.uri);
        let mut kept = if home {
            line.take(details.config, deadline)?
        } else {
            line.open_with_buffers(details.uri, details.config, deadline)?
        };
        // Once per socket: the driver keeps a note of each call while it is open.
        if let Some(socket) = kept.wire.unregistered() {
            let handle: Arc<dyn ShutdownHandle> = socket;
            (details.register_shutdown)(Arc::downgrade(&handle))?;
        }
        Ok(Some(Lent {
            kept: Some(kept),
            line: (home && line.keep_alive).then(|| Arc::clone(line)),
            counters: Arc::clone(&line.counters),
            complete: false,
        }))
    }
}

/// A connection in the driver's hands for one request.
#[derive(Debug)]
pub(super) struct Lent {
    /// There until it is dropped.
    kept: Option<Kept>,
    /// Where it goes back to.
    line: Option<Arc<Line>>,
    counters: Arc<Counters>,
    /// The driver asks whether it is open after a complete exchange, and then only.
    complete: bool,
}

impl Lent {
    /// The connection, now in the middle of an exchange.
    fn lent(&mut self) -> &mut Kept {
        self.complete = false;
        // Only `drop` takes it.
        self.kept
            .as_mut()
            .expect("a connection until it is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(line) = self.line.take()
            && self.complete
        {
            *line.kept.lock() = self.kept.take();
        }
    }
}

impl Transport for Lent {
    fn buffers(&mut self) -> &mut dyn Buffers {
        // Looked at between exchanges too, so this does not begin one.
        let kept = self.kept.as_mut();
        // Only `drop` takes it.
        &mut kept.expect("a connection until it is dropped").buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.counters.transmits.fetch_add(1, Ordering::Relaxed);
        let Kept { wire, buffers } = self.lent();
        let sent = wire.write_all(&buffers.output()[..amount], until(timeout));
        sent.map_err(|error| failed(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let Kept { wire, buffers } = self.lent();
        let read = wire.read(buffers.input_append_buf(), until(timeout));
        let count = read.map_err(|error| failed(error, timeout))?;
        buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        // Whether it really is, is looked at when it is lent again.
        self.complete = true;
        true
    }

    fn is_tls(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.wire.is_tls())
    }
}

fn failed(error: std::io::Error, timeout: NextTimeout) -> Error {
    if is_timeout(&error) {
        Error::Timeout(timeout.reason)
    } else {
        Error::Io(error)
    }
}

/// The moment when this timeout is over.
fn until(timeout: NextTimeout) -> Option<Instant> {
    match timeout.after {
        DriverDuration::Exact(left) => Instant::now().checked_add(left),
        DriverDuration::NotHappening => None,
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}
