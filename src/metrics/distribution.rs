//! A histogram as it was at one moment.
//!
//! The buckets are a quarter of an octave wide: four between a power of two and the next, so
//! that a quantile is at most an eighth off, and finding the bucket of a value takes a
//! few instructions. (Log-linear buckets as in Gil Tene's `HdrHistogram`, with two bits of
//! precision.)

use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// Values up to this power of two share the first bucket.
const FIRST_OCTAVE: u32 = 10;
/// So many octaves have buckets of their own; what is larger goes into the last one. (The
/// model checker counts every access, so it gets few.)
const OCTAVES: usize = if cfg!(millpond_loom) { 1 } else { 27 };
/// Buckets of each octave.
const PARTS: usize = 4;

/// How many buckets there are: 1.024 µs and less, up to 137 s, and more.
pub(crate) const BUCKETS: usize = 2 + OCTAVES * PARTS;

/// The bounds of all buckets are multiples of this many nanoseconds, so a value that is rounded
/// down to one stays in its bucket.
pub(crate) const STEP: u64 = 1 << (FIRST_OCTAVE - 2);

/// The bucket of a value. A bucket holds its lower bound, and not its upper.
pub(crate) fn bucket_of(value: u64) -> usize {
    let steps = value / STEP;
    bucket_of_steps(u32::try_from(steps).unwrap_or(u32::MAX))
}

/// The bucket of a value of at least `steps` and less than `steps + 1` steps.
///
/// The exponent and the first two bits of the mantissa of a number in floating point are its
/// octave and the quarter of it.
#[inline]
pub(crate) fn bucket_of_steps(steps: u32) -> usize {
    const FIRST: u64 = ((1023 + 2) << 2) - 1;
    let quarter = f64::from(steps).to_bits() >> (52 - 2);
    (quarter.saturating_sub(FIRST) as usize).min(BUCKETS - 1)
}

/// The upper bound of a bucket; none for the last one.
pub(crate) fn upper_bound(bucket: usize) -> Option<u64> {
    if bucket == 0 {
        return Some(1 << FIRST_OCTAVE);
    }
    if bucket >= BUCKETS - 1 {
        return None;
    }
    let (octave, part) = ((bucket - 1) / PARTS, (bucket - 1) % PARTS);
    let base = 1_u64 << (octave + FIRST_OCTAVE as usize);
    Some(base + base / PARTS as u64 * (part as u64 + 1))
}

/// What the values of a [`Distribution`] are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Durations.
    #[default]
    Seconds,
    /// Sizes of groups.
    Operations,
}

impl Unit {
    /// One operation, in the steps that the buckets count in: they begin at 1,024.
    pub(crate) const OPERATION: u64 = 1 << FIRST_OCTAVE;

    fn value(self, raw: f64) -> f64 {
        match self {
            Self::Seconds => raw / 1e9,
            Self::Operations => raw / Self::OPERATION as f64,
        }
    }
}

/// How values are distributed: how many, how large on average, how large the largest of each
/// share.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manager = r2d2_sqlite::SqliteConnectionManager::memory();
/// let pool = millpond::Pool::builder().max_size(2).build(manager)?;
/// let connecting = pool.metrics().create_time;
/// assert_eq!(connecting.count(), 2);
/// assert!(connecting.quantile(0.5) <= connecting.max());
/// println!("{connecting}"); // 2, mean 241 µs, p50 250 µs, p95 ...
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    pub(crate) unit: Unit,
    pub(crate) counts: Box<[u64; BUCKETS]>,
    /// Of all values.
    pub(crate) sum: u64,
    /// The largest so far.
    pub(crate) max: u64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self::new(Unit::Seconds)
    }
}

impl Distribution {
    pub(crate) fn new(unit: Unit) -> Self {
        Self {
            unit,
            counts: Box::new([0; BUCKETS]),
            sum: 0,
            max: 0,
        }
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All values added up; in seconds, or operations.
    pub fn sum(&self) -> f64 {
        self.unit.value(self.sum as f64)
    }

    /// The mean value; 0 when there was none.
    pub fn mean(&self) -> f64 {
        match self.count() {
            0 => 0.0,
            count => self.sum() / count as f64,
        }
    }

    /// The largest value so far; in what [`since`](Self::since) gives, the upper bound of the
    /// largest bucket that has one.
    pub fn max(&self) -> f64 {
        self.unit.value(self.max as f64)
    }

    /// What the values are.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// The value that this share of the values does not exceed, between 0 and 1; at most an
    /// eighth off. 0 when there was none.
    pub fn quantile(&self, share: f64) -> f64 {
        let count = self.count();
        if count == 0 {
            return 0.0;
        }
        let rank = (share.clamp(0.0, 1.0) * count as f64).max(1.0);
        let mut below = 0_u64;
        for (bucket, &within) in self.counts.iter().enumerate() {
            if within > 0 && (below + within) as f64 >= rank {
                let lower = bucket.checked_sub(1).and_then(upper_bound).unwrap_or(0);
                let upper = upper_bound(bucket).unwrap_or(self.max).min(self.max);
                let lower = lower.min(upper) as f64;
                let part = (rank - below as f64) / within as f64;
                return self.unit.value(lower + (upper as f64 - lower) * part);
            }
            below += within;
        }
        self.max()
    }

    /// [`quantile`](Self::quantile) as a duration.
    pub fn quantile_duration(&self, share: f64) -> Duration {
        Duration::try_from_secs_f64(self.quantile(share)).unwrap_or_default()
    }

    /// The bounds of the buckets and how many values are at most as large as each, the
    /// infinite last.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut sum = 0;
        self.counts.iter().enumerate().map(move |(bucket, count)| {
            sum += count;
            let bound = upper_bound(bucket).map_or(f64::INFINITY, |bound| bound as f64);
            (self.unit.value(bound), sum)
        })
    }

    /// What came in addition to an earlier state of the same distribution.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts.clone();
        for (count, before) in counts.iter_mut().zip(&*earlier.counts) {
            *count = count.saturating_sub(*before);
        }
        let largest = counts.iter().rposition(|count| *count > 0);
        let bound = largest.map_or(0, |bucket| upper_bound(bucket).unwrap_or(self.max));
        Self {
            unit: self.unit,
            counts,
            sum: self.sum.saturating_sub(earlier.sum),
            max: bound.min(self.max),
        }
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&*other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// Forgets all values.
    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.sum = 0;
        self.max = 0;
    }

    /// Adds a value of between `steps` and `steps + 1` steps.
    pub(crate) fn add_step(&mut self, steps: u32) {
        let value = u64::from(steps) * STEP + STEP / 2;
        self.counts[bucket_of_steps(steps)] += 1;
        self.sum = self.sum.wrapping_add(value);
        self.max = self.max.max(value);
    }

    /// Adds so many values of (nearly) nothing.
    pub(crate) fn add_zeros(&mut self, count: u64) {
        self.counts[0] += count;
    }
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = self.unit;
        let show = |value: f64| super::table::quantity(value, unit);
        write!(
            f,
            "{}, mean {}, p50 {}, p95 {}, p99 {}, max {}",
            self.count(),
            show(self.mean()),
            show(self.quantile(0.5)),
            show(self.quantile(0.95)),
            show(self.quantile(0.99)),
            show(self.max())
        )
    }
}

/// Its figures, and the buckets that hold anything: `[bound, count]`.
impl Serialize for Distribution {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let unit = self.unit;
        let buckets = self.counts.iter().enumerate();
        let buckets: Vec<(Option<f64>, u64)> = buckets
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| {
                let bound = upper_bound(bucket).map(|bound| unit.value(bound as f64));
                (bound, *count)
            })
            .collect();
        let mut out = to.serialize_struct("Distribution", 8)?;
        out.serialize_field("count", &self.count())?;
        out.serialize_field("sum", &self.sum())?;
        out.serialize_field("mean", &self.mean())?;
        out.serialize_field("p50", &self.quantile(0.5))?;
        out.serialize_field("p95", &self.quantile(0.95))?;
        out.serialize_field("p99", &self.quantile(0.99))?;
        out.serialize_field("max", &self.max())?;
        out.serialize_field("buckets", &buckets)?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_within_the_bounds_of_its_bucket() {
        let mut value = 0_u64;
        while value < 1 << 40 {
            for value in [value.saturating_sub(1), value, value + 1] {
                let bucket = bucket_of(value);
                assert!(
                    upper_bound(bucket).is_none_or(|bound| value < bound),
                    "{value}"
                );
                let lower = bucket.checked_sub(1).and_then(upper_bound);
                assert!(lower.is_none_or(|bound| value >= bound), "{value}");
            }
            value = value * 9 / 8 + 1;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_of((1 << 37) - 1), BUCKETS - 2);
    }

    #[test]
    fn quantiles_are_at_most_an_eighth_off() {
        let mut all = Distribution::default();
        for micros in 1..=10_000_u64 {
            all.counts[bucket_of(micros * 1000)] += 1;
            all.sum += micros * 1000;
            all.max = all.max.max(micros * 1000);
        }
        for share in [0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = share * 0.01;
            let told = all.quantile(share);
            assert!((told / exact - 1.0).abs() < 0.125, "{share}: {told}");
        }
        assert!((all.max() - 0.01).abs() < 1e-12);
        assert!((all.mean() - 0.005_000_5).abs() < 1e-9);
    }

    #[test]
    fn the_difference_has_what_came_in_addition() {
        let mut before = Distribution::default();
        before.counts[bucket_of(5_000)] += 3;
        before.sum += 15_000;
        before.max = 5_000;
        let mut after = before.clone();
        after.counts[bucket_of(2_000)] += 1;
        after.sum += 2_000;
        let more = after.since(&before);
        assert_eq!((more.count(), more.sum), (1, 2_000));
        assert!((2e-6..2.3e-6).contains(&more.max()));
        before.add(&more);
        assert_eq!(before.counts, after.counts);
    }
}
