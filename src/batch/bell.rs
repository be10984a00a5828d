//! How the dispatcher sleeps, and who wakes it.
//!
//! While every worker is busy a new operation changes nothing, so submitting it does not
//! wake the dispatcher, unless its deadline comes before the dispatcher would wake anyway:
//! it sleeps *sated*. With a worker free it sleeps *hungry*, and the first operation wakes
//! it. With reports of workers it is the other way round: another free worker changes nothing
//! for a hungry dispatcher. (That saves a lone operation about a third of its time, and of its
//! processor's: the thread that waits for it has the processor to itself.)
//!
//! No wake-up is lost: the dispatcher says how it sleeps and then looks for work once more;
//! whoever brings work puts it there and then looks how the dispatcher sleeps; both with a
//! barrier in between (see `model`). What it does not look for, such as that the batch was
//! closed, leaves a token with which it does not sleep, and goes round once more.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::clock::{NEVER, Ticks};
use crate::sync::{AtomicU64, Parker, Unparker, barrier};

/// `alarm` while the dispatcher is awake: nothing comes before it.
const AWAKE: Ticks = 0;

/// The dispatcher's own half.
pub(super) struct Sleeper(Parker);

/// The half of those who wake it.
pub(super) struct Bell {
    unparker: Unparker,
    /// Whatever is due before this moment wakes the dispatcher. [`NEVER`] while it is
    /// hungry: then everything does.
    alarm: AtomicU64,
}

pub(super) fn pair() -> (Sleeper, Bell) {
    let parker = Parker::new();
    let bell = Bell {
        unparker: parker.unparker().clone(),
        alarm: AtomicU64::new(AWAKE),
    };
    (Sleeper(parker), bell)
}

impl Bell {
    /// Something is there that is due at this moment; now, where a worker waits for it.
    pub(super) fn ring(&self, due: Ticks) {
        // After the work was put there, before the look at how the dispatcher sleeps.
        barrier();
        let alarm = self.alarm.load(SeqCst);
        if alarm != AWAKE
            && (alarm == NEVER || due < alarm)
            && self.alarm.swap(AWAKE, SeqCst) != AWAKE
        {
            self.unparker.unpark();
        }
    }

    /// A worker is free again.
    pub(super) fn ring_if_sated(&self) {
        barrier();
        let alarm = self.alarm.load(SeqCst);
        if alarm != AWAKE && alarm != NEVER && self.alarm.swap(AWAKE, SeqCst) != AWAKE {
            self.unparker.unpark();
        }
    }

    /// Something changed that the dispatcher does not look for before it sleeps.
    pub(super) fn wake(&self) {
        self.unparker.unpark();
    }
}

impl Sleeper {
    /// Sleeps until it is rung for, or for this long; not at all if `anything` is there.
    /// `hungry`: whatever comes wakes it; else only what is due before `alarm`.
    pub(super) fn sleep(
        &self,
        bell: &Bell,
        hungry: bool,
        alarm: Ticks,
        limit: Duration,
        anything: impl FnOnce() -> bool,
    ) {
        let wakes_before = if hungry {
            NEVER
        } else {
            alarm.clamp(AWAKE + 1, NEVER - 1)
        };
        // Swaps, not stores: all changes of the alarm are steps of one order.
        bell.alarm.swap(wakes_before, SeqCst);
        barrier();
        if !anything() {
            self.0.park_timeout(limit);
        }
        bell.alarm.swap(AWAKE, SeqCst);
    }
}
