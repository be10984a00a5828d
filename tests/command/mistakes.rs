//! What is told before anything is connected to.

use super::{File, MARK, run};

#[test]
fn nothing_set_says_what_to_set() {
    let ran = run(&["check"], &[]);
    ran.ends_with(2);
    ran.says(&[
        "nothing is configured",
        "export DATABASE_URL=postgres://",
        "REDIS_URL",
        "MONGODB_URI",
        "HTTP_BASE_URL",
        "--config FILE",
        "[pools.shop]",
    ]);
    let nearly = run(&["check"], &[("REDIS_HOST", "localhost")]);
    nearly.ends_with(2);
    nearly.says(&["REDIS_HOST is set", "REDIS_ENABLED=true"]);
    let json = run(&["check", "--json"], &[]).json();
    assert_eq!(json["verdict"], "misconfigured");
    assert_eq!(json["exit_code"], 2);
}

#[test]
fn the_help_tells_the_exit_codes() {
    for arguments in [&["--help"][..], &["check", "--help"], &["config", "--help"]] {
        let ran = run(arguments, &[]);
        ran.ends_with(0);
        ran.says(&["Exit codes:", "0 all is well", "2 the configuration"]);
    }
    run(&["chekc"], &[]).ends_with(2);
    run(&["check", "--timeout", "soon"], &[]).ends_with(2);
}

#[test]
fn mistakes_are_told_all_at_once_and_nothing_is_connected_to() {
    let variables = [
        ("DB_HOST", "db.internal"),
        ("DB_PORT", "99999"),
        ("DB_PASSWORD", MARK),
        ("POOL_MIN_CONNECTIONS", "many"),
        ("POOL_MAX_CONECTIONS", "20"),
    ];
    for command in ["check", "config"] {
        let ran = run(&[command], &variables);
        ran.ends_with(2);
        ran.says(&[
            "wrong: DB_PORT is `99999`, accepted: a port, 1 to 65535",
            "wrong: POOL_MIN_CONNECTIONS is `many`, accepted:",
            "warning: the variable POOL_MAX_CONECTIONS is not known; is it POOL_MAX_CONNECTIONS?",
        ]);
    }
    let json = run(&["check", "--json"], &variables).json();
    assert_eq!(json["mistakes"][0]["setting"], "DB_PORT");
    assert_eq!(json["mistakes"][0]["value"], "99999");
    assert_eq!(json["mistakes"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_file_that_cannot_be_used_is_told_with_its_line() {
    let text = format!("[pools.shop]\nbackend = \"postgres\"\npassword = \"{MARK}\n");
    let broken = File::new("broken.toml", &text);
    for command in ["check", "config"] {
        let ran = run(&[command, "--config", broken.path()], &[]);
        ran.ends_with(2);
        ran.says(&["broken.toml, line 3, is no TOML"]);
        let ran = run(&[command], &[("MILLPOND_CONFIG", "/nowhere/shop.toml")]);
        ran.ends_with(2);
        ran.says(&["/nowhere/shop.toml cannot be read: No such file"]);
    }
}

#[test]
fn config_shows_what_counts_and_who_said_so() {
    let text = format!(
        "redis_url = \"redis://app:{MARK}@localhost/2\"\n[pool]\nmax_connections = 20\n\
         [pools.reports]\nbackend = \"postgres\"\nhost = \"localhost\"\npassword = \"{MARK}\"\n"
    );
    let file = File::new("shown.toml", &text);
    let variables = [
        ("MILLPOND_CONFIG", file.path()),
        ("POOL_MAX_CONNECTIONS", "30"),
        ("REPORTS_DB_PORT", "6432"),
    ];
    let ran = run(&["config"], &variables);
    ran.ends_with(0);
    ran.says(&[
        "redis redis localhost:6379/2",
        "reports postgres localhost:6432",
        "REDIS_URL redis://app:***@localhost/2 /tmp",
        "POOL_MAX_CONNECTIONS 30 environment, POOL_MAX_CONNECTIONS",
        "reports: DB_PASSWORD ***",
        "reports: DB_PORT 6432 environment, REPORTS_DB_PORT",
        "shown.toml, line 7",
        "--all shows them",
    ]);
    assert!(!ran.out.contains("BATCH_SIZE"), "{}", ran.out);
    let all = run(&["config", "--all"], &variables);
    all.says(&["BATCH_SIZE 100 default"]);
    let json = run(&["config", "--json"], &variables).json();
    assert_eq!(json["pools"][1]["endpoint"], "localhost:6432");
    let settings = json["settings"].as_array().expect("settings");
    let port = settings
        .iter()
        .find(|setting| setting["pool"] == "reports" && setting["variable"] == "DB_PORT");
    assert_eq!(
        port.expect("there")["source"],
        "environment, REPORTS_DB_PORT"
    );
}
