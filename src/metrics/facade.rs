//! The figures of a snapshot for whatever recorder a program has installed with the `metrics`
//! facade.
//!
//! The facade takes histograms value by value only, so a distribution arrives as its count, its
//! sum, and gauges of its quantiles.

use ::metrics::{Key, Label, Level, Metadata, with_recorder};

use super::families::{FamilyKind, Sample, Value};
use super::snapshot::Snapshot;

/// Quantiles that are passed on.
const QUANTILES: [(f64, &str); 4] = [(0.5, "0.5"), (0.95, "0.95"), (0.99, "0.99"), (1.0, "1")];

static METADATA: Metadata<'static> = Metadata::new("millpond", Level::INFO, Some(module_path!()));

impl Snapshot {
    /// Passes all figures on to the recorder that the program installed with the `metrics`
    /// facade; to none, if there is none. A hub does this at each sample if
    /// [`HubBuilder::metrics_facade`](crate::hub::HubBuilder::metrics_facade) says so.
    ///
    /// ```
    /// let hub = millpond::Hub::new();
    /// hub.metrics().record_to_facade();
    /// ```
    pub fn record_to_facade(&self) {
        self.visit(|sample| match sample.value {
            Value::Number(number) => pass_on(&sample, "", None, sample.family.kind, number),
            Value::Distribution(all) => {
                let count = all.count() as f64;
                pass_on(&sample, "_count", None, FamilyKind::Counter, count);
                pass_on(&sample, "_sum", None, FamilyKind::Gauge, all.sum());
                for (share, name) in QUANTILES {
                    let value = all.quantile(share);
                    pass_on(&sample, "", Some(name), FamilyKind::Gauge, value);
                }
            }
        });
    }
}

#[allow(clippy::cast_sign_loss, reason = "counters are never negative")]
fn pass_on(
    sample: &Sample<'_>,
    suffix: &str,
    quantile: Option<&'static str>,
    kind: FamilyKind,
    value: f64,
) {
    let labels = sample.labels.iter();
    let labels = labels.map(|(name, value)| Label::new(*name, (*value).to_owned()));
    let quantile = quantile.map(|quantile| Label::new("quantile", quantile));
    let labels: Vec<_> = labels.chain(quantile).collect();
    let key = Key::from_parts(format!("{}{suffix}", sample.family.name), labels);
    with_recorder(|recorder| match kind {
        // The facade's counters are whole numbers; those of seconds are not.
        FamilyKind::Counter if !sample.family.name.contains("_seconds") || suffix == "_count" => {
            recorder
                .register_counter(&key, &METADATA)
                .absolute(value as u64);
        }
        _ => recorder.register_gauge(&key, &METADATA).set(value),
    });
}
