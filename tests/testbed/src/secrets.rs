//! The secrets of the tests, marked, so that each can be told wherever it turns up.
//!
//! Every password, token and key of a server or of a test begins with [`MARK`], which no text of
//! ours, of a server or of a driver has; and so do the values that tests send, where it does not
//! matter what they are: [`value`] and [`number`]. [`bears_mark`] knows the mark in each form in
//! which it could be written.

use std::fmt::{Display, Write as _};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

/// A password, token or key that bears the mark: `secret!("right")`. Fit for a URL if what is
/// given is; a `&'static str`.
#[macro_export]
macro_rules! secret {
    ($what:literal) => {
        concat!("Canary7f3aZ-", $what)
    };
}

/// What all [`secret!`]s have in common.
pub const MARK: &str = "Canary7f3aZ";

/// The mark of numbers: what they begin with in decimal digits.
const NUMBERS: i64 = 730_194_756_283;
/// How many numbers there are with that.
const ROOM: i64 = 1_000_000;

/// A text to send as a value, with the mark.
#[must_use]
pub fn value(what: impl Display) -> String {
    format!("{MARK}-{what}")
}

/// What such a text was made of.
///
/// # Panics
/// If it is another text.
#[must_use]
pub fn what(value: &str) -> &str {
    let what = value
        .strip_prefix(MARK)
        .and_then(|rest| rest.strip_prefix('-'));
    what.expect("a marked value")
}

/// A number to send as a value, with the mark.
///
/// # Panics
/// If it is negative, or has more than six digits.
#[must_use]
pub fn number(which: impl Into<i64>) -> i64 {
    let which = which.into();
    assert!((0..ROOM).contains(&which), "no room for {which}");
    NUMBERS * ROOM + which
}

/// Which of them it is.
///
/// # Panics
/// If it is another number.
#[must_use]
pub fn which(number: i64) -> i64 {
    assert_eq!(number / ROOM, NUMBERS, "no marked number");
    number % ROOM
}

/// The mark as it may be written: in any case of letters, and as given.
struct Forms {
    /// As it is and as hexadecimal digits; in small letters.
    folded: [String; 2],
    /// As `Debug` writes bytes, as base64 of a text that has it anywhere, and that of numbers.
    exact: [String; 5],
}

static FORMS: LazyLock<Forms> = LazyLock::new(|| {
    let hex = MARK.bytes().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let bytes: Vec<_> = MARK.bytes().map(|byte| byte.to_string()).collect();
    Forms {
        folded: [MARK.to_ascii_lowercase(), hex],
        exact: [
            bytes.join(", "),
            base64(0),
            base64(1),
            base64(2),
            NUMBERS.to_string(),
        ],
    }
});

/// The digits of base64 that are the mark's alone, of a text with so many bytes before it, modulo 3.
fn base64(before: usize) -> String {
    let digits = BASE64.encode(format!("{}{MARK}", &"  "[..before]));
    let alone = (before * 8).div_ceil(6)..(before + MARK.len()) * 8 / 6;
    digits[alone].to_owned()
}

/// Whether a line has the mark, as it is or encoded: in other letters, as hexadecimal digits, as
/// base64, or as the numbers of its bytes.
#[must_use]
pub fn bears_mark(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    FORMS.folded.iter().any(|form| lower.contains(form))
        || FORMS.exact.iter().any(|form| line.contains(form))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_can_be_told_apart() {
        assert_eq!(what(&value(17)), "17");
        assert_eq!(which(number(17)), 17);
    }

    #[test]
    fn the_mark_is_known_in_each_form() {
        let secret = secret!("right");
        assert!(secret.starts_with(MARK));
        let hex = secret.bytes().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02X}");
            hex
        });
        let mut forms = vec![
            format!("postgres://app:{secret}@h/d"),
            secret.to_uppercase(),
            hex,
            format!("{:?}", format!("a{secret}").as_bytes()),
        ];
        for number in [0, 7, ROOM - 1] {
            forms.push(format!("{:?}", Some(super::number(number))));
        }
        for user in ["a", "ab", "app", "test"] {
            forms.push(BASE64.encode(format!("{user}:{secret}")));
        }
        for form in forms {
            assert!(bears_mark(&format!("x {form}, y")), "{form}");
        }
        for other in ["canary", "/srv/canary/7f3a", "AAAA", "67, 97, 110", ""] {
            assert!(!bears_mark(other), "{other}");
        }
    }
}
