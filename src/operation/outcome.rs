//! What became of one operation.

use crate::error::{Error, ErrorKind};

/// What became of one operation. Every operation that is accepted gets exactly one.
///
/// ```
/// use millpond::{Error, ErrorKind, Outcome, Phase};
///
/// let refused = Error::new(ErrorKind::Constraint, Phase::Operation, "the key exists");
/// assert!(matches!(Outcome::<()>::failed(refused), Outcome::Rejected(_)));
///
/// let lost = Error::new(ErrorKind::ConnectionLost, Phase::Operation, "reset by peer");
/// assert!(matches!(Outcome::<()>::failed(lost.clone()), Outcome::NotExecuted(_)));
/// assert!(matches!(Outcome::<()>::failed(lost.with_outcome_unknown()), Outcome::Unknown(_)));
/// ```
#[derive(Clone, Debug)]
#[must_use = "an operation may have failed"]
pub enum Outcome<R> {
    /// It took effect; this is the reply.
    Done(R),
    /// The server refused this one; it has no effect.
    Rejected(Error),
    /// It was certainly not applied: expired, cancelled, refused by a full queue, the
    /// server was the wrong or a busy one, or a connection never came. The error says
    /// which.
    NotExecuted(Error),
    /// It was sent, then the connection was lost or the deadline was over. It may have
    /// taken effect.
    Unknown(Error),
}

/// Which of the four it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutcomeKind {
    Done,
    Rejected,
    NotExecuted,
    Unknown,
}

impl OutcomeKind {
    /// That of an operation that failed with this error.
    pub(crate) fn failed(error: &Error) -> Self {
        if error.outcome_unknown() {
            return Self::Unknown;
        }
        match error.kind() {
            ErrorKind::Connect(_)
            | ErrorKind::Exhausted
            | ErrorKind::Overloaded
            | ErrorKind::WrongRole
            | ErrorKind::ConnectionLost
            | ErrorKind::DeadlineExceeded
            | ErrorKind::ResourceLimit
            | ErrorKind::Cancelled
            | ErrorKind::Closed => Self::NotExecuted,
            _ => Self::Rejected,
        }
    }

    /// That of one that got no connection, or none for another attempt.
    pub(crate) fn without_connection(error: &Error) -> Self {
        if error.outcome_unknown() {
            Self::Unknown
        } else {
            Self::NotExecuted
        }
    }

    /// As a word, for logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Rejected => "rejected",
            Self::NotExecuted => "not_executed",
            Self::Unknown => "unknown",
        }
    }
}

impl<R> Outcome<R> {
    /// The outcome that this error stands for.
    pub fn failed(error: Error) -> Self {
        match OutcomeKind::failed(&error) {
            OutcomeKind::Unknown => Self::Unknown(error),
            OutcomeKind::NotExecuted => Self::NotExecuted(error),
            OutcomeKind::Done | OutcomeKind::Rejected => Self::Rejected(error),
        }
    }

    /// Which of the four it is.
    #[cfg(feature = "batch")]
    pub(crate) fn kind(&self) -> OutcomeKind {
        match self {
            Self::Done(_) => OutcomeKind::Done,
            Self::Rejected(_) => OutcomeKind::Rejected,
            Self::NotExecuted(_) => OutcomeKind::NotExecuted,
            Self::Unknown(_) => OutcomeKind::Unknown,
        }
    }

    /// Whether it took effect.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// The error, unless it took effect.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Self::Done(_) => None,
            Self::Rejected(error) | Self::NotExecuted(error) | Self::Unknown(error) => Some(error),
        }
    }

    /// The reply, or why there is none.
    ///
    /// # Errors
    /// Whatever kept it from being done; see
    /// [`outcome_unknown`](Error::outcome_unknown).
    pub fn into_result(self) -> Result<R, Error> {
        match self {
            Self::Done(reply) => Ok(reply),
            Self::Rejected(error) | Self::NotExecuted(error) => Err(error),
            // Whoever said that it is unknown may not have said so in the error.
            Self::Unknown(error) => Err(error.with_outcome_unknown()),
        }
    }

    /// The same outcome with another reply.
    pub fn map<T>(self, with: impl FnOnce(R) -> T) -> Outcome<T> {
        match self {
            Self::Done(reply) => Outcome::Done(with(reply)),
            Self::Rejected(error) => Outcome::Rejected(error),
            Self::NotExecuted(error) => Outcome::NotExecuted(error),
            Self::Unknown(error) => Outcome::Unknown(error),
        }
    }

    /// Whether it may have taken effect, and nobody knows.
    #[cfg(feature = "batch")]
    pub(crate) fn is_in_doubt(&self) -> bool {
        let unsure = self.error().is_some_and(Error::outcome_unknown);
        unsure || matches!(self, Self::Unknown(_))
    }

    /// The same outcome of an operation that may have taken effect, unless it certainly did.
    #[cfg(feature = "batch")]
    pub(crate) fn in_doubt(self) -> Self {
        match self.into_result() {
            Ok(reply) => Self::Done(reply),
            Err(error) => Self::Unknown(error.with_outcome_unknown()),
        }
    }

    /// The same outcome with more said in its error.
    #[cfg(feature = "batch")]
    pub(crate) fn map_error(self, with: impl FnOnce(Error) -> Error) -> Self {
        match self {
            Self::Done(reply) => Self::Done(reply),
            Self::Rejected(error) => Self::Rejected(with(error)),
            Self::NotExecuted(error) => Self::NotExecuted(with(error)),
            Self::Unknown(error) => Self::Unknown(with(error)),
        }
    }
}

impl<R> From<Result<R, Error>> for Outcome<R> {
    fn from(result: Result<R, Error>) -> Self {
        match result {
            Ok(reply) => Self::Done(reply),
            Err(error) => Self::failed(error),
        }
    }
}
