//! A real Prometheus scrapes the exporter.

use std::fmt::Write as _;
use std::time::Duration;

use millpond::exporter::Exporter;
use millpond::{Hub, Sql};
use serde_json::Value;
use testbed::secret;

/// The names of the README's table.
fn promised() -> impl Iterator<Item = &'static str> {
    let rows = include_str!("../README.md").lines();
    rows.filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(_, rest)| {
            ["gauge", "counter", "histogram"]
                .iter()
                .any(|kind| rest.starts_with(kind))
        })
        .map(|(name, _)| name)
}

#[test]
fn prometheus_has_each_series_that_the_readme_names() {
    let ca = testbed::Ca::new();
    let server = testbed::Postgres::builder().tls(&ca).start();
    let server = server.expect("starts");
    let config = millpond::PostgresConfig::from_url(&server.url()).expect("a good URL");
    let config = config.ca_file(ca.cert_path());
    let config = config.ssl_mode(millpond::backend::postgres::SslMode::VerifyFull);
    let file = format!("millpond-scrape-{}.jsonl", std::process::id());
    let file = std::env::temp_dir().join(file);
    let audit = millpond::audit::Audit::builder(&file).install();
    let audit = audit.expect("an audit log");
    let manager = millpond::Postgres::new(config).expect("good settings");
    let pool = millpond::Pool::builder()
        .name("scraped")
        .max_size(2)
        .build(manager)
        .expect("opens");
    let batch = millpond::Batch::builder(pool.clone())
        .build()
        .expect("starts");
    // So that there is an alert from the beginning.
    let always = millpond::alerts::Rule::new("always", millpond::alerts::Signal::Memory)
        .above(-1.0)
        .lasting(Duration::ZERO);
    let hub = Hub::builder().alert(always).build();
    hub.watch(&pool);
    hub.watch_batch(&batch);
    // And a server that is not there.
    let nobody = millpond::PostgresConfig::from_url("postgres://u@127.0.0.1:1/db").expect("good");
    let nobody = millpond::Postgres::new(nobody).expect("good settings");
    let gone = millpond::Pool::builder()
        .name("gone")
        .build_unchecked(nobody);
    gone.get_timeout(Duration::from_millis(50))
        .expect_err("nobody is there");
    hub.watch(&gone);
    for sql in ["SELECT $1::text", "SELECT $1::int"] {
        let sql = Sql::new(sql).bind(testbed::value("text"));
        let is_good = sql.sql().ends_with("text");
        let ticket = batch.submit(sql).expect("room");
        assert_eq!(ticket.wait().is_done(), is_good);
    }
    // For the memory's limit.
    millpond::resources::set_limits(millpond::resources::Limits::new().memory_mib(100_000));
    let exporter = Exporter::builder(&hub)
        .bind("127.0.0.1:0")
        .token(secret!("for-prometheus"));
    let exporter = exporter.start().expect("starts");
    let prometheus = testbed::Prometheus::start(
        exporter.local_addr().port(),
        Some(secret!("for-prometheus")),
    )
    .expect("starts");
    let ask = |path: &str| -> Value {
        let answer = prometheus.get(path).expect("an answer");
        testbed::keep("Prometheus", &answer);
        serde_json::from_str(&answer).expect("JSON")
    };
    let promised: Vec<_> = promised().collect();
    assert!(promised.len() > 40, "{promised:?}");
    let mut missing = promised.clone();
    for _ in 0..100 {
        let names = ask("/api/v1/label/__name__/values");
        let known = |name: &str| {
            let series = [name.to_owned(), format!("{name}_bucket")];
            let names = names["data"].as_array().expect("names");
            names
                .iter()
                .any(|known| series.iter().any(|name| known == name))
        };
        missing.retain(|name| !known(name));
        if missing.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let targets = ask("/api/v1/targets");
    let target = &targets["data"]["activeTargets"][0];
    assert_eq!(
        (&target["health"], &target["lastError"]),
        (&"up".into(), &"".into())
    );
    assert!(missing.is_empty(), "{missing:?}");
    let query = "/api/v1/query?query=millpond_batch_operations_total%7Boutcome%3D%22done%22%7D";
    assert_eq!(ask(query)["data"]["result"][0]["value"][1], "1");
    understands_the_dashboard(&ask);
    drop(audit);
    testbed::keep("audit log", std::fs::read(&file).expect("a log"));
    let _ = std::fs::remove_file(&file);
}

/// Each query of the Grafana dashboard is one, and those of what there is have an answer.
fn understands_the_dashboard(ask: &dyn Fn(&str) -> Value) {
    let dashboard: Value =
        serde_json::from_str(include_str!("../grafana/millpond.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let queries: Vec<String> = targets
        .flatten()
        .map(|target| {
            let expr = target["expr"].as_str().expect("a query");
            expr.replace("$pool", ".*")
                .replace("$__rate_interval", "10s")
        })
        .collect();
    assert!(queries.len() > 30, "{}", queries.len());
    // Rates are known from the second scrape on.
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent = queries
            .iter()
            .filter(|query| !has_answer(ask, query))
            .collect();
        if silent.len() <= 2 {
            return;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("without an answer: {silent:#?}");
}

fn has_answer(ask: &dyn Fn(&str) -> Value, query: &str) -> bool {
    let mut path = String::from("/api/v1/query?query=");
    for byte in query.bytes() {
        write!(path, "%{byte:02X}").expect("a String takes it");
    }
    let answer = ask(&path);
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    !answer["data"]["result"]
        .as_array()
        .expect("a list")
        .is_empty()
}
