//! A connection with its story, and the place that it occupies.
//!
//! The box that moves between slots, waiters and leases is an [`Entry`]. It holds its
//! [`Place`]: wherever an entry is dropped, whoever panicked, the slot comes back to
//! the pool. A place keeps the pool alive through a [`Tether`] of its own: cloning
//! the pool's own `Arc` for each lease would have all threads write one counter.
//!
//! Each lease writes both, so both are aligned as crossbeam's `CachePadded` is: two that the
//! allocator put on one cache line made leases of two threads three times as slow (measured).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use r2d2::{Extensions, ManageConnection};

use super::counters::CloseReason;
use super::desk::Desk;
use super::exchange::Slotted;
use super::sampling::Sampling;
use super::shared::Shared;
use crate::clock::Ticks;
use crate::metrics::meter::Meter;

/// Keeps the pool's shared part alive for one place.
#[repr(align(128))]
pub(super) struct Tether<M: ManageConnection> {
    pub(super) shared: Arc<Shared<M>>,
}

/// A reserved slot. Dropping it gives the slot back.
pub(super) struct Place<M: ManageConnection> {
    pub(super) tether: Arc<Tether<M>>,
    pub(super) slot: u32,
}

impl<M: ManageConnection> Place<M> {
    pub(super) fn new(shared: &Arc<Shared<M>>, slot: u32) -> Self {
        Self {
            tether: Arc::new(Tether {
                shared: Arc::clone(shared),
            }),
            slot,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared<M>> {
        &self.tether.shared
    }

    #[inline]
    pub(super) fn desk(&self) -> &Desk {
        &self.tether.shared.exchange.slot(self.slot).desk
    }
}

impl<M: ManageConnection> Drop for Place<M> {
    fn drop(&mut self) {
        self.shared().vacate(self.slot);
    }
}

/// A connection with its story.
#[repr(align(128))]
pub(super) struct Entry<M: ManageConnection> {
    // Dropped before `place`: the slot is free once the connection is gone.
    pub(super) conn: M::Connection,
    pub(super) extensions: Extensions,
    pub(super) place: Place<M>,
    pub(super) id: u64,
    pub(super) born: Ticks,
    pub(super) expires_at: Ticks,
    /// `clear` calls that it has seen.
    pub(super) generation: u64,
    /// The pool's epoch when it was last looked at closely.
    pub(super) epoch: u64,
    pub(super) uses: u64,
    pub(super) leased_at: Ticks,
    pub(super) sampling: Sampling,
    /// The slot's, if metrics are on.
    pub(super) meter: Option<Arc<Meter>>,
    /// End of the last lease, or of the last check that it passed.
    pub(super) fresh_at: Ticks,
    /// End of the last lease.
    pub(super) used_at: Ticks,
    /// The thread that took the lease, or used it last.
    pub(super) user: AtomicU64,
    /// Why it is to be closed when it comes back, if so.
    pub(super) discard: Option<CloseReason>,
}

impl<M: ManageConnection> Slotted for Entry<M> {
    fn slot(&self) -> u32 {
        self.place.slot
    }
}
