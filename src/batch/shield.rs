//! The drops of the program's operations and replies on the batch's threads. A panic in one ends
//! there.

use std::fmt;
use std::mem::needs_drop;
use std::ops::Deref;

use crate::contain::contain;

/// A value that may panic when it is dropped.
pub(super) struct Shielded<T>(Option<T>);

impl<T> Shielded<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Some(value))
    }

    pub(super) fn into_inner(mut self) -> T {
        self.0.take().expect("taken only here, and by value")
    }
}

impl<T: fmt::Debug> fmt::Debug for Shielded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Deref for Shielded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("taken only with the whole")
    }
}

impl<T> Drop for Shielded<T> {
    fn drop(&mut self) {
        if needs_drop::<T>() && self.0.is_some() {
            contain("the drop of an operation or a reply", || {
                drop(self.0.take());
            });
        }
    }
}
