//! An INSERT of one row, taken apart so that many of them can be made one.
//!
//! Only an INSERT of which that surely means the same is taken: one row of values, no
//! sub-select, no RETURNING, parameters among the values only, and no function that could
//! read what earlier rows wrote (see [`functions`](super::functions)).

use super::functions::is_harmless_in_insert;
use super::lexer::{Kind, Token};
use super::plain::Plain;
use super::words::Words;

/// A piece of the values.
#[derive(Debug, PartialEq)]
pub(in super::super) enum Part {
    Sql(String),
    /// This parameter, from 1 on.
    Param(usize),
}

#[derive(Debug)]
pub(in super::super) struct Insert {
    /// Up to `VALUES`, without the columns whose value is `DEFAULT`: left out, they get it
    /// just as well, and it cannot stand in a SELECT.
    pub(in super::super) head: String,
    /// The values, comma-separated.
    pub(in super::super) values: Vec<Part>,
    /// The ON CONFLICT part, or nothing.
    pub(in super::super) tail: String,
    /// If it is nothing but parameters into named columns.
    pub(in super::super) plain: Option<Plain>,
}

impl Insert {
    /// Takes the statement apart, given its text up to the end of its body.
    pub(super) fn of(body: &str, tokens: &[Token]) -> Option<Self> {
        let end = tokens.partition_point(|token| token.end <= body.len());
        let words = Words {
            text: body,
            tokens: &tokens[..end],
        };
        if !words.is_word(0, "insert") || !words.is_word(1, "into") {
            return None;
        }
        let count = |word| (0..end).filter(|at| words.is_word(*at, word)).count();
        let absent = ["select", "returning", "with", "table"];
        if count("values") != 1 || absent.iter().any(|word| words.has(word)) {
            return None;
        }
        let keyword = (0..end).find(|at| words.is_word(*at, "values"))?;
        let open = keyword + 1;
        let close = closing(words, open)?;
        if close + 1 < end && !words.is_word(close + 1, "on") {
            return None;
        }
        let outside = |at: &usize| *at < open || *at > close;
        let is_param = |at: usize| matches!(words.tokens[at].kind, Kind::Param(_));
        if (0..end).filter(outside).any(is_param) {
            return None;
        }
        let from_values = Words {
            text: body,
            tokens: &words.tokens[keyword..],
        };
        if !from_values.calls_only(is_harmless_in_insert) {
            return None;
        }
        let values = items(words, open, close);
        let is_default =
            |(first, last): (usize, usize)| last == first + 1 && words.is_word(first, "default");
        let kept: Vec<bool> = values.iter().map(|item| !is_default(*item)).collect();
        let defaults_within = (open..close)
            .filter(|at| words.is_word(*at, "default"))
            .count();
        let dropped = kept.iter().filter(|kept| !**kept).count();
        if defaults_within != dropped || dropped == values.len() {
            return None;
        }
        let head = if dropped == 0 {
            body[words.tokens[0].start..words.tokens[keyword].start].to_owned()
        } else {
            head_without(words, keyword, &kept)?
        };
        let kept_values = values.iter().zip(&kept).filter(|(_, kept)| **kept);
        let mut parts = Vec::new();
        for (number, ((first, last), _)) in kept_values.enumerate() {
            if number > 0 {
                parts.push(Part::Sql(", ".into()));
            }
            push_parts(words, *first, *last, &mut parts);
        }
        let tail = words
            .tokens
            .get(close + 1)
            .map_or("", |token| &body[token.start..]);
        Some(Self {
            plain: Plain::of(&head, &parts, tail),
            head,
            values: parts,
            tail: tail.to_owned(),
        })
    }
}

fn opens(kind: Kind) -> bool {
    matches!(kind, Kind::Sign(b'(' | b'['))
}

fn closes(kind: Kind) -> bool {
    matches!(kind, Kind::Sign(b')' | b']'))
}

/// Where the bracket that opens here closes.
fn closing(words: Words<'_>, open: usize) -> Option<usize> {
    if !words.is_sign(open, b'(') {
        return None;
    }
    let mut depth = 0_usize;
    for (at, token) in words.tokens.iter().enumerate().skip(open) {
        if opens(token.kind) {
            depth += 1;
        } else if closes(token.kind) {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return Some(at);
            }
        }
    }
    None
}

/// What stands between the commas in these brackets: the first token of each, and the
/// one after its last.
fn items(words: Words<'_>, open: usize, close: usize) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut first = open + 1;
    for at in open + 1..close {
        let kind = words.tokens[at].kind;
        if opens(kind) {
            depth += 1;
        } else if closes(kind) {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && kind == Kind::Sign(b',') {
            found.push((first, at));
            first = at + 1;
        }
    }
    found.push((first, close));
    found
}

/// The text up to `VALUES` with these columns only.
fn head_without(words: Words<'_>, keyword: usize, kept: &[bool]) -> Option<String> {
    let open = (2..keyword).find(|at| words.is_sign(*at, b'('))?;
    let close = closing(words, open).filter(|close| *close < keyword)?;
    let columns = items(words, open, close);
    if columns.len() != kept.len() {
        return None;
    }
    let names: Vec<&str> = columns
        .iter()
        .zip(kept)
        .filter(|(_, kept)| **kept)
        .map(|((first, last), _)| span(words, *first, *last))
        .collect();
    let before = &words.text[words.tokens[0].start..words.tokens[open].end];
    let after = &words.text[words.tokens[close].start..words.tokens[keyword].start];
    Some(format!("{before}{}{after}", names.join(", ")))
}

fn span(words: Words<'_>, first: usize, last: usize) -> &str {
    match (words.tokens.get(first), last.checked_sub(1)) {
        (Some(start), Some(end)) if end >= first => &words.text[start.start..words.tokens[end].end],
        _ => "",
    }
}

fn push_parts(words: Words<'_>, first: usize, last: usize, parts: &mut Vec<Part>) {
    let Some(mut from) = words.tokens.get(first).map(|token| token.start) else {
        return;
    };
    let mut until = from;
    for token in &words.tokens[first..last] {
        if let Kind::Param(number) = token.kind {
            parts.push(Part::Sql(words.text[from..token.start].to_owned()));
            parts.push(Part::Param(number as usize));
            from = token.end;
        }
        until = token.end;
    }
    parts.push(Part::Sql(words.text[from..until].to_owned()));
}

#[cfg(test)]
mod tests {
    use super::super::lexer::tokens;
    use super::*;

    fn taken(sql: &str) -> Option<String> {
        let (found, _) = tokens(sql);
        let insert = Insert::of(sql.trim_end_matches(';'), &found)?;
        let values: String = insert
            .values
            .iter()
            .map(|part| match part {
                Part::Sql(sql) => sql.clone(),
                Part::Param(number) => format!("<{number}>"),
            })
            .collect();
        Some(format!("{}|{values}|{}", insert.head, insert.tail))
    }

    #[test]
    fn plain_ones_are_taken_apart() {
        for (sql, expected) in [
            (
                "INSERT INTO t (a, b) VALUES ($1, $2);",
                "INSERT INTO t (a, b) |<1>, <2>|",
            ),
            (
                "insert into s.\"T\" as x values (lower($2)||'$1', ARRAY[$1,2], now(), -$1::int) on conflict (a) do update set b = excluded.b",
                "insert into s.\"T\" as x |lower(<2>)||'$1', ARRAY[<1>,2], now(), -<1>::int|on conflict (a) do update set b = excluded.b",
            ),
            (
                "INSERT INTO t (id, a, b) OVERRIDING USER VALUE VALUES (DEFAULT, $1, default)",
                "INSERT INTO t (a) OVERRIDING USER VALUE |<1>|",
            ),
            (
                "INSERT INTO t (a) -- VALUES\n VALUES ($1 /* , */) ON CONFLICT DO NOTHING",
                "INSERT INTO t (a) -- VALUES\n |<1>|ON CONFLICT DO NOTHING",
            ),
        ] {
            assert_eq!(taken(sql).as_deref(), Some(expected), "{sql}");
        }
    }

    #[test]
    fn others_are_left_alone() {
        for sql in [
            "INSERT INTO t VALUES ($1), ($2)",
            "INSERT INTO t SELECT $1",
            "INSERT INTO t VALUES ($1) RETURNING a",
            "INSERT INTO t VALUES ((SELECT max(a) + $1 FROM t))",
            "INSERT INTO t VALUES ($1) ON CONFLICT (a) DO UPDATE SET a = $2",
            "INSERT INTO t VALUES (next_number($1))",
            "INSERT INTO t VALUES (mine.lower($1))",
            "INSERT INTO t VALUES (\"lower\"($1))",
            "INSERT INTO t VALUES (DEFAULT, $1)",
            "INSERT INTO t (a) VALUES (DEFAULT)",
            "INSERT INTO t DEFAULT VALUES",
            "INSERT INTO t VALUES ($1, currval('s'))",
            "INSERT INTO t VALUES ($1",
            "WITH x AS (SELECT 1) INSERT INTO t VALUES ($1)",
            "UPDATE t SET a = $1",
        ] {
            assert_eq!(taken(sql), None, "{sql}");
        }
    }
}
