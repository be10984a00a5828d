//! One HTTP request as an operation.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use ureq::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use ureq::http::uri::PathAndQuery;
use ureq::http::{Method, Request};
use url::form_urlencoded::byte_serialize;

use super::request::invalid;
use super::text;
use crate::error::Error;
use crate::operation::{Envelope, Operation};
use crate::security::{is_secret_name, values_are_masked};

/// The largest body, in bytes: a queue holds bodies in memory.
const LARGEST_BODY: usize = 256 << 20;
/// The most that path and headers may take together, in bytes, so that they fit into the
/// driver's buffer of 128 KiB.
const LARGEST_HEAD: usize = 64 << 10;

/// Headers that belong to the connection, which the driver looks after.
const CONNECTION: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// One request to an HTTP service, by a path that is put after the base URL.
///
/// A status of 400 and above is an error, with an
/// [`HttpStatusError`](super::HttpStatusError) as its source, unless
/// [`any_status`](Self::any_status) says otherwise. What it means for the request:
///
/// | status | kind | the request |
/// |---|---|---|
/// | 408, 425, 429, 503 | `Overloaded`, with what `Retry-After` asks for | was not taken: tried again |
/// | 502, 504 | `ConnectionLost`, outcome unknown | may have been taken |
/// | 409, 412 | `Constraint` | was refused |
/// | 401, 403, 404, ... 500 | see [`error_for_status`](super::HttpResponse::error_for_status) | was refused |
///
/// `GET`, `HEAD`, `OPTIONS`, `PUT` and `DELETE` may run twice (RFC 9110, 9.2.2), so they are
/// tried again when a connection is lost; `POST` and `PATCH` only if told that they are
/// [`idempotent`](Operation::idempotent).
///
/// ```no_run
/// # fn main() -> Result<(), millpond::Error> {
/// use std::time::Duration;
/// use millpond::{Http, HttpConfig, HttpRequest, Operation, Pool};
///
/// let pool = Pool::new(Http::new(HttpConfig::new("https://api.example.com/v1"))?)?;
/// let users = HttpRequest::get("/users").query("limit", 10).deadline(Duration::from_secs(2));
/// println!("{}", pool.execute(users)?.text()?);
/// let user = HttpRequest::post("/users").json(&["Ada"])?;
/// pool.execute(user.header("Idempotency-Key", "7").idempotent(true))?;
/// # Ok(()) }
/// ```
///
/// Serialised, the body is text where it is UTF-8, else base64:
///
/// ```
/// use millpond::HttpRequest;
/// let request = HttpRequest::put("/a").header("X-A", "1").body("text");
/// let text = serde_json::to_string(&request).unwrap();
/// assert_eq!(text, r#"{"method":"PUT","path":"/a","headers":[["X-A","1"]],"body":"text"}"#);
/// assert_eq!(serde_json::from_str::<HttpRequest>(&text).unwrap(), request);
/// ```
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpRequest {
    #[serde(with = "text::method")]
    method: Method,
    path: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "text::body")]
    body: Vec<u8>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    any_status: bool,
    #[serde(flatten)]
    envelope: Envelope,
}

impl HttpRequest {
    /// A request of this method.
    ///
    /// ```
    /// use millpond::{HttpRequest, backend::http::Method};
    /// let request = HttpRequest::new(Method::OPTIONS, "/users");
    /// ```
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
            any_status: false,
            envelope: Envelope::default(),
        }
    }

    /// `GET` of a path, which may have a query.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// `HEAD` of a path.
    pub fn head(path: impl Into<String>) -> Self {
        Self::new(Method::HEAD, path)
    }

    /// `POST` to a path.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// `PUT` to a path.
    pub fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path)
    }

    /// `PATCH` of a path.
    pub fn patch(path: impl Into<String>) -> Self {
        Self::new(Method::PATCH, path)
    }

    /// `DELETE` of a path.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// Adds a header. Of the connection's defaults it replaces those of the same name.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds to the query, percent-encoded.
    ///
    /// ```
    /// use millpond::HttpRequest;
    /// let request = HttpRequest::get("/find").query("q", "a&b").query("page", 2);
    /// assert_eq!(request.path(), "/find?q=a%26b&page=2");
    /// ```
    #[must_use]
    pub fn query(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.path
            .push(if self.path.contains('?') { '&' } else { '?' });
        self.path.extend(byte_serialize(name.as_bytes()));
        self.path.push('=');
        self.path
            .extend(byte_serialize(value.to_string().as_bytes()));
        self
    }

    /// The body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// JSON as the body, with its `Content-Type` unless that is set already.
    ///
    /// # Errors
    /// [`InvalidOperation`](crate::ErrorKind::InvalidOperation) for what cannot be made JSON.
    pub fn json(mut self, value: &impl Serialize) -> Result<Self, Error> {
        self.body = serde_json::to_vec(value).map_err(|error| invalid(&error.to_string()))?;
        let is_type = |(name, _): &(String, String)| name.eq_ignore_ascii_case("content-type");
        if !self.headers.iter().any(is_type) {
            self = self.header(CONTENT_TYPE.as_str(), "application/json");
        }
        Ok(self)
    }

    /// Makes every response a reply, whatever its status.
    #[must_use]
    pub fn any_status(mut self) -> Self {
        self.any_status = true;
        self
    }

    /// The path, with its query.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn takes_any_status(&self) -> bool {
        self.any_status
    }

    pub(super) fn content(&self) -> &[u8] {
        &self.body
    }

    /// The driver's form of all but the body.
    ///
    /// # Errors
    /// As [`validate`](Operation::validate).
    pub(super) fn to_head(&self) -> Result<Request<()>, Error> {
        let path = self.checked_path()?;
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = path.into();
        for (name, value) in &self.headers {
            let (name, value) = checked_header(name, value)?;
            request.headers_mut().append(name, value);
        }
        Ok(request)
    }

    fn checked_path(&self) -> Result<PathAndQuery, Error> {
        let plain = self.path.starts_with('/')
            && self.path.bytes().all(|byte| byte.is_ascii_graphic())
            && !self.path.contains('#');
        let path = plain.then(|| PathAndQuery::try_from(self.path.as_str()).ok());
        path.flatten().ok_or_else(|| {
            invalid(
                "a request's path begins with `/`, and what is no plain ASCII in it is \
                 percent-encoded; `query` does that",
            )
        })
    }
}

/// A header that a request may have.
fn checked_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Error> {
    let name = HeaderName::try_from(name)
        .map_err(|_| invalid("a header's name has forbidden characters"))?;
    if CONNECTION.contains(&name.as_str()) {
        return Err(invalid(&format!(
            "the header {name} belongs to the connection; leave it out"
        )));
    }
    let value = HeaderValue::try_from(value)
        .map_err(|_| invalid(&format!("the header {name} has control characters")))?;
    Ok((name, value))
}

impl Operation for HttpRequest {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn validate(&self) -> Result<(), Error> {
        const KNOWN: [Method; 7] = [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ];
        if !KNOWN.contains(&self.method) {
            return Err(invalid(
                "the method is none of GET, HEAD, OPTIONS, POST, PUT, PATCH and DELETE",
            ));
        }
        let headers = self.headers.iter();
        let head = self.path.len()
            + headers
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>();
        if head > LARGEST_HEAD {
            return Err(invalid(&format!(
                "path and headers of {head} bytes; at most {LARGEST_HEAD} can be sent"
            )));
        }
        self.checked_path()?;
        for (name, value) in &self.headers {
            checked_header(name, value)?;
        }
        let takes_body = [Method::POST, Method::PUT, Method::PATCH].contains(&self.method);
        if !self.body.is_empty() && !takes_body {
            return Err(invalid("only POST, PUT and PATCH have a body"));
        }
        if self.body.len() > LARGEST_BODY {
            return Err(invalid(&format!(
                "a body of {} bytes; at most {LARGEST_BODY} can be sent as an operation",
                self.body.len()
            )));
        }
        Ok(())
    }

    fn size(&self) -> usize {
        let headers = self.headers.iter();
        let texts = headers.map(|(name, value)| name.capacity() + value.capacity());
        size_of::<Self>()
            + self.path.capacity()
            + self.headers.capacity() * size_of::<(String, String)>()
            + texts.sum::<usize>()
            + self.body.capacity()
            + self.envelope.size()
    }

    /// Whether its method may run twice by HTTP's own definition.
    fn is_read(&self) -> bool {
        self.method.is_idempotent()
    }

    /// The method and the path, without the query: `GET /users`.
    fn statement(&self) -> Cow<'_, str> {
        let path = match self.checked_path() {
            Ok(_) => self.path.split('?').next().unwrap_or_default(),
            Err(_) => "?",
        };
        format!("{} {path}", self.method).into()
    }
}

impl fmt::Debug for HttpRequest {
    /// Shows no header, query or body. Where values are not masked it shows headers and query,
    /// but for those that sound like secrets, and still no body, in which nobody can tell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("HttpRequest");
        out.field("request", &self.statement());
        if !values_are_masked() {
            let query = self.path.split_once('?').map_or("", |(_, query)| query);
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let headers = self.headers.iter();
            let headers = headers.map(|(name, value)| (name.as_str(), value.as_str()));
            let hide = |(name, value)| (name, if is_secret_name(name) { "***" } else { value });
            out.field("query", &pairs.map(hide).collect::<Vec<_>>());
            out.field("headers", &headers.map(hide).collect::<Vec<_>>());
        }
        out.field("envelope", &self.envelope)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn why(request: &HttpRequest) -> String {
        let error = request.validate().expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidOperation);
        error.to_string()
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_its_values() {
        for path in [
            "",
            "users",
            "http://h/",
            "/a b",
            "/a\r\nX: y",
            "/\u{e4}",
            "/a#b",
        ] {
            let error = why(&HttpRequest::get(path));
            assert!(error.contains("begins with `/`"), "{path}: {error}");
        }
        let get = || HttpRequest::get("/");
        for (name, value) in [
            ("X-A", "secret\r\nX-B: 1"),
            ("X A", "secret"),
            ("", "secret"),
        ] {
            assert!(!why(&get().header(name, value)).contains("secret"));
        }
        for name in ["Host", "content-length", "Transfer-Encoding", "CONNECTION"] {
            assert!(why(&get().header(name, "1")).contains("belongs to the connection"));
        }
        assert!(why(&get().body("x")).contains("only POST"));
        assert!(why(&get().query("q", "x".repeat(LARGEST_HEAD))).contains("at most 65536"));
        assert!(why(&HttpRequest::new(Method::CONNECT, "/")).contains("method"));
        HttpRequest::patch("/a?b=c%20d")
            .header("X-A", "1")
            .body("x")
            .validate()
            .expect("is fine");
    }

    #[test]
    fn statements_and_debug_show_no_value() {
        let request = HttpRequest::post("/users?token=secret")
            .header("Authorization", "secret")
            .body("secret");
        assert_eq!(request.statement(), "POST /users");
        assert_eq!(HttpRequest::get("/a\nb").statement(), "GET ?");
        let debug = format!("{request:?}");
        assert!(
            debug.contains("POST /users") && !debug.contains("secret"),
            "{debug}"
        );
    }

    #[test]
    fn what_may_run_twice() {
        for (method, twice) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::OPTIONS, true),
            (Method::PUT, true),
            (Method::DELETE, true),
            (Method::POST, false),
            (Method::PATCH, false),
        ] {
            assert_eq!(
                HttpRequest::new(method.clone(), "/").may_repeat(),
                twice,
                "{method}"
            );
        }
    }

    #[test]
    fn serialised_and_read_again() {
        let request = HttpRequest::post("/a")
            .header("X-A", "1")
            .header("X-A", "2")
            .body(vec![0, 255])
            .any_status()
            .id("7");
        let text = serde_json::to_string(&request).expect("writes");
        assert_eq!(
            text,
            r#"{"method":"POST","path":"/a","headers":[["X-A","1"],["X-A","2"]],"body":{"bytes":"AP8="},"any_status":true,"id":"7"}"#
        );
        let read: HttpRequest = serde_json::from_str(&text).expect("reads");
        assert_eq!(read, request);
        for bad in [r#"{"method":"G T","path":"/"}"#, r#"{"method":"GET"}"#] {
            serde_json::from_str::<HttpRequest>(bad).expect_err(bad);
        }
    }
}
