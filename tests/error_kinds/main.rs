//! Each error kind, provoked on a real server: a table for each backend, a row for each
//! condition, with what the error must say of itself.
//!
//! To see the rows with the messages: `cargo test --test error_kinds -- --nocapture`.

mod http;
mod mongodb;
mod postgres;
mod redis;

use std::time::{Duration, Instant};

use millpond::{ConnectFailure, Error, ErrorKind, Phase};

const REFUSED: ErrorKind = ErrorKind::Connect(ConnectFailure::Refused);
const TIMEOUT: ErrorKind = ErrorKind::Connect(ConnectFailure::Timeout);
const DNS: ErrorKind = ErrorKind::Connect(ConnectFailure::Dns);
const TLS: ErrorKind = ErrorKind::Connect(ConnectFailure::Tls);

/// A time that a silent server is given.
const LIMIT: Duration = Duration::from_millis(200);

/// What an error means for whoever sent the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Not applied, and it fails the next time too.
    Final,
    /// Not applied, and it may succeed later.
    Later,
    /// It may have been applied, and may succeed later.
    InDoubt,
    /// It may have been applied, and fails the next time too.
    FinalInDoubt,
}

impl Then {
    fn of(error: &Error) -> Self {
        match (error.is_retryable(), error.outcome_unknown()) {
            (false, false) => Self::Final,
            (true, false) => Self::Later,
            (true, true) => Self::InDoubt,
            (false, true) => Self::FinalInDoubt,
        }
    }
}

/// A condition: what it is called, what must be said of it, words that the message has, and
/// how to provoke it.
struct Row<S> {
    name: &'static str,
    kind: ErrorKind,
    phase: Phase,
    then: Then,
    says: &'static [&'static str],
    provoke: Box<dyn Fn(&S) -> Error>,
}

/// A row about an operation.
fn operation<S>(
    name: &'static str,
    kind: ErrorKind,
    then: Then,
    says: &'static [&'static str],
    provoke: impl Fn(&S) -> Error + 'static,
) -> Row<S> {
    Row {
        name,
        kind,
        phase: Phase::Operation,
        then,
        says,
        provoke: Box::new(provoke),
    }
}

/// A row about a connect.
fn connect<S>(
    name: &'static str,
    kind: ErrorKind,
    then: Then,
    says: &'static [&'static str],
    provoke: impl Fn(&S) -> Error + 'static,
) -> Row<S> {
    Row {
        phase: Phase::Connect,
        ..operation(name, kind, then, says, provoke)
    }
}

/// Provokes each, and says of all at once what is not as it should be.
fn check<S>(backend: &str, least: usize, servers: &S, rows: &[Row<S>]) {
    assert!(rows.len() >= least, "{backend}: {} conditions", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let start = Instant::now();
        let error = (row.provoke)(servers);
        let took = start.elapsed();
        let then = Then::of(&error);
        println!(
            "{backend} | {} | {:?} | {:?} | {then:?} | {:.0?} | {error}",
            row.name,
            error.kind(),
            error.phase(),
            took
        );
        let text = error.to_string();
        let silent = row.says.iter().filter(|words| !text.contains(**words));
        let silent: Vec<_> = silent.collect();
        if (error.kind(), error.phase(), then) != (row.kind, row.phase, row.then)
            || !silent.is_empty()
        {
            wrong.push(format!(
                "{}: {:?} in {:?}, {then:?}; not {:?} in {:?}, {:?}; without {silent:?}: {error}",
                row.name,
                error.kind(),
                error.phase(),
                row.kind,
                row.phase,
                row.then
            ));
        }
    }
    println!("{backend}: {} conditions", rows.len());
    assert!(wrong.is_empty(), "{backend}:\n{}", wrong.join("\n"));
}

/// Waits until something holds.
fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        let late = start.elapsed() > Duration::from_secs(20);
        assert!(!late, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(2));
    }
}
