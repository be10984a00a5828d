//! What is known about a statement by its text alone; found out once per text.
//!
//! The last statements that a thread used are kept by that thread, so that the same text
//! costs a comparison. A kept statement is shared by its operations.

use std::borrow::Cow;
use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use super::functions::is_harmless;
use super::insert::Insert;
use super::lexer::{Kind, Token, tokens};
use super::literal::push_literal;
use super::value::SqlValue;
use crate::backend::postgres::statement::is_dirty;

/// As many parameters as the protocol can count.
const MOST_PARAMETERS: u32 = 65_535;

/// Texts up to this length are kept.
const LONGEST_KEPT: usize = 64 * 1024;

/// How many statements a thread keeps; a power of two.
const KEPT: usize = 64;

/// Statements that end, begin or divide a transaction. In a group they would end the
/// group's.
const TRANSACTION: [&str; 8] = [
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "release",
];

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

/// The words of a text; key words are compared without regard to case.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: &'a [Token],
}

impl<'a> Words<'a> {
    pub(super) fn at(self, position: usize) -> &'a str {
        self.tokens
            .get(position)
            .map_or("", |token| &self.text[token.start..token.end])
    }

    pub(super) fn is_word(self, position: usize, word: &str) -> bool {
        self.tokens
            .get(position)
            .is_some_and(|token| token.kind == Kind::Word)
            && self.at(position).eq_ignore_ascii_case(word)
    }

    pub(super) fn is_sign(self, position: usize, sign: u8) -> bool {
        self.tokens
            .get(position)
            .is_some_and(|token| token.kind == Kind::Sign(sign))
    }

    pub(super) fn has(self, word: &str) -> bool {
        (0..self.tokens.len()).any(|position| self.is_word(position, word))
    }

    /// The first word, brackets aside.
    fn verb(self) -> &'a str {
        let first = self
            .tokens
            .iter()
            .position(|token| token.kind != Kind::Sign(b'('));
        first.map_or("", |first| self.at(first))
    }

    fn body(self) -> Range<usize> {
        let is_end = |token: &&Token| token.kind == Kind::Sign(b';');
        let first = self.tokens.iter().find(|token| !is_end(token));
        let last = self.tokens.iter().rfind(|token| !is_end(token));
        match (first, last) {
            (Some(first), Some(last)) => first.start..last.end,
            _ => 0..0,
        }
    }

    fn masked(self) -> String {
        let mut out = String::with_capacity(self.text.len());
        let mut last = None;
        for token in self.tokens {
            if last.is_some_and(|end| end < token.start) {
                out.push(' ');
            }
            match token.kind {
                Kind::Text | Kind::Number => out.push('?'),
                _ => out.push_str(&self.text[token.start..token.end]),
            }
            last = Some(token.end);
        }
        out
    }

    fn mistake(self) -> Option<String> {
        if self.text.contains('\0') {
            return Some("the SQL contains a NUL character".into());
        }
        if self.body().is_empty() {
            return Some("the SQL is empty".into());
        }
        if self.has_several() {
            return Some(
                "the SQL has more than one statement; make each an operation of its own".into(),
            );
        }
        let verb = self.verb().to_ascii_lowercase();
        let ends_transaction = TRANSACTION.contains(&verb.as_str())
            || (verb == "prepare" && self.is_word(1, "transaction"));
        if ends_transaction {
            return Some(format!(
                "{} would steer a transaction; each operation is one by itself, and for larger \
                 ones there is `transaction` on a lease",
                verb.to_ascii_uppercase()
            ));
        }
        if verb == "copy" {
            return Some(
                "COPY is no operation; there are `copy_in` and `copy_out` on a lease".into(),
            );
        }
        let odd = self.tokens.iter().find_map(|token| match token.kind {
            Kind::Param(number) if number == 0 || number > MOST_PARAMETERS => Some(number),
            _ => None,
        })?;
        Some(format!(
            "there is no parameter ${odd}: they go from $1 to ${MOST_PARAMETERS}"
        ))
    }

    /// Whether something follows a semicolon. Those in brackets (of a rule) and in the
    /// body of a function do not count.
    fn has_several(self) -> bool {
        if self.is_word(0, "create") && self.has("atomic") {
            return false;
        }
        let mut depth = 0_i32;
        let mut ended = false;
        for token in self.tokens {
            match token.kind {
                Kind::Sign(b';') if depth <= 0 => ended = true,
                _ if ended => return true,
                Kind::Sign(b'(') => depth += 1,
                Kind::Sign(b')') => depth -= 1,
                _ => {}
            }
        }
        false
    }

    /// `SELECT ... INTO t` makes a table.
    fn selects_into(self) -> bool {
        (0..self.tokens.len()).any(|position| {
            let after_verb = position > 0
                && (self.is_word(position - 1, "insert") || self.is_word(position - 1, "merge"));
            self.is_word(position, "into") && !after_verb
        })
    }

    fn is_read(self, verb: &str) -> bool {
        match verb {
            "show" => true,
            "select" | "values" | "table" | "with" => {
                let writes = ["insert", "update", "delete", "merge", "into", "share"];
                !writes.iter().any(|word| self.has(word)) && self.calls_only(is_harmless)
            }
            _ => false,
        }
    }

    /// Whether only these words stand before brackets. A type in quotes or with a schema
    /// is not told from a function, and counts as one.
    pub(super) fn calls_only(self, allowed: impl Fn(&str) -> bool) -> bool {
        (1..self.tokens.len()).all(|position| {
            if !self.is_sign(position, b'(') {
                return true;
            }
            let before = self.tokens[position - 1];
            match before.kind {
                Kind::Word => {
                    let qualified = position >= 2 && self.is_sign(position - 2, b'.');
                    !qualified && allowed(&self.at(position - 1).to_ascii_lowercase())
                }
                Kind::Quoted => false,
                _ => true,
            }
        })
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
        let statement = last[slot].as_ref()?;
        (statement.text == text).then(|| Arc::clone(statement))
    });
    if let Ok(Some(statement)) = kept {
        return statement;
    }
    let statement = Arc::new(Statement::new(text));
    // While the thread ends there is nothing to keep it in, and no need.
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            last[slot] = Some(Arc::clone(&statement));
        }
    });
    statement
}

/// Where a text is kept: by its length and a few of its bytes, as reading all of them
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
    fn the_same_text_is_analysed_once() {
        let first = known("SELECT 1 WHERE $1".into());
        let second = known(String::from("SELECT 1 WHERE $1").into());
        assert!(Arc::ptr_eq(&first, &second));
        assert!(*first != *known("SELECT 2 WHERE $1".into()));
    }
}
