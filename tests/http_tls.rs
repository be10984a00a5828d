//! HTTPS, on a real nginx.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use millpond::{ConnectFailure, ErrorKind, Http, HttpConfig, ManageConnection, Tls};
use testbed::{Ca, Nginx, Proxy};

fn trusting(ca: &Ca, port: u16) -> HttpConfig {
    let tls = Tls::new().ca_file(ca.cert_path());
    HttpConfig::new(format!("https://localhost:{port}")).tls(tls)
}

fn refusal(config: HttpConfig) -> millpond::Error {
    Http::new(config).unwrap().connect().err().unwrap()
}

#[test]
fn the_right_and_the_wrong_authority() {
    let ca = Ca::new();
    let nginx = Nginx::builder().tls(&ca).start().unwrap();
    let mut conn = Http::new(trusting(&ca, nginx.port()))
        .unwrap()
        .connect()
        .unwrap();
    assert_eq!(conn.get("/").unwrap().text().unwrap(), "ok");
    let by_address = HttpConfig::new(nginx.url()).tls(Tls::new().ca_file(ca.cert_path()));
    Http::new(by_address).unwrap().connect().unwrap();
    let any = trusting(&ca, nginx.port()).tls(Tls::new().danger_trust_any_certificate());
    Http::new(any).unwrap().connect().unwrap();
    for config in [
        trusting(&Ca::new(), nginx.port()),
        HttpConfig::new(nginx.url()),
    ] {
        let error = refusal(config);
        assert_eq!(
            error.kind(),
            ErrorKind::Connect(ConnectFailure::Tls),
            "{error}"
        );
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}

#[test]
fn certificates_for_other_hosts_and_times() {
    let ca = Ca::new();
    for identity in [
        ca.issue().wrong_host().server(),
        ca.issue().expired().server(),
    ] {
        let nginx = Nginx::builder()
            .tls_identity(&ca, &identity)
            .start()
            .unwrap();
        let error = refusal(trusting(&ca, nginx.port()));
        assert_eq!(
            error.kind(),
            ErrorKind::Connect(ConnectFailure::Tls),
            "{error}"
        );
    }
    let elsewhere = ca.issue().wrong_host().server();
    let nginx = Nginx::builder()
        .tls_identity(&ca, &elsewhere)
        .start()
        .unwrap();
    let lenient = Tls::new().ca_file(ca.cert_path()).skip_host_name();
    Http::new(trusting(&ca, nginx.port()).tls(lenient))
        .unwrap()
        .connect()
        .unwrap();
}

#[test]
fn client_certificates() {
    let ca = Ca::new();
    let nginx = Nginx::builder()
        .tls(&ca)
        .client_certificates(true)
        .start()
        .unwrap();
    let client = ca.client("app");
    let tls = Tls::new().ca_file(ca.cert_path());
    let shown = tls.client_certificate(client.cert_path(), client.key_path());
    let config = trusting(&ca, nginx.port());
    let mut conn = Http::new(config.clone().tls(shown))
        .unwrap()
        .connect()
        .unwrap();
    assert_eq!(conn.get("/").unwrap().status(), 200);
    let mut conn = Http::new(config).unwrap().connect().unwrap();
    assert_eq!(conn.get("/").unwrap().status(), 400);
}

#[test]
fn session_tickets_do_not_make_a_connection_look_closed() {
    let ca = Ca::new();
    let nginx = Nginx::builder().tls(&ca).start().unwrap();
    let proxy = Proxy::start(nginx.port()).unwrap();
    let manager = Http::new(trusting(&ca, proxy.port())).unwrap();
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
