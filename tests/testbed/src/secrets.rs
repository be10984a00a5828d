//! The secrets of the tests, marked, so that each can be told wherever it turns up.
//!
//! Every password, token and key of a server or of a test begins with [`MARK`], which no text of
//! ours, of a server or of a driver has. [`bears_mark`] knows it in each form in which it could
//! be written.

use std::fmt::Write as _;
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

/// The mark as it may be written: in any case of letters, and as given.
struct Forms {
    /// As it is and as hexadecimal digits; in small letters.
    folded: [String; 2],
    /// As `Debug` writes bytes, and as base64 of a text that has it anywhere.
    exact: [String; 4],
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
        exact: [bytes.join(", "), base64(0), base64(1), base64(2)],
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
