//! Cuts SQL text into tokens, as PostgreSQL's own scanner does (`scan.l`), as far as is
//! needed to find parameters, the end of a statement and the words outside of literals.
//!
//! Invariants: spans are in order, do not overlap, and lie on character boundaries; every
//! byte that is in none is white space or part of a comment. The server's setting
//! `standard_conforming_strings` is taken to be on, its default since 9.1.

use std::fmt;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A key word or a plain identifier.
    Word,
    /// An identifier in double quotes.
    Quoted,
    /// A string of any kind, its prefix and its continuation lines included.
    Text,
    Number,
    /// `$n`; more than `u32::MAX` counts as that.
    Param(u32),
    /// A character of an operator, a bracket, a comma.
    Sign(u8),
}

/// A token and where it stands, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// What the text ends in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unterminated {
    Text,
    Quoted,
    Comment,
}

impl fmt::Display for Unterminated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "a string that does not end",
            Self::Quoted => "a quoted identifier that does not end",
            Self::Comment => "a comment that does not end",
        })
    }
}

/// All tokens, or those before what does not end.
pub(super) fn tokens(sql: &str) -> (Vec<Token>, Option<Unterminated>) {
    let mut scanner = Scanner {
        text: sql.as_bytes(),
        at: 0,
    };
    let mut found = Vec::with_capacity(sql.len() / 4);
    loop {
        match scanner.token() {
            Ok(Some(token)) => found.push(token),
            Ok(None) => return (found, None),
            Err(what) => return (found, Some(what)),
        }
    }
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

fn continues_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn skip_while(&mut self, goes_on: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&goes_on) {
            self.at += 1;
        }
    }

    fn token(&mut self) -> Result<Option<Token>, Unterminated> {
        self.skip_blank()?;
        let Some(first) = self.peek(0) else {
            return Ok(None);
        };
        let start = self.at;
        let kind = match first {
            b'\'' => self.text(false)?,
            b'"' => self.quoted()?,
            b'$' => self.dollar()?,
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_some_and(|next| next.is_ascii_digit()) => self.number(),
            _ if begins_word(first) => self.word(first)?,
            sign => {
                self.at += 1;
                Kind::Sign(sign)
            }
        };
        Ok(Some(Token {
            kind,
            start,
            end: self.at,
        }))
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) -> Result<(), Unterminated> {
        loop {
            self.skip_while(is_space);
            match (self.peek(0), self.peek(1)) {
                (Some(b'-'), Some(b'-')) => self.skip_line(),
                (Some(b'/'), Some(b'*')) => self.skip_comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn skip_line(&mut self) {
        self.skip_while(|byte| byte != b'\n' && byte != b'\r');
    }

    /// Comments of this kind nest.
    fn skip_comment(&mut self) -> Result<(), Unterminated> {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(Unterminated::Comment),
            }
        }
    }

    /// A word, unless it is the prefix of a string or of a quoted identifier.
    fn word(&mut self, first: u8) -> Result<Kind, Unterminated> {
        match (first, self.peek(1), self.peek(2)) {
            (b'e' | b'E', Some(b'\''), _) => {
                self.at += 1;
                return self.text(true);
            }
            (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', Some(b'\''), _) => {
                self.at += 1;
                return self.text(false);
            }
            (b'u' | b'U', Some(b'&'), Some(b'\'')) => {
                self.at += 2;
                return self.text(false);
            }
            (b'u' | b'U', Some(b'&'), Some(b'"')) => {
                self.at += 2;
                return self.quoted();
            }
            _ => {}
        }
        self.skip_while(continues_word);
        Ok(Kind::Word)
    }

    /// A string from its opening quote on. It goes on after white space with a line feed
    /// in it, if another quote follows; with the same rule for backslashes.
    fn text(&mut self, backslash: bool) -> Result<Kind, Unterminated> {
        loop {
            self.at += 1;
            self.find_quote(backslash)?;
            if !self.continues() {
                return Ok(Kind::Text);
            }
        }
    }

    /// To behind the closing quote.
    fn find_quote(&mut self, backslash: bool) -> Result<(), Unterminated> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'\''), Some(b'\'')) => self.at += 2,
                (Some(b'\''), _) => {
                    self.at += 1;
                    return Ok(());
                }
                (Some(b'\\'), Some(_)) if backslash => self.at += 2,
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(Unterminated::Text),
            }
        }
    }

    /// Goes to the quote with which the string goes on; stays here if there is none.
    fn continues(&mut self) -> bool {
        let here = self.at;
        loop {
            self.skip_while(is_space);
            if (self.peek(0), self.peek(1)) != (Some(b'-'), Some(b'-')) {
                break;
            }
            self.skip_line();
        }
        let broken = self.text[here..self.at]
            .iter()
            .any(|byte| matches!(byte, b'\n' | b'\r'));
        if broken && self.peek(0) == Some(b'\'') {
            return true;
        }
        self.at = here;
        false
    }

    fn quoted(&mut self) -> Result<Kind, Unterminated> {
        self.at += 1;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'"'), Some(b'"')) => self.at += 2,
                (Some(b'"'), _) => {
                    self.at += 1;
                    return Ok(Kind::Quoted);
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(Unterminated::Quoted),
            }
        }
    }

    /// A parameter, or a string between `$tag$`s.
    fn dollar(&mut self) -> Result<Kind, Unterminated> {
        let start = self.at;
        self.at += 1;
        if self.peek(0).is_some_and(|next| next.is_ascii_digit()) {
            let digits = self.at;
            self.skip_while(|byte| byte.is_ascii_digit());
            let number = self.text[digits..self.at].iter().fold(0_u32, |sum, digit| {
                sum.saturating_mul(10)
                    .saturating_add(u32::from(digit - b'0'))
            });
            return Ok(Kind::Param(number));
        }
        if self.peek(0).is_some_and(begins_word) {
            self.skip_while(|byte| continues_word(byte) && byte != b'$');
        }
        if self.peek(0) != Some(b'$') {
            self.at = start + 1;
            return Ok(Kind::Sign(b'$'));
        }
        self.at += 1;
        let tag = &self.text[start..self.at];
        let rest = &self.text[self.at..];
        let Some(length) = rest.windows(tag.len()).position(|window| window == tag) else {
            return Err(Unterminated::Text);
        };
        self.at += length + tag.len();
        Ok(Kind::Text)
    }

    fn number(&mut self) -> Kind {
        loop {
            self.skip_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
            let exponent = matches!(self.text[self.at - 1], b'e' | b'E');
            let hexadecimal = self.text[..self.at]
                .iter()
                .rev()
                .take_while(|byte| byte.is_ascii_alphanumeric())
                .any(|byte| matches!(byte, b'x' | b'X'));
            let signed = matches!(self.peek(0), Some(b'+' | b'-'))
                && self.peek(1).is_some_and(|next| next.is_ascii_digit());
            if !(exponent && signed && !hexadecimal) {
                return Kind::Number;
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(sql: &str) -> Vec<&str> {
        let (tokens, open) = tokens(sql);
        assert_eq!(open, None, "{sql}");
        tokens
            .iter()
            .map(|token| &sql[token.start..token.end])
            .collect()
    }

    #[test]
    fn literals_hide_what_is_in_them() {
        for (sql, expected) in [
            ("a'b''$1;--'c", vec!["a", "'b''$1;--'", "c"]),
            (r"E'\'$1' $2", vec![r"E'\'$1'", "$2"]),
            (r"'\' $2", vec![r"'\'", "$2"]),
            ("E'a'\n 'b\\'c' $1", vec!["E'a'\n 'b\\'c'", "$1"]),
            ("'a' -- x\n'b'", vec!["'a' -- x\n'b'"]),
            ("'a' 'b'", vec!["'a'", "'b'"]),
            ("$$;$1$$ $2", vec!["$$;$1$$", "$2"]),
            ("$a$ $b$ $$ $a$,$3", vec!["$a$ $b$ $$ $a$", ",", "$3"]),
            ("a$1", vec!["a$1"]),
            ("a$b$c", vec!["a$b$c"]),
            ("\"a\"\"$1\" x", vec!["\"a\"\"$1\"", "x"]),
            ("U&'\\0041' u&\"x\"", vec!["U&'\\0041'", "u&\"x\""]),
            ("n'x' B'01' X'1f'", vec!["n'x'", "B'01'", "X'1f'"]),
            ("1 /* a /* $1 */ ; */ 2--$3\n3", vec!["1", "2", "3"]),
            (
                "1e-5+.5-0x1e-2",
                vec!["1e-5", "+", ".5", "-", "0x1e", "-", "2"],
            ),
            ("a.$1::int", vec!["a", ".", "$1", ":", ":", "int"]),
            ("größe=$1", vec!["größe", "=", "$1"]),
            ("$ 1", vec!["$", "1"]),
        ] {
            assert_eq!(cut(sql), expected, "{sql}");
        }
    }

    #[test]
    fn parameters_have_their_number() {
        let (found, _) = tokens("$1 $65536 $99999999999");
        let kinds: Vec<Kind> = found.iter().map(|token| token.kind).collect();
        assert_eq!(
            kinds,
            [Kind::Param(1), Kind::Param(65_536), Kind::Param(u32::MAX)]
        );
    }

    #[test]
    fn what_does_not_end_is_noticed() {
        for (sql, what) in [
            ("SELECT 'a", Unterminated::Text),
            (r"SELECT E'a\'", Unterminated::Text),
            ("SELECT $a$ x $b$", Unterminated::Text),
            ("SELECT \"a", Unterminated::Quoted),
            ("SELECT 1 /* /* */", Unterminated::Comment),
        ] {
            assert_eq!(tokens(sql).1, Some(what), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_cut_at_character_boundaries(sql in ".*") {
            let (found, _) = tokens(&sql);
            let mut last = 0;
            for token in found {
                prop_assert!(token.start >= last && token.end > token.start);
                prop_assert!(sql.get(token.start..token.end).is_some());
                last = token.end;
            }
        }

        #[test]
        fn pieces_are_found_again(pieces in proptest::collection::vec(
            prop_oneof![
                "[a-z_][a-z0-9_]{0,8}".prop_map(|word| if word.len() == 1 { word + "w" } else { word }),
                "'([^'\\x00]|''){0,9}'",
                r"E'([^'\\\x00]|''|\\.){0,9}'",
                "\"([^\"\\x00]|\"\"){0,9}\"",
                "\\$[0-9]{1,4}",
                "\\$q\\$[^$]{0,9}\\$q\\$",
                "[0-9]{1,5}",
                "[(),;=]",
            ],
            0..12,
        ), comment in prop_oneof![
            Just(" "), Just("\t"), Just("/* '$1 \" */"), Just("/* /* */ ' */"),
        ]) {
            let sql = pieces.join(comment);
            prop_assert_eq!(cut(&sql), pieces);
        }
    }
}
