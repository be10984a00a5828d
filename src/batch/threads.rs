//! Which threads are a batch's own, so that nothing makes them wait for themselves.
//!
//! Callbacks are the program's code and may take their time, close the batch, or drop its last
//! handle. A worker runs them itself; the dispatcher, on which everything depends, hands them
//! to the keeper's crew.

use std::cell::Cell;
use std::sync::Arc;

use super::ticket::Home;

/// What a thread does for a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Dispatcher,
    Worker,
}

thread_local! {
    /// What this thread does, and for which batch.
    static ROLE: Cell<Option<(Role, usize)>> = const { Cell::new(None) };
}

/// A batch as a number.
fn number(home: &Arc<Home>) -> usize {
    Arc::as_ptr(home).addr()
}

/// This thread works for this batch until it ends.
pub(super) fn enlist(role: Role, home: &Arc<Home>) {
    ROLE.set(Some((role, number(home))));
}

/// Whether this thread is a dispatcher.
pub(super) fn is_dispatcher() -> bool {
    ROLE.get().is_some_and(|(role, _)| role == Role::Dispatcher)
}

/// Whether this batch needs this thread to come to its end.
pub(super) fn is_own(home: &Arc<Home>) -> bool {
    ROLE.get().is_some_and(|(_, batch)| batch == number(home))
}
