//! The figures of a [`Hub`] over HTTP: for Prometheus, for load balancers, and a
//! live page for people.
//!
//! | path | what |
//! |---|---|
//! | `/` | the page: pools, batches, alerts and the process, live and over a day |
//! | `/metrics` | the text that Prometheus scrapes |
//! | `/snapshot` | everything at this moment, as JSON |
//! | `/history?span=SECONDS&pool=NUMBER` | what the figures were, as JSON, in columns |
//! | `/alerts` | the alerts that fire and those that did, as JSON |
//! | `/health` | how everything is and why, as JSON; status 503 when something is down |
//! | `/ready` | 200 while no pool is down, else 503 |
//! | `/live` | 200 while Millpond's background thread does its work, else 503 |
//!
//! It listens on loopback unless told otherwise, and beyond it asks for a bearer token. With a
//! token the page asks for it, and `/ready` and `/live` answer without one, but then with
//! nothing beyond their verdict.
//!
//! Clients can be slow, many, or hostile. Invariants:
//! 1. One thread serves them all, and never waits for any of them.
//! 2. At most 256 connections are open, and of each no more than the head of one
//!    request is kept; the oldest gives way to a new one. Each has a deadline for its whole
//!    request, and one for taking its answer.
//! 3. Answers are made at most four times a second, however often they are asked for.
//! 4. Nothing that a client sends is logged or sent back.
//!
//! ```
//! # fn main() -> Result<(), millpond::Error> {
//! use millpond::exporter::Exporter;
//! use millpond::Hub;
//!
//! let hub = Hub::new();
//! let exporter = Exporter::builder(&hub).bind("127.0.0.1:0").start()?;
//! println!("look at http://{}/", exporter.local_addr());
//! # Ok(()) }
//! ```

mod answer;
mod columns;
mod connection;
mod request;
mod server;
mod site;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

use mio::Waker;
use mio::net::TcpListener;

use self::server::Server;
use self::site::Site;
use crate::config::Vars;
#[cfg(feature = "_net")]
use crate::config::{bare, is_host};
use crate::error::{Error, ErrorKind, Phase};
use crate::hub::Hub;
use crate::security::Secret;

/// Serves a hub's figures until it is stopped or dropped.
#[derive(Debug)]
#[must_use = "it stops when it is dropped"]
pub struct Exporter {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Settings for an exporter of this hub, to begin with the default ones.
    pub fn builder(hub: &Hub) -> ExporterBuilder {
        ExporterBuilder {
            hub: hub.clone(),
            bind: "127.0.0.1:9464".into(),
            token: None,
            allow_remote: false,
        }
    }

    /// Where it listens. If it was told to use port 0, this says which one it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Closes what is open and waits until its thread has ended; dropping it does the same.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        // Its thread looks twice a second by itself, should this fail.
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Settings for an [`Exporter`].
#[must_use = "settings do nothing before `start`"]
pub struct ExporterBuilder {
    hub: Hub,
    bind: String,
    token: Option<Secret>,
    allow_remote: bool,
}

impl fmt::Debug for ExporterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExporterBuilder")
            .field("bind", &self.bind)
            .field("token", &self.token)
            .field("allow_remote", &self.allow_remote)
            .finish_non_exhaustive()
    }
}

impl ExporterBuilder {
    /// The address and port to listen at (`EXPORTER_BIND`); `127.0.0.1:9464` by default. Port 0
    /// takes a free one.
    pub fn bind(mut self, address: impl Into<String>) -> Self {
        self.bind = address.into();
        self
    }

    /// Whoever asks has to send this token, as `Authorization: Bearer TOKEN`
    /// (`EXPORTER_TOKEN`, or `EXPORTER_TOKEN_FILE`); none by default.
    pub fn token(mut self, token: impl Into<Secret>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Whether it may listen on an address that other machines reach
    /// (`EXPORTER_ALLOW_REMOTE`); `false` by default. It speaks plain HTTP: what goes over a
    /// network, the token included, can be read there.
    pub fn allow_remote(mut self, allowed: bool) -> Self {
        self.allow_remote = allowed;
        self
    }

    /// Takes what the environment says: `EXPORTER_BIND`, `EXPORTER_TOKEN` or
    /// `EXPORTER_TOKEN_FILE`, `EXPORTER_ALLOW_REMOTE`.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), naming each mistake.
    pub fn with_env(self) -> Result<Self, Error> {
        Vars::process().read(|vars| self.read(vars))
    }

    fn read(mut self, vars: &mut Vars<'_>) -> Self {
        if let Some(address) = vars.text("EXPORTER_BIND") {
            self.bind = address;
        }
        if let Some(token) = vars.secret_text("EXPORTER_TOKEN") {
            self.token = Some(token);
        }
        if let Some(allowed) = vars.flag("EXPORTER_ALLOW_REMOTE") {
            self.allow_remote = allowed;
        }
        self
    }

    /// Listens and serves from now on, on one thread of its own.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) for an address that is none, is in use or
    /// may not be used, for one beyond loopback that was not [allowed](Self::allow_remote), and
    /// for a token that no header can carry; [`ResourceLimit`](ErrorKind::ResourceLimit) when the
    /// process may have no more files or threads.
    pub fn start(self) -> Result<Exporter, Error> {
        let address = self.address()?;
        self.check(address)?;
        let listener = TcpListener::bind(address).map_err(|error| cannot_listen(address, error))?;
        let none_left = |error: io::Error| {
            let message = "the exporter cannot start: no more files or threads for this process";
            Error::new(ErrorKind::ResourceLimit, Phase::Configure, message)
                .with_source(Arc::new(error))
        };
        let address = listener.local_addr().map_err(none_left)?;
        let stop = Arc::new(AtomicBool::new(false));
        let site = Site::new(self.hub, self.token, address.ip().is_loopback());
        let (server, waker) = Server::new(listener, site, Arc::clone(&stop)).map_err(none_left)?;
        let thread = thread::Builder::new()
            .name("millpond-exporter".into())
            .spawn(move || server.run())
            .map_err(none_left)?;
        Ok(Exporter {
            address,
            stop,
            waker: Arc::new(waker),
            thread: Some(thread),
        })
    }

    fn address(&self) -> Result<SocketAddr, Error> {
        let found = self.bind.to_socket_addrs().ok();
        found.and_then(|mut all| all.next()).ok_or_else(|| {
            wrong(format!(
                "the exporter's address (EXPORTER_BIND) is `{}`, accepted: an address and a \
                 port, such as 127.0.0.1:9464",
                self.bind
            ))
        })
    }

    fn check(&self, address: SocketAddr) -> Result<(), Error> {
        if !self.token.as_ref().is_none_or(fits) {
            return Err(wrong(
                "the exporter's token (EXPORTER_TOKEN) is empty or has characters that no header \
                 can carry; accepted: printable ASCII without spaces",
            ));
        }
        if address.ip().is_loopback() {
            return Ok(());
        }
        if !self.allow_remote {
            return Err(wrong(format!(
                "the exporter's address (EXPORTER_BIND) {address} can be reached from other \
                 machines; listen on 127.0.0.1, or allow it (EXPORTER_ALLOW_REMOTE=true)"
            )));
        }
        if self.token.is_none() {
            log::warn!(
                "millpond: the exporter at {address} can be read by whoever reaches it: set \
                 EXPORTER_TOKEN"
            );
        }
        Ok(())
    }
}

/// Whether a header can carry this token.
fn fits(token: &Secret) -> bool {
    let text = token.expose();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Finds the mistakes in these variables.
#[cfg(feature = "_net")]
pub(crate) fn check(vars: &mut Vars<'_>) {
    let builder = Exporter::builder(&Hub::new()).read(vars);
    // A name is looked up when it starts: that can take its time.
    let place = builder.bind.rsplit_once(':');
    let is_good =
        place.is_some_and(|(host, port)| is_host(bare(host)) && port.parse::<u16>().is_ok());
    if !is_good {
        let accepted = "an address and a port, such as 127.0.0.1:9464";
        vars.mistake("EXPORTER_BIND", &builder.bind, accepted);
    }
    if !builder.token.as_ref().is_none_or(fits) {
        let accepted = "printable ASCII without spaces";
        vars.mistake("EXPORTER_TOKEN", "***", accepted);
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, Phase::Configure, message)
}

fn cannot_listen(address: SocketAddr, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "it is in use; choose another port or 0 for a free one",
        io::ErrorKind::PermissionDenied => "this user may not use that port; choose a larger one",
        _ => "is it an address of this machine?",
    };
    let message = format!("the exporter cannot listen at {address} (EXPORTER_BIND): {hint}");
    wrong(message).with_source(Arc::new(error))
}
