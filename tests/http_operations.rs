//! HTTP requests as operations, on a real nginx that freezes, refuses and is cut off.
#![allow(clippy::unwrap_used, missing_docs)]

mod scripted;

use std::error::Error as _;
use std::thread;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::backend::http::HttpStatusError;
use millpond::{
    Deadline, ErrorKind, Http, HttpConfig, HttpConnection, HttpRequest, HttpResponse,
    ManageConnection, Operation, Outcome, Pool, PooledConnection, RetryPolicy,
};
use scripted::{threads_named, until};
use serde_json::json;
use testbed::{Nginx, Pace, Proxy, Silent};

const LIMIT: Duration = Duration::from_millis(300);

fn manager(port: u16) -> Http {
    Http::new(HttpConfig::new(format!("http://127.0.0.1:{port}"))).unwrap()
}

fn pool(port: u16) -> Pool<Http> {
    Pool::builder().max_size(4).build(manager(port)).unwrap()
}

fn get(path: &str) -> HttpRequest {
    HttpRequest::get(path)
}

fn run(
    http: &Http,
    conn: &mut HttpConnection,
    all: &[HttpRequest],
    deadline: Deadline,
) -> Vec<Outcome<HttpResponse>> {
    let outcomes = http.execute_batch(conn, &all.iter().collect::<Vec<_>>(), deadline);
    assert_eq!(outcomes.len(), all.len(), "one outcome each");
    testbed::keep("outcomes", format!("{outcomes:?}"));
    outcomes
}

/// Runs it and checks that it ended by the limit, give or take what is allowed.
fn by_limit<T>(work: impl FnOnce() -> T) -> T {
    let (pace, start) = (Pace::start(), Instant::now());
    let result = work();
    let took = start.elapsed();
    assert!(took > LIMIT / 2, "took only {took:?}");
    let took = pace.since(start);
    assert!(took < LIMIT + Duration::from_millis(100), "took {took:?}");
    result
}

#[test]
fn methods_headers_bodies_and_queries_arrive() {
    let nginx = Nginx::builder()
        .directive("location = /query { return 200 $args; }")
        .start()
        .unwrap();
    let pool = pool(nginx.port());
    let reply = pool.execute(get("/").deadline(LIMIT)).unwrap();
    assert_eq!((reply.status(), reply.text().unwrap()), (200, "ok"));
    let query = get("/query")
        .query("q", testbed::value("a&b c"))
        .query("page", 2);
    let reply = pool.execute(query).unwrap();
    assert_eq!(reply.text().unwrap(), "q=Canary7f3aZ-a%26b+c&page=2");
    let echo = HttpRequest::post("/echo")
        .header("X-A", testbed::value(1))
        .json(&json!({"n": 1}))
        .unwrap();
    // As a queue would carry it.
    let echo: HttpRequest = serde_json::from_str(&serde_json::to_string(&echo).unwrap()).unwrap();
    let reply = pool.execute(&echo).unwrap();
    let text = reply.text().unwrap().to_ascii_lowercase();
    for part in [
        "post /echo ",
        "x-a: canary7f3az-1",
        "content-type: application/json",
        r#"{"n":1}"#,
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let mut lease = pool.get().unwrap();
    let head = PooledConnection::execute(&mut lease, HttpRequest::head("/")).unwrap();
    assert_eq!(head.bytes(), b"");
    let error = PooledConnection::execute(&mut lease, get("no/slash")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOperation);
}

#[test]
fn statuses_have_their_kind_and_outcome() {
    let nginx = Nginx::start().unwrap();
    let http = manager(nginx.port());
    let mut conn = http.connect().unwrap();
    for (status, kind, unknown) in [
        (400, ErrorKind::InvalidOperation, false),
        (401, ErrorKind::Authentication, false),
        (404, ErrorKind::NotFound, false),
        (408, ErrorKind::Overloaded, false),
        (409, ErrorKind::Constraint, false),
        (412, ErrorKind::Constraint, false),
        (425, ErrorKind::Overloaded, false),
        (429, ErrorKind::Overloaded, false),
        (500, ErrorKind::Other, false),
        (502, ErrorKind::ConnectionLost, true),
        (503, ErrorKind::Overloaded, false),
        (504, ErrorKind::ConnectionLost, true),
    ] {
        let post = HttpRequest::post(format!("/status/{status}")).body(testbed::value("x"));
        let error = http.execute(&mut conn, &post, Deadline::NEVER).unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome_unknown()),
            (kind, unknown),
            "{error}"
        );
        let cause = error.source().unwrap().downcast_ref::<HttpStatusError>();
        assert_eq!(cause.unwrap().status(), status);
        assert!(error.endpoint().is_some());
        let any = http.execute(&mut conn, &post.any_status(), Deadline::NEVER);
        assert_eq!(any.unwrap().status(), status);
    }
}

#[test]
fn retry_after_is_honoured_within_the_deadline() {
    let nginx = Nginx::start().unwrap();
    let pool = pool(nginx.port());
    let busy = || get("/status/503").retry(RetryPolicy::new(2));
    let start = Instant::now();
    let error = pool.execute(busy().deadline(LIMIT)).unwrap_err();
    assert!(
        start.elapsed() < LIMIT,
        "there was no time for another attempt"
    );
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    let start = Instant::now();
    pool.execute(busy().deadline(Duration::from_secs(9)))
        .unwrap_err();
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(1), "took {took:?}");
    assert!(took < Duration::from_secs(3), "took {took:?}");
}

#[test]
fn redirects_are_followed_and_remembered() {
    let nginx = Nginx::builder()
        .directive("location = /see-other { return 303 /status/503; }")
        .directive("location = /same-again { return 307 /status/503; }")
        .start()
        .unwrap();
    let http = manager(nginx.port());
    let mut conn = http.connect().unwrap();
    let mut outcome = |path: &str| {
        let post = HttpRequest::post(path).body(testbed::value("x"));
        http.execute(&mut conn, &post, Deadline::within(Duration::from_secs(9)))
    };
    assert_eq!(outcome("/redirect/3").unwrap().text().unwrap(), "ok");
    // The service took the request before it told where to look.
    assert!(outcome("/see-other").unwrap_err().outcome_unknown());
    assert!(!outcome("/same-again").unwrap_err().outcome_unknown());
}

#[test]
fn no_answer_by_the_deadline() {
    let silent = Silent::start().unwrap();
    let http = manager(silent.port());
    let mut conn = http.connect().unwrap();
    let within = || Deadline::within(LIMIT);
    let error = by_limit(|| http.execute(&mut conn, &get("/"), within())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.outcome_unknown() && error.to_string().contains("deadline"));
    // A body that no buffer takes.
    let large = HttpRequest::post("/").body(vec![b'x'; 50 << 20]);
    let error = by_limit(|| http.execute(&mut conn, &large, within())).unwrap_err();
    assert!(error.outcome_unknown());
    // One that is over sends nothing.
    let over = Deadline::within(Duration::ZERO);
    let error = http.execute(&mut conn, &get("/"), over).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(!error.outcome_unknown());

    let all = vec![get("/"); 10];
    let outcomes = by_limit(|| run(&http, &mut conn, &all, within()));
    assert!(matches!(&outcomes[0], Outcome::Unknown(_)));
    assert!(
        outcomes[1..]
            .iter()
            .all(|outcome| matches!(outcome, Outcome::NotExecuted(_)))
    );

    let pool = pool(silent.port());
    let error = by_limit(|| pool.execute(get("/").deadline(LIMIT))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
}

#[test]
fn half_a_body_by_the_deadline() {
    let nginx = Nginx::builder()
        .directive("limit_rate 20k")
        .start()
        .unwrap();
    let http = manager(nginx.port());
    let mut conn = http.connect().unwrap();
    let slow = get("/bytes/1000000");
    let within = || Deadline::within(LIMIT);
    let error = by_limit(|| http.execute(&mut conn, &slow, within())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.outcome_unknown());
    let received = || Http::traffic(&conn).bytes_received.unwrap();
    assert!(received() > 0, "some of the body came");

    let mut conn = http.connect().unwrap();
    let error = by_limit(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(LIMIT / 2);
                nginx.freeze();
            });
            http.execute(&mut conn, &slow, within())
        })
    });
    nginx.thaw();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
}

#[test]
fn what_was_not_sent_was_not_executed() {
    let nginx = Nginx::start().unwrap();
    let http = manager(nginx.port());
    let mut conn = http.connect().unwrap();
    nginx.kill();
    let post = HttpRequest::post("/echo").body(testbed::value("x"));
    let error = http.execute(&mut conn, &post, Deadline::NEVER).unwrap_err();
    assert!(!error.outcome_unknown(), "{error}");
    assert!(matches!(error.kind(), ErrorKind::Connect(_)), "{error}");
    let all = vec![post; 5];
    let outcomes = run(&http, &mut conn, &all, Deadline::NEVER);
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Outcome::NotExecuted(_)))
    );
}

#[test]
fn a_connection_cut_during_a_request() {
    let nginx = Nginx::start().unwrap();
    let proxy = Proxy::start(nginx.port()).unwrap();
    let pool = pool(proxy.port());
    pool.execute(get("/")).unwrap();
    let cut_during = |request: HttpRequest| {
        thread::scope(|scope| {
            scope.spawn(|| {
                until("a request is on its way", || {
                    pool.state().connections > pool.state().idle_connections
                });
                thread::sleep(Duration::from_millis(200));
                proxy.cut();
            });
            pool.execute(request)
        })
    };
    assert_eq!(
        cut_during(get("/slow/600")).unwrap().text().unwrap(),
        "slow"
    );
    cut_during(HttpRequest::put("/slow/600").body(testbed::value("x"))).unwrap();
    let error = cut_during(HttpRequest::post("/slow/600").body(testbed::value("x"))).unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    let post = HttpRequest::post("/slow/600").body(testbed::value("x"));
    cut_during(post.idempotent(true)).unwrap();
}

#[test]
fn a_group_gives_each_request_its_own_outcome() {
    // The second server closes the connection after each answer.
    for keep_alive in ["keepalive_timeout 75s", "keepalive_timeout 0"] {
        let nginx = Nginx::builder().directive(keep_alive).start().unwrap();
        let http = manager(nginx.port());
        let mut conn = http.connect().unwrap();
        let mut all = vec![get("/"); 20];
        all[7] = get("/status/404");
        let deadline = Deadline::within(Duration::from_secs(9));
        let outcomes = run(&http, &mut conn, &all, deadline);
        for (n, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Outcome::Done(reply) => assert_eq!((n == 7, reply.text().unwrap()), (false, "ok")),
                Outcome::Rejected(error) => assert_eq!((n, error.kind()), (7, ErrorKind::NotFound)),
                other => panic!("{keep_alive}, {n}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_pool_on_a_frozen_server_answers_by_the_deadline_and_recovers() {
    let nginx = Nginx::start().unwrap();
    let pool = pool(nginx.port());
    pool.execute(get("/")).unwrap();
    until("the pool is at rest", || pool.state().idle_connections > 0);
    let threads = threads_named("millpond-");
    nginx.freeze();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let error = by_limit(|| pool.execute(get("/").deadline(LIMIT))).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
            });
        }
    });
    nginx.thaw();
    let reply = pool
        .execute(get("/").deadline(Duration::from_secs(9)))
        .unwrap();
    assert_eq!(reply.status(), 200);
    until("the threads are gone", || {
        threads_named("millpond-") <= threads
    });
}
