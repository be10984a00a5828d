//! What became of each key that was written, as the library said. Whoever opens one enters its
//! outcome once; in the end the book has to agree with what is there.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Mutex;

use millpond::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Nothing,
    Done,
    NotApplied,
    Unknown,
}

#[derive(Default)]
struct Pages {
    keys: Vec<Said>,
    errors: BTreeMap<String, usize>,
}

#[derive(Default)]
pub(crate) struct Book(Mutex<Pages>);

impl Book {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A key that is about to be inserted.
    pub(crate) fn open(&self) -> i32 {
        let mut pages = self.0.lock().expect("no poison");
        pages.keys.push(Said::Nothing);
        i32::try_from(pages.keys.len()).expect("few") - 1
    }

    /// What became of it: it was inserted, unless there was an error.
    pub(crate) fn enter(&self, key: i32, error: Option<&Error>) {
        let said = match error {
            None => Said::Done,
            Some(error) if error.outcome_unknown() => Said::Unknown,
            Some(_) => Said::NotApplied,
        };
        {
            let mut pages = self.0.lock().expect("no poison");
            let page = &mut pages.keys[usize::try_from(key).expect("ours")];
            assert_eq!(*page, Said::Nothing, "{key} has its outcome");
            *page = said;
        }
        if let Some(error) = error {
            self.failure(error);
        }
    }

    /// An error, of a read also.
    pub(crate) fn failure(&self, error: &Error) {
        let text = error.to_string();
        let mut pages = self.0.lock().expect("no poison");
        *pages.errors.entry(text).or_default() += 1;
    }

    fn count(&self, said: Said) -> usize {
        let pages = self.0.lock().expect("no poison");
        pages.keys.iter().filter(|other| **other == said).count()
    }

    pub(crate) fn done(&self) -> usize {
        self.count(Said::Done)
    }

    /// Whether it agrees with how often each key is there, and the errors with what `is_fine`.
    pub(crate) fn check(&self, there: &HashMap<i32, u64>, is_fine: impl Fn(&str) -> bool) {
        let pages = self.0.lock().expect("no poison");
        for (key, said) in (0..).zip(&pages.keys) {
            let times = there.get(&key).copied().unwrap_or_default();
            let right = match said {
                Said::Nothing => false,
                Said::Done => times == 1,
                Said::NotApplied => times == 0,
                Said::Unknown => times <= 1,
            };
            assert!(
                right,
                "{key} is said to be {said:?} and is there {times} times"
            );
        }
        for error in pages.errors.keys() {
            assert!(is_fine(error), "{error}");
        }
    }
}

impl fmt::Display for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [done, not_applied, unknown] =
            [Said::Done, Said::NotApplied, Said::Unknown].map(|said| self.count(said));
        write!(
            f,
            "{done} done, {not_applied} not applied, {unknown} unknown"
        )?;
        let pages = self.0.lock().expect("no poison");
        for (error, count) in &pages.errors {
            write!(f, "\n  {count} x {error}")?;
        }
        Ok(())
    }
}
