//! The log as a program's operator gets it: a child process logs to standard error or a file,
//! and what it wrote is read.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use millpond::{Batch, ErrorKind, Hub, Operation, Outcome, Pool, Postgres, PostgresConfig, Sql};
use serde_json::Value;
use testbed::{bears_mark, keep, secret};

const CHILD: &str = "LOGGING_CHILD_URL";
/// A value that no log may contain.
const MARKED: &str = secret!("value");

fn main() {
    if let Ok(url) = std::env::var(CHILD) {
        return child(&url);
    }
    let server = testbed::Postgres::shared();
    let url = server.url();
    by_default_there_are_figures_in_json(&url);
    everything_is_told_and_no_value(&url);
    text_and_switches(&url);
    mistakes_are_told_together(&url);
    nobody_reads(&url);
    println!("5 checks of the log passed");
}

/// The program that logs.
fn child(url: &str) {
    if let Err(error) = millpond::logging::init_from_env() {
        println!("{error}");
        std::process::exit(3);
    }
    let again = millpond::logging::init_from_env().expect_err("there is a logger");
    assert_eq!(again.kind(), ErrorKind::Configuration);

    let config = PostgresConfig::from_url(url).expect("a good URL");
    let manager = Postgres::new(config).expect("good settings");
    let pool = Pool::builder().name("logged").max_size(1).build(manager);
    let pool = pool.expect("opens");
    let hub = Hub::builder()
        .sample_interval(Duration::from_millis(20))
        .log_interval(Duration::from_millis(100))
        .build();
    hub.watch(&pool);
    let marked = |sql: &'static str| Sql::new(sql).bind(MARKED).id("order 7");
    pool.execute(marked("SELECT $1::text")).expect("answers");
    pool.execute(marked("SELECT nothing, $1::text"))
        .expect_err("no such column");
    let batch = Batch::builder(pool.clone()).build().expect("starts");
    let ticket = batch
        .submit(marked(concat!(
            "SELECT $1::text || '",
            secret!("literal"),
            "'"
        )))
        .expect("room");
    assert!(matches!(ticket.wait(), Outcome::Done(_)));
    log::trace!(target: "program", answer = 42; "a trace\nin two lines");
    std::thread::sleep(Duration::from_millis(300));
    batch.close(Duration::from_secs(1));
    pool.close(Duration::from_secs(1))
        .expect("nobody holds any");
}

fn run(url: &str, variables: &[(&str, &str)]) -> Output {
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.env(CHILD, url).envs(variables.iter().copied());
    let output = child.output().expect("runs");
    keep("standard output", &output.stdout);
    keep("standard error", &output.stderr);
    output
}

/// What the child wrote to standard error; it ended well.
fn written(url: &str, variables: &[(&str, &str)]) -> String {
    let output = run(url, variables);
    let written = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{}: {written}", output.status);
    assert!(!bears_mark(&written), "a value in the log: {written}");
    written
}

fn records(written: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    written.lines().map(parse).collect()
}

fn of<'a>(records: &'a [Value], target: &str) -> Vec<&'a Value> {
    let of = |record: &&Value| record["target"] == target;
    records.iter().filter(of).collect()
}

fn by_default_there_are_figures_in_json(url: &str) {
    let records = records(&written(url, &[]));
    let figures = of(&records, "millpond::metrics");
    assert!(figures.len() >= 2, "{records:?}");
    let fields = &figures[0]["fields"];
    assert_eq!(fields["pool"], "logged");
    assert_eq!(fields["health"], "up");
    assert!(fields["p95"].is_number() && fields["open"] == 1, "{fields}");
    for record in &records {
        assert_ne!(record["target"], "millpond::connections");
        assert_ne!(record["target"], "millpond::operations");
        assert!(["INFO", "WARN", "ERROR"].contains(&record["level"].as_str().expect("a level")));
        let time = record["time"].as_str().expect("a time");
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    }
}

fn everything_is_told_and_no_value(url: &str) {
    let file = format!("millpond-log-{}.jsonl", std::process::id());
    let file = std::env::temp_dir().join(file);
    let path = file.to_str().expect("UTF-8");
    let on_screen = written(
        url,
        &[
            ("CONNECTION_POOL_LOG_LEVEL", "trace"),
            ("CONNECTION_POOL_LOG_FILE", path),
            ("CONNECTION_POOL_LOG_CONNECTIONS", "true"),
            ("CONNECTION_POOL_LOG_OPERATIONS", "true"),
        ],
    );
    assert_eq!(on_screen, "");
    let log = std::fs::read_to_string(&file).expect("a log");
    let _ = std::fs::remove_file(&file);
    keep("log", &log);
    assert!(!bears_mark(&log), "a value in the log: {log}");
    let records = records(&log);

    let connections = of(&records, "millpond::connections");
    assert!(connections.len() >= 2, "{records:?}");
    let (first, last) = (connections[0], connections[connections.len() - 1]);
    assert!(
        first["message"]
            .as_str()
            .expect("text")
            .contains("established")
    );
    assert!(first["fields"]["seconds"].as_f64() > Some(0.0));
    assert_eq!(last["fields"]["reason"], "pool_closed");

    let operations = of(&records, "millpond::operations");
    let facts: Vec<_> = operations
        .iter()
        .map(|record| {
            let fields = &record["fields"];
            assert_eq!(fields["id"], "order 7");
            assert_eq!(fields["pool"], "logged");
            assert!(
                fields["endpoint"]
                    .as_str()
                    .expect("text")
                    .contains("127.0.0.1")
            );
            assert!(fields["seconds"].as_f64() > Some(0.0));
            let text = |key: &str| fields[key].as_str().unwrap_or_default();
            (text("statement"), text("outcome"), text("kind"))
        })
        .collect();
    assert_eq!(
        facts,
        [
            ("SELECT $1::text", "done", ""),
            ("SELECT nothing, $1::text", "rejected", "invalid_operation"),
            ("SELECT $1::text || ?", "done", ""),
        ]
    );

    let own = of(&records, "program");
    assert_eq!(own[0]["level"], "TRACE");
    assert_eq!(own[0]["message"], "a trace\nin two lines");
    assert_eq!(own[0]["fields"]["answer"], 42);
    for record in &records {
        let target = record["target"].as_str().expect("a target");
        let of_driver = target.starts_with("tokio_postgres") || target.starts_with("postgres");
        let loud = ["DEBUG", "TRACE"].contains(&record["level"].as_str().expect("a level"));
        assert!(!(of_driver && loud), "{record}");
    }
}

fn text_and_switches(url: &str) {
    let text = written(
        url,
        &[
            ("CONNECTION_POOL_STRUCTURED_LOGGING", "false"),
            ("CONNECTION_POOL_INCLUDE_METRICS", "false"),
            ("CONNECTION_POOL_LOG_CONNECTIONS", "true"),
        ],
    );
    assert!(!text.contains("millpond::metrics"), "{text}");
    let line = text.lines().find(|line| line.contains("established"));
    let line = line.expect("a connection's record");
    assert!(
        line.contains("INFO  millpond::connections] millpond: pool logged: connection"),
        "{line}"
    );
    assert!(line.contains("connection=1"), "{line}");
}

fn mistakes_are_told_together(url: &str) {
    let output = run(
        url,
        &[
            ("CONNECTION_POOL_LOG_LEVEL", "loud"),
            ("CONNECTION_POOL_LOG_FILE", "/nowhere/log"),
            ("CONNECTION_POOL_LOG_OPERATIONS", "perhaps"),
        ],
    );
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8(output.stdout).expect("UTF-8");
    for part in [
        "CONNECTION_POOL_LOG_LEVEL is `loud`, accepted: OFF, ERROR, WARN, INFO, DEBUG or TRACE",
        "CONNECTION_POOL_LOG_FILE is `/nowhere/log`",
        "CONNECTION_POOL_LOG_OPERATIONS is `perhaps`, accepted: true or false",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

/// A log that nobody can write changes nothing for the program.
fn nobody_reads(url: &str) {
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.env(CHILD, url).stderr(Stdio::piped());
    let mut child = child.spawn().expect("runs");
    drop(child.stderr.take());
    assert!(child.wait().expect("ends").success());
    if Path::new("/dev/full").exists() {
        written(url, &[("CONNECTION_POOL_LOG_FILE", "/dev/full")]);
    }
}
