//! The exporter as its clients see it: the good, the slow and the hostile.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use millpond::exporter::Exporter;
use millpond::{ErrorKind, Hub, Pool};
use serde_json::Value;
use testbed::secret;

use work::{Scripted, pool, until, work};

mod work;

const MS: Duration = Duration::from_millis(1);

/// A hub with a history of a pool that works and a batch.
fn busy_hub() -> (Hub, Pool<Scripted>) {
    let (pool, _) = pool(4);
    let hub = Hub::builder().sample_interval(20 * MS).build();
    hub.watch(&pool);
    let batch = millpond::Batch::builder(pool.clone())
        .build()
        .expect("starts");
    hub.watch_batch(&batch);
    for number in 0..50 {
        let ticket = batch.submit(work(number)).expect("room");
        ticket.wait().into_result().expect("answered");
        thread::sleep(2 * MS);
    }
    until("a history", || hub.history(10_000 * MS).len() > 2);
    (hub, pool)
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        assert!(self.head.contains("application/json"), "{}", self.head);
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// What comes back for these bytes.
fn send(to: SocketAddr, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(5000 * MS)).expect("set");
    // It may have answered and left before all was sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    testbed::keep("exporter", &answer);
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        head: head.into(),
        body: body.into(),
    })
}

fn get(to: SocketAddr, path: &str) -> Answer {
    get_with(to, path, "")
}

fn get_with(to: SocketAddr, path: &str, headers: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n{headers}\r\n");
    send(to, request.as_bytes()).expect("an answer")
}

fn status(to: SocketAddr, request: &str) -> u16 {
    send(to, request.as_bytes()).expect("an answer").status
}

fn start(hub: &Hub) -> Exporter {
    let exporter = Exporter::builder(hub).bind("127.0.0.1:0");
    exporter.start().expect("starts")
}

#[test]
fn each_path_answers() {
    let (hub, _pool) = busy_hub();
    let exporter = start(&hub);
    let to = exporter.local_addr();

    let metrics = get(to, "/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.head.contains("text/plain; version=0.0.4"));
    assert!(
        metrics.body.contains("millpond_batch_operations_total"),
        "{}",
        metrics.body
    );

    let snapshot = get(to, "/snapshot").json();
    assert_eq!(snapshot["pools"][0]["operations"]["succeeded"], 50);
    assert_eq!(snapshot["batches"][0]["done"], 50);

    let history = get(to, "/history?span=10").json();
    let rows = history["at_ms"].as_array().expect("rows").len();
    assert!(rows > 2);
    for column in ["used", "waiting", "succeeded", "p95", "health"] {
        let column = history["pools"][0][column].as_array().expect("a column");
        assert_eq!(column.len(), rows);
    }
    assert_eq!(
        history["batches"][0]["queued"][3].as_array().map(Vec::len),
        Some(rows)
    );
    let other = get(to, "/history?span=10&pool=7").json();
    assert_eq!(other["pools"].as_array().map(Vec::len), Some(0));

    assert_eq!(get(to, "/health").json()["health"], "up");
    assert_eq!(get(to, "/alerts").json()["firing"], serde_json::json!([]));
    assert!(get(to, "/ready").body.starts_with("ready\nup"));
    assert_eq!(get(to, "/live").body, "live\n");
    for (path, kind) in [
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/page.css", "text/css"),
        ("/uplot.js", "text/javascript"),
        ("/uplot.css", "text/css"),
    ] {
        let file = get(to, path);
        assert!(file.status == 200 && file.head.contains(kind), "{path}");
        assert!(
            file.head
                .contains("Content-Security-Policy: default-src 'none'")
        );
    }
}

#[test]
fn a_pool_that_is_down_is_not_ready_but_alive() {
    let (pool, script) = pool(2);
    let hub = Hub::builder().sample_interval(20 * MS).build();
    hub.watch(&pool);
    let exporter = start(&hub);
    let to = exporter.local_addr();
    assert_eq!(get(to, "/ready").status, 200);
    script.down.store(true, SeqCst);
    pool.clear();
    pool.get_timeout(50 * MS).expect_err("the server is away");
    until("not ready", || get(to, "/ready").status == 503);
    let ready = get(to, "/ready");
    assert!(ready.body.starts_with("not ready\ndown"), "{}", ready.body);
    let health = get(to, "/health");
    assert_eq!(
        (health.status, &health.json()["health"]),
        (503, &"down".into())
    );
    assert_eq!(get(to, "/live").status, 200);
    script.down.store(false, SeqCst);
    until("ready", || get(to, "/ready").status == 200);
}

#[test]
fn with_a_token_only_the_verdicts_and_the_empty_page_are_for_everybody() {
    let (hub, _pool) = busy_hub();
    let exporter = Exporter::builder(&hub)
        .bind("127.0.0.1:0")
        .token(secret!("sesame"));
    let exporter = exporter.start().expect("starts");
    let to = exporter.local_addr();
    for path in [
        "/metrics",
        "/snapshot",
        "/history",
        "/alerts",
        "/health",
        "/nothing",
    ] {
        let answer = get(to, path);
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.head.contains("WWW-Authenticate: Bearer"));
        for wrong in [
            "Bearer",
            concat!("Bearer ", secret!("")),
            concat!("Bearer ", secret!("sesamf")),
            concat!("Basic ", secret!("sesame")),
        ] {
            let header = format!("Authorization: {wrong}\r\n");
            assert_eq!(get_with(to, path, &header).status, 401, "{path} {wrong}");
        }
    }
    assert_eq!(get(to, "/").status, 200);
    assert_eq!(get(to, "/ready").body, "ready\n");
    assert_eq!(get(to, "/live").body, "live\n");
    let right = concat!("authorization: bearer ", secret!("sesame"), "\r\n");
    assert_eq!(get_with(to, "/metrics", right).status, 200);
    assert!(get_with(to, "/ready", right).body.len() > "ready\n".len());
    assert!(!format!("{exporter:?}").contains("sesame"));
}

#[test]
fn what_is_no_good_request_is_told_so() {
    let (hub, _pool) = busy_hub();
    let exporter = start(&hub);
    let to = exporter.local_addr();
    let head = send(to, b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("an answer");
    assert_eq!((head.status, &*head.body), (200, ""));
    assert!(!head.head.contains("Content-Length: 0\r"));
    assert_eq!(status(to, "GET /metrics HTTP/1.0\r\n\r\n"), 200);
    assert_eq!(
        status(to, "POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\nabc"),
        405
    );
    assert_eq!(get(to, "/../etc/passwd").status, 404);
    assert_eq!(
        get(to, "/history?span=99999999999999999999&pool=x").status,
        200
    );
    assert_eq!(status(to, "\x16\x03\x01\x02\x00\x01\x00\n\n"), 400);
    assert_eq!(status(to, "GET /metrics\r\n\r\n"), 400);
    // A foreign name that points here: DNS rebinding.
    assert_eq!(
        status(to, "GET /snapshot HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        421
    );
    for host in ["localhost:1", "127.0.0.1", "[::1]:9464"] {
        let request = format!("GET /live HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(status(to, &request), 200, "{host}");
    }
    // A megabyte of one header, and of many.
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    assert_eq!(status(to, &long), 431);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(170_000));
    assert_eq!(status(to, &many), 431);
    assert_eq!(get(to, "/live").status, 200);
}

#[test]
fn settings_that_cannot_work_name_what_to_change() {
    let hub = Hub::new();

    let in_use = start(&hub);
    let builder = || Exporter::builder(&hub);
    for (builder, words) in [
        (
            builder().bind(in_use.local_addr().to_string()),
            "it is in use",
        ),
        (builder().bind("nonsense"), "EXPORTER_BIND"),
        (builder().bind("0.0.0.0:0"), "EXPORTER_ALLOW_REMOTE=true"),
        (builder().bind("127.0.0.1:0").token(""), "EXPORTER_TOKEN"),
        (
            builder().bind("127.0.0.1:0").token("two words"),
            "EXPORTER_TOKEN",
        ),
    ] {
        let error = builder.start().expect_err(words);
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(words), "{error}");
    }

    // Told to, it listens everywhere.
    let everywhere = builder().bind("0.0.0.0:0").token("t").allow_remote(true);
    let port = everywhere.start().expect("allowed").local_addr().port();
    assert_ne!(port, 0);
}

/// Threads of this process, and its resident memory in MiB.
fn footprint() -> (usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let field = |name: &str| -> usize {
        let line = status.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|text| text.parse().ok()).expect("a number")
    };
    (field("Threads:"), field("VmRSS:") / 1024)
}

/// Leases of a pool in this time.
fn leases(pool: &Pool<Scripted>, span: Duration) -> u64 {
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < span {
        drop(pool.get().expect("idle"));
        count += 1;
    }
    count
}

/// Some hundreds of clients that hurt: slow ones, garbage, megabytes of headers, ones that never
/// read, ones that only connect.
fn torment(to: SocketAddr, stop: &AtomicBool, closed: &AtomicU64) {
    let large = vec![b'A'; 65536];
    let requests: [&[u8]; 5] = [
        b"G",
        b"",
        b"GET /history?span=86400 HTTP/1.1\r\n\r\n",
        b"\xff\xfe\0\x01 no such thing\r\n\r\n",
        &large,
    ];
    let mut clients: Vec<Option<TcpStream>> = (0..200).map(|_| None).collect();
    while !stop.load(SeqCst) {
        for (client, request) in clients.iter_mut().zip(requests.iter().cycle()) {
            let open = client.take().or_else(|| {
                let stream = TcpStream::connect(to).ok()?;
                stream.set_nonblocking(true).ok()?;
                let _ = (&stream).write(request);
                Some(stream)
            });
            // A byte now and then, for as long as it is taken.
            *client = open.filter(|mut stream| stream.write_all(b"x").is_ok());
            if client.is_none() {
                closed.fetch_add(1, SeqCst);
            }
        }
        thread::sleep(100 * MS);
    }
}

#[test]
fn slow_and_hostile_clients_harm_nobody() {
    let (hub, pool) = busy_hub();
    let exporter = start(&hub);
    let to = exporter.local_addr();
    assert_eq!(get(to, "/metrics").status, 200);
    let (threads, memory) = footprint();
    let (stop, closed) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let tormentor = scope.spawn(|| torment(to, &stop, &closed));
        thread::sleep(1000 * MS);
        // Somebody decent is served at once, and the program goes on.
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let start = Instant::now();
            assert_eq!(get(to, "/metrics").status, 200);
            slowest = slowest.max(start.elapsed());
            assert!(leases(&pool, 50 * MS) > 100);
            thread::sleep(50 * MS);
        }
        let (more_threads, more_memory) = footprint();
        stop.store(true, SeqCst);
        tormentor.join().expect("no panic");
        assert!(slowest < 1000 * MS, "{slowest:?}");
        assert!(closed.load(SeqCst) > 100, "they are not kept");
        assert!(
            more_threads <= threads + 2,
            "{threads} to {more_threads} threads"
        );
        assert!(more_memory < memory + 30, "{memory} to {more_memory} MiB");
    });
}

#[test]
fn a_client_that_closes_its_half_is_answered() {
    let (hub, _pool) = busy_hub();
    let exporter = start(&hub);
    let mut stream = TcpStream::connect(exporter.local_addr()).expect("it listens");
    stream
        .write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("sent");
    stream.shutdown(Shutdown::Write).expect("shut");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    assert!(answer.ends_with("live\n"), "{answer}");
}

#[test]
fn stopping_frees_the_port_and_the_thread() {
    let hub = Hub::new();
    let exporter = start(&hub);
    let to = exporter.local_addr();
    let open = TcpStream::connect(to).expect("it listens");
    let start = Instant::now();
    exporter.stop();
    assert!(start.elapsed() < 1000 * MS);
    TcpStream::connect(to).expect_err("nobody listens");
    drop(open);
    let again = Exporter::builder(&hub).bind(to.to_string()).start();
    assert_eq!(again.expect("free").local_addr(), to);
}
