//! A text that is wiped when dropped and never printed.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A password, token or key. Its memory is overwritten when it is dropped, and
/// its `Debug` prints `***`.
///
/// ```
/// let secret = millpond::Secret::from("hunter2");
/// assert_eq!(format!("{secret:?}"), "***");
/// ```
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The text itself. Hand it to the driver and nowhere else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl<S: Into<String>> From<S> for Secret {
    fn from(text: S) -> Self {
        Self(SecretString::from(text.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
