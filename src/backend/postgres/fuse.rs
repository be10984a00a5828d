//! A socket that gives up at a deadline.
//!
//! The driver knows no deadlines, and nothing can interrupt a call of its that waits for a
//! server which says nothing. But it polls its socket on the calling thread, in a runtime
//! with a timer. So each connection's socket is wrapped into a [`Fused`], which shares a
//! [`Fuse`] with the connection: while that is lit, every read and write watches the clock.
//! At the deadline the server is asked to cancel what it does, so that a slow one answers
//! and the connection lives on; [`GRACE`] later the stream fails, and with it the call. No
//! other thread is involved. While no deadline is set, this costs the look at one atomic.
//!
//! All but `is_blown` and `has_asked` happen on the thread that uses the connection.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use postgres::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

/// How long a server that was asked to cancel has to say so.
pub(super) const GRACE: Duration = Duration::from_millis(60);

type Cancel = Box<dyn Fn() + Send + Sync>;

/// The time limit of one connection.
#[derive(Default)]
pub(super) struct Fuse {
    /// One of `OUT`, `LIT`, `ASKED`, `BLOWN`.
    state: AtomicU8,
    /// The server was asked to cancel since the fuse was lit.
    asked: AtomicBool,
    limit: Mutex<Option<Instant>>,
    /// Asks the server to cancel; none while there is nothing to cancel yet.
    cancel: Mutex<Option<Cancel>>,
}

const OUT: u8 = 0;
const LIT: u8 = 1;
const ASKED: u8 = 2;
const BLOWN: u8 = 3;

/// Why a call of the driver failed at a deadline; inside its [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("no answer by the deadline")]
pub(super) struct Blown;

impl Fuse {
    /// From now on, everything fails after this moment, and some grace.
    pub(super) fn light(&self, deadline: Instant) {
        *self.limit.lock() = Some(deadline);
        self.asked.store(false, Relaxed);
        self.advance(OUT, LIT);
    }

    /// There is no deadline any more; but what is blown stays blown.
    pub(super) fn put_out(&self) {
        self.advance(LIT, OUT);
        self.advance(ASKED, OUT);
    }

    pub(super) fn is_blown(&self) -> bool {
        self.state.load(Relaxed) == BLOWN
    }

    /// Whether the server was asked to cancel since the fuse was lit last.
    pub(super) fn has_asked(&self) -> bool {
        self.asked.load(Relaxed)
    }

    /// How the server is asked to cancel.
    pub(super) fn set_cancel(&self, cancel: impl Fn() + Send + Sync + 'static) {
        *self.cancel.lock() = Some(Box::new(cancel));
    }

    fn advance(&self, from: u8, to: u8) -> bool {
        let changed = self.state.compare_exchange(from, to, Relaxed, Relaxed);
        changed.is_ok()
    }

    /// When something is to happen next, if a deadline is set. Does what is due by now.
    fn burn(&self) -> Result<Option<Instant>, io::Error> {
        let state = self.state.load(Relaxed);
        if state == OUT {
            return Ok(None);
        }
        if state == BLOWN {
            return Err(io::Error::new(io::ErrorKind::TimedOut, Blown));
        }
        let Some(deadline) = *self.limit.lock() else {
            return Ok(None);
        };
        let now = Instant::now();
        if now < deadline {
            return Ok(Some(deadline));
        }
        let cancel = self.cancel.lock();
        if let Some(cancel) = &*cancel {
            if self.advance(LIT, ASKED) {
                self.asked.store(true, Relaxed);
                cancel();
            }
            if now < deadline + GRACE {
                return Ok(Some(deadline + GRACE));
            }
        }
        self.state.store(BLOWN, Relaxed);
        Err(io::Error::new(io::ErrorKind::TimedOut, Blown))
    }
}

/// A socket under a fuse.
pub(super) struct Fused {
    socket: Socket,
    fuse: Arc<Fuse>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Fused {
    pub(super) fn new(socket: Socket, fuse: Arc<Fuse>) -> Self {
        Self {
            socket,
            fuse,
            alarm: None,
        }
    }

    /// Nothing can be done on the socket at the moment: waits for the deadline as well.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        while let Some(moment) = self.fuse.burn()? {
            let alarm = self
                .alarm
                .get_or_insert_with(|| Box::pin(sleep_until(moment.into())));
            if alarm.deadline() != moment.into() {
                alarm.as_mut().reset(moment.into());
            }
            ready!(alarm.as_mut().poll(cx));
        }
        Poll::Pending
    }
}

impl AsyncRead for Fused {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A server that never stops talking is no reason to listen for ever.
        self.fuse.burn()?;
        match Pin::new(&mut self.socket).poll_read(cx, buf) {
            Poll::Pending => self.wait(cx),
            ready @ Poll::Ready(_) => ready,
        }
    }
}

impl AsyncWrite for Fused {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.socket).poll_write(cx, buf) {
            Poll::Pending => self.wait(cx),
            ready @ Poll::Ready(_) => ready,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_flush(cx) {
            Poll::Pending => self.wait(cx),
            ready @ Poll::Ready(_) => ready,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_shutdown(cx) {
            Poll::Pending => self.wait(cx),
            ready @ Poll::Ready(_) => ready,
        }
    }
}
