//! Settings only; what needs a server is in `tests/mongodb*.rs`.

use std::collections::HashMap;
use std::time::Duration;

use super::{MongoDb, MongoDbConfig};
use crate::backend::Backend;
use crate::config::Vars;
use crate::{Error, ErrorKind};

fn read(pairs: &[(&str, &str)]) -> Result<Option<MongoDbConfig>, Error> {
    let map: HashMap<_, _> = pairs.iter().copied().collect();
    let lookup = |name: &str| map.get(name).map(|value| (*value).to_owned());
    Vars::from_lookup(lookup).read(MongoDbConfig::from_vars)
}

fn endpoint(pairs: &[(&str, &str)]) -> String {
    let config = read(pairs).expect("settings").expect("enabled");
    MongoDb::new(config).expect("manager").endpoint()
}

#[test]
fn it_is_off_unless_enabled() {
    assert!(read(&[]).expect("nothing").is_none());
    assert!(read(&[("MONGODB_HOST", "db")]).expect("off").is_none());
    let off = [("MONGODB_ENABLED", "false"), ("MONGODB_URI", "mongodb://a")];
    assert!(read(&off).expect("off").is_none());
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    assert_eq!(endpoint(&[("MONGODB_ENABLED", "true")]), "localhost:27017");
    let config = read(&[("MONGODB_ENABLED", "1"), ("MONGODB_USER", "app")]);
    let config = config.expect("settings").expect("enabled");
    assert_eq!(config.options.app_name.as_deref(), Some("millpond"));
    // The driver takes `admin` where no source is named.
    assert_eq!(
        config.options.credential.and_then(|login| login.source),
        None
    );
}

#[test]
fn parts_make_an_address() {
    let parts = [
        ("MONGODB_ENABLED", "yes"),
        ("MONGODB_HOST", "a.internal, b.internal:27020"),
        ("MONGODB_PORT", "27018"),
        ("MONGODB_DB", "shop"),
        ("MONGODB_USER", "app"),
        ("MONGODB_PASSWORD", "hunter2"),
        ("MONGODB_SSL", "true"),
    ];
    assert_eq!(endpoint(&parts), "a.internal:27018,b.internal:27020/shop");
}

#[test]
fn a_uri_enables_and_parts_override_it() {
    let uri = (
        "MONGODB_URI",
        "mongodb://localhost:27020/shop?connectTimeoutMS=700",
    );
    assert_eq!(endpoint(&[uri]), "localhost:27020/shop");
    assert_eq!(
        endpoint(&[uri, ("MONGODB_DB", "logs")]),
        "localhost:27020/logs"
    );
    let config = read(&[uri]).expect("settings").expect("enabled");
    assert_eq!(config.connect_timeout, Duration::from_millis(700));
}

#[test]
fn all_mistakes_are_reported_at_once_without_the_password() {
    let error = read(&[
        ("MONGODB_ENABLED", "true"),
        ("MONGODB_PORT", "0"),
        ("MONGODB_READ_PREFERENCE", "fastest"),
        ("MONGODB_CONNECT_TIMEOUT", "soon"),
        ("MONGODB_MAX_SOCKETS", "many"),
        ("MONGODB_PASSWORD", "hunter2"),
    ])
    .expect_err("five mistakes");
    let message = error.to_string();
    for name in [
        "PORT",
        "READ_PREFERENCE",
        "CONNECT_TIMEOUT",
        "MAX_SOCKETS",
        "USER",
    ] {
        assert!(message.contains(&format!("MONGODB_{name}")), "{message}");
    }
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn plaintext_goes_to_loopback_only() {
    let remote = [("MONGODB_ENABLED", "true"), ("MONGODB_HOST", "db.internal")];
    let plain = [remote[0], remote[1], ("MONGODB_SSL", "false")];
    let error = read(&plain).expect_err("plaintext to a remote host");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("MONGODB_SSL"), "{error}");

    let config = read(&remote).expect("settings").expect("enabled");
    assert_eq!(super::driver::encrypts(&config), Ok(true));
    let allowed = [
        plain[0],
        plain[1],
        plain[2],
        ("SECURITY_CONNECTION_ENCRYPTION", "false"),
    ];
    let config = read(&allowed).expect("settings").expect("enabled");
    assert_eq!(super::driver::encrypts(&config), Ok(false));

    let error = MongoDb::new(MongoDbConfig::new().host("10.1.2.3").plaintext());
    assert_eq!(error.expect_err("remote").kind(), ErrorKind::Configuration);
    for local in [
        "localhost",
        "127.0.0.1",
        "[::1]:27018",
        "%2Ftmp%2Fmongodb-27017.sock",
    ] {
        MongoDb::new(MongoDbConfig::new().host(local).plaintext()).expect(local);
    }
}

#[test]
fn a_secret_is_never_printed() {
    let config = MongoDbConfig::from_url("mongodb://app:hunter2@localhost/shop").expect("url");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!format!("{:?}", MongoDb::new(config)).contains("hunter2"));
    for url in [
        "mongodb://app:hunter2@",
        "mongodb://app:hunter2@@localhost",
        "mongodb://app:hunter2/@localhost",
        "mongodb://app:hunter2?@localhost",
        "mongodb://app:hun:ter2@localhost",
        "mongodb://app:hunter2@localhost:port",
        "mongodb://app:hunter2@localhost/?w=0&readPreference=hunter2",
        "mongodb://app:hunter2%@localhost",
        "mongodb+srv://app:hunter2@cluster.example.net",
        "postgres://app:hunter2@localhost",
    ] {
        let error = MongoDbConfig::from_url(url).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Configuration, "{url}");
        let text = format!("{error} {error:?}");
        assert!(
            !text.contains("hunter2") && !text.contains("ter2"),
            "{text}"
        );
    }
}

#[test]
fn a_url_keeps_what_it_says() {
    let url = "mongodb://us%40er:p%3Ass@localhost:27020,[::1]:27021/shop\
               ?authSource=users&replicaSet=rs0&maxPoolSize=7&retryWrites=false&w=majority";
    let config = MongoDbConfig::from_url(url).expect("url");
    let login = config.options.credential.clone().expect("login");
    assert_eq!(login.username.as_deref(), Some("us@er"));
    assert_eq!(login.source.as_deref(), Some("users"));
    assert_eq!(login.password, None);
    assert_eq!(
        config
            .password
            .map(|password| password.current().unwrap().expose().to_owned())
            .as_deref(),
        Some("p:ss")
    );
    assert_eq!(config.max_sockets, 7);
    assert_eq!(config.options.retry_writes, Some(false));
    assert_eq!(config.hosts, ["localhost:27020", "[::1]:27021"]);
}

#[test]
fn the_drivers_limits_of_tls_are_named() {
    let tls = crate::Tls::new().skip_host_name();
    let error = MongoDb::new(MongoDbConfig::new().tls(tls)).expect_err("not supported");
    assert!(error.to_string().contains("skip_host_name"), "{error}");
    let tls = crate::Tls::new().ca_file("/nonexistent/ca.pem");
    let error = MongoDb::new(MongoDbConfig::new().tls(tls)).expect_err("no such file");
    assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
}
