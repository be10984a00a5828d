//! A queued operation, and a group of them.

use std::sync::Arc;

use super::ticket::Cell;
use crate::backend::Backend;
use crate::clock::Ticks;
use crate::operation::{Operation as _, Priority};

/// A queued operation.
pub(super) struct Job<B: Backend> {
    pub(super) cell: Arc<Cell<B::Reply>>,
    pub(super) operation: B::Operation,
    pub(super) priority: Priority,
    /// When it was submitted.
    pub(super) since: Ticks,
    /// When it has to be over, if it says so itself; else never.
    pub(super) deadline: Ticks,
    /// As the gate counts it.
    pub(super) size: usize,
    /// Attempts that failed.
    pub(super) failed: u32,
}

impl<B: Backend> Job<B> {
    /// Its ordering key.
    pub(super) fn key(&self) -> Option<Box<str>> {
        self.operation.envelope().ordering_key().map(Into::into)
    }
}

/// Operations that are executed together.
pub(super) struct Group<B: Backend> {
    pub(super) number: u64,
    pub(super) jobs: Vec<Job<B>>,
    /// Whether more would have fitted, had there been more.
    pub(super) full: bool,
}

/// One that is to be tried again, not before this moment.
pub(super) type Again<B> = (Ticks, Job<B>);

/// What a worker tells the dispatcher when a group is over.
pub(super) struct Report<B: Backend> {
    pub(super) group: u64,
    /// How many were executed, and for how long.
    pub(super) executed: usize,
    pub(super) took: Ticks,
    pub(super) full: bool,
    pub(super) again: Vec<Again<B>>,
    /// Ordering keys whose next operation may go.
    pub(super) keys: Vec<Box<str>>,
}
