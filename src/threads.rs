//! Numbers and names of the threads that use pools, so that a slot can say who
//! holds its connection with one integer; and the stripes of what many threads write.
//!
//! # Stripes
//!
//! What several threads write travels between their processors, and each write waits for it: 50
//! to 100 ns, more than a whole lease takes. So what every lease of a fleet writes is split into
//! [`Stripes`], and each thread writes its own. The first [`PRIVATE`] threads have a stripe for
//! themselves, which they write by a plain load and store, a fraction of the cost of an atomic
//! addition; those beyond share the others, as evenly as may be. When a thread ends, the next one
//! gets its stripe, with what is in it.
//!
//! # Invariants
//!
//! 1. A private stripe has one writer at a time, and each sees what the one before wrote: it is
//!    given and given back under a lock.
//! 2. Whoever has given its stripe back, or could not be noted down, writes a shared one: what
//!    else runs while a thread ends, such as leases that its thread-locals held, is counted too.

#[cfg(all(test, millpond_loom))]
mod model;
#[cfg(all(test, not(millpond_loom)))]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::sync::AtomicU64;

/// Stripes that many threads share: the first ones.
const SHARED: usize = if cfg!(millpond_loom) { 1 } else { 8 };
/// Stripes of one thread each: the others.
const PRIVATE: usize = if cfg!(millpond_loom) { 1 } else { 16 };
const STRIPES: usize = SHARED + PRIVATE;

/// Beyond these nobody has written anything yet, so whoever wants to know all stops there.
static USED: AtomicUsize = AtomicUsize::new(if cfg!(millpond_loom) { STRIPES } else { SHARED });

/// The number of a stripe.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stripe(usize);

impl Stripe {
    /// One that anybody may write.
    const SHARED: Self = Self(0);

    /// This thread's.
    #[inline]
    pub(crate) fn own() -> Self {
        own().stripe
    }

    /// Adds to this stripe's part of a sum, and says what that was before. For a thread of this
    /// stripe only.
    #[inline]
    pub(crate) fn add(self, part: &AtomicU64, what: u64) -> u64 {
        if self.0 < SHARED {
            return part.fetch_add(what, Relaxed);
        }
        let before = part.load(Relaxed);
        part.store(before.wrapping_add(what), Relaxed);
        before
    }
}

/// A value for each stripe, on cache lines of its own.
pub(crate) struct Stripes<T>(Box<[CachePadded<T>; STRIPES]>);

impl<T> Stripes<T> {
    /// Made from their numbers.
    pub(crate) fn new(mut make: impl FnMut(usize) -> T) -> Self {
        let make = |stripe| CachePadded::new(make(stripe));
        Self(Box::new(std::array::from_fn(make)))
    }

    /// That of this stripe.
    #[inline]
    pub(crate) fn of(&self, stripe: Stripe) -> &T {
        &self.0[stripe.0]
    }

    /// Those of the others.
    pub(crate) fn others(&self, stripe: Stripe) -> impl Iterator<Item = &T> {
        let all = self.0[..USED.load(Relaxed)].iter().enumerate();
        let others = all.filter(move |(number, _)| *number != stripe.0);
        others.map(|(_, padded)| &**padded)
    }
}

impl<T> fmt::Debug for Stripes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stripes").finish_non_exhaustive()
    }
}

/// The threads that have a number and have not ended.
struct Alive {
    names: BTreeMap<u64, String>,
    /// How many have each stripe.
    stripes: [u32; STRIPES],
}

impl Alive {
    const fn nobody() -> Self {
        Self {
            names: BTreeMap::new(),
            stripes: [0; STRIPES],
        }
    }

    /// The stripe of one more thread.
    fn enlist(&mut self) -> Stripe {
        let free = (SHARED..STRIPES).find(|stripe| self.stripes[*stripe] == 0);
        let fewest = || (0..SHARED).min_by_key(|stripe| self.stripes[*stripe]);
        let stripe = free.or_else(fewest).map_or(Stripe::SHARED, Stripe);
        self.stripes[stripe.0] += 1;
        USED.fetch_max(stripe.0 + 1, Relaxed);
        stripe
    }

    fn dismiss(&mut self, stripe: Stripe) {
        self.stripes[stripe.0] -= 1;
    }
}

static ALIVE: Mutex<Alive> = Mutex::new(Alive::nobody());
static LAST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// What a thread has.
#[derive(Clone, Copy)]
struct Own {
    /// 0 until it has one.
    number: u64,
    stripe: Stripe,
}

/// Forgets a thread when it ends.
struct Registration(Own);

impl Drop for Registration {
    fn drop(&mut self) {
        let Own { number, stripe } = self.0;
        // Before another thread may get it.
        OWN.set(Own {
            number,
            stripe: Stripe::SHARED,
        });
        let mut alive = ALIVE.lock();
        alive.dismiss(stripe);
        let name = alive.names.remove(&number);
        drop(alive);
        drop(name);
    }
}

thread_local! {
    static OWN: Cell<Own> = const { Cell::new(Own { number: 0, stripe: Stripe::SHARED }) };
    static REGISTRATION: Cell<Option<Registration>> = const { Cell::new(None) };
}

#[inline]
fn own() -> Own {
    let own = OWN.get();
    if own.number == 0 { register() } else { own }
}

/// This thread's number; never 0.
#[inline]
pub(crate) fn current() -> u64 {
    own().number
}

#[cold]
fn register() -> Own {
    let number = LAST.fetch_add(1, Relaxed) + 1;
    let enlist = |registration: &Cell<Option<Registration>>| {
        let thread = std::thread::current();
        let name = thread
            .name()
            .map_or_else(|| format!("{:?}", thread.id()), str::to_owned);
        let mut alive = ALIVE.lock();
        alive.names.insert(number, name);
        let stripe = alive.enlist();
        drop(alive);
        let own = Own { number, stripe };
        registration.set(Some(Registration(own)));
        own
    };
    // Fails only while the thread is ending: then nobody would forget it.
    let nobody = Own {
        number,
        stripe: Stripe::SHARED,
    };
    let own = REGISTRATION.try_with(enlist).unwrap_or(nobody);
    OWN.set(own);
    own
}

/// The name of the thread with this number.
pub(crate) fn name(number: u64) -> String {
    let alive = ALIVE.lock();
    let name = alive.names.get(&number);
    name.map_or_else(|| "a thread that has ended".to_owned(), Clone::clone)
}
