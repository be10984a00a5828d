//! What is served: the page's files, and answers made from the hub.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use subtle::ConstantTimeEq as _;

use super::answer::{Answer, Status};
use super::columns::Columns;
use super::request::{Method, Request};
use crate::health::Health;
use crate::hub::Hub;
use crate::security::Secret;

const JSON: &str = "application/json";
/// For so long an answer is as good as a new one.
const FRESH: Duration = Duration::from_millis(250);
/// Answers that are kept; more only after a request for other spans and pools.
const MOST_KEPT: usize = 16;
const LONGEST_SPAN: usize = 31 * 24 * 3600;

/// The page's files, each with its path and type.
const FILES: [(&str, &str, &str); 5] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    (
        "/page.css",
        "text/css; charset=utf-8",
        include_str!("page/page.css"),
    ),
    (
        "/page.js",
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    ),
    (
        "/uplot.css",
        "text/css; charset=utf-8",
        include_str!("page/uPlot.min.css"),
    ),
    (
        "/uplot.js",
        "text/javascript; charset=utf-8",
        include_str!("page/uPlot.iife.min.js"),
    ),
];

/// What is made from the hub, and from what in the request.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Made {
    Metrics,
    Snapshot,
    Alerts,
    Health,
    Ready { with_reasons: bool },
    Live,
    History { span: usize, pool: Option<usize> },
}

pub(super) struct Site {
    hub: Hub,
    token: Option<Secret>,
    /// Whether it is meant for this machine alone.
    local: bool,
    files: HashMap<&'static str, Answer>,
    kept: HashMap<Made, (Instant, Answer)>,
}

impl Site {
    pub(super) fn new(hub: Hub, token: Option<Secret>, local: bool) -> Self {
        let file = |(path, kind, text): (_, _, &str)| {
            let text: Arc<[u8]> = text.as_bytes().into();
            (path, Answer::new(Status::Ok, kind, text))
        };
        Self {
            hub,
            token,
            local,
            files: FILES.map(file).into(),
            kept: HashMap::new(),
        }
    }

    pub(super) fn answer(&mut self, request: &Request, now: Instant) -> Answer {
        if request.method == Method::Other {
            return Answer::plain(Status::MethodNotAllowed);
        }
        if self.local && !request.means_this_machine() {
            return Answer::plain(Status::Misdirected);
        }
        if let Some(file) = self.files.get(&*request.path) {
            return file.clone();
        }
        let trusted = self.trusts(request);
        let made = match &*request.path {
            "/ready" => Made::Ready {
                with_reasons: trusted,
            },
            "/live" => Made::Live,
            _ if !trusted => return Answer::plain(Status::Unauthorized),
            "/metrics" => Made::Metrics,
            "/snapshot" => Made::Snapshot,
            "/alerts" => Made::Alerts,
            "/health" => Made::Health,
            "/history" => Made::History {
                span: request.number("span").unwrap_or(300).clamp(1, LONGEST_SPAN),
                pool: request.number("pool"),
            },
            _ => return Answer::plain(Status::NotFound),
        };
        if let Some((at, answer)) = self.kept.get(&made)
            && now.saturating_duration_since(*at) < FRESH
        {
            return answer.clone();
        }
        if self.kept.len() >= MOST_KEPT {
            self.kept.clear();
        }
        let answer = self.make(made);
        self.kept.insert(made, (now, answer.clone()));
        answer
    }

    /// Whether it knows the token, if there is one. How long that takes to find out does not
    /// depend on how much of it is right.
    fn trusts(&self, request: &Request) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let given = request.token.as_deref().unwrap_or_default();
        given.as_bytes().ct_eq(token.expose().as_bytes()).into()
    }

    fn make(&self, made: Made) -> Answer {
        let verdict = |good| {
            if good {
                Status::Ok
            } else {
                Status::Unavailable
            }
        };
        match made {
            Made::Metrics => {
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                let text = self.hub.metrics().prometheus().into_bytes();
                Answer::new(Status::Ok, kind, text)
            }
            Made::Snapshot => json(Status::Ok, &self.hub.metrics()),
            Made::Alerts => json(Status::Ok, &self.hub.alerts()),
            Made::Health => {
                let report = self.hub.health();
                json(verdict(report.health != Health::Down), &report)
            }
            Made::Ready { with_reasons } => {
                let report = self.hub.health();
                let ready = report.is_ready();
                let mut text = if ready { "ready" } else { "not ready" }.to_owned();
                if with_reasons {
                    text = format!("{text}\n{report}");
                }
                Answer::text(verdict(ready), &text)
            }
            Made::Live => {
                let live = self.hub.is_live();
                let text = if live {
                    "live"
                } else {
                    "the background thread has not come by as it should"
                };
                Answer::text(verdict(live), text)
            }
            Made::History { span, pool } => {
                let points = self.hub.history(Duration::from_secs(span as u64));
                json(Status::Ok, &Columns::new(&points, pool))
            }
        }
    }
}

fn json(status: Status, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(text) => Answer::new(status, JSON, text),
        // Nothing that is served has keys that are no texts, which is all that can fail.
        Err(_) => Answer::plain(Status::Unavailable),
    }
}
