//! `check` on real servers, well and not.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testbed::secret;

use super::{File, MARK, borrowed, four_urls, run};

#[test]
fn all_well() {
    let urls = four_urls();
    let ran = run(&["check"], &borrowed(&urls));
    ran.ends_with(0);
    ran.says(&[
        "POOL SERVER TLS VERSION ROLE LATENCY VERDICT",
        "primary",
        "standalone",
        "nginx/",
        "All 4 servers can be used.",
    ]);
    assert_eq!(ran.out.matches(" ms ").count(), 4, "{}", ran.out);
    let ran = run(&["check", "--json"], &borrowed(&urls));
    ran.ends_with(0);
    let json = ran.json();
    assert_eq!(json["verdict"], "ok");
    let pools = json["pools"].as_array().expect("pools");
    let names: Vec<_> = pools.iter().map(|pool| &pool["pool"]).collect();
    assert_eq!(names, ["postgres", "redis", "mongodb", "http"]);
    for pool in pools {
        assert_eq!(pool["health"], "up");
        assert!(pool["service"]["version"].is_string(), "{pool}");
        assert!(
            pool["service"]["latency_seconds"]
                .as_f64()
                .expect("a number")
                > 0.0
        );
        assert!(pool["reasons"].as_array().expect("reasons").is_empty());
    }
}

#[test]
fn a_wrong_password_is_told_with_where_it_is_set() {
    let postgres = testbed::Postgres::builder()
        .hba("host all all 127.0.0.1/32 scram-sha-256")
        .start()
        .expect("a server");
    let sql = format!("CREATE ROLE app LOGIN PASSWORD '{MARK} right'");
    postgres.psql(&sql).expect("a role");
    let redis = testbed::Redis::builder().password(MARK).start();
    let redis = redis.expect("a server");
    let file = File::new(
        "wrong.toml",
        &format!(
            "[pools.shop]\nbackend = \"postgres\"\nhost = \"127.0.0.1\"\nport = {}\nname = \
         \"postgres\"\nuser = \"app\"\npassword = \"{MARK} wrong\"\n\n\
         [pools.cache]\nbackend = \"redis\"\nhost = \"127.0.0.1\"\nport = {}\n",
            postgres.port(),
            redis.port(),
        ),
    );
    let variables = [("CACHE_REDIS_PASSWORD", secret!("wrong"))];
    let ran = run(&["check", "--config", file.path()], &variables);
    ran.ends_with(1);
    ran.says(&[
        "): authentication failed: password authentication failed for user \"app\"",
        "(DB_USER, DB_PASSWORD)",
        "cache (127.0.0.1:",
        "REDIS_PASSWORD *** environment, CACHE_REDIS_PASSWORD",
        "REDIS_USER - not set: `user` in [pools.cache]",
        "wrong.toml, line 7",
        "Of 2 servers, 2 cannot be used.",
    ]);
}

#[test]
fn a_server_that_is_down_is_told_beside_those_that_are_up() {
    let mut urls = four_urls();
    let port = testbed::refused_port();
    urls[1].1 = format!("redis://:{MARK}@127.0.0.1:{port}/3");
    let began = Instant::now();
    let ran = run(&["check"], &borrowed(&urls));
    assert!(began.elapsed() < Duration::from_secs(5), "one attempt");
    ran.ends_with(1);
    let server = format!("127.0.0.1:{port}/3");
    ran.says(&[
        &server,
        &format!("redis ({server}): connection refused:"),
        "that the server runs",
        &format!("REDIS_URL redis://:***@{server} environment, REDIS_URL"),
        "Of 4 servers, 1 cannot be used.",
    ]);
    assert_eq!(ran.out.matches(" ok").count(), 3, "{}", ran.out);
}

#[test]
fn each_endpoint_of_a_fleet_is_a_row_and_one_may_be_down() {
    let server = testbed::Redis::builder().password(MARK).start();
    let server = server.expect("a server");
    let (here, gone) = (server.port(), testbed::refused_port());
    let hosts = format!("127.0.0.1:{here},127.0.0.1:{gone}");
    let file = format!(
        "[pools.cache]\nbackend = \"redis\"\nhost = \"{hosts}\"\npassword = \"{MARK}\"\n\
         balance = \"peak-ewma\"\n"
    );
    let path = std::env::temp_dir().join(format!("millpond-fleet-{}.toml", std::process::id()));
    std::fs::write(&path, file).expect("written");
    let path = path.to_str().expect("UTF-8");
    let ran = run(&["check", "--config", path], &[]);
    ran.ends_with(3);
    ran.says(&[
        &format!("cache@127.0.0.1:{gone}/0 (127.0.0.1:{gone}/0): connection refused:"),
        &format!("REDIS_HOST {hosts} {path}, line 3"),
        "Of 2 servers, 1 is not as it should be.",
    ]);
    let shown = run(&["config", "--config", path], &[]);
    shown.ends_with(0);
    shown.says(&[
        &format!("cache@127.0.0.1:{here}/0 redis"),
        &format!("cache: POOL_BALANCE peak-ewma {path}, line 5"),
    ]);
    std::fs::remove_file(path).expect("removed");
}

#[test]
fn the_table_tells_how_each_connection_is_encrypted() {
    let ca = testbed::Ca::new();
    let postgres = testbed::Postgres::builder().tls(&ca).start();
    let postgres = postgres.expect("a server");
    let redis = testbed::Redis::builder().tls(&ca).start();
    let redis = redis.expect("a server");
    let mongo = testbed::Mongo::builder().tls(&ca).start();
    let mongo = mongo.expect("a server");
    let nginx = testbed::Nginx::builder().tls(&ca).start();
    let nginx = nginx.expect("a server");
    let path = ca.cert_path().to_str().expect("UTF-8");
    let variables = [
        ("DATABASE_URL", &*postgres.url()),
        ("DB_SSL_MODE", "verify-full"),
        ("DB_SSL_CA_FILE", path),
        ("REDIS_URL", &redis.url()),
        ("REDIS_SSL_CA_FILE", path),
        ("MONGODB_URI", &mongo.uri()),
        ("HTTP_ENABLED", "true"),
        ("HTTP_BASE_URL", &nginx.url()),
        ("HTTP_SSL_CA_FILE", path),
    ];
    let ran = run(&["check"], &variables);
    ran.ends_with(0);
    let encrypted = " to 2080-12-31";
    assert_eq!(ran.out.matches(encrypted).count(), 2, "{}", ran.out);
    assert_eq!(ran.out.matches("  yes   ").count(), 2, "{}", ran.out);
    let json = run(&["check", "--json"], &variables).json();
    assert_eq!(json["pools"][0]["service"]["encryption"], "tls13");
    assert_eq!(json["pools"][1]["service"]["encryption"], "tls");
    let url = postgres.url();
    let refused = [("DATABASE_URL", &*url), ("DB_SSL_MODE", "disable")];
    run(&["check"], &refused).says(&[
        "no encryption",
        "may want TLS (DB_SSL_MODE=require)",
        "DB_SSL_MODE disable environment, DB_SSL_MODE",
    ]);
    let plain = run(
        &["check"],
        &[("REDIS_URL", &testbed::Redis::shared().url())],
    );
    plain.says(&["none"]);
}

#[test]
fn a_token_that_is_refused_is_told() {
    let nginx = testbed::Nginx::builder()
        .directive(concat!(
            "if ($http_authorization != \"Bearer ",
            secret!("right"),
            "\") { return 401; }"
        ))
        .start()
        .expect("a server");
    let variables = [
        ("HTTP_ENABLED", "true"),
        ("HTTP_BASE_URL", &*nginx.url()),
        ("HTTP_BEARER_TOKEN", MARK),
    ];
    let ran = run(&["check"], &variables);
    ran.ends_with(1);
    ran.says(&[
        "): authentication failed: status 401",
        "HTTP_BEARER_TOKEN *** environment",
    ]);
    // Whoever shows no token may be meant for paths that need none.
    run(&["check"], &variables[..2]).ends_with(0);
}

#[test]
fn an_expired_certificate_is_told_as_that() {
    let ca = testbed::Ca::new();
    let expired = ca.issue().expired().server();
    let postgres = testbed::Postgres::builder().tls_identity(&ca, &expired);
    let postgres = postgres.start().expect("a server");
    let redis = testbed::Redis::builder().tls_identity(&ca, &expired);
    let redis = redis.start().expect("a server");
    let nginx = testbed::Nginx::builder().tls_identity(&ca, &expired);
    let nginx = nginx.start().expect("a server");
    let path = ca.cert_path().to_str().expect("UTF-8");
    let ran = run(
        &["check"],
        &[
            ("DATABASE_URL", &postgres.url()),
            ("DB_SSL_MODE", "verify-full"),
            ("DB_SSL_CA_FILE", path),
            ("REDIS_URL", &redis.url()),
            ("REDIS_SSL_CA_FILE", path),
            ("HTTP_ENABLED", "yes"),
            ("HTTP_BASE_URL", &nginx.url()),
            ("HTTP_SSL_CA_FILE", path),
        ],
    );
    ran.ends_with(1);
    for pool in ["postgres", "redis", "http"] {
        ran.says(&[&format!("{pool} (")]);
    }
    let told = "TLS failed: the server's certificate expired on 2001-12-31";
    assert_eq!(ran.words().matches(told).count(), 3, "{}", ran.out);
}

#[test]
fn a_read_only_server_is_told_unless_that_is_wanted() {
    let postgres = testbed::Postgres::builder().setting("default_transaction_read_only", "on");
    let postgres = postgres.start().expect("a server");
    let url = postgres.url();
    let ran = run(&["check"], &[("DATABASE_URL", &url)]);
    ran.ends_with(3);
    ran.says(&[
        "read-only",
        "takes no writes",
        "POOL_READ_ONLY false default",
        "not as it should be",
    ]);
    let wanted = [("DATABASE_URL", &*url), ("POOL_READ_ONLY", "true")];
    run(&["check"], &wanted).ends_with(0);
}

#[test]
fn frozen_servers_are_lines_in_the_table() {
    let postgres = testbed::Postgres::start().expect("a server");
    let redis = testbed::Redis::start().expect("a server");
    let mongo = testbed::Mongo::start().expect("a server");
    let nginx = testbed::Nginx::start().expect("a server");
    postgres.freeze();
    redis.freeze();
    mongo.freeze();
    nginx.freeze();
    let began = Instant::now();
    let ran = run(
        &["check", "--timeout", "1"],
        &[
            ("DATABASE_URL", &postgres.url()),
            ("REDIS_URL", &redis.url()),
            ("MONGODB_URI", &mongo.uri()),
            ("HTTP_ENABLED", "true"),
            ("HTTP_BASE_URL", &nginx.url()),
        ],
    );
    let took = began.elapsed();
    ran.ends_with(1);
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(
        ran.words().matches("within 1 s: the server hangs").count(),
        4,
        "{}",
        ran.out
    );
}

#[test]
fn a_watch_writes_a_line_each_time() {
    let url = testbed::Redis::shared().url();
    let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
    command.args(["check", "--watch", "0.1"]).env_clear();
    command.env("REDIS_URL", &url).stdout(Stdio::piped());
    let mut child = command.spawn().expect("runs");
    std::thread::sleep(Duration::from_secs(1));
    child.kill().expect("still runs");
    let output = child.wait_with_output().expect("ended");
    testbed::keep("printed", &output.stdout);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.lines().count() >= 2, "{text}");
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        assert!(words[0].ends_with('Z') && words[0].len() == 20, "{line}");
        assert_eq!(&words[1..3], ["ok", "redis"], "{line}");
    }
}
