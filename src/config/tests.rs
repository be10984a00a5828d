use super::Vars;
use std::time::Duration;

fn vars(pairs: &'static [(&'static str, &'static str)]) -> Vars<'static> {
    Vars::from_lookup(move |name| {
        pairs
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let mut vars = vars(&[
        ("A", "x"),
        ("B", "maybe"),
        ("C", "-1"),
        ("D", "2.5"),
        ("E", ""),
    ]);
    assert_eq!(vars.parse::<u16>("A", "a port, 1 to 65535"), None);
    assert_eq!(vars.flag("B"), None);
    assert_eq!(vars.seconds("C"), None);
    assert_eq!(vars.seconds("D"), Some(Duration::from_millis(2500)));
    assert_eq!(vars.text("E"), None);
    let message = vars.finish().expect_err("three mistakes").to_string();
    for part in [
        "A is `x`",
        "a port, 1 to 65535",
        "B is `maybe`",
        "C is `-1`",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[cfg(any(feature = "_net", feature = "exporter"))]
#[test]
fn a_missing_secret_file_is_a_mistake_that_names_the_variable() {
    let mut vars = vars(&[("DB_PASSWORD_FILE", "/nonexistent/secret")]);
    assert!(vars.secret_text("DB_PASSWORD").is_none());
    let message = vars.finish().expect_err("unreadable").to_string();
    assert!(
        message.contains("DB_PASSWORD_FILE is `/nonexistent/secret`"),
        "{message}"
    );
}

#[cfg(any(feature = "_net", feature = "exporter"))]
#[test]
fn a_secret_where_the_path_of_its_file_belongs_is_not_shown() {
    let mut vars = vars(&[("DB_PASSWORD_FILE", "hunter2")]);
    assert!(vars.secret_text("DB_PASSWORD").is_none());
    let message = vars.finish().expect_err("no file").to_string();
    assert!(message.contains("DB_PASSWORD_FILE is `***`"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[cfg(all(
    feature = "postgres",
    feature = "redis",
    feature = "mongodb",
    feature = "http",
    feature = "batch",
    feature = "toml"
))]
mod layered;
