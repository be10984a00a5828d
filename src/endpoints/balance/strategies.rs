//! The strategies that come with the library.

use std::time::Duration;

use super::{Balance, Candidate, Candidates};
use crate::sync::AtomicU64;
use crate::threads::{Stripe, Stripes};

/// How many turns were taken, by stripe, so that threads do not wait for each other.
#[derive(Debug)]
struct Turns(Stripes<AtomicU64>);

impl Turns {
    /// Threads of one stripe after the other begin so far apart.
    fn apart(step: u64) -> Self {
        let begin = |stripe| AtomicU64::new(step.wrapping_mul(stripe as u64));
        Self(Stripes::new(begin))
    }

    /// This thread's turn, which next time is another by so much.
    #[inline]
    fn take(&self, step: u64) -> u64 {
        let stripe = Stripe::own();
        stripe.add(self.0.of(stripe), step)
    }
}

/// One after the other. Each thread goes round by itself, and the next thread begins with the
/// next endpoint. (Of many threads, beyond the first sixteen, some go round together.)
#[derive(Debug)]
pub struct RoundRobin(Turns);

impl RoundRobin {
    /// The first thread begins with the first.
    pub fn new() -> Self {
        Self(Turns::apart(1))
    }
}

impl Default for RoundRobin {
    fn default() -> Self {
        Self::new()
    }
}

impl Balance for RoundRobin {
    #[inline]
    fn pick(&self, candidates: &Candidates<'_>) -> usize {
        (self.0.take(1) % candidates.len() as u64) as usize
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
/// Each thread has a sequence of its own.
#[derive(Debug)]
pub struct Weighted(Turns);

/// The fractional part of the golden ratio, in units of 2^-64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// How far apart threads begin, in the same units.
const SIXTEENTH: u64 = 1 << 60;

impl Weighted {
    /// With the weights of the endpoints.
    pub fn new() -> Self {
        Self(Turns::apart(SIXTEENTH))
    }
}

impl Default for Weighted {
    fn default() -> Self {
        Self::new()
    }
}

impl Balance for Weighted {
    fn pick(&self, candidates: &Candidates<'_>) -> usize {
        let turn = self.0.take(GOLDEN) as f64 / u64::MAX as f64;
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

/// What an endpoint has to do, and how much it can do.
#[derive(Clone, Copy)]
struct Load {
    callers: u32,
    weight: f64,
}

impl Load {
    #[inline]
    fn of(candidate: Candidate<'_>) -> Self {
        Self {
            callers: candidate.callers(),
            weight: candidate.weight(),
        }
    }

    /// Whether it is less than another, for its weight.
    #[inline]
    fn is_less_than(self, other: Self) -> bool {
        // Most often nobody is anywhere.
        (self.callers != 0 || other.callers != 0)
            && f64::from(self.callers) * other.weight < f64::from(other.callers) * self.weight
    }
}

/// The place so many places further, of less than `count`. (A division would cost as much as all
/// else here.)
#[inline]
fn further(place: usize, step: usize, count: usize) -> usize {
    let sum = place + step;
    if sum < count { sum } else { sum - count }
}

impl Balance for LeastConnections {
    fn pick(&self, candidates: &Candidates<'_>) -> usize {
        let count = candidates.len();
        let first = fastrand::usize(..count);
        let mut best = (first, Load::of(candidates.at(first)));
        for step in 1..count {
            let place = further(first, step, count);
            let load = Load::of(candidates.at(place));
            if load.is_less_than(best.1) {
                best = (place, load);
            }
        }
        best.0
    }
}

/// Two different ones, by one draw: its product with the number of possibilities has the choice
/// in the upper half, and in the lower half a draw that is as good for the next.
#[inline]
fn two_of(count: usize) -> (usize, usize) {
    let choose = |draw: u64, count: usize| {
        let product = u128::from(draw) * count as u128;
        ((product >> 64) as usize, product as u64)
    };
    let (first, draw) = choose(fastrand::u64(..), count);
    let (second, _) = choose(draw, count - 1);
    (first, second + usize::from(second >= first))
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
        if Load::of(candidates.at(second)).is_less_than(Load::of(candidates.at(first))) {
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
            (None, None) => Load::of(other).is_less_than(Load::of(one)),
            (ours, theirs) => expected(other, theirs) < expected(one, ours),
        };
        if other_is_better { second } else { first }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::thread;

    use super::*;
    use crate::endpoints::balance::Figures;
    use crate::pool::Tally;

    const THREADS: usize = 50;
    const PICKS: u32 = 2_000;

    /// How often each is picked by more threads than there are stripes.
    fn picked(balance: &dyn Balance, weights: &[f64]) -> Vec<f64> {
        let figures = |weight: &f64| {
            Arc::new(Figures {
                name: "a".into(),
                weight: *weight,
                callers: Arc::new(Tally::new()),
                latency: crossbeam_utils::CachePadded::default(),
            })
        };
        let all: Vec<_> = weights.iter().map(figures).collect();
        let counts: Vec<_> = weights.iter().map(|_| AtomicU32::new(0)).collect();
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..PICKS {
                        let place = balance.pick(&Candidates::new(&all, 0));
                        counts[place].fetch_add(1, Relaxed);
                    }
                });
            }
        });
        let all = f64::from(PICKS) * THREADS as f64;
        let counts = counts.into_iter().map(AtomicU32::into_inner);
        counts.map(|count| f64::from(count) / all).collect()
    }

    #[track_caller]
    fn are_within_a_hundredth(picked: &[f64], promised: &[f64]) {
        for (picked, promised) in picked.iter().zip(promised) {
            let off = (picked / promised - 1.0).abs();
            assert!(off < 0.01, "{picked} instead of {promised}");
        }
    }

    #[test]
    fn turns_of_many_threads_are_even() {
        let shares = picked(&RoundRobin::new(), &[1.0; 3]);
        are_within_a_hundredth(&shares, &[1.0 / 3.0; 3]);
    }

    #[test]
    fn turns_of_many_threads_are_by_weight() {
        for one in [1e-9, 1.0, 1e8] {
            let weights = [one, 7.0 * one, 2.0 * one];
            let shares = picked(&Weighted::new(), &weights);
            are_within_a_hundredth(&shares, &[0.1, 0.7, 0.2]);
        }
    }
}
