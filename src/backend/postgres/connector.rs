//! How the driver's socket gets its fuse, and its encryption.
//!
//! The driver hands its raw socket to nobody but its TLS connector, and with
//! `sslnegotiation=direct` it does so before a byte is sent. So to the driver, every TCP
//! connection is a TLS connection by this [`Connector`], which puts the
//! [fuse](super::fuse) in and does the rest as the mode says: nothing at all, or the
//! request for TLS of the plain protocol ("SSL Session Encryption" in the PostgreSQL
//! manual) and the handshake of rustls.
//!
//! On a Unix socket the driver asks no connector, so there is no fuse.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use postgres::{CancelToken, NoTls, Socket};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::SslMode;
use super::fuse::{Fuse, Fused, Then};
use super::greeting::{Greeting, Number};
use crate::security::Renewed;

/// Asks for TLS: the length and the code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The server said that it does not speak TLS.
#[derive(Debug, thiserror::Error)]
#[error("the server does not offer TLS")]
pub(super) struct NotOffered;

/// The longest time of a cancel request once its connection stands.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);

/// Whether and how the way to a server is encrypted.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) mode: SslMode,
    /// `None` for the mode [`Disable`](SslMode::Disable).
    pub(super) tls: Option<Arc<Renewed<MakeRustlsConnect>>>,
}

impl Way {
    /// A connector for one connection with this fuse, which notes the number that the
    /// server gives itself.
    pub(super) fn fused(&self, fuse: &Arc<Fuse>, number: &Number) -> Connector {
        Connector {
            mode: self.mode,
            tls: self.tls.as_ref().map(|tls| tls.current()),
            fuse: Arc::clone(fuse),
            number: Arc::clone(number),
            awaits_end: false,
        }
    }
}

/// Asks the server to cancel what a connection is running.
pub(super) struct Canceller {
    pub(super) token: CancelToken,
    /// `None` for a Unix socket.
    pub(super) way: Option<Way>,
}

impl Canceller {
    pub(super) fn is_unix(&self) -> bool {
        self.way.is_none()
    }

    /// Asks, and waits until the server has dealt with it. `false` if that is not sure.
    ///
    /// Ends within the connect timeout for TCP and [`CANCEL_LIMIT`] for the rest, on
    /// whatever server. On a Unix socket the driver does not wait for the server, so that
    /// there it is never sure.
    pub(super) fn cancel(&self) -> bool {
        let done = match &self.way {
            None => self.token.cancel_query(NoTls),
            Some(way) => self.token.cancel_query(Connector {
                awaits_end: true,
                ..way.fused(&Fuse::new(), &Number::default())
            }),
        };
        if let Err(error) = &done {
            log::debug!("millpond: PostgreSQL: a cancel request failed: {error}");
        }
        done.is_ok() && !self.is_unix()
    }
}

/// What the driver takes for its maker of TLS connections.
#[derive(Clone)]
pub(super) struct Connector {
    mode: SslMode,
    tls: Option<MakeRustlsConnect>,
    fuse: Arc<Fuse>,
    number: Number,
    /// For a cancel request: closing waits for the server to close, which it does when it
    /// has dealt with the request.
    awaits_end: bool,
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Wire;
    type TlsConnect = Handshake;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Infallible> {
        Ok(Handshake {
            host: host.to_owned(),
            connector: self.clone(),
        })
    }
}

/// One handshake to be done.
pub(super) struct Handshake {
    host: String,
    connector: Connector,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Wire;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(self.shake(socket))
    }
}

impl Handshake {
    async fn shake(self, socket: Socket) -> io::Result<Wire> {
        let Connector {
            mode,
            tls,
            fuse,
            number,
            awaits_end,
        } = self.connector;
        let wire = |layer| Wire {
            layer,
            greeting: Greeting::new(number),
            awaits_end,
        };
        if awaits_end {
            fuse.light(Instant::now().checked_add(CANCEL_LIMIT), Then::GiveUp);
        }
        let mut socket = Fused::new(socket, Arc::clone(&fuse));
        let Some(mut tls) = tls else {
            return Ok(wire(Layer::Plain(socket)));
        };
        socket.write_all(&SSL_REQUEST).await?;
        // Exactly one byte: what follows belongs to the handshake, or is an attack.
        let answer = socket.read_u8().await?;
        if answer != b'S' {
            return match mode {
                SslMode::Prefer => Ok(wire(Layer::Plain(socket))),
                _ => Err(io::Error::new(io::ErrorKind::Unsupported, NotOffered)),
            };
        }
        let Ok(tls) = MakeTlsConnect::<Fused>::make_tls_connect(&mut tls, &self.host);
        let stream = tls.connect(socket).await?;
        fuse.note_encrypted();
        Ok(wire(Layer::Tls(Box::new(stream))))
    }
}

enum Layer {
    Plain(Fused),
    Tls(Box<<MakeRustlsConnect as MakeTlsConnect<Fused>>::Stream>),
}

/// A connection's stream, encrypted or not.
pub(super) struct Wire {
    layer: Layer,
    greeting: Greeting,
    awaits_end: bool,
}

/// Calls the same on whatever layer there is.
macro_rules! on_layer {
    ($wire:ident, |$stream:ident| $call:expr) => {
        match &mut $wire.get_mut().layer {
            Layer::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Layer::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let wire = self.as_mut();
        let done = on_layer!(wire, |stream| stream.poll_read(context, buffer));
        if let Some(new) = buffer.filled().get(before..) {
            self.greeting.hear(new);
        }
        done
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_layer!(self, |stream| stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_layer!(self, |stream| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.awaits_end {
            return on_layer!(self, |stream| stream.poll_shutdown(context));
        }
        // As libpq does: without a word more, since PgBouncer forgets the request of
        // one who has hung up.
        loop {
            let mut bytes = [0; 64];
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(self.as_mut().poll_read(context, &mut buffer)) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Poll::Ready(Err(error));
                }
                Ok(()) if !buffer.filled().is_empty() => {}
                // The server's end, however abrupt.
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl TlsStream for Wire {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.layer {
            Layer::Plain(_) => ChannelBinding::none(),
            Layer::Tls(stream) => stream.channel_binding(),
        }
    }
}
