//! The one background thread of the process, and its crew.
//!
//! Pools (and whatever else needs care by the clock) implement [`Tended`] and
//! [`join`]. The keeper calls [`Tended::tend`] when it is due, in the order of
//! time. `tend` never blocks: what may block (connecting, pinging, closing) goes
//! to the [`crew`], so a frozen server delays nobody but its own pool.
//!
//! Invariants:
//! 1. The keeper holds what it tends weakly: tending keeps nothing alive.
//! 2. The thread exists while something is tended, and ends with the last
//!    [`Membership`]. The same goes for the crew, once its queue is empty.
//! 3. No lock is held while something is tended.

pub(crate) mod crew;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock::{Clock, NEVER, Ticks, between};

/// Something that wants looking after from time to time.
pub(crate) trait Tended: Send + Sync {
    /// Does what is due and says when to come again. Must not block, and must not
    /// drop user code's values on this thread.
    fn tend(self: Arc<Self>, now: Ticks) -> Ticks;
}

struct Member {
    tended: Weak<dyn Tended>,
    /// When it is due; an entry of the heap with another time is stale.
    due: Ticks,
}

struct Keeper {
    members: Option<HashMap<u64, Member>>,
    due: BinaryHeap<Reverse<(Ticks, u64)>>,
    last_number: u64,
    running: bool,
    /// When to look whether the crew is stuck.
    crew_due: Ticks,
}

static KEEPER: Mutex<Keeper> = Mutex::new(Keeper {
    members: None,
    due: BinaryHeap::new(),
    last_number: 0,
    running: false,
    crew_due: NEVER,
});
static BELL: Condvar = Condvar::new();

/// The place of a tended thing with the keeper; dropping it ends the care.
#[derive(Debug)]
pub(crate) struct Membership(u64);

/// Has the keeper tend this, for the first time when it is woken.
pub(crate) fn join(tended: Weak<dyn Tended>) -> Membership {
    let mut keeper = KEEPER.lock();
    keeper.last_number += 1;
    let number = keeper.last_number;
    let member = Member { tended, due: NEVER };
    keeper
        .members
        .get_or_insert_default()
        .insert(number, member);
    keeper.ensure_running();
    Membership(number)
}

impl Membership {
    /// Asks to be tended at `at`, if that is earlier than planned.
    pub(crate) fn wake(&self, at: Ticks) {
        let mut keeper = KEEPER.lock();
        let Some(member) = keeper.members.as_mut().and_then(|all| all.get_mut(&self.0)) else {
            return;
        };
        if at >= member.due {
            return;
        }
        member.due = at;
        let first = keeper.due.peek().is_none_or(|Reverse((due, _))| at < *due);
        keeper.due.push(Reverse((at, self.0)));
        keeper.ensure_running();
        drop(keeper);
        if first {
            BELL.notify_one();
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut keeper = KEEPER.lock();
        let Some(members) = keeper.members.as_mut() else {
            return;
        };
        let member = members.remove(&self.0);
        let last = members.is_empty();
        drop(keeper);
        drop(member);
        if last {
            BELL.notify_one();
        }
    }
}

/// Asks the keeper to look after the crew at `at`.
fn watch_crew(at: Ticks) {
    let mut keeper = KEEPER.lock();
    if at < keeper.crew_due {
        keeper.crew_due = at;
        drop(keeper);
        BELL.notify_one();
    }
}

impl Keeper {
    fn is_empty(&self) -> bool {
        self.members.as_ref().is_none_or(HashMap::is_empty)
    }

    fn ensure_running(&mut self) {
        if self.running {
            return;
        }
        crew::open();
        match thread::Builder::new()
            .name("millpond-keeper".into())
            .spawn(run)
        {
            Ok(_) => self.running = true,
            // The next call tries again.
            Err(error) => log::error!("millpond: cannot start the keeper thread: {error}"),
        }
    }

    /// The next member that is due, ready to be tended.
    fn next_due(&mut self, now: Ticks) -> Option<(u64, Weak<dyn Tended>)> {
        while let Some(&Reverse((due, number))) = self.due.peek() {
            if due > now {
                return None;
            }
            self.due.pop();
            if let Some(member) = self.members.as_mut().and_then(|all| all.get_mut(&number))
                && member.due == due
            {
                member.due = NEVER;
                return Some((number, Weak::clone(&member.tended)));
            }
        }
        None
    }

    fn plan(&mut self, number: u64, due: Ticks) {
        if let Some(member) = self.members.as_mut().and_then(|all| all.get_mut(&number))
            && due < member.due
        {
            member.due = due;
            self.due.push(Reverse((due, number)));
        }
    }

    fn next_wake(&self) -> Ticks {
        let due = self.due.peek().map_or(NEVER, |Reverse((due, _))| *due);
        due.min(self.crew_due)
    }
}

fn run() {
    let clock = Clock::System;
    let mut keeper = KEEPER.lock();
    loop {
        if keeper.is_empty() {
            keeper.running = false;
            keeper.due.clear();
            keeper.crew_due = NEVER;
            crew::close();
            return;
        }
        let now = clock.now();
        if now >= keeper.crew_due {
            keeper.crew_due = NEVER;
            drop(keeper);
            let next = crew::relieve(now);
            keeper = KEEPER.lock();
            keeper.crew_due = keeper.crew_due.min(next);
            continue;
        }
        if let Some((number, tended)) = keeper.next_due(now) {
            drop(keeper);
            let next = tend(&tended, now);
            drop(tended);
            keeper = KEEPER.lock();
            keeper.plan(number, next);
            continue;
        }
        let pause = between(now, keeper.next_wake()).min(Duration::from_secs(3600));
        BELL.wait_for(&mut keeper, pause);
    }
}

fn tend(tended: &Weak<dyn Tended>, now: Ticks) -> Ticks {
    let Some(tended) = tended.upgrade() else {
        return NEVER;
    };
    catch_unwind(AssertUnwindSafe(|| tended.tend(now))).unwrap_or_else(|_| {
        log::error!("millpond: a panic while tending a pool; trying again in a second");
        now.saturating_add(1_000_000_000)
    })
}
