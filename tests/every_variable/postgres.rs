//! `DB_*` and `DATABASE_URL`.

use millpond::{Config, ConnectFailure, ErrorKind};
use testbed::{Ca, Postgres, secret};

use super::{ask, config, hub};

fn at(server: &Postgres) -> Config {
    config()
        .set("DB_HOST", server.host())
        .set("DB_PORT", server.port())
        .set("DB_NAME", "postgres")
        .set("DB_USER", "test")
}

#[test]
pub(super) fn host_and_port() {
    let server = Postgres::shared();
    let came = "SELECT coalesce(host(inet_server_addr()), 'socket')";
    assert_eq!(ask(&hub(&at(server)), came).unwrap(), "127.0.0.1");
    let folder = server.socket_dir().to_str().unwrap();
    let by_socket = at(server).set("DB_HOST", folder);
    assert_eq!(ask(&hub(&by_socket), came).unwrap(), "socket");
    let nobody = at(server)
        .set("DB_PORT", testbed::refused_port())
        .set("POOL_CONNECTION_TIMEOUT", 0.3);
    let error = ask(&hub(&nobody), came).unwrap_err();
    assert!(error.to_string().contains("DB_PORT"), "{error}");
}

#[test]
pub(super) fn name_and_application_name() {
    let server = Postgres::shared();
    server.create_database("every_variable").unwrap();
    let hub_of = |config| hub(&config);
    let usual = hub_of(at(server));
    let other = hub_of(
        at(server)
            .set("DB_NAME", "every_variable")
            .set("DB_APPLICATION_NAME", "every variable"),
    );
    let name = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    assert_eq!(
        ask(&usual, "SELECT current_database()").unwrap(),
        "postgres"
    );
    assert_eq!(
        ask(&other, "SELECT current_database()").unwrap(),
        "every_variable"
    );
    assert_eq!(ask(&usual, name).unwrap(), "millpond");
    assert_eq!(ask(&other, name).unwrap(), "every variable");
}

#[test]
pub(super) fn user_and_password() {
    let server = Postgres::builder()
        .hba("host all app 127.0.0.1/32 scram-sha-256\nhost all test 127.0.0.1/32 trust")
        .start()
        .unwrap();
    let create = concat!("CREATE USER app PASSWORD '", secret!("right"), "'");
    server.psql(create).unwrap();
    let app = at(&server).set("DB_USER", "app");
    let good = hub(&app.clone().set("DB_PASSWORD", secret!("right")));
    assert_eq!(ask(&good, "SELECT current_user").unwrap(), "app");
    let wrong = hub(&app.clone().set("DB_PASSWORD", secret!("wrong")));
    let error = ask(&wrong, "SELECT 1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");

    let file = std::env::temp_dir().join(format!("millpond-every-{}", std::process::id()));
    std::fs::write(&file, format!("{}\n", secret!("right"))).unwrap();
    let from_file = hub(&app.set("DB_PASSWORD_FILE", file.to_str().unwrap()));
    assert_eq!(ask(&from_file, "SELECT current_user").unwrap(), "app");
    std::fs::remove_file(file).unwrap();
}

#[test]
pub(super) fn ssl_mode() {
    let ca = Ca::new();
    let server = Postgres::builder()
        .tls(&ca)
        .hba("host all all 127.0.0.1/32 trust")
        .start()
        .unwrap();
    let with = |mode: &str| hub(&at(&server).set("DB_SSL_MODE", mode));
    let encrypted = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for (mode, expected) in [
        ("disable", "false"),
        ("prefer", "true"),
        ("require", "true"),
    ] {
        assert_eq!(ask(&with(mode), encrypted).unwrap(), expected, "{mode}");
    }
    let error = ask(&with("verify-full"), encrypted).unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Connect(ConnectFailure::Tls),
        "{error}"
    );
    let plain = Postgres::shared();
    let error = ask(&hub(&at(plain).set("DB_SSL_MODE", "require")), encrypted).unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Connect(ConnectFailure::Tls),
        "{error}"
    );
}

#[test]
pub(super) fn url() {
    let server = Postgres::shared();
    let url = format!("{}?application_name=by%20url", server.url());
    let hub_by_url = hub(&config().set("DATABASE_URL", url));
    let name = "SELECT current_setting('application_name')";
    assert_eq!(ask(&hub_by_url, name).unwrap(), "by url");
    assert!(
        hub(&config())
            .pool::<millpond::Postgres>("postgres")
            .is_err()
    );
}
