//! Those of an HTTP service.

use std::thread;
use std::time::Duration;

use millpond::backend::Backend as _;
use millpond::{
    Deadline, Error, ErrorKind as Kind, Http, HttpConfig, HttpRequest, ManageConnection as _,
    Operation as _,
};
use testbed::{BlackHole, Ca, Nginx, Proxy, Silent, refused_port, secret};

use super::Then::{Final, InDoubt, Later};
use super::{DNS, LIMIT, REFUSED, Row, TIMEOUT, TLS, Then, check, connect, operation};

struct Servers {
    nginx: Nginx,
    manager: Http,
    /// What nginx has behind it, for as long as it runs.
    _silent: Silent,
}

impl Servers {
    fn start() -> Self {
        let silent = Silent::start().expect("starts");
        let dead = format!(
            "location = /dead {{ proxy_pass http://127.0.0.1:{}; }}",
            refused_port()
        );
        let mute = format!(
            "location = /mute {{ proxy_pass http://127.0.0.1:{}; proxy_read_timeout 100ms; }}",
            silent.port()
        );
        let nginx = Nginx::builder()
            .directive(&dead)
            .directive(&mute)
            .directive(
                "location = /narrow { client_max_body_size 1k; proxy_pass http://127.0.0.1:1; }",
            )
            .directive("location = /barred { deny all; }")
            .start()
            .expect("starts");
        Self {
            manager: manager(HttpConfig::new(nginx.url())),
            nginx,
            _silent: silent,
        }
    }

    fn config(&self) -> HttpConfig {
        HttpConfig::new(self.nginx.url())
    }

    fn run(&self, request: &HttpRequest) -> Error {
        run_on(&self.manager, request, None)
    }
}

fn at(port: u16) -> HttpConfig {
    HttpConfig::new(format!("http://127.0.0.1:{port}"))
}

fn manager(config: HttpConfig) -> Http {
    Http::new(config).expect("good settings")
}

fn run(config: HttpConfig, request: &HttpRequest) -> Error {
    run_on(&manager(config), request, None)
}

fn run_on(manager: &Http, request: &HttpRequest, limit: Option<Duration>) -> Error {
    let mut conn = manager.connect().expect("connects");
    request.validate().expect("a good request");
    let deadline = limit.map_or(Deadline::NEVER, Deadline::within);
    let result = manager.execute(&mut conn, request, deadline);
    result.map(|reply| reply.status()).expect_err("refused")
}

fn refused(config: HttpConfig) -> Error {
    manager(config)
        .connect()
        .map(drop)
        .expect_err("must not connect")
}

fn get(path: &str) -> HttpRequest {
    HttpRequest::get(path).header("X-Value", testbed::value("get"))
}

fn post(path: &str, bytes: usize) -> HttpRequest {
    HttpRequest::post(path)
        .header("X-Value", testbed::value("post"))
        .body("x".repeat(bytes))
}

fn cut(servers: &Servers) -> Error {
    let proxy = Proxy::start(servers.nginx.port()).expect("starts");
    let manager = manager(at(proxy.port()));
    let mut conn = manager.connect().expect("connects");
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            proxy.cut();
        });
        let result = manager.execute(&mut conn, &post("/slow/3000", 1), Deadline::NEVER);
        result.map(|reply| reply.status()).expect_err("cut")
    })
}

/// A status, whatever the method.
fn status(
    name: &'static str,
    status: u16,
    kind: Kind,
    then: Then,
    says: &'static [&'static str],
) -> Row<Servers> {
    operation(name, kind, then, says, move |servers: &Servers| {
        servers.run(&post(&format!("/status/{status}"), 1))
    })
}

#[rustfmt::skip]
fn statuses() -> Vec<Row<Servers>> {
    vec![
        status("400", 400, Kind::InvalidOperation, Final, &["400 Bad Request"]),
        status("401", 401, Kind::Authentication, Final, &["HTTP_BEARER_TOKEN"]),
        status("402", 402, Kind::Permission, Final, &["402"]),
        status("403", 403, Kind::Permission, Final, &["may not"]),
        status("404", 404, Kind::NotFound, Final, &["HTTP_BASE_URL"]),
        status("405", 405, Kind::InvalidOperation, Final, &["other methods"]),
        status("406", 406, Kind::InvalidOperation, Final, &["406"]),
        status("407", 407, Kind::Authentication, Final, &["proxy"]),
        status("408", 408, Kind::Overloaded, Later, &["408"]),
        status("409", 409, Kind::Constraint, Final, &["409"]),
        status("410", 410, Kind::NotFound, Final, &["410"]),
        status("411", 411, Kind::InvalidOperation, Final, &["411"]),
        status("412", 412, Kind::Constraint, Final, &["412"]),
        status("413", 413, Kind::InvalidOperation, Final, &["less at once"]),
        status("414", 414, Kind::InvalidOperation, Final, &["shorten"]),
        status("415", 415, Kind::InvalidOperation, Final, &["Content-Type"]),
        status("416", 416, Kind::InvalidOperation, Final, &["416"]),
        status("417", 417, Kind::InvalidOperation, Final, &["417"]),
        status("421", 421, Kind::InvalidOperation, Final, &["421"]),
        status("422", 422, Kind::InvalidOperation, Final, &["422"]),
        status("423", 423, Kind::Conflict, Later, &["423"]),
        status("424", 424, Kind::InvalidOperation, Final, &["424"]),
        status("425", 425, Kind::Overloaded, Later, &["425"]),
        status("426", 426, Kind::Configuration, Final, &["another version"]),
        status("428", 428, Kind::InvalidOperation, Final, &["428"]),
        status("429", 429, Kind::Overloaded, Later, &["less often"]),
        status("431", 431, Kind::InvalidOperation, Final, &["HTTP_HEADERS"]),
        status("451", 451, Kind::Permission, Final, &["451"]),
        status("500", 500, Kind::Other, Final, &["log"]),
        status("501", 501, Kind::InvalidOperation, Final, &["501"]),
        status("502", 502, Kind::ConnectionLost, InDoubt, &["gateway"]),
        status("503, with Retry-After", 503, Kind::Overloaded, Later, &["retry after 1 s"]),
        status("504", 504, Kind::ConnectionLost, InDoubt, &["gateway"]),
        status("505", 505, Kind::Configuration, Final, &["version of HTTP"]),
        status("506", 506, Kind::Other, Final, &["506"]),
        status("507", 507, Kind::ResourceLimit, Later, &["507"]),
        status("508", 508, Kind::Other, Final, &["508"]),
        status("510", 510, Kind::InvalidOperation, Final, &["510"]),
        status("511", 511, Kind::Authentication, Final, &["proxy"]),
        status("520 of a proxy", 520, Kind::ConnectionLost, InDoubt, &["may have done it"]),
        status("521 of a proxy", 521, Kind::ConnectionLost, Later, &["not seen it"]),
        status("524 of a proxy", 524, Kind::ConnectionLost, InDoubt, &["may have done it"]),
        status("529", 529, Kind::Overloaded, Later, &["529"]),
    ]
}

#[rustfmt::skip]
fn conditions() -> Vec<Row<Servers>> {
    vec![
        operation("wrong login", Kind::Authentication, Final, &["401", "HTTP_PASSWORD"], |s: &Servers| run(s.config().basic_auth("test", secret!("wrong")), &get("/basic"))),
        operation("wrong token", Kind::Authentication, Final, &["401", "HTTP_BEARER_TOKEN"], |s: &Servers| run(s.config().bearer_token(secret!("wrong")), &get("/bearer"))),
        operation("barred by nginx", Kind::Permission, Final, &["403"], |s: &Servers| s.run(&get("/barred"))),
        operation("body too large for nginx", Kind::InvalidOperation, Final, &["413"], |s: &Servers| s.run(&post("/narrow", 4096))),
        operation("header too large for nginx", Kind::InvalidOperation, Final, &["400"], |s: &Servers| s.run(&get("/").header("X-Long", "x".repeat(40_000)))),
        operation("nothing behind the gateway", Kind::ConnectionLost, InDoubt, &["502"], |s: &Servers| s.run(&get("/dead"))),
        operation("no answer behind the gateway", Kind::ConnectionLost, InDoubt, &["504"], |s: &Servers| s.run(&get("/mute"))),
        operation("reply too large", Kind::ResourceLimit, InDoubt, &["HTTP_MAX_BODY_BYTES"], |s: &Servers| run(s.config().max_body(1000), &get("/bytes/2000"))),
        operation("slower than the time allowed", Kind::DeadlineExceeded, InDoubt, &["HTTP_TIMEOUT"], |s: &Servers| run(s.config().timeout(LIMIT), &get("/slow/3000"))),
        operation("slower than the deadline", Kind::DeadlineExceeded, InDoubt, &["deadline"], |s: &Servers| run_on(&s.manager, &get("/slow/3000"), Some(LIMIT))),
        operation("connection cut", Kind::ConnectionLost, InDoubt, &[], cut),
        connect("nothing listens", REFUSED, Later, &["HTTP_BASE_URL"], |_| refused(at(refused_port()))),
        connect("no such host", DNS, Final, &["HTTP_BASE_URL"], |_| refused(HttpConfig::new("https://no-such-host.invalid"))),
        connect("no answer to the handshake", TIMEOUT, Later, &["HTTP_CONNECT_TIMEOUT"], |_| { let hole = BlackHole::start().expect("starts"); refused(at(hole.port()).connect_timeout(LIMIT)) }),
        connect("unknown authority", TLS, Final, &["HTTP_SSL_CA_FILE"], |_| { let nginx = Nginx::builder().tls(&Ca::new()).start().expect("starts"); refused(HttpConfig::new(nginx.url())) }),
        connect("TLS asked for, and none there", TLS, Final, &["HTTP_BASE_URL"], |s: &Servers| refused(HttpConfig::new(format!("https://127.0.0.1:{}", s.nginx.port())))),
    ]
}

#[test]
fn each_condition_has_its_kind() {
    let servers = Servers::start();
    check("http", 40, &servers, &statuses());
    check("http", 15, &servers, &conditions());
}
