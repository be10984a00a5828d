//! An operation that was not accepted.

use std::fmt;

use crate::error::Error;

/// An operation that was not accepted, and why. `?` makes it an [`Error`].
///
/// ```
/// # fn f<O: Send>(refused: millpond::batch::Refused<O>) {
/// if refused.error().is_retryable() {
///     let operation = refused.into_operation(); // later again
/// }
/// # }
/// ```
pub struct Refused<O>(Box<(O, Error)>);

impl<O> Refused<O> {
    pub(crate) fn new(operation: O, error: Error) -> Self {
        Self(Box::new((operation, error)))
    }

    /// Why.
    pub fn error(&self) -> &Error {
        &self.0.1
    }

    /// The operation.
    pub fn into_operation(self) -> O {
        self.0.0
    }

    /// Both.
    pub fn into_parts(self) -> (O, Error) {
        *self.0
    }
}

impl<O> From<Refused<O>> for Error {
    fn from(refused: Refused<O>) -> Self {
        refused.0.1
    }
}

impl<O> fmt::Display for Refused<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not accepted: {}", self.error())
    }
}

impl<O> fmt::Debug for Refused<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refused").field(self.error()).finish()
    }
}

impl<O> std::error::Error for Refused<O> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.error())
    }
}
