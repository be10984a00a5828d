//! What a lease of an HTTP pool gives.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::header::CONTENT_TYPE;
use ureq::http::{HeaderValue, Method, Request, Response};

use super::connector::Line;
use super::request::{Defaults, invalid};
use super::response::HttpResponse;
use crate::backend::Traffic;
use crate::deadline::Deadline;
use crate::error::Error;

/// One keep-alive connection to an HTTP service.
///
/// Its own methods take a path, which is put after the base URL, add the login and
/// the default headers, follow redirects, and read the body, so that the socket
/// can be used again. By `Deref` it is the driver's [`ureq::Agent`] too: requests
/// made with that take a whole URL, send no default headers, follow no redirects,
/// give 4xx and 5xx as responses, and use the same socket when they go to the same
/// origin. There the body must be read to its end, or the socket is lost.
#[derive(Debug)]
pub struct HttpConnection {
    agent: ureq::Agent,
    line: Arc<Line>,
    defaults: Arc<Defaults>,
    max_body: u64,
    keep_alive: bool,
    /// How many requests were answered to the end.
    answers: u64,
}

/// What a request came to, after all redirects.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: HttpResponse,
    /// Whether a redirect made another request of it: the first one was taken then,
    /// whatever became of the other.
    pub(super) is_of_another: bool,
}

impl Deref for HttpConnection {
    type Target = ureq::Agent;

    fn deref(&self) -> &ureq::Agent {
        &self.agent
    }
}

impl HttpConnection {
    pub(super) fn new(
        agent: ureq::Agent,
        line: Arc<Line>,
        defaults: Arc<Defaults>,
        max_body: u64,
        keep_alive: bool,
    ) -> Self {
        Self {
            agent,
            line,
            defaults,
            max_body,
            keep_alive,
            answers: 0,
        }
    }

    /// `GET` of a path.
    ///
    /// # Errors
    /// What befell the request on its way. Any status is a response.
    pub fn get(&mut self, path: &str) -> Result<HttpResponse, Error> {
        self.send(bare(Method::GET, path)?)
    }

    /// `HEAD` of a path.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn head(&mut self, path: &str) -> Result<HttpResponse, Error> {
        self.send(bare(Method::HEAD, path)?)
    }

    /// `DELETE` of a path.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn delete(&mut self, path: &str) -> Result<HttpResponse, Error> {
        self.send(bare(Method::DELETE, path)?)
    }

    /// `POST` of a body to a path.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn post(&mut self, path: &str, body: impl Into<Vec<u8>>) -> Result<HttpResponse, Error> {
        self.send(with_body(Method::POST, path, body.into())?)
    }

    /// `PUT` of a body to a path.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn put(&mut self, path: &str, body: impl Into<Vec<u8>>) -> Result<HttpResponse, Error> {
        self.send(with_body(Method::PUT, path, body.into())?)
    }

    /// `PATCH` of a body to a path.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn patch(&mut self, path: &str, body: impl Into<Vec<u8>>) -> Result<HttpResponse, Error> {
        self.send(with_body(Method::PATCH, path, body.into())?)
    }

    /// The JSON at a path.
    ///
    /// # Errors
    /// As [`get`](Self::get); also for a status of 400 and above, and for a body
    /// that is not JSON of this type.
    ///
    /// ```no_run
    /// # fn f(lease: &mut millpond::backend::http::HttpConnection) -> Result<(), millpond::Error> {
    /// let names: Vec<String> = lease.get_json("/names")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_json<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Error> {
        self.get(path)?.error_for_status()?.json()
    }

    /// `POST` of JSON to a path; the reply is JSON too.
    ///
    /// # Errors
    /// As [`get_json`](Self::get_json).
    pub fn post_json<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.send_json(Method::POST, path, body)?
            .error_for_status()?
            .json()
    }

    /// Any method with a JSON body.
    ///
    /// # Errors
    /// As [`get`](Self::get), and for a body that cannot be made JSON.
    pub fn send_json(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<HttpResponse, Error> {
        let body = serde_json::to_vec(body).map_err(|error| invalid(&error.to_string()))?;
        let mut request = with_body(method, path, body)?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        self.send(request)
    }

    /// Any request: method, path as URI, headers, body.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// ```no_run
    /// use millpond::backend::http::Request;
    /// # fn f(lease: &mut millpond::backend::http::HttpConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// let request = Request::get("/users").header("Accept", "text/csv").body(Vec::new())?;
    /// let response = lease.send(request)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn send(&mut self, request: Request<Vec<u8>>) -> Result<HttpResponse, Error> {
        let (head, body) = request.into_parts();
        let head = Request::from_parts(head, ());
        Ok(self.send_by(head, &body, Deadline::NEVER)?.response)
    }

    /// The same by a deadline, with all redirects.
    pub(super) fn send_by(
        &mut self,
        mut head: Request<()>,
        mut body: &[u8],
        deadline: Deadline,
    ) -> Result<Answer, Error> {
        self.defaults.complete(&mut head)?;
        let (mut head, ()) = head.into_parts();
        let (mut redirects, mut is_of_another) = (0, false);
        let mut login = self.defaults.login_of(&head);
        loop {
            let asked = Request::from_parts(head.clone(), body);
            let (parts, mut reply) = self.run(asked, deadline)?.into_parts();
            let status = parts.status.as_u16();
            let next = if redirects < self.defaults.max_redirects() {
                self.defaults.redirected(&head, status, &parts.headers)?
            } else {
                None
            };
            // Of a redirect it is read too, so that the connection can be kept.
            let reply = reply.with_config().limit(self.max_body).read_to_vec()?;
            // Refused before anything was done. Once, and not where a redirect led.
            if let Some(login) = login.take().filter(|_| status == 401)
                && self.defaults.login_again(&mut head, login)
            {
                continue;
            }
            let Some(next) = next else {
                self.answers += 1;
                return Ok(Answer {
                    response: HttpResponse::new(status, parts.headers, reply),
                    is_of_another,
                });
            };
            if !next.with_body {
                body = &[];
            }
            is_of_another |= next.head.method != head.method;
            head = next.head;
            redirects += 1;
        }
    }

    /// Any request, with the driver's own response: for bodies too large to hold.
    /// No redirect is followed. The body must be read to its end, or the connection
    /// is lost.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn stream(&mut self, mut request: Request<Vec<u8>>) -> Result<Response<ureq::Body>, Error> {
        self.defaults.complete(&mut request)?;
        let (head, body) = request.into_parts();
        let response = self.run(Request::from_parts(head, body.as_slice()), Deadline::NEVER)?;
        if response.status().as_u16() == 401 {
            self.defaults.renew_login();
        }
        Ok(response)
    }

    fn run(
        &self,
        request: Request<&[u8]>,
        deadline: Deadline,
    ) -> Result<Response<ureq::Body>, Error> {
        if request.body().is_empty() && !sends_body(request.method()) {
            return self.run_as(request.map(|_| ()), deadline);
        }
        self.run_as(request, deadline)
    }

    fn run_as(
        &self,
        request: Request<impl ureq::AsSendBody>,
        deadline: Deadline,
    ) -> Result<Response<ureq::Body>, Error> {
        let Some(left) = deadline.remaining() else {
            return Ok(self.agent.run(request)?);
        };
        let configured = self.agent.config().timeouts().global;
        let limit = configured.map_or(left, |configured| configured.min(left));
        let request = self.agent.configure_request(request);
        Ok(self
            .agent
            .run(request.timeout_global(Some(limit)).build())?)
    }

    /// `GET` of a path within a time.
    pub(super) fn probe(
        &self,
        method: Method,
        path: &str,
        timeout: Duration,
    ) -> Result<HttpResponse, Error> {
        let mut request = bare(method, path)?.map(|_| ());
        self.defaults.complete(&mut request)?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(Some(timeout))
            .build();
        let (parts, mut body) = self.agent.run(request)?.into_parts();
        let body = body.with_config().limit(self.max_body).read_to_vec()?;
        Ok(HttpResponse::new(
            parts.status.as_u16(),
            parts.headers,
            body,
        ))
    }

    /// Whether there is no connection to keep any more.
    pub(super) fn is_broken(&self) -> bool {
        self.keep_alive && !self.line.is_kept()
    }

    /// Whether the server still holds its end of the connection.
    pub(super) fn is_alive(&self) -> bool {
        !self.keep_alive || self.line.is_alive()
    }

    /// How often a part of a request was handed to a socket.
    pub(super) fn transmits(&self) -> u64 {
        self.line.counters.transmits.load(Ordering::Relaxed)
    }

    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    pub(super) fn traffic(&self) -> Traffic {
        let counters = &self.line.counters;
        Traffic {
            statements: Some(counters.requests.load(Ordering::Relaxed)),
            bytes_sent: Some(counters.sent.load(Ordering::Relaxed)),
            bytes_received: Some(counters.received.load(Ordering::Relaxed)),
        }
    }
}

fn sends_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

fn bare(method: Method, path: &str) -> Result<Request<Vec<u8>>, Error> {
    with_body(method, path, Vec::new())
}

fn with_body(method: Method, path: &str, body: Vec<u8>) -> Result<Request<Vec<u8>>, Error> {
    let request = Request::builder().method(method).uri(path).body(body);
    request.map_err(|error| invalid(&format!("path `{path}`: {error}")))
}
