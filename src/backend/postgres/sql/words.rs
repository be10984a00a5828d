//! Questions about a text by its words, without regard to the case of key words.

use std::ops::Range;

use super::functions::is_harmless;
use super::lexer::{Kind, Token};

/// As many parameters as the protocol can count.
const MOST_PARAMETERS: u32 = 65_535;

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

/// The words of a text.
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
    pub(super) fn verb(self) -> &'a str {
        let first = self
            .tokens
            .iter()
            .position(|token| token.kind != Kind::Sign(b'('));
        first.map_or("", |first| self.at(first))
    }

    pub(super) fn body(self) -> Range<usize> {
        let is_end = |token: &&Token| token.kind == Kind::Sign(b';');
        let first = self.tokens.iter().find(|token| !is_end(token));
        let last = self.tokens.iter().rfind(|token| !is_end(token));
        match (first, last) {
            (Some(first), Some(last)) => first.start..last.end,
            _ => 0..0,
        }
    }

    pub(super) fn masked(self) -> String {
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

    pub(super) fn mistake(self) -> Option<String> {
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
    pub(super) fn selects_into(self) -> bool {
        (0..self.tokens.len()).any(|position| {
            let after_verb = position > 0
                && (self.is_word(position - 1, "insert") || self.is_word(position - 1, "merge"));
            self.is_word(position, "into") && !after_verb
        })
    }

    pub(super) fn is_read(self, verb: &str) -> bool {
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
