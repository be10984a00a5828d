//! What of values is shown, and what of texts that repeat them.

#[cfg(any(feature = "postgres", feature = "mongodb"))]
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether values are shown, in the whole process.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// A bound text that is shorter is not looked for in messages: it would be found in any word.
const SHORTEST: usize = 4;

/// Whether values are masked from now on, in the whole process
/// (`SECURITY_MASK_SENSITIVE_DATA`); `true` by default.
///
/// `false` is for a developer's machine: errors then repeat what the servers said of rows and
/// arguments, and `Debug` of operations and replies shows what is in them. Passwords, tokens and
/// keys that the settings hold are never shown.
///
/// ```
/// millpond::security::mask_values(true);
/// assert!(millpond::security::values_are_masked());
/// ```
pub fn mask_values(on: bool) {
    SHOWN.store(!on, Relaxed);
}

/// Whether values are masked.
pub fn values_are_masked() -> bool {
    !SHOWN.load(Relaxed)
}

/// The text without what is between the first and the last of these quotes. A value may contain
/// the quote itself, so nothing in between is certain to be no value.
#[cfg(any(feature = "postgres", feature = "mongodb"))]
pub(crate) fn unquoted(text: &str, open: char, close: char) -> Cow<'_, str> {
    let Some(first) = text.find(open) else {
        return text.into();
    };
    let (before, rest) = text.split_at(first + open.len_utf8());
    // One that was cut off has no end.
    let after = rest.rfind(close).map_or("", |last| &rest[last..]);
    format!("{before}?{after}").into()
}

/// The text with a `?` for each of these values in it.
pub(crate) fn without(text: &str, each: impl FnOnce(&mut dyn FnMut(&str))) -> Option<String> {
    let mut changed: Option<String> = None;
    each(&mut |value| {
        let text = changed.as_deref().unwrap_or(text);
        if (SHORTEST..=text.len()).contains(&value.len()) && text.contains(value) {
            changed = Some(text.replace(value, "?"));
        }
    });
    changed
}

/// Whether what goes by this name (a header, a field) is no value to be shown, ever.
#[cfg(any(feature = "http", feature = "mongodb"))]
pub(crate) fn is_secret_name(name: &str) -> bool {
    const SIGNS: [&str; 9] = [
        "auth",
        "cookie",
        "credential",
        "key",
        "pass",
        "pwd",
        "secret",
        "session",
        "token",
    ];
    let name = name.to_ascii_lowercase();
    SIGNS.iter().any(|sign| name.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(feature = "postgres", feature = "mongodb"))]
    #[test]
    fn quotes_inside_a_value_and_values_cut_off_hide_nothing() {
        let quoted = |text| unquoted(text, '"', '"').into_owned();
        assert_eq!(quoted("no quotes"), "no quotes");
        assert_eq!(quoted("type integer: \"a\"b\""), "type integer: \"?\"");
        assert_eq!(quoted("value \"a\" for \"b\" is bad"), "value \"?\" is bad");
        assert_eq!(quoted("it begins \"and"), "it begins \"?");
        assert_eq!(unquoted("dup { a: \"}{\" } !", '{', '}'), "dup {?} !");
    }

    #[test]
    fn values_are_taken_out_of_texts() {
        let values = |see: &mut dyn FnMut(&str)| {
            for value in ["hunter2", "a", "", "not here at all", "bad h"] {
                see(value);
            }
        };
        assert_eq!(
            without("a bad hunter2, hunter2", values).as_deref(),
            Some("a bad ?, ?")
        );
        assert_eq!(without("a word", values), None);
    }

    #[cfg(any(feature = "http", feature = "mongodb"))]
    #[test]
    fn names_of_secrets() {
        for name in [
            "Authorization",
            "X-API-Key",
            "password",
            "Set-Cookie",
            "csrfToken",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["Accept", "name", "email"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
