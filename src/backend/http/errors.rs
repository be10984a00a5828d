//! The driver's errors in the crate's vocabulary, and statuses by their
//! [table](super::kind_of_status).

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ureq::Timeout;

use super::codes::{is_at_any_load, is_open, kind_of_status};
use crate::error::{ConnectFailure, Error, ErrorKind, Phase, classify_io};
use crate::security::{TlsSettings, values_are_masked};

/// How messages about TLS name our settings.
const TLS: TlsSettings = TlsSettings {
    ca_file: "HTTP_SSL_CA_FILE",
    client: "HTTP_SSL_CERT_FILE and HTTP_SSL_KEY_FILE",
    address: "HTTP_BASE_URL",
    host: "HTTP_BASE_URL",
    min_version: "HTTP_SSL_MIN_VERSION",
    plaintext: "http:// in HTTP_BASE_URL",
};

/// How much of a body goes into an error, in characters.
const EXCERPT: usize = 200;

/// A response of 400 and above, as the cause of an [`Error`].
///
/// ```
/// use millpond::backend::http::HttpStatusError;
/// # fn f(error: &millpond::Error) {
/// use std::error::Error;
/// let status = error.source().and_then(|cause| cause.downcast_ref::<HttpStatusError>());
/// if let Some(wait) = status.and_then(HttpStatusError::retry_after) {
///     std::thread::sleep(wait);
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct HttpStatusError {
    status: u16,
    retry_after: Option<Duration>,
    excerpt: String,
}

impl HttpStatusError {
    pub(super) fn new(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT)]);
        let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        Self {
            status,
            retry_after,
            excerpt: plain.take(EXCERPT).collect::<String>().trim().to_owned(),
        }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// How long the service asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether it is nginx's page about a client certificate that is missing or refused, which
    /// it shows after the handshake.
    fn is_about_client_certificate(&self) -> bool {
        self.excerpt
            .contains("400 No required SSL certificate was sent")
            || self.excerpt.contains("400 The SSL certificate error")
    }

    /// The beginning of the body, which `Display` shows while values are not
    /// [masked](crate::security).
    pub fn excerpt(&self) -> &str {
        &self.excerpt
    }
}

impl fmt::Display for HttpStatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status)?;
        let status = ureq::http::StatusCode::from_u16(self.status).ok();
        if let Some(reason) = status.and_then(|status| status.canonical_reason()) {
            write!(f, " {reason}")?;
        }
        if let Some(wait) = self.retry_after {
            write!(f, ", retry after {} s", wait.as_secs())?;
        }
        // Services repeat what they were sent.
        if !self.excerpt.is_empty() && !values_are_masked() {
            write!(f, ": {}", self.excerpt)?;
        }
        Ok(())
    }
}

impl fmt::Debug for HttpStatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpStatusError({self})")
    }
}

impl std::error::Error for HttpStatusError {}

/// What to do about a status.
fn advice(status: u16) -> Option<&'static str> {
    let advice = match status {
        401 => "check HTTP_BEARER_TOKEN, HTTP_USER and HTTP_PASSWORD, or HTTP_API_KEY",
        402 | 403 | 451 => "the login is known there, and may not do this: ask for the right",
        404 | 410 => "check the path, and the one in HTTP_BASE_URL",
        405 => "the path takes other methods",
        407 | 511 => "a proxy on the way wants a login: this client uses none",
        408 => "the request arrived too slowly",
        409 | 412 => "it does not fit what is stored there: read that again first",
        413 => "send less at once",
        414 | 431 => "shorten the path or the headers (HTTP_HEADERS)",
        415 => "check the Content-Type",
        426 | 505 => "the service wants another version of HTTP, or TLS (HTTP_BASE_URL)",
        429 => "send less often; it is tried again after Retry-After",
        502 | 504 | 520 | 524 => "see the service behind the gateway; it may have done it",
        521..=523 => "see the service behind the gateway; it has not seen it",
        500 | 501 | 506..=510 => "see the service's log",
        503 | 529 => "it takes no more work for now; it is tried again after Retry-After",
        _ => return None,
    };
    Some(advice)
}

/// The error of a status. What a gateway may have passed on has an unknown outcome.
pub(super) fn refused(error: HttpStatusError) -> Error {
    let (status, retry_after) = (error.status, error.retry_after);
    let (mut kind, mut advice) = (kind_of_status(status), advice(status));
    if status == 400 && error.is_about_client_certificate() {
        kind = ErrorKind::Authentication;
        advice = Some("check the client's certificate (HTTP_SSL_CERT_FILE and HTTP_SSL_KEY_FILE)");
    }
    let mut message = error.to_string();
    if let Some(advice) = advice {
        message = format!("{message}; {advice}");
    }
    let mut ours = Error::new(kind, Phase::Operation, message)
        .at_any_load(is_at_any_load(status))
        .with_source(Arc::new(error));
    if let Some(pause) = retry_after {
        ours = ours.with_retry_after(pause);
    }
    if is_open(status) {
        ours = ours.with_outcome_unknown();
    }
    ours
}

/// What the driver's error says. While values are masked without addresses, whose queries may
/// have tokens, and without what was expected to be JSON.
fn text(error: &ureq::Error) -> String {
    use ureq::Error as Driver;
    match error {
        Driver::BadUri(_) if values_are_masked() => "the address is not valid".into(),
        Driver::RequireHttpsOnly(_) if values_are_masked() => "configured for https only".into(),
        Driver::Json(error) => format!("json: {}", no_json(error)),
        _ => error.to_string(),
    }
}

/// Why a body is not the JSON that was expected, and where.
pub(super) fn no_json(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    if !values_are_masked() {
        return error.to_string();
    }
    let why = match error.classify() {
        Category::Io => "it cannot be read",
        Category::Syntax => "it is no JSON",
        Category::Data => "it has other types or values",
        Category::Eof => "it ends too soon",
    };
    format!("{why}, at line {} column {}", error.line(), error.column())
}

/// The kind of a driver's error.
pub(super) fn classify(error: &ureq::Error) -> ErrorKind {
    use ureq::Error as Driver;
    match error {
        Driver::StatusCode(status) => kind_of_status(*status),
        Driver::Timeout(Timeout::Connect | Timeout::Resolve) => {
            ErrorKind::Connect(ConnectFailure::Timeout)
        }
        Driver::Timeout(_) => ErrorKind::DeadlineExceeded,
        Driver::HostNotFound => ErrorKind::Connect(ConnectFailure::Dns),
        Driver::Tls(_) | Driver::Rustls(_) | Driver::TlsRequired | Driver::Pem(_) => {
            ErrorKind::Connect(ConnectFailure::Tls)
        }
        Driver::Io(error) => match classify_io(error) {
            ErrorKind::Other if is_tls(error) => ErrorKind::Connect(ConnectFailure::Tls),
            kind => kind,
        },
        Driver::ConnectionFailed | Driver::Protocol(_) | Driver::BodyStalled => {
            ErrorKind::ConnectionLost
        }
        Driver::BodyExceedsLimit(_) | Driver::LargeResponseHeader(..) => ErrorKind::ResourceLimit,
        Driver::Http(_)
        | Driver::BadUri(_)
        | Driver::RedirectFailed
        | Driver::TooManyRedirects
        | Driver::Json(_) => ErrorKind::InvalidOperation,
        _ => ErrorKind::Other,
    }
}

fn is_tls(error: &io::Error) -> bool {
    tls_inside(error).is_some()
}

fn tls_inside(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The TLS layer's own error.
fn tls_cause(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => tls_inside(error),
        _ => None,
    }
}

/// An error while connecting, with what to do about it.
pub(super) fn connecting(error: ureq::Error, endpoint: &str) -> Error {
    if let Some(problem) = tls_cause(&error) {
        let (kind, message) = TLS.explain(problem);
        return Error::new(kind, Phase::Connect, message)
            .with_endpoint(endpoint)
            .with_source(Arc::new(error));
    }
    let kind = match classify(&error) {
        // The server hung up on the handshake.
        ErrorKind::ConnectionLost => ErrorKind::Connect(ConnectFailure::Refused),
        kind => kind,
    };
    let hint = match kind {
        ErrorKind::Connect(ConnectFailure::Refused | ConnectFailure::Dns) => {
            "; check HTTP_BASE_URL"
        }
        ErrorKind::Connect(ConnectFailure::Timeout) => {
            "; the server did not answer within HTTP_CONNECT_TIMEOUT"
        }
        ErrorKind::Connect(ConnectFailure::Tls) => "; check HTTP_SSL_CA_FILE and the certificate",
        _ => "",
    };
    Error::new(kind, Phase::Connect, format!("{}{hint}", text(&error)))
        .with_endpoint(endpoint)
        .with_driver_error(error)
}

/// An error of an operation. Where the connection failed under it, the outcome is
/// unknown.
impl From<ureq::Error> for Error {
    fn from(error: ureq::Error) -> Self {
        if let Some(problem) = tls_cause(&error) {
            let (kind, message) = TLS.explain(problem);
            // A handshake of its own, or the server's refusal of the client's certificate.
            let unsent =
                matches!(error, ureq::Error::Rustls(_)) || kind == ErrorKind::Authentication;
            let ours = Self::new(kind, Phase::Operation, message).with_source(Arc::new(error));
            return if unsent {
                ours
            } else {
                ours.with_outcome_unknown()
            };
        }
        let kind = classify(&error);
        let hint = match &error {
            ureq::Error::BodyExceedsLimit(_) => "; raise HTTP_MAX_BODY_BYTES, or stream it",
            ureq::Error::Timeout(Timeout::Global) => "; HTTP_TIMEOUT is over",
            ureq::Error::Timeout(_) => "; HTTP_TIMEOUT and HTTP_READ_TIMEOUT are the limits",
            _ => "",
        };
        let ours = Self::new(kind, Phase::Operation, format!("{}{hint}", text(&error)));
        let ours = ours.with_driver_error(error);
        match kind {
            ErrorKind::ConnectionLost | ErrorKind::DeadlineExceeded => ours.with_outcome_unknown(),
            _ => ours,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::HttpStatusError;

    #[test]
    fn the_message_is_short_and_plain() {
        let wait = Some(Duration::from_secs(7));
        let error = HttpStatusError::new(503, wait, "x\r\ny".repeat(1000).as_bytes());
        let text = error.to_string();
        assert_eq!(text, "status 503 Service Unavailable, retry after 7 s");
        let excerpt = error.excerpt();
        assert!(excerpt.starts_with("x  y"), "{excerpt}");
        assert!(excerpt.len() < 300 && !excerpt.contains('\n'));
    }
}
