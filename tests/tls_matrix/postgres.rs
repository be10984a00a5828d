//! PostgreSQL with TLS.

use std::sync::OnceLock;

use millpond::backend::postgres::SslMode;
use millpond::{ErrorKind, Pool, Postgres, PostgresConfig, Sql, TlsVersion};
use testbed::{Ca, Identity, Postgres as Server, PostgresBuilder};

use super::middleman::Middleman;
use super::recorder::Recorder;
use super::{PASSWORD, TLS, WRONG, ca, forbidden, refused, works};

const PG: &str = "PostgreSQL";
/// Everybody logs in with SCRAM.
const SCRAM: &str = "hostssl all all 127.0.0.1/32 scram-sha-256";

fn at(port: u16) -> PostgresConfig {
    let config = PostgresConfig::new().host("localhost").port(port);
    config.database("postgres").user("test")
}

fn trusting(ca: &Ca, port: u16) -> PostgresConfig {
    at(port)
        .ssl_mode(SslMode::VerifyFull)
        .ca_file(ca.cert_path())
}

fn manager(config: PostgresConfig) -> Postgres {
    Postgres::new(config).unwrap()
}

fn started(builder: PostgresBuilder) -> Server {
    builder.start().unwrap()
}

/// A server with a good certificate, for those that change nothing there.
fn good() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| started(Server::builder().tls(ca())))
}

/// One with a certificate for another host.
pub(super) fn elsewhere() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| showing(&ca().issue().wrong_host().server()))
}

/// One with a certificate that has expired.
pub(super) fn expired() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| showing(&ca().issue().expired().server()))
}

fn showing(identity: &Identity) -> Server {
    started(Server::builder().tls_identity(ca(), identity))
}

/// One that lets nobody in without TLS and a password: `app` with SCRAM, `plain` without.
fn with_logins() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let hba = format!("hostssl all plain 127.0.0.1/32 password\n{SCRAM}");
        let server = started(Server::builder().tls(ca()).hba(&hba));
        for role in ["app", "plain"] {
            let sql = format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'");
            server.psql(&sql).unwrap();
        }
        server
    })
}

fn is_encrypted(pool: &Pool<Postgres>) -> bool {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let mut lease = pool.get().unwrap();
    lease.query_one(sql, &[]).unwrap().get(0)
}

#[test]
fn modes() {
    let (ca, stranger) = (ca(), Ca::new());
    let (server, elsewhere, plain) = (good(), elsewhere(), Server::shared());
    let (trusted, foreign) = ("CA given", "CA of another");
    let (other, none) = ("wrong host", "server without TLS");
    for (mode, name) in [
        (SslMode::Prefer, "prefer"),
        (SslMode::Require, "require"),
        (SslMode::VerifyCa, "verify-ca"),
        (SslMode::VerifyFull, "verify-full"),
    ] {
        let config = |port| at(port).ssl_mode(mode);
        let says = |condition: &str| format!("{name}, {condition}");
        // Without an authority, the two that verify trust the system's, the others any.
        let verifies = matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull);
        let words = ["authority", "DB_SSL_CA_FILE"];
        let bare = manager(config(server.port()));
        if verifies {
            refused(PG, &says("no CA given"), bare, TLS, &words);
        } else {
            assert!(
                is_encrypted(&works(PG, &says("no CA given"), bare)),
                "{name}"
            );
        }
        let with = |ca: &Ca, port| manager(config(port).ca_file(ca.cert_path()));
        let pool = works(PG, &says(trusted), with(ca, server.port()));
        assert!(is_encrypted(&pool), "{name}");
        if mode == SslMode::Prefer {
            works(PG, &says(foreign), with(&stranger, server.port()));
        } else {
            refused(
                PG,
                &says(foreign),
                with(&stranger, server.port()),
                TLS,
                &words,
            );
        }
        if mode == SslMode::VerifyFull {
            let words = [
                "is for elsewhere.invalid, not localhost",
                "DB_SSL_MODE=verify-ca",
            ];
            refused(PG, &says(other), with(ca, elsewhere.port()), TLS, &words);
        } else {
            works(PG, &says(other), with(ca, elsewhere.port()));
        }
        if mode == SslMode::Prefer {
            let pool = works(PG, &says(none), manager(config(plain.port())));
            assert!(!is_encrypted(&pool));
        } else {
            let words = ["does not offer TLS", "DB_SSL_MODE=disable"];
            refused(PG, &says(none), with(ca, plain.port()), TLS, &words);
        }
    }
    let disable = |port| manager(at(port).ssl_mode(SslMode::Disable));
    assert!(!is_encrypted(&works(
        PG,
        "disable, server without TLS",
        disable(plain.port())
    )));
    let words = ["no encryption", "pg_hba.conf"];
    let kind = ErrorKind::Authentication;
    refused(
        PG,
        "disable, server wants TLS",
        disable(server.port()),
        kind,
        &words,
    );
}

#[test]
fn certificates() {
    let (ca, server) = (ca(), good());
    works(PG, "good", manager(trusting(ca, server.port())));
    let by_address = trusting(ca, server.port()).ssl_mode(SslMode::VerifyFull);
    works(PG, "good, by address", manager(by_address));
    let any = at(server.port())
        .ssl_mode(SslMode::VerifyFull)
        .danger_trust_any_certificate();
    works(PG, "not checked", manager(any));
    let words = ["authority", "not known", "DB_SSL_CA_FILE"];
    refused(
        PG,
        "unknown CA",
        manager(trusting(&Ca::new(), server.port())),
        TLS,
        &words,
    );
    for (condition, identity, words) in super::flawed(ca) {
        let later;
        let server = match condition {
            "wrong host name" => elsewhere(),
            "expired" => expired(),
            _ => {
                later = showing(&identity);
                &later
            }
        };
        refused(
            PG,
            condition,
            manager(trusting(ca, server.port())),
            TLS,
            words,
        );
    }
}

#[test]
fn versions() {
    let ca = ca();
    let limited = |version: &str| {
        let builder = Server::builder()
            .tls(ca)
            .setting("ssl_min_protocol_version", "TLSv1");
        started(builder.setting("ssl_max_protocol_version", version))
    };
    let newer = |port| trusting(ca, port).min_tls_version(TlsVersion::Tls13);
    let old = limited("TLSv1.1");
    let words = ["no version of TLS that is new enough", "DB_SSL_MIN_VERSION"];
    refused(
        PG,
        "TLS 1.1",
        manager(trusting(ca, old.port())),
        TLS,
        &words,
    );
    let middle = limited("TLSv1.2");
    works(PG, "TLS 1.2", manager(trusting(ca, middle.port())));
    refused(
        PG,
        "TLS 1.2, 1.3 wanted",
        manager(newer(middle.port())),
        TLS,
        &words,
    );
    let new = good();
    works(PG, "TLS 1.3, 1.3 wanted", manager(newer(new.port())));
}

#[test]
fn a_server_without_tls() {
    let server = started(Server::builder().hba("host all all 127.0.0.1/32 password"));
    let recorder = Recorder::before(server.port());
    let config = at(recorder.port())
        .password(PASSWORD)
        .ssl_mode(SslMode::Require);
    let words = ["does not offer TLS", "DB_SSL_MODE=disable"];
    refused(PG, "server without TLS", manager(config), TLS, &words);
    // The request for TLS, and not a byte more.
    assert_eq!(recorder.said(), [[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]]);
}

#[test]
fn client_certificates() {
    let ca = Ca::new();
    let server = started(Server::builder().tls(&ca).client_certificates(true));
    let showing = |identity: &testbed::Identity| {
        let config = trusting(&ca, server.port());
        manager(config.client_certificate(identity.cert_path(), identity.key_path()))
    };
    works(PG, "client certificate", showing(&ca.client("test")));
    let kind = ErrorKind::Authentication;
    let without = manager(trusting(&ca, server.port()));
    let words = ["client certificate"];
    refused(PG, "client certificate missing", without, kind, &words);
    let words = ["certificate", "DB_SSL_CERT_FILE"];
    refused(
        PG,
        "client certificate wrong",
        showing(&Ca::new().client("test")),
        kind,
        &words,
    );
    let words = ["certificate authentication failed"];
    refused(
        PG,
        "client certificate of another",
        showing(&ca.client("other")),
        kind,
        &words,
    );
}

#[test]
fn logins() {
    let (ca, server) = (ca(), with_logins());
    server.psql("CREATE TABLE mine (a int)").unwrap();
    server.create_database("closed").unwrap();
    server
        .psql("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
        .unwrap();
    let config = || trusting(ca, server.port()).user("app").password(PASSWORD);
    let pool = works(PG, "SCRAM", manager(config()));
    let kind = ErrorKind::Authentication;
    let words = ["DB_USER", "DB_PASSWORD"];
    for (condition, config) in [
        ("wrong user", config().user("nobody")),
        ("wrong password", config().password(WRONG)),
        ("no password", trusting(ca, server.port()).user("app")),
    ] {
        refused(PG, condition, manager(config), kind, &words);
    }
    let kind = ErrorKind::Permission;
    let sql = Sql::new("SELECT * FROM mine");
    forbidden(
        PG,
        "role without the right",
        &pool,
        sql,
        kind,
        &["permission denied"],
    );
    let closed = manager(config().database("closed"));
    refused(
        PG,
        "role without the right to connect",
        closed,
        kind,
        &["permission denied"],
    );
}

#[test]
fn scram_is_bound_to_the_channel() {
    let (ca, server) = (ca(), with_logins());
    // It has a certificate that the client trusts, and reads all.
    let middleman = Middleman::between(ca, server.port());
    let config = |user: &str| trusting(ca, middleman.port()).user(user).password(PASSWORD);
    works(
        PG,
        "a man in the middle, without SCRAM",
        manager(config("plain")),
    );
    let words = ["channel binding"];
    let kind = ErrorKind::Authentication;
    refused(
        PG,
        "SCRAM, a man in the middle",
        manager(config("app")),
        kind,
        &words,
    );
}
