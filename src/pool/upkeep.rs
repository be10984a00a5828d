//! What the keeper does for a pool when it comes by: expiry, keepalive, leak
//! reports, and a look at the demand. Blocks nowhere; what may block goes to the
//! crew.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use r2d2::ManageConnection;

use super::counters::CloseReason;
use super::desk::{Desk, Status};
use super::exchange::Gate;
use super::ledger::Care;
use super::shared::Shared;
use crate::clock::{NEVER, Ticks, after, ticks};
use crate::keeper::{Tended, crew};

/// Pings under way at the same time: keeping connections alive must not keep them
/// from callers (vitess #20080).
const PINGS_AT_ONCE: usize = 2;
/// When to look again at a ping that had to wait for others.
const NEXT_PING: Duration = Duration::from_millis(20);

/// The keeper's next visit to a pool where nothing in particular is due.
const ROUND: Duration = Duration::from_secs(30);

/// How often the pool looks whether the credentials have changed that the server refused.
const CREDENTIALS_EVERY: Duration = Duration::from_millis(250);

/// What a look at an idle connection says.
enum Verdict {
    Close(CloseReason),
    Ping,
    /// Nothing before this moment.
    Until(Ticks),
}

impl<M: ManageConnection> Tended for Shared<M> {
    fn tend(self: Arc<Self>, now: Ticks) -> Ticks {
        let next = self.round(now);
        // The last owner drops the manager, which is the user's code: not here.
        if let Some(shared) = Arc::into_inner(self) {
            crew::submit(Box::new(move || drop(shared)));
        }
        next
    }
}

impl<M: ManageConnection> Shared<M> {
    /// Does what is due now; says when to come again.
    pub(super) fn round(self: &Arc<Self>, now: Ticks) -> Ticks {
        if self.exchange.gate() == Gate::Closed {
            self.sweep_if_closed();
            return NEVER;
        }
        let due = [
            self.look_at_idle(now),
            self.report_leaks(now),
            // Before the look at what that allows.
            self.raise_limit(now),
            self.meet_demand(now),
            self.take_pulse(now),
            self.watch_credentials(now),
        ];
        let latest = after(now, self.longest_pause());
        due.into_iter().fold(latest, Ticks::min)
    }

    /// Nothing tells the keeper of a connection that becomes idle, so it comes by at
    /// least as often as the shortest interval that it watches.
    fn longest_pause(&self) -> Duration {
        let settings = &self.settings;
        let intervals = [
            settings.idle_timeout,
            settings.keepalive_interval,
            settings.max_lifetime,
        ];
        intervals.into_iter().flatten().fold(ROUND, Duration::min)
    }

    /// While the server refuses the login: has the crew look whether there is another password by
    /// now. If there is, it is tried at once.
    fn watch_credentials(self: &Arc<Self>, now: Ticks) -> Ticks {
        let Some(changed) = self.knowledge.credentials_changed else {
            return NEVER;
        };
        if !self.rules.hopeless.load(Ordering::Relaxed) {
            return NEVER;
        }
        let mut ledger = self.ledger.lock();
        if now < ledger.credentials_at {
            return ledger.credentials_at;
        }
        ledger.credentials_at = after(now, CREDENTIALS_EVERY);
        let next = ledger.credentials_at;
        drop(ledger);
        let shared = Arc::clone(self);
        crew::submit(Box::new(move || {
            if changed(&shared.manager) == Some(true) {
                log::info!(
                    pool = &*shared.name;
                    "millpond: pool {}: the credentials have changed; connecting again",
                    shared.name
                );
                shared.connect_again();
            }
        }));
        next
    }

    fn look_at_idle(self: &Arc<Self>, now: Ticks) -> Ticks {
        let mut next = NEVER;
        let in_care = |desk: &&Desk| desk.status() == Status::InCare;
        let mut pings = self.exchange.desks().filter(in_care).count();
        for number in 0..self.exchange.slots() {
            let desk = &self.exchange.slot(number).desk;
            if desk.status() != Status::Idle {
                continue;
            }
            let verdict = match self.judge(desk, now) {
                Verdict::Until(at) => {
                    next = next.min(at);
                    continue;
                }
                Verdict::Ping if pings >= PINGS_AT_ONCE => {
                    next = next.min(after(now, NEXT_PING));
                    continue;
                }
                verdict => verdict,
            };
            // Somebody may have been faster: then it is not idle any more.
            let Some(entry) = self.exchange.take_from(number) else {
                continue;
            };
            match (self.judge(entry.place.desk(), now), verdict) {
                (Verdict::Close(reason), _) => self.care_for(Care::Close(entry, reason)),
                (Verdict::Ping, _) => {
                    pings += 1;
                    self.care_for(Care::Ping(entry));
                }
                (Verdict::Until(_), _) => self.put(entry, now),
            }
        }
        next
    }

    fn judge(&self, desk: &Desk, now: Ticks) -> Verdict {
        let expires_at = desk.expires_at();
        if now >= expires_at {
            return Verdict::Close(CloseReason::Expired);
        }
        let idle_until = match self.settings.idle_timeout {
            None => NEVER,
            // Up to a tenth later, and not the same for each connection.
            Some(timeout) => {
                let timeout = ticks(timeout);
                let spread = timeout / 100 * (desk.connection() % 11);
                desk.used_at()
                    .saturating_add(timeout)
                    .saturating_add(spread)
            }
        };
        if now >= idle_until {
            return Verdict::Close(CloseReason::Idle);
        }
        let ping_at = match self.settings.keepalive_interval {
            None => NEVER,
            Some(interval) => after(desk.fresh_at(), interval),
        };
        if now >= ping_at {
            return Verdict::Ping;
        }
        Verdict::Until(expires_at.min(idle_until).min(ping_at))
    }
}
