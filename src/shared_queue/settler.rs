//! The thread that settles what has its outcome, and says that its worker is alive.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::Inner;
use super::board::Board;
use super::counters::Counters;
use super::settings::Delivery;
use super::stream::{Burial, MOST};
use crate::error::{Error, ErrorKind};
use crate::operation::Outcome;

/// How late a stop, and an entry that could not be settled, may be noticed.
const POLL: Duration = Duration::from_millis(50);

/// What is to become of an entry.
pub(super) enum Verdict {
    Done,
    /// It is given up.
    Dead(ErrorKind, String),
    /// It certainly had no effect, and was not refused.
    NotExecuted(ErrorKind, String),
    /// It may have taken effect.
    Unknown(ErrorKind, String),
}

/// The entry's id, and what is to become of it.
pub(super) type Settled = (String, Verdict);

impl Verdict {
    pub(super) fn of<R>(outcome: &Outcome<R>) -> Self {
        let said = |error: &Error| (error.kind(), error.message().to_owned());
        match outcome {
            Outcome::Done(_) => Self::Done,
            Outcome::Rejected(error) => {
                let (kind, why) = said(error);
                Self::Dead(kind, why)
            }
            Outcome::NotExecuted(error) => {
                let (kind, why) = said(error);
                Self::NotExecuted(kind, why)
            }
            Outcome::Unknown(error) => {
                let (kind, why) = said(error);
                Self::Unknown(kind, why)
            }
        }
    }
}

/// Settles until all senders are gone, or the worker has stopped and nothing is left on the
/// board.
pub(super) fn run(inner: &Inner, board: &Board, settled: &Receiver<Settled>) {
    let alive_every = inner.settings.claim_after / 3;
    let mut say_so_at = Instant::now() + alive_every;
    let mut settler = Settler {
        inner,
        board,
        done: Vec::new(),
    };
    loop {
        match settled.recv_deadline(say_so_at.min(Instant::now() + POLL)) {
            Ok(first) => {
                settler.note(first);
                while settler.done.len() < MOST
                    && let Ok(next) = settled.try_recv()
                {
                    settler.note(next);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        settler.settle_done();
        if board.is_stopped() && board.ids().is_empty() && settled.is_empty() {
            break;
        }
        if Instant::now() >= say_so_at {
            say_so_at = Instant::now() + alive_every;
            settler.say_alive();
        }
    }
    settler.settle_done();
}

struct Settler<'a> {
    inner: &'a Inner,
    board: &'a Board,
    /// Ids of entries that are done, and not yet taken out of the stream.
    done: Vec<String>,
}

impl Settler<'_> {
    fn note(&mut self, (id, verdict): Settled) {
        let (kind, why) = match verdict {
            Verdict::Done => {
                self.board.is_failing.store(false, SeqCst);
                // It stays on the board, and so ours, until it is out of the stream.
                return self.done.push(id);
            }
            Verdict::Dead(kind, why) => return self.bury(&id, kind, &why),
            Verdict::NotExecuted(kind, why) => {
                if kind == ErrorKind::DeadlineExceeded && self.board.has_deadline(&id) {
                    return self.bury(&id, kind, &why);
                }
                self.board.is_failing.store(true, SeqCst);
                return self.put_back(&id, 1);
            }
            Verdict::Unknown(kind, why) => (kind, why),
        };
        let again = self.inner.settings.delivery == Delivery::AtLeastOnce;
        if again || self.board.may_repeat(&id) {
            self.put_back(&id, 0);
        } else {
            self.bury(&id, kind, &why);
        }
    }

    /// Takes out of the stream what is done; all of it stays if that fails, for the next time.
    fn settle_done(&mut self) {
        while !self.done.is_empty() {
            let count = self.done.len().min(MOST);
            match self.inner.stream.settle(&self.done[..count]) {
                Ok(there) => {
                    let counters = &self.board.counters;
                    Counters::add(&counters.done, there);
                    Counters::add(&counters.settled_elsewhere, count - there);
                    for id in self.done.drain(..count) {
                        self.board.take(&id);
                    }
                }
                Err(error) => return complain("settle", &error),
            }
        }
    }

    fn bury(&self, id: &str, kind: ErrorKind, why: &str) {
        let Some(taken) = self.board.take(id) else {
            return;
        };
        let burial = Burial {
            entry: id,
            operation: &taken.operation,
            kind,
            why,
            deliveries: taken.deliveries,
        };
        let counters = &self.board.counters;
        match self.inner.stream.bury(&burial) {
            Ok(true) => Counters::add(&counters.dead, 1),
            Ok(false) => Counters::add(&counters.settled_elsewhere, 1),
            Err(error) => complain("bury", &error),
        }
    }

    /// Leaves it to whoever takes it over, with so many deliveries taken off.
    fn put_back(&self, id: &str, less: u64) {
        let Some(taken) = self.board.take(id) else {
            return;
        };
        let deliveries = taken.deliveries.saturating_sub(less);
        let consumer = &self.board.consumer;
        match self.inner.stream.put_back(consumer, id, deliveries) {
            Ok(()) => Counters::add(&self.board.counters.put_back, 1),
            Err(error) => complain("put back", &error),
        }
    }

    /// Else others would take over what is still being executed here.
    fn say_alive(&self) {
        for ids in self.board.ids().chunks(MOST) {
            let ids = ids.iter().map(String::as_str);
            if let Err(error) = self.inner.stream.renew(&self.board.consumer, ids) {
                return complain("keep", &error);
            }
        }
    }
}

/// An entry that cannot be settled now stays pending, and is taken over later.
fn complain(what: &str, error: &Error) {
    log::warn!("millpond: a worker could not {what} entries of its queue: {error}");
}
