//! What an error says of the endpoint.

use crate::error::{ConnectFailure, Error, ErrorKind, Phase};

/// What an error says of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It works.
    Well,
    /// It is in trouble.
    Ill,
    /// Nothing.
    Neither,
}

impl Verdict {
    pub(crate) fn of(error: &Error) -> Self {
        match (error.kind(), error.phase()) {
            (ErrorKind::DeadlineExceeded, Phase::Operation) => Self::Ill,
            (kind, _) if is_away(kind) => Self::Ill,
            // In the queue it is the pool that is full.
            (ErrorKind::Overloaded, phase) if phase != Phase::Queue => Self::Ill,
            (
                ErrorKind::Conflict
                | ErrorKind::Constraint
                | ErrorKind::InvalidOperation
                | ErrorKind::NotFound
                | ErrorKind::Permission,
                Phase::Operation,
            ) => Self::Well,
            _ => Self::Neither,
        }
    }
}

/// Whether the endpoint cannot be reached, or not any more.
fn is_away(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionLost
            | ErrorKind::Connect(ConnectFailure::Refused | ConnectFailure::Timeout)
    )
}
