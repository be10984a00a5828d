//! Who is asked first: the strategies, and the trait for others.
//!
//! A strategy sees the endpoints that are in service, and picks one. It is asked once for each
//! lease, so it should take a fraction of a microsecond and no lock.

mod strategies;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_utils::CachePadded;

pub use self::strategies::{LeastConnections, PeakEwma, PowerOfTwo, Random, RoundRobin, Weighted};
use super::latency::Latency;
use crate::clock::Ticks;
use crate::pool::Tally;

/// Picks the endpoint that a caller asks first.
///
/// ```
/// use millpond::endpoints::{Balance, Candidates};
///
/// /// Always the first that is in service: the others are for the case that it fails.
/// #[derive(Debug)]
/// struct InOrder;
///
/// impl Balance for InOrder {
///     fn pick(&self, _: &Candidates<'_>) -> usize {
///         0
///     }
/// }
/// ```
pub trait Balance: fmt::Debug + Send + Sync + 'static {
    /// The place of the one to ask first; there are at least two. A place that does not exist
    /// counts as the remainder of its division by their number.
    fn pick(&self, candidates: &Candidates<'_>) -> usize;
}

/// The weights that an endpoint may have: the sum of any number of them is finite, and so is the
/// product of one and a number of callers.
pub(super) const WEIGHTS: RangeInclusive<f64> = 1e-9..=1e9;

/// What strategies see of one endpoint.
pub(super) struct Figures {
    pub(super) name: Arc<str>,
    pub(super) weight: f64,
    pub(super) callers: Arc<Tally>,
    pub(super) latency: CachePadded<Latency>,
}

/// The endpoints that a caller may be sent to, in the order in which they were added.
#[derive(Clone, Copy)]
pub struct Candidates<'a> {
    all: &'a [Arc<Figures>],
    /// On the coarse clock.
    now: Ticks,
}

/// One of them. Each answer is looked up when it is asked for.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    figures: &'a Figures,
    now: Ticks,
}

impl<'a> Candidates<'a> {
    #[inline]
    pub(super) fn new(all: &'a [Arc<Figures>], now: Ticks) -> Self {
        Self { all, now }
    }

    /// How many there are; never none.
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    #[inline]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The one at this place.
    ///
    /// # Panics
    /// If there are not as many.
    #[inline]
    pub fn at(&self, place: usize) -> Candidate<'a> {
        Candidate {
            figures: &self.all[place],
            now: self.now,
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Candidate<'a>> {
        let this = *self;
        (0..this.len()).map(move |place| this.at(place))
    }
}

impl<'a> Candidate<'a> {
    /// Its address.
    pub fn endpoint(&self) -> &'a str {
        &self.figures.name
    }

    /// Its weight beside the others; 1 unless it was given another.
    #[inline]
    pub fn weight(&self) -> f64 {
        self.figures.weight
    }

    /// How many callers hold a connection to it or wait for one.
    ///
    /// What the asking thread took and gave back itself is counted at once. What others did is as
    /// it was a little earlier, but only where this thread asks more often than once in 32 µs,
    /// as one that does nothing with its leases: then it is about so old at most. When such a
    /// thread slows down, what others did may for the next questions be as old as the last tick
    /// of the system's clock, of which there are 100 to 1000 in a second.
    #[inline]
    pub fn callers(&self) -> u32 {
        self.figures.callers.count(self.now)
    }

    /// The peak-sensitive moving average of what its operations took; `None` until there was
    /// one. Operations run by the fleet's `execute` are measured, and each group of a batch as one:
    /// how long a program keeps a lease says little about the server.
    #[inline]
    pub fn latency(&self) -> Option<Duration> {
        self.figures.latency.read(self.now)
    }
}

impl fmt::Debug for Candidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("endpoint", &self.endpoint())
            .field("weight", &self.weight())
            .field("callers", &self.callers())
            .field("latency", &self.latency())
            .finish()
    }
}

impl fmt::Debug for Candidates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
