//! URLs with passwords.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::known::SCHEMES;

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

/// The URLs in a list. A comma may also be a part of one: it is between two only where another one
/// of `http` or `https` begins behind it.
pub(super) fn listed(text: &str) -> Vec<&str> {
    let begins = |text: &str| {
        let text = text.trim_start();
        text.starts_with("http://") || text.starts_with("https://")
    };
    let mut urls = Vec::new();
    let mut begin = 0;
    for (at, _) in text.match_indices(',') {
        if begins(text) && begins(&text[at + 1..]) {
            urls.push(text[begin..at].trim());
            begin = at + 1;
        }
    }
    urls.push(text[begin..].trim());
    urls
}

/// A URL without its password; `None` for one that is none, or may hide a secret elsewhere.
pub(super) fn masked(secret: &str) -> Option<String> {
    let (scheme, rest) = secret.split_once("://")?;
    if !SCHEMES.contains(&scheme) {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    // Of a torn URL, settings stand in the path.
    if tail.contains(['@', '?', '#', '=', '&']) || tail.contains("://") {
        return None;
    }
    let (login, hosts) = match authority.rsplit_once('@') {
        None => (None, authority),
        Some((login, hosts)) => (Some(login), hosts),
    };
    if !hosts.split(',').all(is_host) {
        return None;
    }
    let Some(login) = login else {
        return printable(secret.to_owned());
    };
    let user = login.split_once(':').map(|(user, _)| format!("{user}:"));
    let user = user.unwrap_or_default();
    printable(format!("{scheme}://{user}***@{hosts}{tail}"))
}

/// Whether this is a host and perhaps a port, and nothing else: without its `@`, a password looks
/// like a port, or like a part of the host.
fn is_host(host: &str) -> bool {
    let fits = |text: &str, odd: &str| {
        text.chars()
            .all(|letter| letter.is_ascii_alphanumeric() || odd.contains(letter))
    };
    let (name, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, rest)) => (fits(address, ":.%"), rest.strip_prefix(':').unwrap_or(rest)),
        None => match host.split_once(':') {
            Some((name, port)) => (fits(name, ".-_"), port),
            None => (fits(host, ".-_"), ""),
        },
    };
    name && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// A URL without a secret, if one can print it.
fn printable(url: String) -> Option<String> {
    let odd = |letter: char| letter.is_control() || letter.is_whitespace();
    (url.len() <= 200 && !url.contains(odd)).then_some(url)
}
