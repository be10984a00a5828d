//! The head of a request: what of it counts.

use std::net::{Ipv4Addr, Ipv6Addr};

/// More header lines than any real client sends.
const MOST_HEADERS: usize = 64;

/// A request that makes sense as HTTP.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    /// What follows the `?`.
    pub(super) query: String,
    pub(super) host: Option<String>,
    /// What follows `Bearer` in the authorization.
    pub(super) token: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Other,
}

/// What a buffer holds so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Whole(Request),
    /// There is more to come.
    Part,
    /// Too many lines.
    TooLarge,
    /// No HTTP.
    Nonsense,
}

pub(super) fn parse(buffer: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Parsed::Part,
        Err(httparse::Error::TooManyHeaders) => return Parsed::TooLarge,
        Err(_) => return Parsed::Nonsense,
    }
    let header = |name: &str| {
        let mut named = parsed
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name));
        let value = named.next()?.value;
        str::from_utf8(value).ok().map(str::trim).map(str::to_owned)
    };
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let bearer = |value: String| {
        let (scheme, token) = value.split_once(' ')?;
        let token = token.trim().to_owned();
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    };
    Parsed::Whole(Request {
        method: match parsed.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            _ => Method::Other,
        },
        path: path.to_owned(),
        query: query.to_owned(),
        host: header("host"),
        token: header("authorization").and_then(bearer),
    })
}

impl Request {
    /// The number that the query gives for this name.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        let pairs = self.query.split('&');
        let mut values = pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        values.next()?.parse().ok()
    }

    /// Whether the client means this machine by a name that nobody else can give it. A browser
    /// that was lured to a foreign name which suddenly points here sends that name (DNS
    /// rebinding).
    pub(super) fn means_this_machine(&self) -> bool {
        let Some(host) = &self.host else {
            return true;
        };
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<Ipv4Addr>().is_ok()
            || name.parse::<Ipv6Addr>().is_ok()
    }
}
