//! Marked secrets and values go through everything on real servers, and are looked for in
//! everything that comes out: logs at trace level by our own logger, errors with their whole
//! chains of causes, `Debug` of every type that holds anything, figures, health, the exporter.
//!
//! A child process does the work. What it shows goes to its standard output, what is logged into
//! a file, both into a folder of its own beside the audit log; this process looks into them all.
//! Of a private key, which bears no mark, they look for each line.

mod command;
mod databases;
mod http;
mod redis_sets;
mod settings;
mod tls;
mod unmasked;
mod watching;

use std::error::Error as _;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::{Batch, Error, Operation, Outcome, Pool};
use testbed::{MARK, bears_mark};

const CHILD: &str = "CANARY_CHILD_FOLDER";
const TOOK: &str = "took: ";
const KEY: &str = "private.key";

fn main() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return child(Path::new(&folder));
    }
    let folder = format!("millpond-canary-{}", std::process::id());
    let folder = Folder(std::env::temp_dir().join(folder));
    std::fs::create_dir(&folder.0).expect("a folder");
    let (log, audit) = (folder.0.join("log"), folder.0.join("audit"));
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    let output = child
        .env(CHILD, &folder.0)
        .env("CONNECTION_POOL_LOG_LEVEL", "trace")
        .env("CONNECTION_POOL_LOG_FILE", &log)
        .env("CONNECTION_POOL_LOG_CONNECTIONS", "true")
        .env("CONNECTION_POOL_LOG_OPERATIONS", "true")
        .env("AUDIT_FILE", &audit)
        .output()
        .expect("runs");
    let shown = String::from_utf8_lossy(&output.stdout);
    let panics = String::from_utf8_lossy(&output.stderr);
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let (log, audited, key) = (read(&log), read(&audit), read(&folder.0.join(KEY)));
    let key = forms(&key);
    let mut found = 0;
    for (name, text) in [
        ("log", &*log),
        ("audit log", &audited),
        ("shown", &shown),
        ("panics", &panics),
    ] {
        testbed::keep(name, text);
        let has_key = |line: &str| key.iter().any(|form| line.contains(form));
        for line in text
            .lines()
            .filter(|line| bears_mark(line) || has_key(line))
        {
            eprintln!("in {name}: {line}");
            found += 1;
        }
    }
    assert_eq!(found, 0, "lines with a secret or a value");
    assert!(output.status.success(), "{panics}");
    assert!(key.len() >= 4, "no private key");

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
    for part in shown.lines().filter_map(|line| line.strip_prefix(TOOK)) {
        println!("{part}");
    }
    println!(
        "looked through {} lines of log, {} of the audit log and {} shown: no canary",
        log.lines().count(),
        audited.lines().count(),
        shown.lines().count()
    );
}

/// Removed with all that is in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Each line of a private key, as text and as `Debug` writes its bytes.
fn forms(key: &str) -> Vec<String> {
    let lines = key.lines().filter(|line| !line.starts_with('-'));
    let bytes = |line: &str| {
        let bytes: Vec<_> = line.bytes().map(|byte| byte.to_string()).collect();
        bytes.join(", ")
    };
    lines
        .flat_map(|line| [line.to_owned(), bytes(line)])
        .collect()
}

fn child(folder: &Path) {
    millpond::logging::init_from_env().expect("a logger");
    let audit = millpond::audit::init_from_env().expect("an audit log");
    let mut last = Instant::now();
    let mut took = |what: &str| {
        println!("{TOOK}{what} {:.1?}", last.elapsed());
        last = Instant::now();
    };
    settings::mistakes();
    took("mistakes");
    let servers = databases::Servers::start();
    let service = http::service();
    let hub = settings::hub(&servers, &service);
    std::thread::scope(|scope| {
        scope.spawn(redis_sets::sentinel);
        scope.spawn(redis_sets::cluster);
        let tls = scope.spawn(|| tls::everything(folder));
        databases::postgres(&hub, &servers);
        databases::redis(&hub, &servers);
        databases::mongodb(&hub, &servers);
        http::requests(&hub, &service);
        let key = tls.join().expect("no panic");
        std::fs::write(folder.join(KEY), key).expect("written");
    });
    took("backends, Redis sets, TLS");
    command::everything(folder, &servers, &service);
    took("command");
    unmasked::values(&hub);
    watching::everything(&hub, &service);
    took("watching");
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
    let Err(error) = pool.get() else {
        panic!("{what}: a lease");
    };
    show_error(what, &error);
    show(what, &pool);
}
