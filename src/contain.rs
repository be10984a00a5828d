//! The program's own code on threads that must not end because of it. A panic in it ends here.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs this; a panic in it is logged. What it gave, if it did not panic.
pub(crate) fn contain<T>(what: &str, run: impl FnOnce() -> T) -> Option<T> {
    let given = catch_unwind(AssertUnwindSafe(run)).ok();
    if given.is_none() {
        complain(|| log::error!("millpond: a panic in {what}"));
    }
    given
}

/// Logs something: the logger is the program's code as well.
pub(crate) fn complain(log: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(log));
}
