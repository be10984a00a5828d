//! When an endpoint is left out, for how long, and how it comes back. (The words and the shape
//! are those of Envoy's outlier detection and slow start.)

use std::time::Duration;

use crate::clock::{Ticks, after, between};

/// When an endpoint that fails is left out, for how long, and how it comes back.
///
/// An endpoint is *ejected* when so many operations in succession failed on it in a way that
/// speaks against the server (connecting, a lost connection, a deadline that passed without an
/// answer, overload, a refused login), or when its pool is [`Down`](crate::Health::Down). It
/// comes back when its time is over and its pool's check of the server has passed, with a share of
/// the traffic that grows from a tenth.
///
/// ```
/// use std::time::Duration;
/// use millpond::endpoints::Ejection;
///
/// let patient = Ejection::default().failures(10).slow_start(Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is for `FleetBuilder::ejection`"]
pub struct Ejection {
    failures: u32,
    base: Duration,
    longest: Duration,
    most: f64,
    slow_start: Duration,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 5,
            base: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            most: 0.7,
            slow_start: Duration::from_secs(10),
        }
    }
}

impl Ejection {
    /// After so many failures in succession; 5 by default, and 0 counts as 1.
    pub fn failures(mut self, failures: u32) -> Self {
        self.failures = failures.max(1);
        self
    }

    /// For how long at first; a second by default. The second time in succession it is twice as
    /// long, then three times, and so on.
    pub fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// For how long at most; a minute by default. An endpoint that has been in service for as
    /// long without being ejected begins anew.
    pub fn longest(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// The largest share of the endpoints that may be ejected at once, from 0 to 1; 0.7 by
    /// default. Unless it is 0, one of two or more may be; and one always stays.
    pub fn at_most(mut self, share: f64) -> Self {
        self.most = share.clamp(0.0, 1.0);
        self
    }

    /// Over which time the traffic of an endpoint that comes back, or is added, grows to its
    /// full share; ten seconds by default, zero for at once.
    pub fn slow_start(mut self, time: Duration) -> Self {
        self.slow_start = time;
        self
    }

    #[cfg(feature = "_net")]
    pub(super) fn longest_time(&self) -> Duration {
        self.longest
    }

    pub(super) fn is_due(&self, failures: u32) -> bool {
        failures >= self.failures
    }

    pub(super) fn growth(&self) -> Duration {
        self.slow_start
    }

    /// How many of so many may be ejected at once.
    pub(super) fn most_of(&self, endpoints: usize) -> usize {
        let limit = endpoints as f64 * self.most;
        let share = (1..=endpoints)
            .take_while(|count| *count as f64 <= limit)
            .count();
        let least = usize::from(self.most > 0.0);
        share.max(least).min(endpoints.saturating_sub(1))
    }
}

/// Where an endpoint stands.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Ejections in succession.
    pub(super) times: u32,
    /// When the ejection under way may end.
    until: Option<Ticks>,
    /// When the last one ended.
    back_at: Ticks,
}

impl Standing {
    pub(super) fn is_ejected(&self) -> bool {
        self.until.is_some()
    }

    /// How long the ejection under way still takes at least.
    pub(super) fn left(&self, now: Ticks) -> Option<Duration> {
        self.until.map(|until| between(now, until))
    }

    /// Ejects it; says for how long.
    pub(super) fn eject(&mut self, rules: &Ejection, now: Ticks) -> Duration {
        if between(self.back_at, now) > rules.longest {
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        let time = rules.base.saturating_mul(self.times).min(rules.longest);
        self.until = Some(after(now, time));
        time
    }

    /// Whether its time is over.
    pub(super) fn may_return(&self, now: Ticks) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    pub(super) fn reinstate(&mut self, now: Ticks) {
        self.until = None;
        self.back_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Ticks = 1_000_000_000;

    #[test]
    fn the_time_grows_up_to_the_longest_and_begins_anew_after_a_good_while() {
        let rules = Ejection::default().longest(Duration::from_secs(3));
        let mut standing = Standing::default();
        let mut now = 1000 * SECOND;
        for expected in [1, 2, 3, 3] {
            assert_eq!(standing.eject(&rules, now), Duration::from_secs(expected));
            assert!(!standing.may_return(now + expected * SECOND - 1));
            now += expected * SECOND;
            assert!(standing.may_return(now));
            standing.reinstate(now);
            now += SECOND;
        }
        now += 10 * SECOND;
        assert_eq!(standing.eject(&rules, now), Duration::from_secs(1));
    }

    #[test]
    fn one_always_stays() {
        let most = |share, endpoints| Ejection::default().at_most(share).most_of(endpoints);
        for endpoints in 1..10 {
            assert!(most(1.0, endpoints) < endpoints);
            assert_eq!(most(0.0, endpoints), 0);
        }
        assert_eq!(
            [1, 2, 3, 4, 5].map(|endpoints| most(0.7, endpoints)),
            [0, 1, 2, 2, 3]
        );
        assert_eq!(most(0.1, 3), 1);
    }
}
