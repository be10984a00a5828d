//! Prometheus' text format (version 0.0.4).

use std::fmt::{self, Write as _};

use super::distribution::{BUCKETS, Distribution};
use super::families::{FamilyKind, Sample, Value};
use super::snapshot::Snapshot;

impl Snapshot {
    /// The figures in Prometheus' text format, version 0.0.4.
    ///
    /// ```
    /// # let hub = millpond::Hub::new();
    /// print!("{}", hub.metrics().prometheus());
    /// ```
    pub fn prometheus(&self) -> String {
        let mut text = String::with_capacity(4096 + self.pools.len() * 16_384);
        let mut family = "";
        self.visit(|sample| {
            if sample.family.name != family {
                family = sample.family.name;
                head(&mut text, &sample);
            }
            // Writing to a String cannot fail.
            let _ = line(&mut text, &sample);
        });
        text
    }
}

fn head(text: &mut String, sample: &Sample<'_>) {
    let kind = match sample.family.kind {
        FamilyKind::Counter => "counter",
        FamilyKind::Gauge => "gauge",
        FamilyKind::Histogram => "histogram",
        FamilyKind::Untyped => "untyped",
    };
    let (name, help) = (sample.family.name, sample.family.help);
    // As above.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(text: &mut String, sample: &Sample<'_>) -> fmt::Result {
    let name = sample.family.name;
    match sample.value {
        Value::Number(number) => {
            text.push_str(name);
            labels(text, sample.labels, None);
            writeln!(text, " {number}")
        }
        Value::Distribution(distribution) => {
            for (bound, count) in bounds(distribution) {
                write!(text, "{name}_bucket")?;
                labels(text, sample.labels, Some(bound));
                writeln!(text, " {count}")?;
            }
            for (suffix, value) in [
                ("sum", distribution.sum()),
                ("count", distribution.count() as f64),
            ] {
                write!(text, "{name}_{suffix}")?;
                labels(text, sample.labels, None);
                writeln!(text, " {value}")?;
            }
            Ok(())
        }
    }
}

/// One bound for each octave is enough for a scrape, whether anything is there or not, so that
/// the series are the same in every scrape.
fn bounds(distribution: &Distribution) -> impl Iterator<Item = (f64, u64)> + '_ {
    let cumulative = distribution.cumulative().enumerate();
    let every = cumulative.filter(|(bucket, _)| bucket % 4 == 0 || *bucket == BUCKETS - 1);
    every.map(|(_, pair)| pair)
}

fn labels(text: &mut String, labels: &[(&'static str, &str)], bound: Option<f64>) {
    if labels.is_empty() && bound.is_none() {
        return;
    }
    text.push('{');
    let mut separator = "";
    for (name, value) in labels {
        text.push_str(separator);
        separator = ",";
        text.push_str(name);
        text.push_str("=\"");
        for letter in value.chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                letter => text.push(letter),
            }
        }
        text.push('"');
    }
    match bound {
        Some(f64::INFINITY) => {
            text.push_str(separator);
            text.push_str("le=\"+Inf\"");
        }
        // Writing to a String cannot fail.
        Some(bound) => drop(write!(text, "{separator}le=\"{bound}\"")),
        None => {}
    }
    text.push('}');
}
