//! Answers: a status, a type, a body that many connections can share.

use std::fmt::Write as _;
use std::sync::Arc;

/// What may be done with the page: nothing from anywhere else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok = 200,
    BadRequest = 400,
    Unauthorized = 401,
    NotFound = 404,
    MethodNotAllowed = 405,
    Misdirected = 421,
    HeadTooLarge = 431,
    Unavailable = 503,
}

impl Status {
    fn words(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::BadRequest => "Bad Request",
            Self::Unauthorized => "Unauthorized",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::Misdirected => "Misdirected Request",
            Self::HeadTooLarge => "Request Header Fields Too Large",
            Self::Unavailable => "Service Unavailable",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: Status,
    kind: &'static str,
    pub(super) body: Arc<[u8]>,
}

impl Answer {
    pub(super) fn new(status: Status, kind: &'static str, body: impl Into<Arc<[u8]>>) -> Self {
        Self {
            status,
            kind,
            body: body.into(),
        }
    }

    /// A line of text.
    pub(super) fn text(status: Status, line: &str) -> Self {
        let body = format!("{line}\n").into_bytes();
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// Its status in words.
    pub(super) fn plain(status: Status) -> Self {
        Self::text(status, status.words())
    }

    /// What comes before the body.
    pub(super) fn head(&self) -> Vec<u8> {
        let Self { status, kind, body } = self;
        let length = body.len();
        let (code, words) = (*status as u16, status.words());
        let mut head = format!(
            "HTTP/1.1 {code} {words}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Connection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             Referrer-Policy: no-referrer\r\nContent-Security-Policy: {POLICY}\r\n"
        );
        // Writing to a String cannot fail.
        let _ = match status {
            Status::Unauthorized => write!(head, "WWW-Authenticate: Bearer\r\n"),
            Status::MethodNotAllowed => write!(head, "Allow: GET, HEAD\r\n"),
            _ => Ok(()),
        };
        head.push_str("\r\n");
        head.into_bytes()
    }
}
