//! Marked secrets and values go through everything on real servers, and are looked for in
//! everything that comes out: logs at trace level by our own logger, errors with their whole
//! chains of causes, `Debug` of every type that holds anything, figures, health, the exporter.
//!
//! A child process does the work. What it shows goes to its standard output, what is logged into
//! a file; this process looks into both.

mod databases;
mod http;
mod settings;
mod unmasked;
mod watching;

use std::error::Error as _;
use std::fmt::Debug;
use std::process::Command;
use std::time::Duration;

use millpond::backend::Backend;
use millpond::{Batch, Error, Operation, Outcome, Pool};

const CHILD: &str = "CANARY_CHILD_LOG";
/// In every secret and every value. No text of ours, of a server or of a driver has it.
const MARK: &str = "Canary7f3aZ";
/// `app:Canary7f3aZ-basic` in base64.
const BASIC: &str = "YXBwOkNhbmFyeTdmM2FaLWJhc2lj";

fn main() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let file = format!("millpond-canary-{}.jsonl", std::process::id());
    let file = std::env::temp_dir().join(file);
    let audit = file.with_extension("audit");
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    let output = child
        .env(CHILD, "1")
        .env("CONNECTION_POOL_LOG_LEVEL", "trace")
        .env("CONNECTION_POOL_LOG_FILE", &file)
        .env("CONNECTION_POOL_LOG_CONNECTIONS", "true")
        .env("CONNECTION_POOL_LOG_OPERATIONS", "true")
        .env("AUDIT_FILE", &audit)
        .output()
        .expect("runs");
    let log = std::fs::read_to_string(&file).expect("a log");
    let audited = std::fs::read_to_string(&audit).expect("an audit log");
    for file in [&file, &audit] {
        let _ = std::fs::remove_file(file);
    }
    let shown = String::from_utf8_lossy(&output.stdout);
    let panics = String::from_utf8_lossy(&output.stderr);
    let mut found = 0;
    for (name, text) in [
        ("log", &*log),
        ("audit log", &audited),
        ("shown", &shown),
        ("panics", &panics),
    ] {
        for line in text.lines().filter(|line| leaks(line)) {
            eprintln!("in {name}: {line}");
            found += 1;
        }
    }
    assert_eq!(found, 0, "lines with a secret or a value");
    assert!(output.status.success(), "{panics}");

    // What was looked through is what there should be.
    for part in [
        "\"target\":\"millpond::operations\"",
        "\"target\":\"millpond::connections\"",
        "\"target\":\"millpond::metrics\"",
        "\"outcome\":\"rejected\"",
        "\"outcome\":\"unknown\"",
        "an alert could not be posted",
        "a text of the database's own",
    ] {
        assert!(log.contains(part), "no {part} in the log");
    }
    assert!(log.lines().count() > 100, "a short log: {log}");
    assert!(audited.lines().count() > 20, "a short audit log: {audited}");
    assert!(shown.lines().count() > 500, "little was shown: {shown}");
    println!(
        "looked through {} lines of log and {} lines shown: no canary",
        log.lines().count(),
        shown.lines().count()
    );
}

fn leaks(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    let bytes: Vec<_> = MARK.bytes().map(|byte| byte.to_string()).collect();
    let hex = MARK
        .bytes()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    lower.contains(&MARK.to_ascii_lowercase())
        || line.contains(BASIC)
        || lower.contains(&hex)
        || line.contains(&bytes.join(", "))
}

fn child() {
    millpond::logging::init_from_env().expect("a logger");
    let audit = millpond::audit::init_from_env().expect("an audit log");
    assert!(leaks(&format!("{:?}", format!("x{MARK}").as_bytes())));
    settings::mistakes();
    let servers = databases::Servers::start();
    let service = http::service();
    let hub = settings::hub(&servers, &service);
    databases::postgres(&hub, &servers);
    databases::redis(&hub, &servers);
    databases::mongodb(&hub, &servers);
    http::requests(&hub, &service);
    unmasked::values(&hub);
    watching::everything(&hub, &service);
    drop(audit);
}

/// A marked text.
fn marked(what: &str) -> String {
    format!("{MARK}-{what}")
}

/// Shows it in each form that it has.
fn show(what: &str, it: &impl Debug) {
    println!("{what}: {it:?}\n{it:#?}");
}

/// Shows an error with all its causes, as programs print them.
fn show_error(what: &str, error: &Error) {
    show(what, error);
    let mut text = format!("{error}");
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}\ncaused by: {cause}\ncaused by: {cause:?}");
        next = cause.source();
    }
    println!("{what}: {text}");
}

/// Runs an operation that may succeed, and shows all of it.
fn run<B>(pool: &Pool<B>, operation: B::Operation) -> Option<B::Reply>
where
    B: Backend,
    B::Operation: Debug + Clone,
    B::Reply: Debug,
{
    let what = operation.statement().into_owned();
    show(&what, &operation);
    match pool.execute(operation.clone()) {
        Ok(reply) => {
            show(&what, &reply);
            show(&what, &Outcome::Done(&reply));
            Some(reply)
        }
        Err(error) => {
            show_error(&what, &error);
            show(&what, &Outcome::<()>::failed(error));
            None
        }
    }
}

/// The same of one that has to fail, and the error's text.
fn fails<B>(pool: &Pool<B>, operation: B::Operation) -> String
where
    B: Backend,
    B::Operation: Debug + Clone,
    B::Reply: Debug,
{
    let error = pool.execute(operation.clone());
    let error = error.err().unwrap_or_else(|| panic!("{operation:?}"));
    assert!(run(pool, operation).is_none());
    error.to_string()
}

/// Shows the outcomes of a batch, and its quarantine; how many were rejected.
fn run_batch<B>(pool: &Pool<B>, operations: Vec<B::Operation>) -> usize
where
    B: Backend,
    B::Operation: Debug + Clone,
    B::Reply: Debug,
{
    let batch = Batch::builder(pool.clone()).build().expect("starts");
    let tickets = operations.into_iter().map(|operation| {
        let ticket = batch.submit(operation).expect("room");
        show("ticket", &ticket);
        ticket
    });
    for ticket in tickets.collect::<Vec<_>>() {
        let outcome = ticket.wait();
        if let Some(error) = outcome.error() {
            show_error("outcome", error);
        }
        show("outcome", &outcome);
    }
    let quarantined = batch.quarantine().entries();
    for entry in &quarantined {
        show_error("quarantined", &entry.error);
    }
    show("quarantine", &quarantined);
    show("quarantine", batch.quarantine());
    show("batch", &batch);
    println!("{}", batch.metrics());
    batch.close(Duration::from_secs(5));
    quarantined.len()
}

/// Shows a pool that can connect, and its manager.
fn show_pool<B>(pool: &Pool<B>)
where
    B: Backend + Debug,
{
    show("manager", pool.manager());
    drop(pool.get().unwrap_or_else(|error| panic!("{error}")));
    show("pool", pool);
    show("state", &pool.state());
    show("figures", &pool.metrics());
}

/// Shows why a pool with such a manager gives no lease.
fn show_refusal<B>(what: &str, manager: Result<B, Error>)
where
    B: Backend + Debug,
{
    let manager = match manager {
        Ok(manager) => manager,
        Err(error) => return show_error(what, &error),
    };
    show(what, &manager);
    let pool = Pool::builder().max_size(1).name(what.to_owned());
    let pool = pool.connection_timeout(Duration::from_millis(700));
    let pool = pool.build_unchecked(manager);
    let error = pool.get().err().expect("refused");
    show_error(what, &error);
    show(what, &pool);
}
