//! The one error of this crate: what went wrong, and what to do about it.

use std::fmt;
use std::io;

/// Why a server could not be found, fetched, started or asked.
///
/// Its text names the program or package that is missing and says what to do;
/// for a server that did not start it ends with the tail of the server's log.
pub struct Error {
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self {
            message: what.into(),
            source: Some(Box::new(source)),
        }
    }

    /// Whether another process took the port between our look and the server's bind.
    pub(crate) fn is_port_taken(&self) -> bool {
        let text = self.message.to_ascii_lowercase();
        text.contains("address already in use") || text.contains("address in use")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

/// As [`Display`](fmt::Display), so that `expect` prints the advice legibly.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Names what an I/O operation was for.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::io(what(), error.into()))
    }
}
