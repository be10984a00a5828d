//! A table of which one column gives way, so that lines fit.

use anstyle::Style;

use crate::paint::{DIM, WIDTH, clipped, painted};

/// Columns are this far apart.
const GAP: &str = "  ";

/// Text, and its colour.
pub(crate) type Cell = (String, Style);

/// A cell without a colour.
pub(crate) fn plain(text: impl Into<String>) -> Cell {
    (text.into(), Style::new())
}

pub(crate) struct Table {
    head: Vec<&'static str>,
    /// The longest that each column may be; the flexible one may be as long as there is room.
    limits: Vec<usize>,
    flexible: usize,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns, each with its longest width. The one of width 0 gets what room
    /// the others leave.
    pub(crate) fn new(columns: &[(&'static str, usize)]) -> Self {
        let flexible = columns.iter().position(|(_, limit)| *limit == 0);
        Self {
            head: columns.iter().map(|(name, _)| *name).collect(),
            limits: columns.iter().map(|(_, limit)| *limit).collect(),
            flexible: flexible.unwrap_or(0),
            rows: Vec::new(),
        }
    }

    /// One cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.head.iter().map(|name| name.chars().count()).collect();
        for row in &self.rows {
            for (width, (text, _)) in widths.iter_mut().zip(row) {
                *width = (*width).max(text.chars().count());
            }
        }
        for (column, width) in widths.iter_mut().enumerate() {
            if column != self.flexible {
                *width = (*width).min(self.limits[column]);
            }
        }
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        let others: usize = widths.iter().sum::<usize>() - widths[self.flexible];
        let room = WIDTH.saturating_sub(others + gaps).max(8);
        widths[self.flexible] = widths[self.flexible].min(room);
        widths
    }

    /// The table, with this in front of each line.
    pub(crate) fn print(&self, indent: &str) -> String {
        let widths = self.widths();
        let head = self.head.iter().map(|name| (name.to_uppercase(), DIM));
        let head: Vec<Cell> = head.collect();
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            text.push_str(indent);
            let last = row.len() - 1;
            for (column, ((cell, style), width)) in row.iter().zip(&widths).enumerate() {
                let cell = clipped(cell, *width);
                let rest = width - cell.chars().count();
                text.push_str(&painted(&cell, *style));
                if column < last {
                    text.push_str(&" ".repeat(rest));
                    text.push_str(GAP);
                }
            }
            text.push('\n');
        }
        text
    }
}
