//! Which threads are a batch's own, so that nothing makes them wait for themselves.
//!
//! Callbacks are the program's code and may take their time, close the batch, or drop its last
//! handle. A worker runs them itself; the dispatcher, on which everything depends, hands them
//! to the keeper's crew.

use std::cell::Cell;
use std::sync::Arc;

use super::Shared;
use crate::backend::Backend;

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
fn number<B: Backend>(shared: &Arc<Shared<B>>) -> usize {
    Arc::as_ptr(shared).addr()
}

/// This thread works for this batch until it ends.
pub(super) fn enlist<B: Backend>(role: Role, shared: &Arc<Shared<B>>) {
    ROLE.set(Some((role, number(shared))));
}

/// Whether this thread is a dispatcher.
pub(super) fn is_dispatcher() -> bool {
    ROLE.get().is_some_and(|(role, _)| role == Role::Dispatcher)
}

/// Whether this batch needs this thread to come to its end.
pub(super) fn is_own<B: Backend>(shared: &Arc<Shared<B>>) -> bool {
    ROLE.get().is_some_and(|(_, batch)| batch == number(shared))
}
