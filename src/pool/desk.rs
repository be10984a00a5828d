//! What the owner of a slot's connection tells the world about it, in atomics, so
//! that state, holders, leaks and metrics can be read at any time without a lock.
//!
//! Every field has one writer at a time, the connection's owner of that moment, and
//! owners follow each other through the slot (release and acquire). So a counter is
//! a plain load and store, and leases on different connections never touch the same
//! cache line: the slots are the metrics' shards.

use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crossbeam_utils::atomic::AtomicCell;

use crate::clock::Ticks;
use crate::metrics::meter::Meter;
use crate::metrics::window::Window;

/// What is going on in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    Vacant,
    Connecting,
    Idle,
    Leased,
    /// Being checked, cleaned or pinged by the pool.
    InCare,
    Closing,
}

#[derive(Default)]
pub(super) struct Desk {
    status: AtomicU8,
    leak_reported: AtomicBool,
    connection: AtomicU64,
    /// When the status began.
    since: AtomicU64,
    /// End of the last lease, or of the last check that it passed.
    fresh_at: AtomicU64,
    /// End of the last lease.
    used_at: AtomicU64,
    expires_at: AtomicU64,
    thread: AtomicU64,
    location: AtomicCell<Option<&'static Location<'static>>>,
    leases: AtomicU64,
    held: AtomicU64,
    /// There once a connection was, unless metrics are off.
    meter: OnceLock<Arc<Meter>>,
}

impl Desk {
    pub(super) fn status(&self) -> Status {
        match self.status.load(Relaxed) {
            1 => Status::Connecting,
            2 => Status::Idle,
            3 => Status::Leased,
            4 => Status::InCare,
            5 => Status::Closing,
            _ => Status::Vacant,
        }
    }

    #[inline]
    pub(super) fn set(&self, status: Status, now: Ticks) {
        self.since.store(now, Relaxed);
        self.status.store(status as u8, Relaxed);
    }

    /// A new connection sits here.
    pub(super) fn seat(&self, connection: u64, expires_at: Ticks, now: Ticks) {
        self.connection.store(connection, Relaxed);
        self.expires_at.store(expires_at, Relaxed);
        self.fresh_at.store(now, Relaxed);
        self.used_at.store(now, Relaxed);
    }

    #[inline]
    pub(super) fn lease(&self, thread: u64, location: &'static Location<'static>, now: Ticks) {
        self.thread.store(thread, Relaxed);
        self.location.store(Some(location));
        self.set(Status::Leased, now);
    }

    /// The lease ended after `held` ticks. Says whether it had been reported.
    #[inline]
    pub(super) fn end_lease(&self, held: Ticks, now: Ticks) -> bool {
        self.leases.store(self.leases.load(Relaxed) + 1, Relaxed);
        self.held.store(self.held.load(Relaxed) + held, Relaxed);
        self.fresh_at.store(now, Relaxed);
        self.used_at.store(now, Relaxed);
        let reported = self.leak_reported.load(Relaxed);
        if reported {
            self.leak_reported.store(false, Relaxed);
        }
        reported
    }

    /// Another thread uses the lease now.
    pub(super) fn moved_to(&self, thread: u64) {
        self.thread.store(thread, Relaxed);
    }

    /// It passed a check.
    pub(super) fn note_fresh(&self, now: Ticks) {
        self.fresh_at.store(now, Relaxed);
    }

    pub(super) fn fresh_at(&self) -> Ticks {
        self.fresh_at.load(Relaxed)
    }

    pub(super) fn used_at(&self) -> Ticks {
        self.used_at.load(Relaxed)
    }

    pub(super) fn since(&self) -> Ticks {
        self.since.load(Relaxed)
    }

    pub(super) fn expires_at(&self) -> Ticks {
        self.expires_at.load(Relaxed)
    }

    pub(super) fn connection(&self) -> u64 {
        self.connection.load(Relaxed)
    }

    pub(super) fn thread(&self) -> u64 {
        self.thread.load(Relaxed)
    }

    pub(super) fn location(&self) -> &'static Location<'static> {
        self.location.load().unwrap_or_else(|| Location::caller())
    }

    /// Marks the lease as reported; says whether it was not before.
    pub(super) fn report_leak(&self) -> bool {
        !self.leak_reported.swap(true, Relaxed)
    }

    /// What its leases and operations take, if there ever was a connection for which that is
    /// counted.
    pub(super) fn meter(&self) -> Option<&Arc<Meter>> {
        self.meter.get()
    }

    /// The same for a new connection. A slot's meter goes on with the next connection.
    pub(super) fn meter_for(&self, window: &Arc<Window>) -> Arc<Meter> {
        let new = || Arc::new(Meter::new(Arc::clone(window)));
        Arc::clone(self.meter.get_or_init(new))
    }

    /// Leases that ended here, and the ticks they were held, in all.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.leases.load(Relaxed), self.held.load(Relaxed))
    }
}
