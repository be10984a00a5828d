//! What a worker counts.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$about:meta])* $name:ident,)*) => {
        #[derive(Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
        }

        /// What a [`Worker`](super::Worker) did so far.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct WorkerMetrics {
            $($(#[$about])* pub $name: u64,)*
        }

        impl Counters {
            pub(super) fn read(&self) -> WorkerMetrics {
                WorkerMetrics { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Entries taken, those included that were taken over.
    taken,
    /// Those of them that another worker had taken, or this one before.
    taken_over,
    /// Operations that took effect, and are settled.
    done,
    /// Operations that became dead letters.
    dead,
    /// Operations put back, which certainly had no effect.
    put_back,
    /// Operations begun again that may have taken effect, and are not idempotent.
    perhaps_twice,
    /// Entries that somebody else had settled when this worker wanted to.
    settled_elsewhere,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }
}

impl fmt::Display for WorkerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} taken ({} of them over from others), {} done, {} dead letters, {} put back, \
             {} perhaps twice, {} settled elsewhere",
            self.taken,
            self.taken_over,
            self.done,
            self.dead,
            self.put_back,
            self.perhaps_twice,
            self.settled_elsewhere
        )
    }
}
