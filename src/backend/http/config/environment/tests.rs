use std::collections::HashMap;
use std::time::Duration;

use crate::backend::http::{Http, HttpConfig};
use crate::config::Vars;
use crate::{Error, ErrorKind};

fn read(vars: &[(&str, &str)]) -> Result<Option<HttpConfig>, Error> {
    let vars: HashMap<String, String> = vars
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Vars::from_lookup(|name| vars.get(name).cloned()).read(HttpConfig::from_vars)
}

const LOCAL: (&str, &str) = ("HTTP_BASE_URL", "http://localhost:8080");
const ON: (&str, &str) = ("HTTP_ENABLED", "true");

#[test]
fn off_unless_enabled() {
    assert!(read(&[]).unwrap().is_none());
    assert!(read(&[LOCAL]).unwrap().is_none());
}

#[test]
fn the_documented_defaults() {
    let config = read(&[ON, LOCAL]).unwrap().unwrap();
    assert_eq!(config.timeout, Duration::from_secs(30));
    assert_eq!(config.max_redirects, 10);
    assert_eq!(
        config.user_agent,
        concat!("millpond/", env!("CARGO_PKG_VERSION"))
    );
    assert!(config.headers.is_empty() && config.keep_alive);
}

#[test]
fn headers_are_a_list() {
    let config = read(&[
        ON,
        LOCAL,
        ("HTTP_HEADERS", "Accept:text/plain, X-Time:12:30"),
    ]);
    let headers = config.unwrap().unwrap().headers;
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (&**name, value.expose()))
        .collect();
    assert_eq!(headers, [("Accept", "text/plain"), ("X-Time", "12:30")]);
}

#[test]
fn all_mistakes_at_once_and_no_secret() {
    let error = read(&[
        ON,
        ("HTTP_BASE_URL", "ftp://u:hunter2@h"),
        ("HTTP_TIMEOUT", "-1"),
        ("HTTP_MAX_REDIRECTS", "few"),
        ("HTTP_HEADERS", "hunter2"),
        ("HTTP_BEARER_TOKEN", "hunter2\n"),
    ]);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let text = error.to_string();
    for name in [
        "BASE_URL",
        "TIMEOUT",
        "MAX_REDIRECTS",
        "HEADERS",
        "BEARER_TOKEN",
    ] {
        assert!(text.contains(&format!("HTTP_{name}")), "{name} in {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn plaintext_to_another_host_needs_permission() {
    let remote = ("HTTP_BASE_URL", "http://api.example.com");
    assert!(
        read(&[ON, remote])
            .unwrap_err()
            .to_string()
            .contains("https")
    );
    assert!(read(&[ON, remote, ("SECURITY_CONNECTION_ENCRYPTION", "false")]).is_ok());
    assert!(Http::new(HttpConfig::new("http://10.0.0.1")).is_err());
    assert!(Http::new(HttpConfig::new("http://[::1]:80")).is_ok());
}

#[test]
fn only_one_login() {
    let two = [ON, LOCAL, ("HTTP_BEARER_TOKEN", "a"), ("HTTP_API_KEY", "b")];
    assert!(read(&two).is_err());
}

#[test]
fn the_base_url_is_taken_apart() {
    let base = HttpConfig::new("https://u:p%20w@Example.com:443/v1/")
        .base()
        .unwrap();
    assert_eq!(base.origin, "https://example.com");
    assert_eq!((base.port, base.prefix.as_str()), (443, "/v1"));
    assert_eq!(base.login.unwrap().1.expose(), "p w");
    let base = HttpConfig::new("http://[::1]:8080").base().unwrap();
    assert_eq!(
        (base.host.as_str(), base.origin.as_str()),
        ("::1", "http://[::1]:8080")
    );
}

#[test]
fn a_login_behind_the_host_is_not_shown() {
    for url in [
        "https://api.example.com//app:hunter2@other/v1",
        // The parser takes the slashes away.
        "https:///api.example.com//]app:hunter2@other/v1",
    ] {
        let config = HttpConfig::new(url);
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
        let error = Http::new(config).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
