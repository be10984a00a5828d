//! Colours, and texts that fit. What is printed here loses its colours again where they are not
//! wanted.

use anstyle::{AnsiColor, Style};

use crate::Exit;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const DOUBTFUL: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

/// No line is longer than this.
pub(crate) const WIDTH: usize = 100;

/// The colour of something that went like this.
pub(crate) fn of(exit: Exit) -> Style {
    match exit {
        Exit::Well => GOOD,
        Exit::Degraded => DOUBTFUL,
        Exit::Failed | Exit::Misconfigured => BAD,
    }
}

pub(crate) fn painted(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

/// The text in lines that fit, all but the first of them after this indent.
pub(crate) fn wrapped(text: &str, first: usize, indent: usize) -> String {
    let mut lines = String::new();
    let mut at = first;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if at > indent.max(first) && at + 1 + length > WIDTH {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            at = indent;
        } else if !lines.is_empty() {
            lines.push(' ');
            at += 1;
        }
        lines.push_str(word);
        at += length;
    }
    lines
}

/// The text, cut in the middle if it is longer than this.
pub(crate) fn clipped(text: &str, width: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (head, tail) = (kept.div_ceil(2), kept / 2);
    let head: String = letters[..head].iter().collect();
    let tail: String = letters[letters.len() - tail..].iter().collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::{WIDTH, clipped, wrapped};

    #[test]
    fn lines_fit() {
        let text = "word ".repeat(60);
        let text = wrapped(&text, 10, 4);
        let mut lines = text.lines();
        assert!(lines.next().expect("a line").chars().count() + 10 <= WIDTH);
        for line in lines {
            assert!(line.starts_with("    word") && line.chars().count() <= WIDTH);
        }
        assert_eq!(text.split_whitespace().count(), 60);
    }

    #[test]
    fn what_is_too_long_keeps_its_ends() {
        assert_eq!(clipped("db.internal", 11), "db.internal");
        assert_eq!(clipped("db.internal:5432", 9), "db.i…5432");
    }
}
