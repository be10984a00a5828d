//! Figures, health, alerts and the exporter.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond::alerts::{Alert, HandleAlert as _, Rule, Signal, Webhook};
use millpond::exporter::Exporter;
use millpond::{HttpConfig, Hub, Pool, Postgres, PostgresConfig, Sql};
use testbed::Nginx;

use super::{MARK, marked, show, show_error};

pub(super) fn everything(hub: &Hub, service: &Nginx) {
    assert_eq!(hub.metrics().pools.len(), 6);
    figures(hub);
    exporter(hub);
    alerts(service);
    let left = hub.shut_down(Duration::from_secs(5));
    show("shut down", &left);
    println!("{left}");
}

fn figures(hub: &Hub) {
    show("hub", hub);
    let snapshot = hub.metrics();
    show("figures", &snapshot);
    println!("{snapshot}\n{}", snapshot.prometheus());
    println!("{}", serde_json::to_string(&snapshot).expect("JSON"));
    let health = hub.health();
    show("health", &health);
    println!("{health}");
    println!("{}", serde_json::to_string(&health).expect("JSON"));
    show("history", &hub.history(Duration::from_secs(3600)));
    show("alerts", &hub.alerts());
}

fn exporter(hub: &Hub) {
    let builder = Exporter::builder(hub)
        .bind("127.0.0.1:0")
        .token(marked("exporter"));
    show("exporter", &builder);
    let exporter = builder.start().expect("starts");
    show("exporter", &exporter);
    for path in ["/", "/metrics", "/health", "/ready", "/snapshot"] {
        let with = ask(exporter.local_addr(), path, &marked("exporter"));
        assert!(
            !with.contains(" 401 ") && !with.contains(" 421 "),
            "{path}: {with}"
        );
        println!("{with}");
        let without = ask(exporter.local_addr(), path, &marked("wrong"));
        let is_open = !["/metrics", "/snapshot"].contains(&path);
        assert!(is_open || without.contains(" 401 "), "{path}: {without}");
        println!("{without}");
    }
    println!(
        "{}",
        ask(
            exporter.local_addr(),
            &format!("/metrics?token={MARK}"),
            MARK
        )
    );
    exporter.stop();
    let bad = Exporter::builder(hub)
        .token(format!("{MARK} {MARK}\n"))
        .start();
    show_error("exporter", &bad.expect_err("no token"));
}

fn ask(address: SocketAddr, path: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("set");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A pool whose password is wrong fires, and the service of the webhook refuses it and repeats the token.
fn alerts(service: &Nginx) {
    let server = testbed::Postgres::builder()
        .hba("host all app 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust")
        .start()
        .expect("PostgreSQL");
    let role = format!("CREATE ROLE app LOGIN PASSWORD '{}'", marked("pg"));
    server.psql(&role).expect("a role");
    let config = PostgresConfig::new().host("127.0.0.1").port(server.port());
    let config = config.user("app").password(marked("wrong"));
    let manager = Postgres::new(config).expect("settings");
    let pool = Pool::builder().name("locked-out").build_unchecked(manager);
    let config = HttpConfig::new(service.url()).bearer_token(marked("hook"));
    let webhook = Webhook::new(config, "/hook");
    let webhook = Arc::new(webhook.expect("settings"));
    let hub = Hub::builder()
        .sample_interval(Duration::from_millis(50))
        .log_interval(Duration::from_millis(200))
        .alerts([Rule::new("down", Signal::Health).above(0.75)])
        .on_alert(|alert: &Alert| {
            show("alert", alert);
            println!("{alert}\n{}", serde_json::to_string(alert).expect("JSON"));
        })
        .build();
    hub.watch(&pool);
    let sql = Sql::new("SELECT $1::text").bind(marked("bind"));
    show_error("locked out", &pool.execute(sql).expect_err("refused"));
    let start = Instant::now();
    while hub.alerts().firing.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(15), "nothing fires");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Until the log has had its line of figures.
    std::thread::sleep(Duration::from_millis(500));
    figures(&hub);
    let fired = hub.alerts().firing[0].clone();
    webhook.handle(&fired);
}
