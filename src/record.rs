//! What the log and the audit log are told of every operation, once it is over.
//!
//! There is one way to here for each kind of operation: [`Pool::execute`](crate::Pool::execute)
//! and `execute` on a lease tell of theirs when they return, and a batch tells of an operation
//! where its outcome is decided, whoever decides it. So each operation that was accepted is told
//! of exactly once, whether or not it ever had a connection.
//!
//! While nobody wants to know, an operation costs one relaxed load. A panic in an operation's
//! description, or in the program's logger, ends here. No lock may be held by whoever calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::SystemTime;

use crate::clock::{Clock, Ticks};
use crate::contain::contain;
use crate::error::{Error, ErrorKind};
#[cfg(feature = "batch")]
use crate::keeper::crew;
use crate::logging;
use crate::operation::{Operation, OutcomeKind};

/// The log wants to know.
pub(crate) const LOG: u8 = 1;
/// The audit log wants to know.
#[cfg(feature = "audit")]
pub(crate) const AUDIT: u8 = 2;

/// Who wants to know, in the whole process.
static WANTED: AtomicU8 = AtomicU8::new(0);

/// The most bytes of an operation's statement that are told. Texts may be as long as the program
/// likes, and many wait to be written.
const STATEMENT: usize = 4096;
/// The most bytes of its id, and of its comment.
const WORDS: usize = 1024;

/// From now on, this one wants to know, or does not.
pub(crate) fn want(who: u8, on: bool) {
    if on {
        WANTED.fetch_or(who, Relaxed);
    } else {
        WANTED.fetch_and(!who, Relaxed);
    }
}

/// Whether anybody wants to know.
#[inline]
pub(crate) fn is_wanted() -> bool {
    let wanted = WANTED.load(Relaxed);
    wanted != 0 && (wanted != LOG || logging::wants_operations())
}

/// Where an operation runs.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) pool: Arc<str>,
    pub(crate) endpoint: Arc<str>,
    #[cfg_attr(
        not(feature = "audit"),
        allow(dead_code, reason = "the log does not tell")
    )]
    pub(crate) backend: &'static str,
}

/// What an operation says of itself, without values.
#[derive(Clone)]
pub(crate) struct Note {
    pub(crate) id: Option<Box<str>>,
    pub(crate) statement: Box<str>,
    #[cfg(feature = "audit")]
    pub(crate) comment: Option<Box<str>>,
    since: Ticks,
}

impl Note {
    /// What this operation says, which was submitted then, or whose execution began then.
    pub(crate) fn new<O: Operation>(operation: &O, since: Ticks) -> Self {
        let said = contain("an operation's description", || {
            let envelope = operation.envelope();
            Self {
                id: envelope.id().map(|id| cut(id, WORDS)),
                statement: cut(&operation.statement(), STATEMENT),
                #[cfg(feature = "audit")]
                comment: envelope.comment().map(|comment| cut(comment, WORDS)),
                since,
            }
        });
        said.unwrap_or_else(|| Self {
            id: None,
            statement: "?".into(),
            #[cfg(feature = "audit")]
            comment: None,
            since,
        })
    }
}

/// The text, or its beginning.
fn cut(text: &str, most: usize) -> Box<str> {
    if text.len() <= most {
        return text.into();
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
    let (begin, _) = text.split_at(end.unwrap_or(0));
    format!("{begin}…").into()
}

/// An operation that is over.
#[derive(Clone)]
pub(crate) struct Ended {
    pub(crate) place: Place,
    pub(crate) note: Note,
    pub(crate) outcome: OutcomeKind,
    /// What kept it from being done.
    pub(crate) error: Option<ErrorKind>,
    /// How often it was given a connection.
    pub(crate) attempts: u32,
    pub(crate) took: Ticks,
    #[cfg_attr(
        not(feature = "audit"),
        allow(dead_code, reason = "the log has a clock")
    )]
    pub(crate) at: SystemTime,
}

impl Ended {
    /// It is over now.
    pub(crate) fn now(
        place: Place,
        note: Note,
        outcome: OutcomeKind,
        error: Option<&Error>,
        attempts: u32,
    ) -> Self {
        Self {
            took: Clock::System.now().saturating_sub(note.since),
            place,
            note,
            outcome,
            error: error.map(Error::kind),
            attempts,
            at: SystemTime::now(),
        }
    }

    /// Tells whoever wants to know. The error is the one that kept it from being done.
    pub(crate) fn tell(self, error: Option<&Error>) {
        let wanted = WANTED.load(Relaxed);
        if wanted & LOG != 0 {
            self.log(error);
        }
        self.audit(wanted);
    }

    /// The same on a thread that may not wait for the program's logger.
    #[cfg(feature = "batch")]
    pub(crate) fn tell_in_background(self, error: Option<Error>) {
        let wanted = WANTED.load(Relaxed);
        if wanted & LOG != 0 {
            let ended = self.clone();
            crew::submit(Box::new(move || ended.log(error.as_ref())));
        }
        self.audit(wanted);
    }

    fn log(&self, error: Option<&Error>) {
        contain("the logger", || logging::operation(self, error));
    }

    #[cfg(feature = "audit")]
    fn audit(self, wanted: u8) {
        if wanted & AUDIT != 0 {
            crate::audit::record(self);
        }
    }

    #[cfg(not(feature = "audit"))]
    fn audit(self, _: u8) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_letters() {
        assert_eq!(&*cut("short", 5), "short");
        assert_eq!(&*cut("longer", 5), "longe…");
        assert_eq!(&*cut("ééé", 3), "é…");
        assert_eq!(&*cut("é", 1), "…");
    }
}
