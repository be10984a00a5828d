//! What the pools and batches of a program did and do, as numbers.
//!
//! # The house
//!
//! Counting happens where the work is: in atomics of the pool, of the batch, and of each
//! connection's slot, so that leases on different connections never touch the same cache
//! line. `histogram` holds durations and sizes in buckets of fixed bounds, `window` the
//! last requests, `meter` is what each connection's slot counts. `distribution` is what a
//! histogram looks like when it is read. `snapshot` is everything at one moment, `table`
//! prints it for people, `families` names it for machines, `text` writes it for
//! Prometheus, and `facade` passes it on to other libraries.
//!
//! # Invariants
//!
//! 1. Recording takes no lock and, on a lease, no atomic read-modify-write.
//! 2. A distribution's count is the sum of its buckets, and a total the sum of its parts, so
//!    what is read adds up, whatever is recorded meanwhile.
//! 3. Counters never go backwards.

mod distribution;
#[cfg(feature = "metrics")]
mod facade;
mod families;
pub(crate) mod histogram;
pub(crate) mod meter;
#[cfg(all(test, millpond_loom))]
mod model;
pub(crate) mod moment;
mod snapshot;
mod table;
mod text;
pub(crate) mod window;

pub use self::distribution::{Distribution, Unit};
pub use self::families::{Family, FamilyKind, Sample, Value};
pub use self::snapshot::{OperationMetrics, Recent, Snapshot};
