//! `HTTP_*`.

use std::time::{Duration, Instant};

use millpond::{Config, ErrorKind, Http, HttpRequest, HttpResponse};
use testbed::{Nginx, Silent, secret};

use super::{config, hub};

fn at(url: &str) -> Config {
    config().set("HTTP_ENABLED", true).set("HTTP_BASE_URL", url)
}

fn get(config: &Config, path: &str) -> Result<HttpResponse, millpond::Error> {
    hub(config)
        .pool::<Http>("http")?
        .execute(HttpRequest::get(path))
}

#[test]
pub(super) fn enabled_and_base_url() {
    let nginx = Nginx::shared();
    let base = format!("{}/status", nginx.url());
    assert_eq!(get(&at(&base), "/204").unwrap().status(), 204);
    let off = hub(&at(&base).set("HTTP_ENABLED", false));
    assert!(off.pool::<Http>("http").is_err());
}

#[test]
pub(super) fn timeout() {
    let silent = Silent::start().unwrap();
    let config = at(&format!("http://127.0.0.1:{}", silent.port())).set("HTTP_TIMEOUT", 0.3);
    let begun = Instant::now();
    let error = get(&config.set("POOL_RETRY_ATTEMPTS", 1), "/").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
pub(super) fn max_redirects() {
    let nginx = Nginx::builder()
        .directive("location = /a { return 302 /b; }")
        .directive("location = /b { return 302 /c; }")
        .directive("location = /c { return 200 arrived; }")
        .start()
        .unwrap();
    let two = at(&nginx.url()).set("HTTP_MAX_REDIRECTS", 2);
    assert_eq!(get(&two, "/a").unwrap().text().unwrap(), "arrived");
    let one = at(&nginx.url()).set("HTTP_MAX_REDIRECTS", 1);
    let stopped = get(&one, "/a");
    assert!(!stopped.is_ok_and(|reply| reply.status() == 200));
}

#[test]
pub(super) fn user_agent_and_headers() {
    let nginx = Nginx::shared();
    let said = |config: &Config, path| get(config, path).unwrap().text().unwrap().to_owned();
    let usual = at(&nginx.url());
    let usual_agent = concat!("millpond/", env!("CARGO_PKG_VERSION"));
    assert_eq!(said(&usual, "/user-agent"), usual_agent);
    assert_eq!(said(&usual, "/x-api-key"), "");
    let own = usual.set("HTTP_USER_AGENT", "every variable").set(
        "HTTP_HEADERS",
        concat!(
            "X-API-Key:",
            secret!("k:7"),
            ", Authorization: Token ",
            secret!("t")
        ),
    );
    assert_eq!(said(&own, "/user-agent"), "every variable");
    assert_eq!(said(&own, "/x-api-key"), secret!("k:7"));
    assert_eq!(
        said(&own, "/authorization"),
        concat!("Token ", secret!("t"))
    );
}
