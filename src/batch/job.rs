//! A queued operation, and a group of them.

use std::sync::Arc;

use super::shield::Shielded;
use super::sizing::Sample;
use super::ticket::Cell;
use crate::backend::Backend;
use crate::clock::Ticks;
use crate::endpoints::Endpoint;
use crate::operation::Priority;
use crate::recovery::{Pass, RetryPolicy};

/// A queued operation, and what it said of itself when it was submitted: it is not asked
/// again, since its answers are the program's code.
pub(super) struct Job<B: Backend> {
    pub(super) cell: Arc<Cell<B::Reply>>,
    pub(super) operation: Shielded<B::Operation>,
    pub(super) priority: Priority,
    /// Its ordering key.
    pub(super) key: Option<Arc<str>>,
    /// Its own policy.
    pub(super) retry: Option<Box<RetryPolicy>>,
    pub(super) may_repeat: bool,
    /// An attempt may have taken effect.
    pub(super) doubtful: bool,
    /// When it was submitted.
    pub(super) since: Ticks,
    /// When it has to be over, if it says so itself; else never.
    pub(super) deadline: Ticks,
    /// As the gate counts it.
    pub(super) size: usize,
    /// Attempts that failed.
    pub(super) failed: u32,
    /// The endpoints on which they were made, of a fleet.
    pub(super) tried: Vec<Arc<Endpoint<B>>>,
}

/// Operations that are executed together.
pub(super) struct Group<B: Backend> {
    pub(super) number: u64,
    pub(super) jobs: Vec<Job<B>>,
    /// Whether more would have fitted, had there been more.
    pub(super) full: bool,
    /// The leave to execute it.
    pub(super) pass: Pass,
}

/// One that is to be tried again, not before this moment.
pub(super) type Again<B> = (Ticks, Job<B>);

/// What a worker tells the dispatcher when a group is over.
pub(super) struct Report<B: Backend> {
    pub(super) group: u64,
    /// What it says of how large a group may be, if anything.
    pub(super) sample: Option<Sample>,
    pub(super) again: Vec<Again<B>>,
    /// They were not executed, since circuit breakers have opened meanwhile.
    pub(super) held_back: bool,
    /// Ordering keys whose next operation may go.
    pub(super) keys: Vec<Arc<str>>,
}
