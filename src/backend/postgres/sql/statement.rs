//! What is known about a statement by its text alone; found out once per text.
//!
//! The last statements that a thread used are kept by that thread, so that the same text
//! costs a comparison. A kept statement is shared by its operations.

use std::borrow::Cow;
use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use super::insert::Insert;
use super::lexer::{Kind, Token, tokens};
use super::literal::push_literal;
use super::value::SqlValue;
use super::words::Words;
use crate::backend::postgres::statement::is_dirty;

/// Texts up to this length are kept.
const LONGEST_KEPT: usize = 64 * 1024;

/// How many statements a thread keeps; a power of two.
const KEPT: usize = 64;

/// What `PREPARE` takes.
const PREPARABLE: [&str; 8] = [
    "select", "insert", "update", "delete", "merge", "values", "table", "with",
];

#[derive(Debug)]
pub(in super::super) struct Statement {
    text: Cow<'static, str>,
    hash: u64,
    /// Without blanks, comments and semicolons around it.
    body: Range<usize>,
    /// The parameters in their order in the text: where, and which.
    places: Vec<(Range<usize>, usize)>,
    params: usize,
    mistake: Option<String>,
    preparable: bool,
    read: bool,
    dirty: bool,
    insert: Option<Insert>,
    masked: Box<str>,
}

impl PartialEq for Statement {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.text == other.text
    }
}

impl Eq for Statement {}

impl Hash for Statement {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Statement {
    fn new(text: Cow<'static, str>) -> Self {
        let (found, open) = tokens(&text);
        let words = Words {
            text: &text,
            tokens: &found,
        };
        let mistake = match open {
            Some(what) => Some(format!("the SQL has {what}")),
            None => words.mistake(),
        };
        let places: Vec<_> = found.iter().filter_map(place).collect();
        let params = places.iter().map(|(_, number)| *number).max().unwrap_or(0);
        let mut verb = words.verb().to_ascii_lowercase();
        verb.truncate(16);
        let preparable = PREPARABLE.contains(&verb.as_str()) && !words.selects_into();
        let body = words.body();
        let fit = mistake.is_none() && verb == "insert" && params > 0;
        Self {
            hash: hash_of(&text),
            params,
            preparable,
            read: mistake.is_none() && words.is_read(&verb),
            dirty: is_dirty(&text),
            insert: fit.then(|| Insert::of(&text[..body.end], &found)).flatten(),
            mistake,
            places,
            body,
            masked: words.masked().into(),
            text,
        }
    }

    pub(in super::super) fn text(&self) -> &str {
        &self.text
    }

    /// The statement itself, fit to stand between others.
    pub(in super::super) fn body(&self) -> &str {
        &self.text[self.body.clone()]
    }

    /// How many characters stand before the [body](Self::body).
    pub(in super::super) fn characters_before(&self) -> usize {
        self.text[..self.body.start].chars().count()
    }

    /// The highest number of a parameter.
    pub(in super::super) fn params(&self) -> usize {
        self.params
    }

    /// Why no server would take it, if none would.
    pub(in super::super) fn mistake(&self) -> Option<&str> {
        self.mistake.as_deref()
    }

    /// Whether `PREPARE` takes it.
    pub(in super::super) fn is_preparable(&self) -> bool {
        self.preparable
    }

    /// Whether it surely changes nothing.
    pub(in super::super) fn is_read(&self) -> bool {
        self.read
    }

    /// Whether it may leave something behind in its session.
    pub(in super::super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// If it is an INSERT of one row that many of which can be made one.
    pub(in super::super) fn insert(&self) -> Option<&Insert> {
        self.insert.as_ref()
    }

    /// Its text without a value: literals are question marks, comments are left out.
    pub(in super::super) fn masked(&self) -> &str {
        &self.masked
    }

    /// Adds its body with the values in place of the parameters.
    pub(in super::super) fn push_with_values(&self, out: &mut String, values: &[SqlValue]) {
        let mut from = self.body.start;
        for (place, number) in &self.places {
            out.push_str(&self.text[from..place.start]);
            // A word before it would make it another kind of literal.
            out.push(' ');
            push_literal(out, values.get(number - 1).unwrap_or(&SqlValue::Null));
            out.push(' ');
            from = place.end;
        }
        out.push_str(&self.text[from..self.body.end]);
    }
}

fn place(token: &Token) -> Option<(Range<usize>, usize)> {
    match token.kind {
        Kind::Param(number) => Some((token.start..token.end, number as usize)),
        _ => None,
    }
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

thread_local! {
    static LAST: RefCell<[Option<Arc<Statement>>; KEPT]> = const { RefCell::new([const { None }; KEPT]) };
}

/// What is known about this text.
pub(in super::super) fn known(text: Cow<'static, str>) -> Arc<Statement> {
    if text.len() > LONGEST_KEPT {
        return Arc::new(Statement::new(text));
    }
    let slot = slot_of(&text);
    let kept = LAST.try_with(|last| {
        let last = last.try_borrow().ok()?;
        let both = [&last[slot], &last[slot ^ 1]];
        let same = |statement: &&Arc<Statement>| statement.text == text;
        both.into_iter().flatten().find(same).cloned()
    });
    if let Ok(Some(statement)) = kept {
        return statement;
    }
    let statement = Arc::new(Statement::new(text));
    // While the thread ends there is nothing to keep it in, and no need.
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            last[slot ^ 1] = last[slot].replace(Arc::clone(&statement));
        }
    });
    statement
}

/// Where a text is kept, there or beside: by its length and a few of its bytes, as reading all of them
/// takes longer than the comparison that follows.
fn slot_of(text: &str) -> usize {
    let bytes = text.as_bytes();
    let length = bytes.len();
    [length / 7, length / 3, length / 2, length * 5 / 6]
        .iter()
        .filter_map(|at| bytes.get(*at))
        .fold(length, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
        })
        % KEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(sql: &'static str) -> Statement {
        Statement::new(sql.into())
    }

    #[test]
    fn mistakes_are_found() {
        for (sql, part) in [
            ("", "empty"),
            (" \n-- nothing\n/* at all */;;", "empty"),
            ("SELECT 1\0", "NUL"),
            ("SELECT 'a", "does not end"),
            ("SELECT 1; SELECT 2", "more than one"),
            ("SELECT 1;; ; DROP TABLE t;", "more than one"),
            ("begin", "BEGIN"),
            ("/* x */ Start Transaction", "START"),
            ("COMMIT PREPARED 'x'", "COMMIT"),
            ("PREPARE TRANSACTION 'x'", "PREPARE"),
            ("RoLLbaCK to savepoint x", "ROLLBACK"),
            ("COPY t FROM STDIN", "COPY"),
            ("SELECT $0", "$0"),
            ("SELECT $65536", "$65536"),
        ] {
            let found = about(sql);
            assert!(
                found.mistake().is_some_and(|text| text.contains(part)),
                "{sql}: {found:?}"
            );
            assert!(!found.is_read() && found.insert().is_none(), "{sql}");
        }
    }

    #[test]
    fn good_statements_have_no_mistake() {
        for sql in [
            "SELECT 1;",
            "SELECT ';'; -- done",
            "PREPARE x AS SELECT 1",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
            "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; SELECT 2 $$",
            "DO 'BEGIN COMMIT; END'",
        ] {
            assert_eq!(about(sql).mistake(), None, "{sql}");
        }
    }

    #[test]
    fn reads_are_told_from_writes() {
        for sql in [
            "SELECT a FROM t WHERE b = $1 AND c IN ($2, $3)",
            "(select count(*), lower(a) from t) union (values (1, ''))",
            "TABLE t",
            "show all",
            "WITH x AS (SELECT 1) SELECT * FROM x",
            "SELECT 'delete' AS \"update\"",
        ] {
            assert!(about(sql).is_read(), "{sql}");
        }
        for sql in [
            "SELECT a FROM t FOR UPDATE",
            "SELECT a FROM t FOR NO KEY UPDATE",
            "SELECT a FROM t FOR KEY SHARE",
            "SELECT a INTO b FROM t",
            "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x",
            "SELECT pay($1)",
            "SELECT mine.lower($1)",
            "SELECT \"lower\"($1)",
            "SELECT nextval('s')",
            "EXPLAIN ANALYZE DELETE FROM t",
            "UPDATE t SET a = 1",
            "CALL p()",
        ] {
            assert!(!about(sql).is_read(), "{sql}");
        }
    }

    #[test]
    fn what_can_be_prepared() {
        for (sql, expected) in [
            ("  (SELECT 1)", true),
            ("INSERT INTO t VALUES ($1)", true),
            (
                "WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x",
                true,
            ),
            ("SELECT 1 INTO t", false),
            ("CREATE TABLE t AS SELECT 1", false),
            ("VACUUM", false),
        ] {
            assert_eq!(about(sql).is_preparable(), expected, "{sql}");
        }
    }

    #[test]
    fn masks_every_literal_and_comment() {
        let found = about(
            "SELECT a, 'x''y' /* hunter2 */ FROM t1 WHERE b=E'\\'z' AND c > 1.5e-3 -- hunter2\n AND d = $1;",
        );
        assert_eq!(
            found.masked(),
            "SELECT a, ? FROM t1 WHERE b=? AND c > ? AND d = $1;"
        );
    }

    #[test]
    fn values_take_the_parameters_places() {
        let found = about(" SELECT $2, '$1', a$1, $1::int, E $3 -- $1 \n;");
        let mut out = String::new();
        found.push_with_values(&mut out, &[7.into(), "it's".into(), SqlValue::Null]);
        assert_eq!(found.params(), 3);
        assert_eq!(out, "SELECT  'it''s' , '$1', a$1,  '7' ::int, E  NULL ");
        let mut out = String::new();
        about("SELECT $1+$1;").push_with_values(&mut out, &[r"\".into()]);
        assert_eq!(out, r"SELECT   E'\\' +  E'\\' ");
    }

    #[test]
    fn two_texts_of_one_place_are_kept_beside_each_other() {
        let texts: Vec<String> = (0..2000).map(|n| format!("SELECT {n} + $1")).collect();
        let slot = slot_of(&texts[0]);
        let mut rivals = texts.iter().filter(|text| slot_of(text) == slot).cloned();
        let [a, b] = [rivals.next(), rivals.next()].map(|text| text.expect("of 64 places"));
        let [first, second] = [&a, &b].map(|text| known(text.clone().into()));
        assert!(Arc::ptr_eq(&first, &known(a.into())));
        assert!(Arc::ptr_eq(&second, &known(b.into())));
    }

    #[test]
    fn the_same_text_is_analysed_once() {
        let first = known("SELECT 1 WHERE $1".into());
        let second = known(String::from("SELECT 1 WHERE $1").into());
        assert!(Arc::ptr_eq(&first, &second));
        assert!(*first != *known("SELECT 2 WHERE $1".into()));
    }
}
