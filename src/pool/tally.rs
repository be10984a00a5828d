//! How many callers hold a connection of a pool or wait for one, for the strategies of a fleet.
//!
//! Each thread counts on its [stripe](crate::threads): one more when it takes a lease or begins
//! to wait, one less when a lease ends on it or its wait is over. The sum over all stripes is
//! exact; a single one goes below zero when leases end on other threads than those that took
//! them.
//!
//! Who asks for the sum would fetch what all others have just written, which costs as much as
//! writing it together. So each stripe keeps a *view* of what the others had, which answers as
//! many questions as were asked lately in [`FRESH`]: only the one for which it was made where
//! there is more time than that from one to the next, as with leases that are used to talk to a
//! server. A view is renewed in any case once the coarse clock has moved beyond that time. What
//! the own stripe has is always counted as it is.

#[cfg(all(test, not(millpond_loom)))]
mod tests;

use std::sync::atomic::Ordering::Relaxed;

use crate::clock::{Clock, Ticks};
use crate::sync::{AtomicU32, AtomicU64};
use crate::threads::{Stripe, Stripes};

/// How old a view may become. The shorter, the more often those who ask fetch the others' lines:
/// where two threads do nothing but take and return leases, 16 µs cost 15 % and this costs 5 %.
const FRESH: Ticks = 32_000;
/// Nobody asks more often than this.
const SHORTEST: Ticks = 32;
/// Longer intervals count as this, so that who hurries after a pause is soon taken for it.
const LONGEST: Ticks = 8 * FRESH;

/// The callers of a pool, and what each stripe's threads know of them.
pub(crate) struct Tally(Stripes<Part>);

struct Part {
    /// What its threads added and took away.
    own: AtomicU64,
    /// The sum of all other stripes at the last look.
    others: AtomicU64,
    /// When that was.
    looked_at: AtomicU64,
    /// How many more questions that look was to answer, and how many of them are left.
    granted: AtomicU32,
    left: AtomicU32,
    /// The time from one question to the next, a moving average.
    interval: AtomicU64,
}

/// While it lives, somebody is counted.
pub(super) struct Counted<'a>(&'a Tally);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.remove();
    }
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self(Stripes::new(|_| Part {
            own: AtomicU64::new(0),
            others: AtomicU64::new(0),
            looked_at: AtomicU64::new(0),
            granted: AtomicU32::new(0),
            left: AtomicU32::new(0),
            interval: AtomicU64::new(FRESH),
        }))
    }

    /// One more, by this thread.
    #[inline]
    pub(super) fn add(&self) {
        self.add_on(Stripe::own(), 1);
    }

    /// One less, by this thread.
    #[inline]
    pub(super) fn remove(&self) {
        self.add_on(Stripe::own(), 1_u64.wrapping_neg());
    }

    /// One more, for a while.
    pub(super) fn count_in(&self) -> Counted<'_> {
        self.add();
        Counted(self)
    }

    #[inline]
    fn add_on(&self, stripe: Stripe, what: u64) {
        stripe.add(&self.0.of(stripe).own, what);
    }

    /// How many there are, as this thread sees it at this moment on the coarse clock.
    #[inline]
    pub(crate) fn count(&self, now: Ticks) -> u32 {
        self.count_from(Stripe::own(), &Clock::System, now)
    }

    #[inline]
    fn count_from(&self, stripe: Stripe, clock: &Clock, now: Ticks) -> u32 {
        let part = self.0.of(stripe);
        let left = part.left.load(Relaxed);
        let others = if left > 0 && now <= part.looked_at.load(Relaxed).saturating_add(FRESH) {
            // Threads that meet here may ask more often of one look.
            part.left.store(left - 1, Relaxed);
            part.others.load(Relaxed)
        } else {
            self.look(stripe, clock.now())
        };
        let all = part.own.load(Relaxed).wrapping_add(others);
        // A lease may have been seen to end and not to begin.
        all.cast_signed().max(0).cast_unsigned() as u32
    }

    /// Renews a stripe's view at this moment on the exact clock.
    #[cold]
    #[inline(never)]
    fn look(&self, stripe: Stripe, now: Ticks) -> u64 {
        let parts = self.0.others(stripe).map(|part| part.own.load(Relaxed));
        let others = parts.fold(0, u64::wrapping_add);
        let part = self.0.of(stripe);
        part.others.store(others, Relaxed);
        let passed = now.saturating_sub(part.looked_at.load(Relaxed));
        part.looked_at.store(now, Relaxed);
        // However long the pause was.
        let passed = passed.min(LONGEST);
        let granted = part.granted.load(Relaxed);
        let asked = granted.saturating_sub(part.left.load(Relaxed)) + 1;
        // An average, since one caller may ask several questions in a row.
        let interval = (3 * part.interval.load(Relaxed) + passed / u64::from(asked)) / 4;
        part.interval.store(interval, Relaxed);
        let granted = (FRESH / interval.max(SHORTEST)) as u32;
        part.granted.store(granted, Relaxed);
        part.left.store(granted, Relaxed);
        others
    }
}
