//! Events in the life of a pool's connections, for a program that wants to follow
//! them; the same interface as `r2d2::event`.
//!
//! Handlers run on the thread where the event happens, checkout and checkin on the
//! caller's: they should be quick. A panic in one is caught and logged.

use std::fmt;
use std::time::Duration;

use crate::pool::CloseReason;

/// Is told of events. Every method does nothing by default.
///
/// ```
/// use millpond::event::{HandleEvent, TimeoutEvent};
///
/// #[derive(Debug)]
/// struct Shout;
///
/// impl HandleEvent for Shout {
///     fn handle_timeout(&self, event: TimeoutEvent) {
///         eprintln!("nothing to be had within {:?}", event.timeout());
///     }
/// }
/// ```
#[allow(unused_variables)]
pub trait HandleEvent: fmt::Debug + Send + Sync + 'static {
    /// A connection was established.
    fn handle_acquire(&self, event: AcquireEvent) {}

    /// A connection was closed.
    fn handle_release(&self, event: ReleaseEvent) {}

    /// A connection was leased.
    fn handle_checkout(&self, event: CheckoutEvent) {}

    /// A caller got no connection in time.
    fn handle_timeout(&self, event: TimeoutEvent) {}

    /// A lease came back.
    fn handle_checkin(&self, event: CheckinEvent) {}
}

/// Does nothing.
#[derive(Copy, Clone, Debug)]
pub struct NopEventHandler;

impl HandleEvent for NopEventHandler {}

/// A connection was established.
#[derive(Debug)]
pub struct AcquireEvent {
    pub(crate) id: u64,
}

impl AcquireEvent {
    /// The connection's number, unique in the process.
    pub fn connection_id(&self) -> u64 {
        self.id
    }
}

/// A connection was closed.
#[derive(Debug)]
pub struct ReleaseEvent {
    pub(crate) id: u64,
    pub(crate) age: Duration,
    pub(crate) reason: CloseReason,
}

impl ReleaseEvent {
    /// The connection's number.
    pub fn connection_id(&self) -> u64 {
        self.id
    }

    /// How old it grew.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// Why it was closed. (Not in r2d2.)
    pub fn reason(&self) -> CloseReason {
        self.reason
    }
}

/// A connection was leased.
#[derive(Debug)]
pub struct CheckoutEvent {
    pub(crate) id: u64,
    pub(crate) duration: Duration,
}

impl CheckoutEvent {
    /// The connection's number.
    pub fn connection_id(&self) -> u64 {
        self.id
    }

    /// How long the caller waited for it.
    pub fn duration(&self) -> Duration {
        self.duration
    }
}

/// A caller got no connection in time.
#[derive(Debug)]
pub struct TimeoutEvent {
    pub(crate) timeout: Duration,
}

impl TimeoutEvent {
    /// The time that was allowed.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// A lease came back.
#[derive(Debug)]
pub struct CheckinEvent {
    pub(crate) id: u64,
    pub(crate) duration: Duration,
}

impl CheckinEvent {
    /// The connection's number.
    pub fn connection_id(&self) -> u64 {
        self.id
    }

    /// How long it was held.
    pub fn duration(&self) -> Duration {
        self.duration
    }
}
