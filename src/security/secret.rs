//! A text that is wiped when dropped and never printed.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

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

/// All that is in this file. A pipe or a device is refused: it might never answer, or never end.
pub(crate) fn read_regular(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    // All at once: what grows leaves copies behind, and takes time.
    let size = metadata.len().min(longest) + 1;
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    File::open(path)?
        .take(longest + 1)
        .read_to_end(&mut content)?;
    if content.len() as u64 > longest {
        let message = format!("it is longer than {longest} bytes");
        return Err(io::Error::other(message));
    }
    Ok(content)
}

/// The first line of this file, which may not be empty.
pub(crate) fn read_secret(path: &str) -> io::Result<Secret> {
    let content = Zeroizing::new(read_regular(Path::new(path), LONGEST)?);
    let content = std::str::from_utf8(&content).map_err(|_| io::Error::other("it is not UTF-8"))?;
    let line = content.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(io::Error::other("its first line is empty"));
    }
    Ok(Secret::from(line))
}
