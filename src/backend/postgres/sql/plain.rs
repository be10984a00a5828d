//! An INSERT of nothing but parameters into named columns, as COPY can do it too.

use std::ops::Range;

use super::insert::Part;
use super::lexer::{Kind, tokens};
use super::words::Words;

/// Where the parameters of such an INSERT go.
#[derive(Debug, PartialEq)]
pub(in super::super) struct Plain {
    /// The table as it is written.
    pub(in super::super) table: String,
    pub(in super::super) columns: Vec<Column>,
}

#[derive(Debug, PartialEq)]
pub(in super::super) struct Column {
    /// As it is written.
    pub(in super::super) text: String,
    /// As the catalog has it.
    pub(in super::super) name: String,
    /// This parameter, from 1 on.
    pub(in super::super) param: usize,
}

impl Plain {
    /// Given what stands before `VALUES`, the values and what follows them.
    pub(super) fn of(head: &str, values: &[Part], tail: &str) -> Option<Self> {
        let (found, None) = tokens(head) else {
            return None;
        };
        let words = Words {
            text: head,
            tokens: &found,
        };
        let open = (2..found.len()).find(|at| words.is_sign(*at, b'('))?;
        let close = found.len() - 1;
        if !tail.is_empty() || !words.is_sign(close, b')') {
            return None;
        }
        let table = listed(words, 2..open, b'.')?;
        let columns = listed(words, open + 1..close, b',')?;
        let params = params(values)?;
        if columns.len() != params.len() {
            return None;
        }
        let column = |(at, param): (usize, usize)| {
            let text = words.at(at).to_owned();
            let name = name(words, at)?;
            Some(Column { text, name, param })
        };
        let texts: Vec<&str> = table.iter().map(|at| words.at(*at)).collect();
        let columns: Option<_> = columns.into_iter().zip(params).map(column).collect();
        Some(Self {
            table: texts.join("."),
            columns: columns?,
        })
    }
}

/// The names among these tokens, if they are nothing but names with this sign in between.
fn listed(words: Words<'_>, span: Range<usize>, sign: u8) -> Option<Vec<usize>> {
    if span.len().is_multiple_of(2) {
        return None;
    }
    let mut names = Vec::new();
    for (place, at) in span.enumerate() {
        if place % 2 == 1 {
            words.is_sign(at, sign).then_some(())?;
        } else {
            name(words, at)?;
            names.push(at);
        }
    }
    Some(names)
}

/// The name that this token stands for. `U&"..."` is not understood here.
fn name(words: Words<'_>, at: usize) -> Option<String> {
    let text = words.at(at);
    match words.tokens.get(at)?.kind {
        Kind::Word => Some(text.to_ascii_lowercase()),
        Kind::Quoted => {
            let inner = text.strip_prefix('"')?.strip_suffix('"')?;
            Some(inner.replace("\"\"", "\""))
        }
        _ => None,
    }
}

/// The parameters, if there is nothing but them, and each once.
fn params(values: &[Part]) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    for part in values {
        match part {
            Part::Param(number) if !found.contains(number) => found.push(*number),
            Part::Sql(sql) if matches!(sql.trim(), "" | ",") => {}
            _ => return None,
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use crate::backend::postgres::sql::known;

    fn plain(sql: &'static str) -> Option<String> {
        let statement = known(sql.into());
        let plain = statement.insert()?.plain.as_ref()?;
        let column = |column: &super::Column| format!("{}={}", column.name, column.param);
        let columns: Vec<String> = plain.columns.iter().map(column).collect();
        let texts: Vec<&str> = plain.columns.iter().map(|column| &*column.text).collect();
        Some(format!(
            "{} ({}) {}",
            plain.table,
            texts.join(","),
            columns.join(" ")
        ))
    }

    #[test]
    fn bare_parameters_into_named_columns_are_plain() {
        for (sql, expected) in [
            ("INSERT INTO t (a) VALUES ($1);", "t (a) a=1"),
            (
                "insert into S . \"T.\"\"(\" (A, \"B c\", \"d\"\"e\") values ($2 , $3,/* x */$1)",
                "S.\"T.\"\"(\" (A,\"B c\",\"d\"\"e\") a=2 B c=3 d\"e=1",
            ),
            ("INSERT INTO t (id, a) VALUES (DEFAULT, $1)", "t (a) a=1"),
        ] {
            assert_eq!(plain(sql).as_deref(), Some(expected), "{sql}");
        }
    }

    #[test]
    fn whatever_else_is_not() {
        for sql in [
            "INSERT INTO t VALUES ($1)",
            "INSERT INTO t AS x (a) VALUES ($1)",
            "INSERT INTO t (a) OVERRIDING SYSTEM VALUE VALUES ($1)",
            "INSERT INTO t (a) VALUES ($1) ON CONFLICT DO NOTHING",
            "INSERT INTO t (a, b) VALUES ($1, $1)",
            "INSERT INTO t (a, b) VALUES ($1, now())",
            "INSERT INTO t (a, b) VALUES ($1, 1)",
            "INSERT INTO t (a) VALUES (($1))",
            "INSERT INTO t (a) VALUES (-$1)",
            "INSERT INTO t (a) VALUES ($1::int)",
            "INSERT INTO t (a[1]) VALUES ($1)",
            "INSERT INTO t (a.b) VALUES ($1)",
            "INSERT INTO t (a, b) VALUES ($1)",
            "INSERT INTO U&\"t\" (a) VALUES ($1)",
            "INSERT INTO t (U&\"a\") VALUES ($1)",
        ] {
            assert_eq!(plain(sql), None, "{sql}");
        }
    }
}
