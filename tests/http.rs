//! HTTP services, on a real nginx.
#![allow(clippy::unwrap_used, missing_docs)]

use std::error::Error as _;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::backend::http::{HttpStatusError, Method, Request};
use millpond::{
    ConnectFailure, Error, ErrorKind, Http, HttpConfig, HttpConnection, ManageConnection, Phase,
};
use serde_json::{Value, json};
use testbed::{BlackHole, Nginx, Pace, Proxy, Silent, secret};

const SHORT: Duration = Duration::from_millis(300);

fn at(port: u16) -> HttpConfig {
    HttpConfig::new(format!("http://127.0.0.1:{port}"))
}

fn manager(config: HttpConfig) -> Http {
    Http::new(config).unwrap()
}

fn connect(config: HttpConfig) -> HttpConnection {
    manager(config).connect().unwrap()
}

fn fails(config: HttpConfig) -> Error {
    manager(config).connect().err().unwrap()
}

fn get_text(conn: &mut HttpConnection, path: &str) -> String {
    conn.get(path).unwrap().text().unwrap().to_owned()
}

fn within<T>(limit: Duration, work: impl FnOnce() -> T) -> T {
    let (pace, start) = (Pace::start(), Instant::now());
    let result = work();
    let took = start.elapsed();
    assert!(took > limit / 2, "took only {took:?}");
    let took = pace.since(start);
    assert!(took < limit + Duration::from_millis(250), "took {took:?}");
    result
}

/// The proxy has accepted so many connections; it notices a moment after us.
fn assert_accepted(proxy: &Proxy, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while proxy.accepted() < count && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(proxy.accepted(), count);
}

#[test]
fn one_socket_for_all_requests_of_a_lease() {
    let nginx = Nginx::start().unwrap();
    let proxy = Proxy::start(nginx.port()).unwrap();
    let manager = manager(at(proxy.port()));
    let mut conn = manager.connect().unwrap();
    for _ in 0..50 {
        assert_eq!(get_text(&mut conn, "/"), "ok");
        assert!(!manager.has_broken(&mut conn));
    }
    assert_eq!(conn.get("/status/404").unwrap().status(), 404);
    assert_eq!(conn.post("/echo", "body").unwrap().status(), 200);
    assert_eq!(conn.head("/").unwrap().bytes(), b"");
    assert_eq!(conn.get("/bytes/300000").unwrap().bytes().len(), 300_000);
    assert_eq!(conn.get("/redirect/3").unwrap().text().unwrap(), "ok");
    manager.is_valid(&mut conn).unwrap();
    // The driver's own agent uses it too.
    let url = format!("http://127.0.0.1:{}/json", proxy.port());
    let mut response = ureq::Agent::get(&conn, &url).call().unwrap();
    assert_eq!(
        response.body_mut().read_to_string().unwrap(),
        r#"{"ok":true}"#
    );
    assert!(!manager.has_broken(&mut conn));
    assert_accepted(&proxy, 1);
    let traffic = Http::traffic(&conn);
    assert!(traffic.statements.unwrap() >= 58);
    assert!(traffic.bytes_received.unwrap() > 300_000 && traffic.bytes_sent.unwrap() > 2_000);
}

#[test]
fn connecting_opens_the_socket_ahead() {
    let nginx = Nginx::start().unwrap();
    let proxy = Proxy::start(nginx.port()).unwrap();
    let mut conn = connect(at(proxy.port()));
    assert_accepted(&proxy, 1);
    conn.get("/").unwrap();
    assert_accepted(&proxy, 1);
    let mut conn = connect(at(proxy.port()).keep_alive(false));
    assert_accepted(&proxy, 1);
    conn.get("/").unwrap();
    conn.get("/").unwrap();
    assert_accepted(&proxy, 3);
}

#[test]
fn a_connection_closed_by_the_server_while_idle_is_noticed() {
    let nginx = Nginx::start().unwrap();
    let proxy = Proxy::start(nginx.port()).unwrap();
    let manager = manager(at(proxy.port()));
    let mut conns: Vec<_> = (0..3).map(|_| manager.connect().unwrap()).collect();
    conns[0].get("/").unwrap();
    proxy.cut();
    std::thread::sleep(Duration::from_millis(50));
    let error = manager.is_valid(&mut conns[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    assert!(manager.is_valid(&mut conns[1]).is_err());
    // Used without a check, it opens another one by itself.
    assert_eq!(get_text(&mut conns[2], "/"), "ok");
}

#[test]
fn what_the_server_ends_is_not_kept() {
    let nginx = Nginx::builder()
        .directive("keepalive_timeout 0")
        .start()
        .unwrap();
    let manager = manager(at(nginx.port()));
    let mut conn = manager.connect().unwrap();
    assert_eq!(get_text(&mut conn, "/"), "ok");
    assert!(manager.has_broken(&mut conn));
    let nginx = Nginx::start().unwrap();
    let manager = self::manager(at(nginx.port()));
    let mut conn = manager.connect().unwrap();
    drop(
        conn.stream(Request::get("/bytes/5000000").body(Vec::new()).unwrap())
            .unwrap(),
    );
    assert!(manager.has_broken(&mut conn), "an unread body");
}

#[test]
fn killed_while_idle_the_next_leases_all_work() {
    let nginx = Nginx::start().unwrap();
    let proxy = Proxy::start(nginx.port()).unwrap();
    let pool = millpond::Pool::builder()
        .max_size(4)
        .build(manager(at(proxy.port())))
        .unwrap();
    for _ in 0..3 {
        let mut leases: Vec<_> = (0..4).map(|_| pool.get().unwrap()).collect();
        for lease in &mut leases {
            assert_eq!(lease.get("/").unwrap().status(), 200);
        }
        drop(leases);
        proxy.cut();
    }
}

#[test]
fn nobody_there() {
    let refused = fails(at(testbed::refused_port()));
    assert_eq!(
        refused.kind(),
        ErrorKind::Connect(ConnectFailure::Refused),
        "{refused}"
    );
    assert_eq!(refused.phase(), Phase::Connect);
    let unknown = fails(HttpConfig::new("https://no-such-host.invalid"));
    assert_eq!(
        unknown.kind(),
        ErrorKind::Connect(ConnectFailure::Dns),
        "{unknown}"
    );
    let hole = BlackHole::start().unwrap();
    let config = at(hole.port()).connect_timeout(SHORT);
    let timeout = within(SHORT, || fails(config));
    assert_eq!(
        timeout.kind(),
        ErrorKind::Connect(ConnectFailure::Timeout),
        "{timeout}"
    );
}

#[test]
fn a_silent_server_holds_nobody() {
    let silent = Silent::start().unwrap();
    let encrypted = HttpConfig::new(format!("https://localhost:{}", silent.port()));
    let error = within(SHORT, || fails(encrypted.connect_timeout(SHORT)));
    assert_eq!(
        error.kind(),
        ErrorKind::Connect(ConnectFailure::Timeout),
        "{error}"
    );

    let config = at(silent.port()).health_path("/health");
    let checked = manager(config.check_timeout(SHORT));
    let error = within(SHORT, || checked.connect()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    assert!(error.to_string().contains("HTTP_CHECK_TIMEOUT"), "{error}");

    let overall = manager(at(silent.port()).timeout(SHORT));
    let mut conn = overall.connect().unwrap();
    let error = within(SHORT, || conn.get("/")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    assert!(error.outcome_unknown() && overall.has_broken(&mut conn));

    let mut conn = connect(at(silent.port()).read_timeout(SHORT));
    let error = within(SHORT, || conn.get("/")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
}

#[test]
fn the_overall_time_counts_the_whole_body() {
    let nginx = Nginx::start().unwrap();
    let mut conn = connect(at(nginx.port()).timeout(SHORT));
    let error = within(SHORT, || conn.get("/slow/5000")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    assert_eq!(get_text(&mut conn, "/"), "ok");
}

#[test]
fn a_frozen_server_and_a_restarted_one() {
    let nginx = Nginx::start().unwrap();
    let config = at(nginx.port()).health_path("/").check_timeout(SHORT);
    let manager = manager(config);
    let mut conn = manager.connect().unwrap();
    manager.is_valid(&mut conn).unwrap();
    nginx.freeze();
    assert!(within(SHORT, || manager.is_valid(&mut conn)).is_err());
    nginx.thaw();
    let mut conn = manager.connect().unwrap();
    nginx.restart().unwrap();
    assert!(manager.is_valid(&mut conn).is_err());
    manager.is_valid(&mut manager.connect().unwrap()).unwrap();
}

#[test]
fn logins_and_headers() {
    let nginx = Nginx::start().unwrap();
    let with = |config: HttpConfig, path| get_text(&mut connect(config), path);
    let at = || at(nginx.port());
    assert_eq!(with(at().bearer_token(Nginx::TOKEN), "/bearer"), "ok");
    assert_eq!(
        with(at().basic_auth("test", Nginx::PASSWORD), "/basic"),
        "ok"
    );
    let url = format!("http://test:{}@127.0.0.1:{}", Nginx::PASSWORD, nginx.port());
    assert_eq!(with(HttpConfig::new(url), "/basic"), "ok");
    assert_eq!(
        with(at().api_key("X-API-Key", secret!("k1")), "/x-api-key"),
        secret!("k1")
    );
    assert_eq!(
        with(at().header("X-API-Key", secret!("k2")), "/x-api-key"),
        secret!("k2")
    );
    let agent = with(at(), "/user-agent");
    assert_eq!(agent, concat!("millpond/", env!("CARGO_PKG_VERSION")));
    assert_eq!(with(at().user_agent("worker/2"), "/user-agent"), "worker/2");

    let refused = connect(at().bearer_token(secret!("wrong-hunter2")))
        .get("/bearer")
        .unwrap();
    let error = refused.error_for_status().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(!format!("{error:?}").contains("hunter2"));
    let mut conn = connect(at().header("X-API-Key", "default"));
    let request = Request::get("/x-api-key")
        .header("X-API-Key", "own")
        .body(Vec::new());
    assert_eq!(conn.send(request.unwrap()).unwrap().text().unwrap(), "own");
}

#[test]
fn the_base_path_precedes_every_path() {
    let nginx = Nginx::start().unwrap();
    let config = HttpConfig::new(format!("http://localhost:{}/status/", nginx.port()));
    assert_eq!(connect(config).get("/201").unwrap().status(), 201);
    let mut conn = connect(at(nginx.port()));
    let error = conn.get("http://127.0.0.1:1/").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOperation, "{error}");
    assert!(conn.get("/a\r\nX-Injected: 1").is_err());
}

#[test]
fn redirects_are_followed_up_to_the_limit() {
    let nginx = Nginx::start().unwrap();
    let mut conn = connect(at(nginx.port()).max_redirects(3));
    assert_eq!(conn.get("/redirect/3").unwrap().text().unwrap(), "ok");
    assert_eq!(conn.get("/redirect/4").unwrap().status(), 302);
    let mut conn = connect(at(nginx.port()).max_redirects(0));
    assert_eq!(conn.get("/redirect/1").unwrap().status(), 302);
}

#[test]
fn a_redirect_elsewhere_gets_no_secret_and_keeps_our_socket() {
    let other = Nginx::start().unwrap();
    let to = |path: &str| format!("return 302 {}{path};", other.url());
    let nginx = Nginx::builder()
        .directive(&format!("location = /away {{ {} }}", to("/x-api-key")))
        .directive(&format!("location = /token {{ {} }}", to("/authorization")))
        .start()
        .unwrap();
    let proxy = Proxy::start(nginx.port()).unwrap();
    let mut conn = connect(at(proxy.port()).api_key("X-API-Key", secret!("hunter2")));
    assert_eq!(get_text(&mut conn, "/away"), "");
    assert_eq!(get_text(&mut conn, "/x-api-key"), secret!("hunter2"));
    assert_accepted(&proxy, 1);
    let mut conn = connect(at(proxy.port()).bearer_token(secret!("hunter2")));
    assert_eq!(get_text(&mut conn, "/token"), "");
}

#[test]
fn retry_after_is_on_the_response_and_on_the_error() {
    let nginx = Nginx::start().unwrap();
    let mut conn = connect(at(nginx.port()));
    let response = conn.get("/status/503").unwrap();
    assert_eq!(response.retry_after(), Some(Duration::from_secs(1)));
    let error = response.error_for_status().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.is_retryable());
    let status = error
        .source()
        .unwrap()
        .downcast_ref::<HttpStatusError>()
        .unwrap();
    assert_eq!((status.status(), status.excerpt()), (503, "busy"));
    assert_eq!(status.retry_after(), Some(Duration::from_secs(1)));
}

#[test]
fn json_both_ways() {
    let nginx = Nginx::start().unwrap();
    let mut conn = connect(at(nginx.port()));
    let reply: Value = conn.get_json("/json").unwrap();
    assert_eq!(reply, json!({"ok": true}));
    let echo = conn
        .send_json(Method::PUT, "/echo", &json!({"a": [1]}))
        .unwrap();
    let echo = echo.text().unwrap().to_ascii_lowercase();
    assert!(echo.contains("put /echo") && echo.contains("content-type: application/json"));
    assert!(echo.ends_with(r#"{"a":[1]}"#), "{echo}");
    let missing = conn.get_json::<Value>("/status/404").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    let text = conn.get_json::<Value>("/").unwrap_err();
    assert_eq!(text.kind(), ErrorKind::InvalidOperation, "{text}");
}

#[test]
fn bodies_have_a_limit_or_are_streamed() {
    let nginx = Nginx::start().unwrap();
    let manager = manager(at(nginx.port()).max_body(1000));
    let mut conn = manager.connect().unwrap();
    assert_eq!(conn.get("/bytes/1000").unwrap().bytes().len(), 1000);
    let error = conn.get("/bytes/1000000").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceLimit, "{error}");
    assert!(manager.has_broken(&mut conn));
    let mut conn = manager.connect().unwrap();
    let request = Request::get("/bytes/1000000").body(Vec::new()).unwrap();
    let mut body = conn.stream(request).unwrap().into_body().into_reader();
    assert_eq!(
        std::io::copy(&mut body, &mut std::io::sink()).unwrap(),
        1_000_000
    );
    drop(body);
    assert!(!manager.has_broken(&mut conn));
}

#[test]
fn the_health_path_decides() {
    let nginx = Nginx::start().unwrap();
    let well = manager(at(nginx.port()).health_path("/"));
    let mut conn = well.connect().unwrap();
    well.is_valid(&mut conn).unwrap();
    let service = well.check(&mut conn).unwrap();
    assert!(service.version.unwrap().starts_with("nginx"));
    assert!(service.latency > Duration::ZERO);

    let plain = manager(at(nginx.port()));
    let mut conn = plain.connect().unwrap();
    plain.check(&mut conn).unwrap();
    let unwell = manager(at(nginx.port()).health_path("/status/503"));
    for error in [
        unwell.connect().unwrap_err(),
        unwell.is_valid(&mut conn).unwrap_err(),
        unwell.check(&mut conn).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert_eq!(error.phase(), Phase::Validate);
    }
}

#[test]
fn the_driver_can_be_shut_down_from_elsewhere() {
    let silent = Silent::start().unwrap();
    let mut conn = connect(at(silent.port()));
    let agent = (*conn).clone();
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(SHORT);
            agent.shutdown();
        });
        assert!(conn.get("/").is_err());
    });
    assert!(start.elapsed() < 3 * SHORT);
}
