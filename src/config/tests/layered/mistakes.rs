//! What is wrong, and what is odd.

use super::{Config, FILE, config, told};

#[test]
fn every_mistake_is_told_with_its_place_and_without_secrets() {
    let file = r#"
[pool]
max_connections = "canary many"
min_conections = 1

[pools.reports]
backend = "postgres"
url = "postgres://u:canary@h:port/d"
ssl_mode = "sometimes"

[pools.odd]
backend = "oracle"

[pools.none]
host = "h"

[pools.empty]
backend = "postgres"

[colours]
red = 1

[batch]
size = { at = "least" }
"#;
    let config = config(file)
        .with_pretended(&[
            ("BATCH_TIMEOUT", "soon"),
            ("REPORTS_DB_CHECK_TIMEOUT", "-1"),
        ])
        .set("POOL_RETRY_DELAY", "never");
    let told = told(&config);
    let all = told.join("\n");
    for part in [
        "POOL_MIN_CONECTIONS (shop.toml, line 4) is not known; is it POOL_MIN_CONNECTIONS?",
        "POOL_MAX_CONNECTIONS (shop.toml, line 3) is `canary many`, accepted: a number from 1",
        "DATABASE_URL (shop.toml, line 8), port is `***`",
        "DB_SSL_MODE (shop.toml, line 9) is `sometimes`",
        "the backend of pool odd (shop.toml, line 12) is `oracle`, accepted: postgres, redis",
        "pool none (shop.toml, line 14) has no `backend`",
        "pool empty has no server",
        "[colours] in shop.toml is not known",
        "BATCH_SIZE (shop.toml, line 24) is `table`",
        "BATCH_TIMEOUT is `soon`",
        "REPORTS_DB_CHECK_TIMEOUT is `-1`",
        "POOL_RETRY_DELAY (the program) is `never`",
    ] {
        assert!(all.contains(part), "no `{part}` in\n{all}");
    }
    assert_eq!(told.len(), 12, "{all}");
    assert!(!all.replace("canary many", "").contains("canary"), "{all}");
    let error = config.validate().expect_err("mistakes");
    assert_eq!(error.kind(), crate::ErrorKind::Configuration);
}

#[test]
fn what_is_no_toml_is_told_with_its_line_and_not_repeated() {
    let text = "[db]\npassword = \"canary\n";
    let error = Config::new()
        .with_toml("shop.toml", text)
        .expect_err("no TOML")
        .to_string();
    assert!(error.contains("shop.toml, line 2, is no TOML"), "{error}");
    assert!(!error.contains("canary"), "{error}");
}

#[test]
fn variables_that_look_like_ours_are_warned_about() {
    let config = config(FILE).with_pretended(&[
        ("DB_PASWORD", "x"),
        ("POOL_SIZE_OF_THE_GARDEN", "x"),
        ("REPORTS_DB_HOTS", "x"),
        ("HTTP_PROXY", "x"),
        ("DB_PASSWORD_FILE", "/x"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(
        config.warnings(),
        [
            "the variable DB_PASWORD is not known; is it DB_PASSWORD?",
            "the variable POOL_SIZE_OF_THE_GARDEN is not known",
            "the variable REPORTS_DB_HOTS is not known; is it DB_HOST?",
        ]
    );
}

#[test]
fn settings_of_a_backend_that_is_not_on_are_warned_about() {
    let warned = |variables: &[(&str, &str)]| {
        let config = Config::new().with_pretended(variables);
        config.warnings()
    };
    assert_eq!(
        warned(&[("REDIS_HOST", "h"), ("DB_PASSWORD_FILE", "/x")]),
        [
            "DB_PASSWORD is set, but no postgres pool is: set DB_HOST, DB_NAME or \
             DATABASE_URL too",
            "REDIS_HOST is set, but no redis pool is: set REDIS_ENABLED=true or REDIS_URL too",
        ]
    );
    let on_or_off = [
        ("REDIS_HOST", "h"),
        ("REDIS_ENABLED", "false"),
        ("DB_NAME", "shop"),
        ("DB_PORT", "1"),
    ];
    assert!(warned(&on_or_off).is_empty());
}
