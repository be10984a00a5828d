//! What is made of the files of a [`Tls`], made anew when they change.
//!
//! The files are read whenever it is asked for, as those of passwords are: small files cost far
//! less to read than a handshake, and no time stamp tells for certain that a file has changed. It
//! is made anew only if they say something else than before.
//!
//! Invariants:
//! - Whoever has one has something that could be used: files that cannot be read, or hold nothing
//!   usable, fail [`Renewed::new`] and nothing later. Later, what they said before is used, until
//!   they are good again.
//! - The log is told once that files cannot be used, once that they can again, and once of each
//!   change.
//! - No lock is held while a file is read or the log is told.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::pem::Files;
use super::tls::Tls;
use crate::error::Error;

/// Makes it of the files; fails if they cannot be used.
type Make<T> = Box<dyn Fn(&Tls, &Files) -> Result<T, Error> + Send + Sync>;

/// One per manager, as it remembers what that has tried.
pub(crate) struct Renewed<T> {
    /// For the log.
    backend: &'static str,
    tls: Tls,
    make: Make<T>,
    state: Mutex<State<T>>,
    /// The version that the pool tried last.
    tried: AtomicU64,
}

struct State<T> {
    files: Files,
    made: T,
    version: u64,
    /// Whether the log was told that the files cannot be used.
    faulty: bool,
}

/// What came of a look at the files that is worth telling.
enum News {
    Changed,
    Mended,
    Faulty(Error),
}

impl<T: Clone> Renewed<T> {
    /// Reads the files of these settings for this backend.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) if one cannot be read, and what `make`
    /// says.
    pub(crate) fn new(
        backend: &'static str,
        tls: &Tls,
        make: impl Fn(&Tls, &Files) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        // By the paths as they were given: what is no path at all is told from one.
        let files = tls.read()?;
        let tls = tls.clone().anchored();
        let made = make(&tls, &files)?;
        Ok(Self {
            backend,
            tls,
            make: Box::new(make),
            state: Mutex::new(State {
                files,
                made,
                version: 0,
                faulty: false,
            }),
            tried: AtomicU64::new(0),
        })
    }

    /// For a new connection: made of what the files say now.
    #[cfg(any(feature = "postgres", feature = "redis", feature = "http", test))]
    pub(crate) fn current(&self) -> T {
        self.look();
        self.state.lock().made.clone()
    }

    /// The same for an attempt of the pool to connect: if it fails, the next one is worth while
    /// once the files say something else.
    pub(crate) fn attempt(&self) -> T {
        self.look();
        let state = self.state.lock();
        self.tried.store(state.version, Relaxed);
        state.made.clone()
    }

    /// Whether the next attempt would use something else than the last one did; `None` if there is
    /// no file that could change. Reads the files.
    pub(crate) fn has_changed(&self) -> Option<bool> {
        if !self.tls.names_files() {
            return None;
        }
        self.look();
        Some(self.state.lock().version != self.tried.load(Relaxed))
    }

    /// Reads the files, and takes over what they say if it can be used.
    pub(crate) fn look(&self) {
        if !self.tls.names_files() {
            return;
        }
        let news = match self.tls.read() {
            Ok(files) => self.take(files),
            Err(error) => self.refuse(error),
        };
        let backend = self.backend;
        match news {
            None => {}
            Some(News::Changed) => log::info!(
                "millpond: {backend}: the files with certificates have changed; new connections \
                 use them"
            ),
            Some(News::Mended) => log::info!(
                "millpond: {backend}: the files with certificates can be used again; new \
                 connections use them"
            ),
            Some(News::Faulty(error)) => log::warn!(
                "millpond: {backend}: the files with certificates cannot be used, so new \
                 connections use what they said before: {}",
                error.message()
            ),
        }
    }

    fn take(&self, files: Files) -> Option<News> {
        let mut state = self.state.lock();
        if state.files != files {
            drop(state);
            let made = match (self.make)(&self.tls, &files) {
                Ok(made) => made,
                Err(error) => return self.refuse(error),
            };
            state = self.state.lock();
            // Another thread may have been faster, with the same.
            if state.files != files {
                state.files = files;
                state.made = made;
                state.version += 1;
                let mended = std::mem::take(&mut state.faulty);
                return Some(if mended { News::Mended } else { News::Changed });
            }
        }
        std::mem::take(&mut state.faulty).then_some(News::Mended)
    }

    fn refuse(&self, error: Error) -> Option<News> {
        let known = std::mem::replace(&mut self.state.lock().faulty, true);
        (!known).then_some(News::Faulty(error))
    }
}

impl<T> fmt::Debug for Renewed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Renewed").field(&self.tls).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::{ErrorKind, Phase};

    fn text(_: &Tls, files: &Files) -> Result<String, Error> {
        let text = files.authorities.clone();
        match String::from_utf8(text.unwrap_or_default()) {
            Ok(text) if text != "garbage" => Ok(text),
            _ => Err(Error::new(
                ErrorKind::Configuration,
                Phase::Configure,
                "garbage",
            )),
        }
    }

    #[test]
    fn what_cannot_be_used_is_left_where_it_is() {
        let path = std::env::temp_dir().join(format!("millpond-renewed-{}", fastrand::u64(..)));
        let tls = Tls::new().ca_file(&path);
        assert!(Renewed::new("test", &tls, text).is_err(), "no such file");
        fs::write(&path, "garbage").unwrap();
        assert!(Renewed::new("test", &tls, text).is_err(), "of no use");

        fs::write(&path, "one").unwrap();
        let renewed = Renewed::new("test", &tls, text).unwrap();
        assert_eq!(renewed.has_changed(), Some(false));
        let goes_on = |useless| {
            assert_eq!(renewed.has_changed(), Some(false), "{useless}");
            assert_eq!(renewed.current(), "one");
            assert!(renewed.state.lock().faulty);
        };
        fs::write(&path, "garbage").unwrap();
        goes_on("garbage");
        fs::remove_file(&path).unwrap();
        goes_on("no file");
        fs::write(&path, "one").unwrap();
        assert_eq!(renewed.has_changed(), Some(false));
        assert!(!renewed.state.lock().faulty);

        fs::write(&path, "two").unwrap();
        assert_eq!(renewed.current(), "two");
        assert_eq!(renewed.has_changed(), Some(true), "the pool has not tried");
        assert_eq!(renewed.attempt(), "two");
        assert_eq!(renewed.has_changed(), Some(false));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_log_is_told_once() {
        let path = std::env::temp_dir().join(format!("millpond-renewed-{}", fastrand::u64(..)));
        fs::write(&path, "one").unwrap();
        let tls = Tls::new().ca_file(&path);
        let renewed = Renewed::new("test", &tls, text).unwrap();
        let files = |text: &str| {
            fs::write(&path, text).unwrap();
            renewed.tls.read().unwrap()
        };
        assert!(renewed.take(files("one")).is_none());
        let news = renewed.take(files("garbage"));
        assert!(matches!(news, Some(News::Faulty(_))));
        assert!(renewed.take(files("garbage")).is_none());
        assert!(matches!(renewed.take(files("one")), Some(News::Mended)));
        assert!(renewed.take(files("one")).is_none());
        assert!(matches!(renewed.take(files("two")), Some(News::Changed)));
        assert!(renewed.take(files("two")).is_none());
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn without_files_nothing_changes() {
        let renewed = Renewed::new("test", &Tls::new(), text).unwrap();
        assert_eq!(renewed.attempt(), "");
        assert_eq!(renewed.has_changed(), None);
    }
}
