//! Redis with TLS.

use millpond::{ErrorKind, Redis, RedisCommand, RedisConfig, Tls, TlsVersion};
use redis::Commands as _;
use testbed::{Ca, Redis as Server, RedisBuilder};

use super::recorder::{Recorder, is_handshake};
use super::{PASSWORD, TLS, WRONG, forbidden, refused, works};

const REDIS: &str = "Redis";

fn at(port: u16) -> RedisConfig {
    RedisConfig::new().host("localhost").port(port)
}

fn trusting(ca: &Ca, port: u16) -> RedisConfig {
    at(port).tls(Tls::new().ca_file(ca.cert_path()))
}

fn manager(config: RedisConfig) -> Redis {
    Redis::new(config).unwrap()
}

fn started(builder: RedisBuilder) -> Server {
    builder.start().unwrap()
}

#[test]
fn certificates() {
    let ca = Ca::new();
    let server = started(Server::builder().tls(&ca));
    for resp3 in [false, true] {
        let pool = works(
            REDIS,
            "good",
            manager(trusting(&ca, server.port()).resp3(resp3)),
        );
        let () = pool.get().unwrap().set("k", "v").unwrap();
    }
    let by_address = trusting(&ca, server.port())
        .host("127.0.0.1")
        .port(server.port());
    works(REDIS, "good, by address", manager(by_address));
    let any = at(server.port()).tls(Tls::new().danger_trust_any_certificate());
    works(REDIS, "not checked", manager(any));
    for config in [
        trusting(&Ca::new(), server.port()),
        at(server.port()).tls(Tls::new()),
    ] {
        let words = ["authority", "not known", "REDIS_SSL_CA_FILE"];
        refused(REDIS, "unknown CA", manager(config), TLS, &words);
    }
    for (condition, identity, words) in super::flawed(&ca) {
        let server = started(Server::builder().tls_identity(&ca, &identity));
        refused(
            REDIS,
            condition,
            manager(trusting(&ca, server.port())),
            TLS,
            words,
        );
        if condition == "wrong host name" {
            let tls = Tls::new().ca_file(ca.cert_path()).skip_host_name();
            works(
                REDIS,
                "wrong host name, not checked",
                manager(at(server.port()).tls(tls)),
            );
        }
    }
}

#[test]
fn versions() {
    let ca = Ca::new();
    let old = started(
        Server::builder()
            .tls(&ca)
            .arg("--tls-protocols")
            .arg("TLSv1.1"),
    );
    let words = [
        "no version of TLS that is new enough",
        "REDIS_SSL_MIN_VERSION",
    ];
    refused(
        REDIS,
        "TLS 1.1",
        manager(trusting(&ca, old.port())),
        TLS,
        &words,
    );
    let tls = Tls::new().ca_file(ca.cert_path());
    let newer = at(old.port()).tls(tls.min_version(TlsVersion::Tls13));
    let error = Redis::new(newer).map(drop).unwrap_err();
    let words = ["REDIS_SSL_MIN_VERSION", "tls-protocols"];
    super::tells(
        REDIS,
        "1.3 wanted",
        &error,
        ErrorKind::Configuration,
        &words,
    );
}

#[test]
fn a_server_without_tls() {
    let server = started(Server::builder().password(PASSWORD));
    for (resp3, answers) in [(false, "RESP2"), (true, "RESP3")] {
        let recorder = Recorder::before(server.port());
        let config = at(recorder.port()).password(PASSWORD).tls(Tls::new());
        let words = ["does not offer TLS", "REDIS_SSL=false"];
        let condition = format!("server without TLS, {answers}");
        refused(REDIS, &condition, manager(config.resp3(resp3)), TLS, &words);
        for said in recorder.said() {
            assert!(is_handshake(&said) || said == b"PING\r\n", "{said:?}");
        }
    }
}

#[test]
fn a_server_with_tls_where_none_is_asked_for() {
    let ca = Ca::new();
    let server = started(Server::builder().tls(&ca));
    let manager = manager(at(server.port()));
    let error = millpond::ManageConnection::connect(&manager)
        .map(drop)
        .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Connect(_)), "{error}");
    assert!(error.message().contains("TLS"), "{error}");
}

#[test]
fn client_certificates() {
    let ca = Ca::new();
    let server = started(Server::builder().tls(&ca).client_certificates(true));
    let showing = |identity: &testbed::Identity| {
        let tls = Tls::new().ca_file(ca.cert_path());
        at(server.port()).tls(tls.client_certificate(identity.cert_path(), identity.key_path()))
    };
    works(
        REDIS,
        "client certificate",
        manager(showing(&ca.client("app"))),
    );
    let words = ["client", "certificate", "REDIS_SSL_CERT_FILE"];
    let kind = ErrorKind::Authentication;
    let without = trusting(&ca, server.port());
    refused(
        REDIS,
        "client certificate missing",
        manager(without),
        kind,
        &words,
    );
    let other = Ca::new().client("app");
    refused(
        REDIS,
        "client certificate wrong",
        manager(showing(&other)),
        kind,
        &words,
    );
}

#[test]
fn logins() {
    let ca = Ca::new();
    let server = started(Server::builder().tls(&ca).password(PASSWORD));
    let user = format!(">{PASSWORD}");
    server
        .cli(&["ACL", "SETUSER", "app", "on", &user, "~*", "+@all"])
        .unwrap();
    server
        .cli(&[
            "ACL", "SETUSER", "reader", "on", &user, "~*", "+ping", "+get",
        ])
        .unwrap();
    let config = || trusting(&ca, server.port());
    for resp3 in [false, true] {
        let config = || config().resp3(resp3);
        works(REDIS, "password", manager(config().password(PASSWORD)));
        works(
            REDIS,
            "ACL user",
            manager(config().user("app").password(PASSWORD)),
        );
        let kind = ErrorKind::Authentication;
        let words = ["REDIS_USER", "REDIS_PASSWORD"];
        for (condition, config) in [
            ("wrong user", config().user("nobody").password(PASSWORD)),
            ("wrong password", config().password(WRONG)),
            (
                "wrong password of an ACL user",
                config().user("app").password(WRONG),
            ),
            ("no password", config()),
        ] {
            refused(REDIS, condition, manager(config), kind, &words);
        }
    }
    let reader = manager(config().user("reader").password(PASSWORD));
    let pool = works(REDIS, "ACL user with few rights", reader);
    let set = RedisCommand::new("SET").arg("k").arg("v");
    let condition = "ACL user without the right";
    forbidden(
        REDIS,
        condition,
        &pool,
        set,
        ErrorKind::Permission,
        &["no permissions"],
    );
}
