//! That a login at a further node was refused just now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::{Clock, NEVER, Ticks, after};

/// For how long no lease tries another login, unless a new connection is made before: a program
/// that keeps its leases may need none.
const PAUSE: Duration = Duration::from_secs(5);

/// Who would try is told so.
pub(super) const NOT_TRIED: &str = "a login was refused just now, and is not tried again here";

/// What all leases of a manager know of it.
#[derive(Clone)]
pub(in crate::backend::redis) struct Refused(Arc<AtomicU64>);

impl Default for Refused {
    fn default() -> Self {
        Self(Arc::new(NEVER.into()))
    }
}

impl Refused {
    /// A login was refused.
    pub(super) fn note(&self) {
        self.0.store(Clock::System.now(), Relaxed);
    }

    /// A new connection was made.
    pub(super) fn forget(&self) {
        self.0.store(NEVER, Relaxed);
    }

    /// Whether none is to be tried.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_fresh_at(Clock::System.now())
    }

    fn is_fresh_at(&self, now: Ticks) -> bool {
        let at = self.0.load(Relaxed);
        at != NEVER && now < after(at, PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_for_a_while_or_until_a_new_connection() {
        let refused = Refused::default();
        assert!(!refused.is_fresh());
        refused.note();
        assert!(refused.is_fresh() && refused.clone().is_fresh());
        let later = after(Clock::System.now(), PAUSE);
        assert!(!refused.is_fresh_at(later));
        refused.forget();
        assert!(!refused.is_fresh());
    }
}
