//! A password, token or key for logging in, which may change while the program runs.
//!
//! It is given once, or it is the first line of a file, or the password of a URL that is that
//! line: that is read again for each login, since
//! a login costs far more than reading a small file, and no time stamp tells for certain that a
//! file has changed (two changes within a tick of the clock, a file that was moved into place).
//! A login that was refused is worth another attempt as soon as the file says something else
//! than was used for it ([`Credential::has_changed`]). While the file cannot be read, as between
//! two versions of it, what it said last is used.
//!
//! Each manager has its own: a clone remembers by itself what it was used for.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::seal::{SEALED, SealingKey};
use super::secret::{Secret, read_secret};
use crate::config::shown_path;
use crate::error::{Error, ErrorKind, Phase};

pub(crate) struct Credential {
    origin: Origin,
    /// What was used last, of one that comes from a file.
    used: Mutex<Option<Secret>>,
}

#[derive(Clone)]
enum Origin {
    Given(Secret),
    File(Line),
}

/// The first line of a file.
#[derive(Clone)]
struct Line {
    path: PathBuf,
    /// What opens it, if it is sealed.
    key: Option<Arc<SealingKey>>,
    /// Takes the secret out of it, if it is not the secret itself.
    part: Option<Part>,
}

/// Finds the password in a URL.
pub(crate) type Part = fn(&str) -> Option<Secret>;

impl Credential {
    /// The first line of this file.
    pub(crate) fn file(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        // The program may change its working directory.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self {
            origin: Origin::File(Line {
                path,
                key: None,
                part: None,
            }),
            used: Mutex::new(None),
        }
    }

    /// The same, which may be sealed with this key.
    pub(crate) fn opened_with(mut self, key: Option<SealingKey>) -> Self {
        if let Origin::File(line) = &mut self.origin {
            line.key = key.map(Arc::new);
        }
        self
    }

    /// Not the line itself, but this part of it.
    #[cfg(any(feature = "postgres", feature = "redis", feature = "mongodb"))]
    pub(crate) fn part(mut self, part: Part) -> Self {
        if let Origin::File(line) = &mut self.origin {
            line.part = Some(part);
        }
        self
    }

    /// The secret as it is now, for a login.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if the file cannot be read and never could.
    pub(crate) fn current(&self) -> Result<Secret, Error> {
        let line = match &self.origin {
            Origin::Given(secret) => return Ok(secret.clone()),
            Origin::File(line) => line,
        };
        let read = line.read();
        let mut used = self.used.lock();
        match (read, &*used) {
            (Ok(secret), _) => {
                *used = Some(secret.clone());
                Ok(secret)
            }
            (Err(_), Some(last)) => Ok(last.clone()),
            (Err(error), None) => {
                let message = format!(
                    "the file of the secret, {}, cannot be read: {error}",
                    shown_path(&line.path)
                );
                let error = Arc::new(error);
                Err(
                    Error::new(ErrorKind::Configuration, Phase::Connect, message)
                        .with_source(error),
                )
            }
        }
    }

    /// Whether the next login would use another secret than the last one did; `None` for one
    /// that never changes. Reads the file.
    pub(crate) fn has_changed(&self) -> Option<bool> {
        let Origin::File(line) = &self.origin else {
            return None;
        };
        let secret = line.read().ok();
        let other = |secret: Secret| !same(self.used.lock().as_ref(), Some(&secret));
        Some(secret.is_some_and(other))
    }
}

/// Whether these are the same secret, or both none.
pub(crate) fn same(one: Option<&Secret>, other: Option<&Secret>) -> bool {
    one.map(Secret::expose) == other.map(Secret::expose)
}

impl Line {
    fn read(&self) -> io::Result<Secret> {
        let line = self.opened(read_secret(&self.path.to_string_lossy())?)?;
        let Some(part) = self.part else {
            return Ok(line);
        };
        let part = part(line.expose());
        self.opened(part.ok_or_else(|| io::Error::other("it is no URL with a password"))?)
    }

    fn opened(&self, secret: Secret) -> io::Result<Secret> {
        match &self.key {
            Some(key) if secret.expose().trim_start().starts_with(SEALED) => {
                key.open(secret.expose()).map_err(io::Error::other)
            }
            _ => Ok(secret),
        }
    }
}

impl Clone for Credential {
    fn clone(&self) -> Self {
        Self {
            origin: self.origin.clone(),
            used: Mutex::new(self.used.lock().clone()),
        }
    }
}

impl From<Secret> for Credential {
    fn from(secret: Secret) -> Self {
        Self {
            origin: Origin::Given(secret),
            used: Mutex::new(None),
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Given(secret) => secret.fmt(f),
            Origin::File(line) => write!(f, "*** (from {})", shown_path(&line.path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again() {
        let path = std::env::temp_dir().join(format!("millpond-credential-{}", fastrand::u64(..)));
        let credential = Credential::file(&path);
        let error = credential.current().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.message().contains("millpond-credential-"), "{error}");
        assert_eq!(credential.has_changed(), Some(false));

        std::fs::write(&path, "hunter2\n").unwrap();
        assert_eq!(credential.has_changed(), Some(true));
        assert_eq!(credential.current().unwrap().expose(), "hunter2");
        assert_eq!(credential.has_changed(), Some(false));
        assert!(!format!("{credential:?}").contains("hunter2"));

        let other = credential.clone();
        std::fs::write(&path, "hunter3\n").unwrap();
        assert_eq!(credential.has_changed(), Some(true));
        assert_eq!(other.has_changed(), Some(true));
        assert_eq!(credential.current().unwrap().expose(), "hunter3");
        assert_eq!(credential.has_changed(), Some(false));
        assert_eq!(other.has_changed(), Some(true), "it has not used it yet");

        std::fs::remove_file(&path).unwrap();
        assert_eq!(credential.has_changed(), Some(false));
        assert_eq!(credential.current().unwrap().expose(), "hunter3");
        assert_eq!(Credential::from(Secret::from("x")).has_changed(), None);
    }

    #[test]
    #[cfg(any(feature = "postgres", feature = "redis", feature = "mongodb"))]
    fn a_part_of_a_line_may_be_sealed_and_so_may_the_line() {
        let path = std::env::temp_dir().join(format!("millpond-credential-{}", fastrand::u64(..)));
        let key = SealingKey::generate();
        let sealed = |text: &str| key.seal(&Secret::from(text));
        let after_the_sign = |line: &str| Some(Secret::from(line.split_once('=')?.1));
        let credential = Credential::file(&path)
            .opened_with(Some(key.clone()))
            .part(after_the_sign);
        for (line, expected) in [
            ("p=hunter1".to_owned(), "hunter1"),
            (format!("p={}", sealed("hunter2")), "hunter2"),
            (sealed("p=hunter3"), "hunter3"),
            ("torn".to_owned(), "hunter3"),
        ] {
            std::fs::write(&path, line).unwrap();
            assert_eq!(credential.current().unwrap().expose(), expected);
        }
        std::fs::remove_file(&path).unwrap();
    }
}
