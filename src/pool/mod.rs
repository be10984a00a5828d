//! The pool over any r2d2 manager.

pub(crate) mod care;
mod state;

pub use state::{Holder, State};

/// What is done with a connection when its lease ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reset {
    /// Nothing: what one lease leaves behind is there for the next.
    None,
    /// What the backend noticed is undone: open transaction, settings,
    /// subscriptions, another database. Costs nothing where nothing was noticed.
    #[default]
    Fast,
    /// Everything is undone after each lease, noticed or not: one round trip.
    Full,
}
