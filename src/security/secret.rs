//! A text that is wiped when dropped and never printed.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

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

/// A secret in a file is not longer than this.
const LONGEST: u64 = 64 << 10;

/// The first line of this file, which may not be empty.
pub(crate) fn read_secret(path: &str) -> io::Result<Secret> {
    let mut content = Zeroizing::new(String::new());
    let file = File::open(path)?;
    file.take(LONGEST).read_to_string(&mut content)?;
    let line = content.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(io::Error::other("its first line is empty"));
    }
    Ok(Secret::from(line))
}
