//! What the driver takes for direct TLS: puts the [`Fused`] stream over its socket, and
//! negotiates encryption by itself.
//!
//! With *direct* negotiation the driver hands its socket out at once, so this comes before
//! the first byte. It then does what the driver would have done, as "SSL Session
//! Encryption" in the PostgreSQL manual describes it: asks for TLS, and goes on in the clear
//! only where that is allowed.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use postgres::Socket;
use postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::SslMode;
use super::fuse::{Fuse, Fused};

/// `SSLRequest`: its length and its code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

type Encrypted = <MakeRustlsConnect as MakeTlsConnect<Fused>>::Stream;

#[derive(Clone)]
pub(super) struct Connector {
    pub(super) mode: SslMode,
    /// None where nothing is encrypted.
    pub(super) tls: Option<MakeRustlsConnect>,
    pub(super) fuse: Arc<Fuse>,
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Stream;
    type TlsConnect = Negotiation;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Negotiation> {
        Ok(Negotiation {
            connector: self.clone(),
            domain: domain.to_owned(),
        })
    }
}

/// The encryption of one socket, to be negotiated.
pub(super) struct Negotiation {
    connector: Connector,
    domain: String,
}

impl TlsConnect<Socket> for Negotiation {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(self.negotiate(socket))
    }
}

impl Negotiation {
    async fn negotiate(self, socket: Socket) -> io::Result<Stream> {
        let Connector { mode, tls, fuse } = self.connector;
        let mut socket = Fused::new(socket, fuse);
        let Some(mut tls) = tls else {
            return Ok(Stream::Plain(socket));
        };
        socket.write_all(&SSL_REQUEST).await?;
        let mut answer = [0];
        socket.read_exact(&mut answer).await?;
        if &answer == b"S" {
            let tls = MakeTlsConnect::<Fused>::make_tls_connect(&mut tls, &self.domain);
            let tls = tls.map_err(io::Error::other)?;
            let stream = tls.connect(socket).await.map_err(handshake_failed)?;
            return Ok(Stream::Encrypted(Box::new(stream)));
        }
        if mode == SslMode::Prefer {
            return Ok(Stream::Plain(socket));
        }
        Err(io::Error::other("server does not support TLS"))
    }
}

/// Tells trouble with TLS, which a server may show by hanging up, from a server that does
/// not answer.
fn handshake_failed(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::TimedOut {
        return error;
    }
    io::Error::other(error)
}

/// A socket under a fuse, encrypted or not.
pub(super) enum Stream {
    Plain(Fused),
    Encrypted(Box<Encrypted>),
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        match self {
            Self::Plain(_) => ChannelBinding::none(),
            Self::Encrypted(stream) => stream.channel_binding(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
