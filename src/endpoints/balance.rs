//! Who is asked first: the strategies, and the trait for others.
//!
//! A strategy sees the endpoints that are in service, and picks one. It is asked once for each
//! lease, so it should take a fraction of a microsecond and no lock.

mod strategies;

use std::fmt;
use std::time::Duration;

pub use self::strategies::{LeastConnections, PeakEwma, PowerOfTwo, Random, RoundRobin, Weighted};

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

/// What strategies see of the endpoints of a fleet.
pub(super) trait Field {
    fn count(&self) -> usize;
    fn at(&self, place: usize) -> &dyn Member;
}

/// What they see of one.
pub(super) trait Member {
    fn name(&self) -> &str;
    fn weight(&self) -> f64;
    fn callers(&self) -> u32;
    fn latency(&self) -> Option<Duration>;
}

/// The endpoints that a caller may be sent to, in the order in which they were added.
#[derive(Clone, Copy)]
pub struct Candidates<'a>(&'a dyn Field);

/// One of them. Each answer is looked up when it is asked for.
#[derive(Clone, Copy)]
pub struct Candidate<'a>(&'a dyn Member);

impl<'a> Candidates<'a> {
    #[inline]
    pub(super) fn new(field: &'a dyn Field) -> Self {
        Self(field)
    }

    /// How many there are; never none.
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    #[inline]
    pub fn len(&self) -> usize {
        self.0.count()
    }

    /// The one at this place.
    ///
    /// # Panics
    /// If there are not as many.
    #[inline]
    pub fn at(&self, place: usize) -> Candidate<'a> {
        Candidate(self.0.at(place))
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
        self.0.name()
    }

    /// Its weight beside the others; 1 unless it was given another.
    #[inline]
    pub fn weight(&self) -> f64 {
        self.0.weight()
    }

    /// How many callers hold a connection to it or wait for one.
    #[inline]
    pub fn callers(&self) -> u32 {
        self.0.callers()
    }

    /// The peak-sensitive moving average of what its operations took; `None` until there was
    /// one. Operations run by the fleet's `execute` are measured, and each group of a batch as one:
    /// how long a program keeps a lease says little about the server.
    #[inline]
    pub fn latency(&self) -> Option<Duration> {
        self.0.latency()
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
