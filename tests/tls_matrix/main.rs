//! TLS and logins of the four backends on real servers: what is right works, and whatever is
//! wrong is told by the first attempt, at once, with its cause and the setting to change, and
//! without a word in plaintext.
//!
//! `cargo test --test tls_matrix -- --nocapture` prints the matrix as it was seen.
#![allow(clippy::unwrap_used, missing_docs)]

mod expiry;
mod http;
mod middleman;
mod mongodb;
mod postgres;
mod recorder;
mod redis;
mod settings;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::{ConnectFailure, Error, ErrorKind, ManageConnection, Pool};
use testbed::Ca;

const TLS: ErrorKind = ErrorKind::Connect(ConnectFailure::Tls);

/// Of the logins of all servers. Must never be seen.
const PASSWORD: &str = testbed::secret!("right");
/// Another, of the wrong login.
const WRONG: &str = testbed::secret!("wrong");

/// The authority of the servers that tests have in common.
fn ca() -> &'static Ca {
    static AUTHORITY: OnceLock<Ca> = OnceLock::new();
    AUTHORITY.get_or_init(Ca::new)
}

/// How long a caller would wait for a connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// How soon it hears what is wrong, on a machine that is busy.
const SOON: Duration = Duration::from_secs(6);

fn pool<M: ManageConnection>(manager: M) -> Pool<M> {
    Pool::builder()
        .max_size(2)
        .min_idle(Some(0))
        .connection_timeout(PATIENCE)
        .build_unchecked(manager)
}

/// A condition that works, for the table.
#[track_caller]
fn works<M: ManageConnection<Error = Error>>(
    backend: &str,
    condition: &str,
    manager: M,
) -> Pool<M> {
    let pool = pool(manager);
    if let Err(error) = pool.get() {
        panic!("{backend}, {condition}: {error}");
    }
    assert_eq!(pool.metrics().create_failed, 0);
    println!("| {backend} | {condition} | works | |");
    pool
}

/// What a caller hears of a condition under which no connection comes about, after one
/// attempt and at once; its kind must be this, and these words in its message.
#[track_caller]
fn refused<M: ManageConnection<Error = Error>>(
    backend: &str,
    condition: &str,
    manager: M,
    kind: ErrorKind,
    words: &[&str],
) {
    let pool = pool(manager);
    let start = Instant::now();
    let error = pool.get().map(drop).expect_err(condition);
    let took = start.elapsed();
    tells(backend, condition, &error, kind, words);
    assert!(took < SOON, "{backend}, {condition}: {took:?}");
    let metrics = pool.metrics();
    assert_eq!(metrics.create_failed, 1, "{backend}, {condition}");
    assert_eq!(
        metrics.connect_failures,
        [(kind, 1)],
        "{backend}, {condition}"
    );
}

/// What an operation hears on a connection that came about.
#[track_caller]
fn forbidden<M: Backend<Error = Error>>(
    backend: &str,
    condition: &str,
    pool: &Pool<M>,
    operation: M::Operation,
    kind: ErrorKind,
    words: &[&str],
) {
    match pool.execute(operation) {
        Ok(_) => panic!("{backend}, {condition}: worked"),
        Err(error) => tells(backend, condition, &error, kind, words),
    }
}

#[track_caller]
fn tells(backend: &str, condition: &str, error: &Error, kind: ErrorKind, words: &[&str]) {
    let message = error.message();
    println!(
        "| {backend} | {condition} | {} | {message} |",
        error.kind().as_str()
    );
    assert_eq!(error.kind(), kind, "{backend}, {condition}: {error}");
    for word in words {
        assert!(
            message.contains(word),
            "{backend}, {condition}: no `{word}` in: {message}"
        );
    }
    let all = format!("{error} {error:?}");
    assert!(!testbed::bears_mark(&all), "{backend}, {condition}: {all}");
}

/// Server certificates with a flaw each, and what is told of it.
fn flawed(ca: &Ca) -> [(&'static str, testbed::Identity, &'static [&'static str]); 3] {
    [
        (
            "wrong host name",
            ca.issue().wrong_host().server(),
            &[
                "certificate is for elsewhere.invalid, not localhost",
                "check",
            ],
        ),
        (
            "expired",
            ca.issue().expired().server(),
            &["certificate expired on 2001-12-31"],
        ),
        (
            "not yet valid",
            ca.issue().not_yet_valid().server(),
            &["certificate is not valid before 2090-01-01", "clocks"],
        ),
    ]
}
