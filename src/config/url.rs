//! URLs with passwords.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// A URL with a password.
pub(super) struct Parts<'a> {
    pub(super) scheme: &'a str,
    pub(super) user: &'a str,
    /// Decoded.
    pub(super) password: Zeroizing<String>,
    pub(super) hosts: &'a str,
    pub(super) tail: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let (login, hosts) = authority.rsplit_once('@')?;
        let (user, password) = login.split_once(':')?;
        let password = percent_decode_str(password).decode_utf8_lossy();
        Some(Self {
            scheme,
            user,
            password: Zeroizing::new(Cow::into_owned(password)),
            hosts,
            tail,
        })
    }

    pub(super) fn with_password(&self, password: &str) -> String {
        let Self {
            scheme,
            user,
            hosts,
            tail,
            ..
        } = self;
        format!("{scheme}://{user}:{password}@{hosts}{tail}")
    }
}

/// Whether a password with an unescaped `/`, `?` or `#` has cut the URL in two, so that parts of
/// it would be taken for a host, a database or a setting, and shown.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) fn is_torn(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let path = tail.split(['?', '#']).next().unwrap_or_default();
    path.contains('@') || !authority.contains('@') && tail.contains('@')
}

/// What is accepted instead.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) const ESCAPED: &str = "a URL in which special characters of user and password are \
                                  percent-encoded (`@` as %40, `/` as %2F, `?` as %3F, `#` as %23)";

#[cfg(test)]
mod tests {
    #[cfg(any(feature = "postgres", feature = "redis"))]
    #[test]
    fn passwords_that_cut_a_url_in_two_are_noticed() {
        for torn in [
            "a://u:p/w@h/d",
            "a://u:p?w@h",
            "a://u:p#w@h",
            "a://u:p@x/w@h/d",
        ] {
            assert!(super::is_torn(torn), "{torn}");
        }
        for whole in [
            "a://u:p@h/d",
            "a://u:p@w@h",
            "a://h/d?o=1",
            "a://u@h/d?mail=a@b",
            "x",
        ] {
            assert!(!super::is_torn(whole), "{whole}");
        }
    }
}
