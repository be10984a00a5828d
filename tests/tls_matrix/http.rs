//! HTTPS on nginx.

use std::time::Duration;

use millpond::{ErrorKind, Http, HttpConfig, HttpRequest, ManageConnection, Tls, TlsVersion};
use testbed::{Ca, Nginx, NginxBuilder, Proxy};

use super::recorder::{Recorder, is_handshake};
use super::{PASSWORD, TLS, WRONG, forbidden, refused, works};

const HTTP: &str = "HTTP";

fn at(port: u16) -> HttpConfig {
    HttpConfig::new(format!("https://localhost:{port}"))
}

fn trusting(ca: &Ca, port: u16) -> HttpConfig {
    at(port).tls(Tls::new().ca_file(ca.cert_path()))
}

fn manager(config: HttpConfig) -> Http {
    Http::new(config).unwrap()
}

fn started(builder: NginxBuilder) -> Nginx {
    builder.start().unwrap()
}

#[test]
fn certificates() {
    let ca = Ca::new();
    let nginx = started(Nginx::builder().tls(&ca));
    let pool = works(HTTP, "good", manager(trusting(&ca, nginx.port())));
    let reply = pool.execute(HttpRequest::get("/")).unwrap();
    assert_eq!(reply.text().unwrap(), "ok");
    let by_address = HttpConfig::new(nginx.url()).tls(Tls::new().ca_file(ca.cert_path()));
    works(HTTP, "good, by address", manager(by_address));
    let any = at(nginx.port()).tls(Tls::new().danger_trust_any_certificate());
    works(HTTP, "not checked", manager(any));
    for config in [trusting(&Ca::new(), nginx.port()), at(nginx.port())] {
        let words = ["authority", "not known", "HTTP_SSL_CA_FILE"];
        refused(HTTP, "unknown CA", manager(config), TLS, &words);
    }
    for (condition, identity, words) in super::flawed(&ca) {
        let nginx = started(Nginx::builder().tls_identity(&ca, &identity));
        refused(
            HTTP,
            condition,
            manager(trusting(&ca, nginx.port())),
            TLS,
            words,
        );
        if condition == "wrong host name" {
            let tls = Tls::new().ca_file(ca.cert_path()).skip_host_name();
            works(
                HTTP,
                "wrong host name, not checked",
                manager(at(nginx.port()).tls(tls)),
            );
        }
    }
}

#[test]
fn versions() {
    let ca = Ca::new();
    let limited = |version: &str| {
        let limit = format!("ssl_protocols {version}");
        started(Nginx::builder().tls(&ca).directive(&limit))
    };
    let newer = |port| {
        let tls = Tls::new().ca_file(ca.cert_path());
        at(port).tls(tls.min_version(TlsVersion::Tls13))
    };
    let old = limited("TLSv1.1");
    let words = [
        "no version of TLS that is new enough",
        "HTTP_SSL_MIN_VERSION",
    ];
    refused(
        HTTP,
        "TLS 1.1",
        manager(trusting(&ca, old.port())),
        TLS,
        &words,
    );
    let middle = limited("TLSv1.2");
    works(HTTP, "TLS 1.2", manager(trusting(&ca, middle.port())));
    refused(
        HTTP,
        "TLS 1.2, 1.3 wanted",
        manager(newer(middle.port())),
        TLS,
        &words,
    );
    let new = limited("TLSv1.3");
    works(HTTP, "TLS 1.3, 1.3 wanted", manager(newer(new.port())));
}

#[test]
fn a_server_without_tls() {
    let nginx = started(Nginx::builder());
    let recorder = Recorder::before(nginx.port());
    let config = at(recorder.port()).basic_auth("test", PASSWORD);
    let words = ["does not offer TLS", "http:// in HTTP_BASE_URL"];
    refused(HTTP, "server without TLS", manager(config), TLS, &words);
    let said = recorder.said();
    assert_eq!(said.len(), 1);
    assert!(is_handshake(&said[0]), "{said:?}");
}

#[test]
fn client_certificates() {
    let ca = Ca::new();
    let nginx = started(Nginx::builder().tls(&ca).client_certificates(true));
    let showing = |ca: &Ca, identity: &testbed::Identity| {
        let tls = Tls::new().ca_file(ca.cert_path());
        tls.client_certificate(identity.cert_path(), identity.key_path())
    };
    let config = at(nginx.port()).health_path("/");
    let good = config.clone().tls(showing(&ca, &ca.client("app")));
    works(HTTP, "client certificate", manager(good));
    let stranger = Ca::new();
    let words = ["HTTP_SSL_CERT_FILE"];
    let kind = ErrorKind::Authentication;
    let without = config.clone().tls(Tls::new().ca_file(ca.cert_path()));
    refused(
        HTTP,
        "client certificate missing",
        manager(without.clone()),
        kind,
        &words,
    );
    let other = config.tls(showing(&ca, &stranger.client("app")));
    refused(
        HTTP,
        "client certificate wrong",
        manager(other),
        kind,
        &words,
    );
    // Without a path to ask for, the first request meets it.
    let unasked = works(HTTP, "client certificate missing, no health path", {
        manager(trusting(&ca, nginx.port()))
    });
    let condition = "client certificate missing, in a request";
    forbidden(
        HTTP,
        condition,
        &unasked,
        HttpRequest::get("/"),
        kind,
        &words,
    );
}

#[test]
fn logins() {
    let ca = Ca::new();
    let nginx = started(
        Nginx::builder()
            .tls(&ca)
            .directive("location = /mine { return 403; }"),
    );
    let config = |path: &str| trusting(&ca, nginx.port()).health_path(path);
    let kind = ErrorKind::Authentication;
    works(
        HTTP,
        "basic login",
        manager(config("/basic").basic_auth("test", Nginx::PASSWORD)),
    );
    for (condition, user, password) in [
        ("wrong user", "nobody", Nginx::PASSWORD),
        ("wrong password", "test", WRONG),
    ] {
        let config = config("/basic").basic_auth(user, password);
        let words = ["401", "HTTP_USER", "HTTP_PASSWORD"];
        refused(HTTP, condition, manager(config), kind, &words);
    }
    works(
        HTTP,
        "bearer token",
        manager(config("/bearer").bearer_token(Nginx::TOKEN)),
    );
    let words = ["401", "HTTP_BEARER_TOKEN"];
    let wrong = config("/bearer").bearer_token(WRONG);
    refused(HTTP, "wrong token", manager(wrong), kind, &words);
    let pool = works(HTTP, "good login", manager(config("/")));
    let mine = HttpRequest::get("/mine");
    forbidden(
        HTTP,
        "without the right",
        &pool,
        mine,
        ErrorKind::Permission,
        &["403"],
    );
}

#[test]
fn session_tickets_do_not_make_a_connection_look_closed() {
    let ca = Ca::new();
    let nginx = started(Nginx::builder().tls(&ca));
    let proxy = Proxy::start(nginx.port()).unwrap();
    let manager = manager(trusting(&ca, proxy.port()));
    let mut conn = manager.connect().unwrap();
    // The server sends them right after the handshake.
    std::thread::sleep(Duration::from_millis(100));
    manager.is_valid(&mut conn).unwrap();
    for _ in 0..20 {
        assert_eq!(conn.get("/bytes/100000").unwrap().bytes().len(), 100_000);
        manager.is_valid(&mut conn).unwrap();
    }
    assert_eq!(proxy.accepted(), 1);
    nginx.stop();
    std::thread::sleep(Duration::from_millis(100));
    let error = manager.is_valid(&mut conn).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
}
