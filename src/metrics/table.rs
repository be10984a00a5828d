//! A snapshot as a table for people.

use std::fmt;

use super::distribution::Unit;
use super::snapshot::Snapshot;

/// A value with a unit that suits its size: `17 µs`, `2.5 s`.
pub(super) fn quantity(value: f64, unit: Unit) -> String {
    if unit == Unit::Operations {
        return format!("{value:.0}");
    }
    let (scaled, name) = match value {
        value if value < 1e-3 => (value * 1e6, "µs"),
        value if value < 1.0 => (value * 1e3, "ms"),
        value => (value, "s"),
    };
    let digits = match scaled {
        scaled if scaled < 10.0 => 2,
        scaled if scaled < 100.0 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$} {name}")
}

fn duration(value: f64) -> String {
    quantity(value, Unit::Seconds)
}

/// One table row after another, columns aligned: the first to the left, the others to the right.
fn write_table(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 => write!(f, "{cell:<width$}")?,
                _ => write!(f, "  {cell:>width$}")?,
            }
        }
        writeln!(f)?;
    }
    Ok(())
}

fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![head(&[
            "pool", "health", "open", "used", "wait", "ops", "errors", "p50", "p95", "p99",
            "wait p99",
        ])];
        for pool in &self.pools {
            let (state, operations) = (&pool.state, &pool.operations);
            let times = &operations.response_time;
            rows.push(vec![
                pool.name.to_string(),
                pool.health.to_string(),
                format!("{}/{}", state.connections, state.max_size),
                state.leased.to_string(),
                state.waiters.to_string(),
                operations.total().to_string(),
                operations.failures().to_string(),
                duration(times.quantile(0.5)),
                duration(times.quantile(0.95)),
                duration(times.quantile(0.99)),
                duration(pool.wait_time.quantile(0.99)),
            ]);
        }
        write_table(f, &rows)?;
        #[cfg(feature = "batch")]
        if !self.batches.is_empty() {
            let mut rows = vec![head(&[
                "batch",
                "queued",
                "done",
                "rejected",
                "not executed",
                "unknown",
                "groups",
                "of",
                "wait p99",
            ])];
            for batch in &self.batches {
                rows.push(vec![
                    batch.name.to_string(),
                    batch.queued.to_string(),
                    batch.done.to_string(),
                    batch.rejected.to_string(),
                    batch.not_executed.to_string(),
                    batch.unknown.to_string(),
                    batch.groups.to_string(),
                    quantity(batch.group_size.mean(), Unit::Operations),
                    duration(batch.queue_time.quantile(0.99)),
                ]);
            }
            writeln!(f)?;
            write_table(f, &rows)?;
        }
        write!(f, "\n{}", self.resources)
    }
}
