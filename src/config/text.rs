//! Texts from outside: how they are shown, and whether they can be a host's name.

#[cfg(feature = "_net")]
use std::fmt;
#[cfg(any(feature = "postgres", feature = "redis"))]
use std::net::SocketAddr;
#[cfg(any(
    feature = "postgres",
    feature = "redis",
    feature = "mongodb",
    all(feature = "exporter", feature = "_net")
))]
use std::net::{IpAddr, Ipv6Addr};
#[cfg(any(feature = "_net", feature = "exporter", feature = "audit"))]
use std::path::Path;

/// A wrong value is shown so far.
const SHOWN: usize = 100;

/// In each key that somebody put where the path of its file belongs.
const PEM: &str = "-----BEGIN ";

/// What is said of a URL that cannot be what was meant.
#[cfg(any(feature = "postgres", feature = "redis", feature = "http"))]
pub(crate) const ESCAPED: &str =
    "a URL in whose user and password `@` is written %40, `:` %3A, `/` %2F, `?` %3F and `#` %23";

/// A text from outside as one can print it: on one line, and not endless. Somebody may have put
/// a URL with a password where it does not belong.
pub(crate) fn shown(value: &str) -> String {
    let has_login = value.contains('@') && !value.starts_with('/');
    if has_login || value.contains("://") || value.contains(PEM) || has_setting_of_secret(value) {
        return "***".to_owned();
    }
    printable(value)
}

/// The path of a file as one can print it.
#[cfg(feature = "_net")]
pub(crate) fn shown_path(path: &Path) -> String {
    let path = path.to_string_lossy();
    if is_torn(&path) {
        "***".to_owned()
    } else {
        printable(&path)
    }
}

/// The path of a file with a secret as one can print it. Somebody may have put the secret itself
/// where the path belongs.
#[cfg(any(feature = "_net", feature = "exporter", feature = "audit"))]
pub(super) fn shown_path_of_secret(path: &str) -> String {
    let folder = Path::new(path).parent().filter(|it| *it != Path::new(""));
    if path.starts_with('/') || folder.is_some_and(Path::is_dir) {
        shown(path)
    } else {
        "***".to_owned()
    }
}

/// A setting as `Debug` prints it, unless it looks like a part of a URL that was torn.
#[cfg(feature = "_net")]
pub(crate) struct Plain<T>(pub(crate) T);

#[cfg(feature = "_net")]
impl<T: fmt::Debug> fmt::Debug for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_torn(&format!("{:?}", self.0)) {
            f.write_str("***")
        } else {
            self.0.fmt(f)
        }
    }
}

/// Whether there is a login in it, or a password by its name, as in a part of a URL that was torn.
/// `@` and `=` alone are usual in paths and names.
#[cfg(feature = "_net")]
pub(super) fn is_torn(text: &str) -> bool {
    let has_login = |part: &str| {
        let after = part.split_once(':');
        after.is_some_and(|(_, rest)| rest.contains('@'))
    };
    let has_password = || {
        let lower = text.to_ascii_lowercase();
        ["pass=", "password=", "pwd="]
            .iter()
            .any(|name| lower.contains(name))
    };
    text.contains("://") || text.contains(PEM) || text.split('/').any(has_login) || has_password()
}

/// Whether a part of it looks like `password=...`, as in the end of a URL that was torn.
fn has_setting_of_secret(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let names = ["pass", "pwd", "secret", "token", "key"];
    value.contains('=') && names.iter().any(|name| lower.contains(name))
}

/// A text that is no secret as one can print it: on one line, and not endless.
pub(crate) fn printable(value: &str) -> String {
    let mut shown = String::new();
    for letter in value.chars().take(SHOWN) {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    if value.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Whether this can be a host: an IP address without brackets, or a name. A port, a login or a
/// path is none of it.
#[cfg(any(
    feature = "postgres",
    feature = "redis",
    feature = "mongodb",
    all(feature = "exporter", feature = "_net")
))]
pub(crate) fn is_host(text: &str) -> bool {
    let odd = |letter: char| {
        letter.is_control()
            || letter.is_whitespace()
            || ":/\\@?#[]<>\"'`,;%*|(){}&=!$^+~".contains(letter)
    };
    !text.is_empty() && text.len() <= 255 && (!text.contains(odd) || is_address(text))
}

/// Whether this is an IP address, perhaps with the zone in which it counts: `fe80::1%eth0`.
#[cfg(any(
    feature = "postgres",
    feature = "redis",
    feature = "mongodb",
    all(feature = "exporter", feature = "_net")
))]
pub(crate) fn is_address(text: &str) -> bool {
    let Some((address, zone)) = text.split_once('%') else {
        return text.parse::<IpAddr>().is_ok();
    };
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
    !zone.is_empty() && zone.chars().all(fits) && address.parse::<Ipv6Addr>().is_ok()
}

/// The host of this address, with its zone.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) fn host_of(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V6(address) if address.scope_id() != 0 => {
            format!("{}%{}", address.ip(), address.scope_id())
        }
        _ => address.ip().to_string(),
    }
}

/// An IP address without the brackets that URLs put around it; anything else as it is.
#[cfg(any(
    feature = "postgres",
    feature = "redis",
    feature = "mongodb",
    all(feature = "exporter", feature = "_net")
))]
pub(crate) fn bare(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.filter(|inner| inner.contains(':')).unwrap_or(host)
}

/// `host:port`, `[::1]:port`, or a host alone: an IPv6 address without brackets has no port.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') && !host.ends_with(']') => (bare(text), None),
        Some((host, port)) => (bare(host), Some(port)),
        None => (bare(text), None),
    }
}

/// The parts of a URL where a password with a bare `/`, `?` or `#` in it would end up.
#[cfg(feature = "_net")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    /// Where it belongs, if there is one.
    InPlace,
    /// Perhaps behind the host: what is wrong there is not repeated.
    Doubtful,
    /// Behind the host: no database is called so.
    Astray,
}

/// Where the login of this URL seems to be.
#[cfg(feature = "_net")]
pub(crate) fn login(url: &str) -> Login {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (path, more) = tail.split_at(tail.find(['?', '#']).unwrap_or(tail.len()));
    // The end of another URL, in the middle of the hosts.
    let has_another = authority.ends_with(':') && path.starts_with("//");
    if has_another || path.contains('@') && !authority.is_empty() {
        Login::Astray
    } else if more.contains('@') && !authority.is_empty() && !authority.contains('@') {
        Login::Doubtful
    } else {
        Login::InPlace
    }
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;

    #[test]
    fn what_is_shown_is_short_on_one_line_and_no_login() {
        assert_eq!(shown("many"), "many");
        assert_eq!(shown("a\nb\u{1b}[31m\0"), "a\\nb\\u{1b}[31m\\u{0}");
        assert_eq!(shown("postgres://h"), "***");
        assert_eq!(shown("app:hunter2@h"), "***");
        assert_eq!(shown("-----BEGIN PRIVATE KEY-----\nMII"), "***");
        assert_eq!(shown("l&password=hunter2&options=x"), "***");
        for (path, as_shown) in [
            ("/run/credentials/app@1.service/ca=1.pem", None),
            ("/certificates/12:30.pem", None),
            ("/ca.pmongodb://app:hunter2@h", Some("***")),
            ("/ca.p/app:hunter2@h", Some("***")),
        ] {
            assert_eq!(shown_path(Path::new(path)), as_shown.unwrap_or(path));
        }
        let long = shown(&"é".repeat(1 << 20));
        assert_eq!(long.chars().count(), SHOWN + 3);
    }

    #[test]
    fn what_may_be_a_secret_is_no_path() {
        for path in ["/run/secrets/db", "src/none", "./none", "../none"] {
            assert_eq!(shown_path_of_secret(path), path);
        }
        for secret in ["hunter2", "no/such", "/a\n-----BEGIN PRIVATE KEY-----", ""] {
            assert_eq!(shown_path_of_secret(secret), "***", "{secret}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in [
            "localhost",
            "db_1.internal",
            "10.0.0.1",
            "::1",
            "fe80::1%eth0",
            "käse.example",
        ] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a:5432",
            "u@h",
            "http://h",
            "[::1]",
            "a/b",
            "a%",
            "a\0",
            "fe80::1%",
            "fe80::1%a b",
            "10.0.0.1%eth0",
            "a%eth0",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
        assert!(!is_host(&"a".repeat(256)));
        assert_eq!((bare("[::1]"), bare("[a]"), bare("h")), ("::1", "[a]", "h"));
    }

    #[test]
    fn an_address_keeps_its_zone() {
        let ip = "fe80::1".parse().expect("an address");
        for (zone, host) in [(0, "fe80::1"), (2, "fe80::1%2")] {
            let address = SocketAddrV6::new(ip, 1, 0, zone).into();
            assert_eq!(host_of(&address), host);
            assert!(is_address(host));
        }
        assert!(!is_address("db.internal"));
    }

    #[test]
    fn a_login_that_is_not_escaped_is_seen() {
        for (url, found) in [
            ("postgres://u:p@h/d?application_name=a@b", Login::InPlace),
            ("postgres:///d?host=/run/a@b", Login::InPlace),
            ("unix:///run/a@b.sock", Login::InPlace),
            ("postgres://u:p/w@h/d", Login::Astray),
            ("postgres://a,http://u:p.h/d", Login::Astray),
            ("postgres://u:p?w@h/d", Login::Doubtful),
            ("redis://u:p#w@h", Login::Doubtful),
        ] {
            assert_eq!(login(url), found, "{url}");
        }
    }
}
