//! A response with its body.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use ureq::http::HeaderMap;

use super::errors::{self, HttpStatusError};
use super::retry_after;
use crate::error::{Error, ErrorKind, Phase};
use crate::security::{is_secret_name, values_are_masked};

/// A response that was read to its end, so that its connection could be kept.
/// Any status counts: see [`error_for_status`](Self::error_for_status).
///
/// Its `Debug` shows no header and no body while values are [masked](crate::security).
#[derive(Clone)]
pub struct HttpResponse {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("HttpResponse");
        out.field("status", &self.status);
        out.field("body_bytes", &self.body.len());
        if !values_are_masked() {
            let names = self.headers.iter();
            let names = names.filter(|(name, _)| !is_secret_name(name.as_str()));
            out.field("headers", &names.collect::<Vec<_>>());
            let body = HttpStatusError::new(self.status, None, &self.body);
            out.field("body", &body.excerpt());
        }
        out.finish_non_exhaustive()
    }
}

impl HttpResponse {
    pub(super) fn new(status: u16, headers: HeaderMap, body: Vec<u8>) -> Self {
        Self {
            status,
            headers,
            body,
        }
    }

    /// The status code, such as 200.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The first header of this name, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the service asks to wait before the next request: `Retry-After`, in
    /// seconds or as a date.
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after::parse(self.header("retry-after")?, SystemTime::now())
    }

    /// The body.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body, taken out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.body
    }

    /// The body as text.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOperation`] when it is not UTF-8.
    pub fn text(&self) -> Result<&str, Error> {
        std::str::from_utf8(&self.body).map_err(|error| {
            let message = format!("the body is not text: {error}");
            Error::new(ErrorKind::InvalidOperation, Phase::Operation, message)
                .with_source(Arc::new(error))
        })
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOperation`] when it is not JSON of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!(
                "the body is not the JSON expected: {}",
                errors::no_json(&error)
            );
            Error::new(ErrorKind::InvalidOperation, Phase::Operation, message)
                .with_driver_error(error)
        })
    }

    /// Makes an error of a status of 400 and above, with an [`HttpStatusError`] as
    /// its source.
    ///
    /// # Errors
    /// The kind that the [table](super::kind_of_status) gives the status, with
    /// [`retry_after`](Error::retry_after) where the service said so, and an unknown outcome
    /// where a gateway has lost the service behind it.
    pub fn error_for_status(self) -> Result<Self, Error> {
        if self.status < 400 {
            return Ok(self);
        }
        let refused = HttpStatusError::new(self.status, self.retry_after(), &self.body);
        Err(errors::refused(refused))
    }
}
