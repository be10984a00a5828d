//! The strategies that come with the library.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::{Balance, Candidate, Candidates};

/// One after the other.
#[derive(Debug, Default)]
pub struct RoundRobin(CachePadded<AtomicUsize>);

impl RoundRobin {
    /// Begins with the first.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Balance for RoundRobin {
    #[inline]
    fn pick(&self, candidates: &Candidates<'_>) -> usize {
        self.0.fetch_add(1, Relaxed) % candidates.len()
    }
}

/// Any of them with the same probability.
#[derive(Clone, Copy, Debug, Default)]
pub struct Random;

impl Balance for Random {
    #[inline]
    fn pick(&self, candidates: &Candidates<'_>) -> usize {
        fastrand::usize(..candidates.len())
    }
}

/// Each as often as its [weight](crate::endpoints::FleetBuilder::weighted) says, and those of
/// one endpoint spread evenly among the others, as with nginx's smooth weighted round-robin; but
/// without its lock: the turns are the multiples of the golden ratio modulo 1, which fill the
/// unit interval more evenly than any other sequence of its kind (Weyl, "Über die
/// Gleichverteilung von Zahlen mod. Eins", 1916; Knuth, TAOCP 3, 6.4), and each endpoint owns
/// a part of the interval as large as its weight.
#[derive(Debug, Default)]
pub struct Weighted(CachePadded<AtomicU64>);

/// The fractional part of the golden ratio, in units of 2^-64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Weighted {
    /// With the weights of the endpoints.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Balance for Weighted {
    fn pick(&self, candidates: &Candidates<'_>) -> usize {
        let turn = self.0.fetch_add(GOLDEN, Relaxed) as f64 / u64::MAX as f64;
        let total: f64 = candidates.iter().map(|candidate| candidate.weight()).sum();
        let mut left = turn * total;
        for (place, candidate) in candidates.iter().enumerate() {
            left -= candidate.weight();
            if left < 0.0 {
                return place;
            }
        }
        candidates.len() - 1
    }
}

/// The one that has the fewest callers for its weight; one of them at random if there are
/// several.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastConnections;

/// Whether the first has fewer callers for its weight than the second.
#[inline]
fn is_freer(first: Candidate<'_>, second: Candidate<'_>) -> bool {
    let (ours, theirs) = (first.callers(), second.callers());
    // Most often nobody is anywhere.
    (ours != 0 || theirs != 0)
        && f64::from(ours) * second.weight() < f64::from(theirs) * first.weight()
}

impl Balance for LeastConnections {
    fn pick(&self, candidates: &Candidates<'_>) -> usize {
        let count = candidates.len();
        let first = fastrand::usize(..count);
        let others = (1..count).map(|step| (first + step) % count);
        others.fold(first, |best, place| {
            if is_freer(candidates.at(place), candidates.at(best)) {
                place
            } else {
                best
            }
        })
    }
}

/// Two different ones.
#[inline]
fn two_of(count: usize) -> (usize, usize) {
    // One draw for both.
    let pair = fastrand::usize(..count * (count - 1));
    let (first, step) = (pair / (count - 1), pair % (count - 1) + 1);
    (first, (first + step) % count)
}

/// Of two drawn at random the one that has fewer callers for its weight: nearly as even as
/// [`LeastConnections`], without looking at all, and without everybody's running to the same one
/// (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001). What a fleet
/// uses unless told otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct PowerOfTwo;

impl Balance for PowerOfTwo {
    #[inline]
    fn pick(&self, candidates: &Candidates<'_>) -> usize {
        let (first, second) = two_of(candidates.len());
        if is_freer(candidates.at(second), candidates.at(first)) {
            second
        } else {
            first
        }
    }
}

/// Of two drawn at random the one at which an operation would be over sooner, judged by a moving
/// average of the latency that follows a peak at once and forgets it over ten seconds, times the
/// callers that are there already (Finagle's `p2cPeakEwma`). For servers of different or
/// changing speed. It sees operations run by the fleet's `execute`, and each group of a
/// batch as one; among endpoints without any, callers alone decide.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeakEwma;

/// An endpoint that has callers but no latency yet may be one that never answers.
const UNKNOWN: f64 = 1e9;

fn expected(candidate: Candidate<'_>, latency: Option<Duration>) -> f64 {
    let callers = f64::from(candidate.callers());
    let cost = match latency {
        Some(latency) => latency.as_secs_f64() * (callers + 1.0),
        None if callers > 0.0 => UNKNOWN + callers,
        None => 0.0,
    };
    cost / candidate.weight()
}

impl Balance for PeakEwma {
    fn pick(&self, candidates: &Candidates<'_>) -> usize {
        let (first, second) = two_of(candidates.len());
        let (one, other) = (candidates.at(first), candidates.at(second));
        let other_is_better = match (one.latency(), other.latency()) {
            (None, None) => is_freer(other, one),
            (ours, theirs) => expected(other, theirs) < expected(one, ours),
        };
        if other_is_better { second } else { first }
    }
}
