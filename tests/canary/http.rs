//! HTTP services that repeat what they are sent.

use std::time::Duration;

use millpond::{Http, HttpConfig, HttpRequest, Hub, Operation, Pool};
use testbed::Nginx;

use super::{MARK, fails, marked, run, run_batch, show, show_error, show_pool, show_refusal};

/// `app:Canary7f3aZ-basic` in base64.
const BASIC: &str = "YXBwOkNhbmFyeTdmM2FaLWJhc2lj";

pub(super) fn service() -> Nginx {
    let wants = |path: &str, variable: &str, value: &str| {
        format!(
            "location = {path} {{ if (${variable} != \"{value}\") {{ return 401 \"not ${variable}\"; }} \
             return 200 ok; }}"
        )
    };
    Nginx::builder()
        .directive(&wants(
            "/for-basic",
            "http_authorization",
            &format!("Basic {BASIC}"),
        ))
        .directive(&wants(
            "/for-token",
            "http_authorization",
            &format!("Bearer {}", marked("bearer")),
        ))
        .directive(&wants("/for-key", "http_x_api_key", &marked("key")))
        .directive(
            "location = /conflict { return 409 \"not $args $http_x_value $http_authorization\"; }",
        )
        .directive("location = /away { return 302 \"http://[$args\"; }")
        .directive("location = /loop { return 302 /loop?again=$args; }")
        .directive(&format!("location = /text {{ return 200 '\"{MARK}\"'; }}"))
        .directive("location = /hook { return 500 \"not $http_authorization\"; }")
        .start()
        .expect("nginx")
}

pub(super) fn requests(hub: &Hub, service: &Nginx) {
    for (name, path) in [
        ("basic", "/for-basic"),
        ("token", "/for-token"),
        ("key", "/for-key"),
    ] {
        let pool = hub.pool::<Http>(name).expect("there");
        show_pool(&pool);
        show("lease", &pool.get().expect("a lease"));
        run(&pool, HttpRequest::get(path)).expect("the login is right");
        run(&pool, HttpRequest::get("/authorization")).expect("repeated");
        run(&pool, HttpRequest::get("/x-api-key")).expect("repeated");
        let request = |path: &str| {
            HttpRequest::post(path)
                .query("token", marked("query"))
                .header("X-Value", marked("header"))
                .body(marked("body"))
        };
        let refused = fails(&pool, request("/conflict"));
        assert!(refused.contains("409"), "{refused}");
        for path in ["/loop", "/away"] {
            run(
                &pool,
                HttpRequest::get(path).query("token", marked("query")),
            );
        }
        fails(&pool, request("/no such path"));
        fails(&pool, request("/").header("X-Value", format!("{MARK}\n")));
        let text = run(&pool, HttpRequest::get("/text")).expect("a text");
        show_error("no number", &text.json::<u32>().expect_err("a text"));
        service.freeze();
        fails(&pool, request("/").deadline(Duration::from_millis(300)));
        service.thaw();
        let many = (0..12).map(|n| match n % 4 {
            3 => request("/conflict"),
            _ => HttpRequest::get("/text"),
        });
        assert_eq!(run_batch(&pool, many.collect()), 3);
    }
    let config = || HttpConfig::new(service.url());
    for config in [
        config().bearer_token(marked("wrong")),
        config().basic_auth("app", marked("wrong")),
        config()
            .api_key("X-Api-Key", marked("wrong"))
            .header("X-Tenant", marked("header")),
    ] {
        show("config", &config);
        let pool = Pool::new(Http::new(config).expect("settings")).expect("opens");
        for path in ["/for-basic", "/for-token", "/for-key"] {
            let refused = fails(&pool, HttpRequest::get(path));
            assert!(refused.contains("401"), "{refused}");
        }
    }
    let gone = format!("http://app:{MARK}@127.0.0.1:{}", testbed::refused_port());
    show_refusal("no-service", Http::new(HttpConfig::new(gone)));
    show_refusal(
        "bad-token",
        Http::new(config().bearer_token(format!("{MARK}\n"))),
    );
}
