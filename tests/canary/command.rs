//! The command `millpond`: a file, the environment, files with secrets, sealed ones, and everything
//! wrong with them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use millpond::{SealingKey, Secret};
use testbed::Nginx;

use super::databases::Servers;
use super::{MARK, marked};

/// The exit code of `check`, and the environment.
type Case = (i32, Vec<(&'static str, String)>);

pub(super) fn everything(folder: &Path, servers: &Servers, service: &Nginx) {
    let key = SealingKey::generate();
    let key_file = write(folder, "sealing.key", key.to_text().expose());
    let by_file = by_file(folder, servers, service, (&key, &key_file));
    let by_variables = by_variables(folder, servers, (&key, &key_file));
    let astray = astray(servers.postgres.port());
    for (exit, variables) in by_file.into_iter().chain(by_variables).chain(astray) {
        for arguments in [&["check"][..], &["check", "--json"]] {
            assert_eq!(ran(arguments, &variables, ""), exit, "{arguments:?}");
        }
        for arguments in [&["config"][..], &["config", "--all"], &["config", "--json"]] {
            let expected = if exit == 2 { 2 } else { 0 };
            assert_eq!(ran(arguments, &variables, ""), expected, "{arguments:?}");
        }
    }
    sealing(&key_file);
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

fn url(port: u16) -> String {
    format!("postgres://app:{MARK}@127.0.0.1:{port}/postgres")
}

fn pem() -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----")
}

/// A TOML file with all four, right, sealed and wrong.
fn by_file(
    folder: &Path,
    servers: &Servers,
    service: &Nginx,
    (key, key_file): (&SealingKey, &str),
) -> Vec<Case> {
    let file = |password: &str| {
        format!(
            r#"
            redis_url = "redis://:{}@127.0.0.1:{}"
            [pools.shop]
            backend = "postgres"
            url = "postgres://app:{password}@127.0.0.1:{}/postgres"
            [pools.documents]
            backend = "mongodb"
            url = "mongodb://app:{}@127.0.0.1:{}/test?authSource=admin"
            [pools.api]
            backend = "http"
            url = "http://127.0.0.1:{}/bearer"
            bearer_token = "{}"
            headers = "X-Tenant:{}"
            "#,
            marked("redis"),
            servers.redis.port(),
            servers.postgres.port(),
            marked("mongodb"),
            servers.mongodb.port(),
            service.port(),
            Nginx::TOKEN,
            marked("header"),
        )
    };
    let write = |name: &str, text: &str| write(folder, name, text);
    let sealed = key.seal(&Secret::from(marked("pg"))).replace(':', "%3A");
    let good = write("good.toml", &file(&marked("pg")));
    let sealed = write("sealed.toml", &file(&sealed));
    let wrong = write("wrong.toml", &file(&marked("wrong")));
    let torn = write("torn.toml", &file(&format!("x/{MARK}")));
    let broken = write("broken.toml", &format!("[db]\npassword = \"{MARK}\n"));
    let other_key = SealingKey::generate().to_text();
    let other_key = write("other.key", other_key.expose());
    let config = |path: &str| vec![("MILLPOND_CONFIG", path.to_owned())];
    let keyed = |path: &str, key: &str| {
        let key = ("SECURITY_ENCRYPTION_KEY_FILE", key.to_owned());
        vec![("MILLPOND_CONFIG", path.to_owned()), key]
    };
    vec![
        (0, config(&good)),
        (0, keyed(&good, key_file)),
        (0, keyed(&sealed, key_file)),
        (2, keyed(&sealed, &other_key)),
        (2, keyed(&sealed, MARK)),
        (2, config(&sealed)),
        (1, config(&wrong)),
        (2, config(&torn)),
        (2, config(&broken)),
        (2, config(&url(servers.postgres.port()))),
    ]
}

/// A password in a file, and in what is none.
fn by_variables(
    folder: &Path,
    servers: &Servers,
    (key, key_file): (&SealingKey, &str),
) -> Vec<Case> {
    let port = servers.postgres.port();
    let with = |password: String| {
        vec![
            ("DB_HOST", "127.0.0.1".to_owned()),
            ("DB_PORT", port.to_string()),
            ("DB_NAME", "postgres".to_owned()),
            ("DB_USER", "app".to_owned()),
            ("DB_PASSWORD_FILE", password),
            ("SECURITY_ENCRYPTION_KEY_FILE", key_file.to_owned()),
        ]
    };
    let sealed = key.seal(&Secret::from(marked("pg")));
    vec![
        (
            0,
            with(write(folder, "password", &format!("{}\n", marked("pg")))),
        ),
        (0, with(write(folder, "sealed", &sealed))),
        (2, with(write(folder, "late", &format!("\n{MARK}")))),
        (2, with(MARK.to_owned())),
        (2, with(pem())),
        (2, with(url(port))),
    ]
}

/// Secrets in variables that are for something else.
fn astray(port: u16) -> Vec<Case> {
    let mongodb = ("MONGODB_ENABLED", "true".to_owned());
    let mut keys: Vec<_> = ["DB_SSL_CA_FILE", "DB_SSL_CERT_FILE", "DB_SSL_KEY_FILE"]
        .map(|variable| (variable, pem()))
        .into();
    keys.push(("DB_HOST", "localhost".to_owned()));
    keys.push(("DB_SSL_MODE", "require".to_owned()));
    vec![
        (2, vec![("DB_NAME", url(port))]),
        (2, vec![("DB_HOST", url(port))]),
        (2, vec![("DB_NAME", "x".to_owned()), ("DB_USER", url(port))]),
        (
            2,
            vec![("DB_HOST", url(port)), ("DB_PASWORD", MARK.to_owned())],
        ),
        (2, vec![("MONGODB_DB", url(port)), mongodb]),
        (2, keys),
    ]
}

fn sealing(key_file: &str) {
    let keyed = [("SECURITY_ENCRYPTION_KEY_FILE", key_file.to_owned())];
    let bad = [("SECURITY_ENCRYPTION_KEY", MARK.to_owned())];
    let key = [("AUDIT_KEY_FILE", MARK.to_owned())];
    assert_eq!(ran(&["seal"], &keyed, MARK), 0);
    let lines = format!("{MARK}\n{MARK}\n");
    for (arguments, variables, input) in [
        (&["seal"][..], &keyed[..], &*lines),
        (&["seal"], &bad, MARK),
        (&["seal"], &[], MARK),
        (&["seal", MARK], &keyed, MARK),
        (&["audit", "verify", key_file, "--key-file", MARK], &[], ""),
        (&["audit", "verify", key_file], &key, ""),
    ] {
        assert_eq!(ran(arguments, variables, input), 2, "{arguments:?}");
    }
}

/// Shows what the command prints; how it ended.
fn ran(arguments: &[&str], variables: &[(&str, String)], input: &str) -> i32 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
    let mut child = command
        .args(arguments)
        .env_clear()
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut stdin = child.stdin.take().expect("piped");
    // It may end without reading.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("ends");
    for text in [&output.stdout, &output.stderr] {
        println!("{}", String::from_utf8_lossy(text));
    }
    output.status.code().expect("ended by itself")
}
