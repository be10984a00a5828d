//! Running requests as operations.
//!
//! Whether a request was sent decides what a failure means: the connection's own note of it
//! is asked (`Counters::transmits`), not the kind of the error, as a server that hangs up on
//! a TLS handshake and one that hangs up on a request look the same.

use super::connection::HttpConnection;
use super::manager::Http;
use super::operation::HttpRequest;
use super::response::HttpResponse;
use crate::backend::Backend as _;
use crate::deadline::Deadline;
use crate::error::{ConnectFailure, Error, ErrorKind, Phase};
use crate::operation::Outcome;

impl Http {
    /// Runs one request, redirects included, by the deadline.
    pub(super) fn run(
        &self,
        conn: &mut HttpConnection,
        request: &HttpRequest,
        deadline: Deadline,
    ) -> Result<HttpResponse, Error> {
        let locate = |error: Error| error.with_endpoint(self.endpoint());
        if deadline.is_over() {
            return Err(locate(late("the deadline was over before its turn came")));
        }
        let before = conn.transmits();
        let head = request.to_head().map_err(locate)?;
        let answer = conn
            .send_by(head, request.content(), deadline)
            .map_err(|error| locate(failed(error, conn.transmits() != before, deadline)))?;
        if request.takes_any_status() {
            return Ok(answer.response);
        }
        answer.response.error_for_status().map_err(|error| {
            // The service has taken the request, and refused the one that it asked for then.
            if answer.is_of_another {
                locate(error.with_outcome_unknown())
            } else {
                locate(error)
            }
        })
    }

    /// Runs requests one after the other. A service that closes the connection after its
    /// answer does not end the group, as another one is opened; one that gives no answer
    /// does, so that the rest is not held up once for each request.
    pub(super) fn run_each(
        &self,
        conn: &mut HttpConnection,
        requests: &[&HttpRequest],
        deadline: Deadline,
    ) -> Vec<Outcome<HttpResponse>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            let before = conn.answers();
            outcomes.push(Outcome::from(self.run(conn, request, deadline)));
            if conn.answers() == before {
                let kind = if deadline.is_over() {
                    ErrorKind::DeadlineExceeded
                } else {
                    ErrorKind::ConnectionLost
                };
                let message = "the service did not answer the request before this one";
                let error = Error::new(kind, Phase::Operation, message);
                let error = error.with_endpoint(self.endpoint());
                outcomes.resize_with(requests.len(), || Outcome::NotExecuted(error.clone()));
                break;
            }
        }
        outcomes
    }
}

fn late(message: &str) -> Error {
    Error::new(ErrorKind::DeadlineExceeded, Phase::Operation, message)
}

/// What befell a request that has no answer, or not a whole one.
fn failed(error: Error, sent: bool, deadline: Deadline) -> Error {
    let mut ours = match error.kind() {
        ErrorKind::DeadlineExceeded | ErrorKind::Connect(ConnectFailure::Timeout)
            if deadline.is_over() =>
        {
            late(if sent {
                "no complete answer by the operation's deadline"
            } else {
                "no connection by the operation's deadline"
            })
        }
        kind => Error::new(kind, error.phase(), error.message()),
    };
    ours = ours.because_of(error);
    if sent {
        ours = ours.with_outcome_unknown();
    }
    ours
}
