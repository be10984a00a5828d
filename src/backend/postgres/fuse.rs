//! A fuse in the wire: what waits for the server ends by the clock.
//!
//! The driver polls its socket on a runtime of the calling thread, and that runtime has
//! timers. So the socket itself keeps the time: [`Fused`] polls a timer beside the
//! socket, and no thread has to watch. A statement's deadline has two steps. At the
//! deadline the server is asked to cancel, by a job of the crew, so that a live server
//! answers with 57014, and connection and certainty survive. [`GRACE`] later the fuse
//! blows: the call in progress ends with an error, and every further I/O fails at once,
//! so that not even the driver's good-bye can block.
//!
//! Invariants:
//! 1. A blown fuse stays blown; its connection is thrown away.
//! 2. A connection goes on only if a cancel request that was made for it has been dealt
//!    with by the server ([`put_out`](Fuse::put_out) waits for that), so that it cannot
//!    hit the next statement.
//!
//! The driver reads before it writes, and its runtime looks at the socket before that: so where the
//! server has hung up while the connection was idle, nothing is sent, and what was not sent
//! ([`has_sent`](Fuse::has_sent)) is certainly not applied.
//!
//! The driver gives no hold of a Unix socket (see `connector`). There the keeper has the
//! request made, the second step is missing, and all counts as sent.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::{fmt, io};

use parking_lot::{Condvar, Mutex};
use postgres::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::connector::Canceller;
use crate::clock::{Clock, NEVER, Ticks, after};
use crate::keeper::{self, Membership, Tended, crew};

/// How long a server that was asked to cancel has for its answer.
const GRACE: Duration = Duration::from_millis(60);

/// What happens at a moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The server is asked to cancel, and [`GRACE`] later follows the other one.
    Cancel,
    /// The connection is given up.
    GiveUp,
}

/// A moment, and what happens then.
#[derive(Clone, Copy)]
pub(super) struct Lit {
    at: Instant,
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cancel {
    Unasked,
    Asked,
    /// The server has dealt with it.
    Served,
    /// It may still be served, or not.
    Failed,
}

struct State {
    lit: Option<Lit>,
    /// Since the fuse was last lit.
    cancel: Cancel,
    blown: bool,
}

/// The deadline of what goes on on one connection.
pub(super) struct Fuse {
    state: Mutex<State>,
    /// Rings when the cancel request is over.
    bell: Condvar,
    canceller: OnceLock<Canceller>,
    /// For a connection without a [`Fused`] socket.
    membership: OnceLock<Membership>,
    /// Whether the connection is encrypted. Noted here, as the driver hands its socket to
    /// nobody but who puts the fuse in.
    encrypted: AtomicBool,
    /// Bytes were sent since a statement began.
    sent: AtomicBool,
}

impl Fuse {
    /// One that is not lit.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                lit: None,
                cancel: Cancel::Unasked,
                blown: false,
            }),
            bell: Condvar::new(),
            canceller: OnceLock::new(),
            membership: OnceLock::new(),
            encrypted: AtomicBool::new(false),
            sent: AtomicBool::new(true),
        })
    }

    /// A statement begins.
    pub(super) fn begin(&self) {
        self.sent.store(false, Relaxed);
    }

    /// Whether anything was sent since a statement began, as far as one can know.
    pub(super) fn has_sent(&self) -> bool {
        let is_unix = || self.canceller.get().is_none_or(Canceller::is_unix);
        self.sent.load(Relaxed) || is_unix()
    }

    pub(super) fn note_encrypted(&self) {
        self.encrypted.store(true, Relaxed);
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.encrypted.load(Relaxed)
    }

    /// Says how the server is asked to cancel. Before that, [`Then::Cancel`] can only
    /// give up.
    pub(super) fn cancel_by(&self, canceller: Canceller) {
        // It is said once, after the login.
        let _ = self.canceller.set(canceller);
    }

    /// Sets the moment, unless an earlier one is set. Returns what was set, for
    /// [`put_out`](Self::put_out).
    pub(super) fn light(self: &Arc<Self>, at: Option<Instant>, then: Then) -> Option<Lit> {
        let mut state = self.state.lock();
        let before = state.lit;
        if before.is_none() {
            state.cancel = Cancel::Unasked;
        }
        let Some(at) = at else { return before };
        if before.is_none_or(|before| at < before.at) {
            state.lit = Some(Lit { at, then });
            drop(state);
            if then == Then::Cancel && self.canceller.get().is_some_and(Canceller::is_unix) {
                let membership = self.membership.get_or_init(|| {
                    let this: Weak<Self> = Arc::downgrade(self);
                    keeper::join(this)
                });
                membership.wake(ticks_of(at));
            }
        }
        before
    }

    /// Goes back to what was set before. Waits, within [`GRACE`], until a cancel request
    /// that was made is over; if it is not, the fuse blows.
    pub(super) fn put_out(&self, before: Option<Lit>) {
        let mut state = self.state.lock();
        if let Some(lit) = state.lit {
            while state.cancel == Cancel::Asked && !state.blown {
                if self.bell.wait_until(&mut state, lit.at).timed_out() {
                    break;
                }
            }
        }
        state.blown |= matches!(state.cancel, Cancel::Asked | Cancel::Failed);
        state.lit = before;
    }

    /// From now on every I/O fails.
    pub(super) fn blow(&self) {
        self.state.lock().blown = true;
    }

    pub(super) fn is_blown(&self) -> bool {
        self.state.lock().blown
    }

    /// Whether the server was asked to cancel since the fuse was last lit.
    pub(super) fn has_cancelled(&self) -> bool {
        self.state.lock().cancel != Cancel::Unasked
    }

    /// Does what is due. Says when to look again, if ever; fails when blown.
    fn look(self: &Arc<Self>) -> io::Result<Option<Instant>> {
        let mut state = self.state.lock();
        if state.blown {
            return Err(io::Error::new(io::ErrorKind::TimedOut, Blown));
        }
        let Some(lit) = state.lit else {
            return Ok(None);
        };
        let now = Instant::now();
        if now < lit.at {
            return Ok(Some(lit.at));
        }
        if lit.then == Then::GiveUp {
            state.blown = true;
            return Err(io::Error::new(io::ErrorKind::TimedOut, Blown));
        }
        let at = now + GRACE;
        state.lit = Some(Lit {
            at,
            then: Then::GiveUp,
        });
        if self.canceller.get().is_some() {
            state.cancel = Cancel::Asked;
            drop(state);
            self.send_cancel();
        }
        Ok(Some(at))
    }

    fn send_cancel(self: &Arc<Self>) {
        let this = Arc::clone(self);
        crew::submit(Box::new(move || {
            let served = this.canceller.get().is_some_and(Canceller::cancel);
            this.state.lock().cancel = if served {
                Cancel::Served
            } else {
                Cancel::Failed
            };
            this.bell.notify_all();
        }));
    }
}

impl Tended for Fuse {
    fn tend(self: Arc<Self>, _: Ticks) -> Ticks {
        let waits = |lit: &Lit| lit.then == Then::Cancel;
        if self.state.lock().lit.as_ref().is_some_and(waits) {
            // The outcome of what is over is not this thread's business.
            let _ = self.look();
        }
        match self.state.lock().lit {
            Some(lit) if waits(&lit) => ticks_of(lit.at),
            _ => NEVER,
        }
    }
}

fn ticks_of(moment: Instant) -> Ticks {
    let left = moment.saturating_duration_since(Instant::now());
    after(Clock::System.now(), left)
}

/// The cause of every error after the fuse blew.
#[derive(Debug)]
pub(super) struct Blown;

impl fmt::Display for Blown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no answer by the deadline; the connection was given up")
    }
}

impl std::error::Error for Blown {}

/// A socket with a fuse.
pub(super) struct Fused {
    socket: Socket,
    fuse: Arc<Fuse>,
    /// Wakes the driver at the fuse's moment. Made when first needed: it belongs to the
    /// runtime that polls it.
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

    fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        io: impl FnOnce(Pin<&mut Socket>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let next = self.fuse.look()?;
        let done = io(Pin::new(&mut self.socket), context);
        if let (Some(at), true) = (next, done.is_pending()) {
            self.set_alarm(at.into(), context);
        }
        done
    }

    fn set_alarm(&mut self, at: tokio::time::Instant, context: &mut Context<'_>) {
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        // One that rings too early costs less than setting it for every statement.
        if alarm.is_elapsed() || alarm.deadline() > at {
            alarm.as_mut().reset(at);
        }
        if alarm.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
    }
}

impl AsyncRead for Fused {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(context, |socket, context| socket.poll_read(context, buffer))
    }
}

impl AsyncWrite for Fused {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = self.poll(context, |socket, context| socket.poll_write(context, bytes));
        if matches!(done, Poll::Ready(Ok(count)) if count > 0) {
            self.fuse.sent.store(true, Relaxed);
        }
        done
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
