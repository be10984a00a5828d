//! What is secret: where it comes from, and that it is not shown.

use super::{Config, config, told, value};
use crate::{SealingKey, Secret};

#[test]
fn the_end_of_a_torn_url_in_a_setting_is_not_shown() {
    for (variable, text) in [
        ("DB_NAME", "shop&password=hunter2"),
        ("DB_OPTIONS", "-c a=b&PASSWORD=hunter2"),
        ("MONGODB_DB", "shop?pwd=hunter2"),
        ("REDIS_USER", "app:hunter2@h"),
    ] {
        let config = Config::new().set(variable, text);
        let shown = format!("{config:?} {:?}", value(&config, None, variable));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let config = Config::new().set("DB_OPTIONS", "-c search_path=keys");
    let (shown, _) = value(&config, None, "DB_OPTIONS");
    assert_eq!(shown.as_deref(), Some("-c search_path=keys"));
}

#[test]
fn a_password_and_a_file_with_it_are_one_setting() {
    let path = std::env::temp_dir().join(format!("millpond-secret-{}", std::process::id()));
    std::fs::write(&path, "from the file\nsecond line\n").expect("written");
    let path = path.to_str().expect("UTF-8");
    let given = config("[db]\nhost = \"h\"\npassword = \"given\"\n");
    let later = given.clone().set("DB_PASSWORD_FILE", path);
    assert_eq!(
        later
            .vars()
            .secret_text("DB_PASSWORD")
            .as_ref()
            .map(Secret::expose),
        Some("from the file")
    );
    let earlier = Config::new()
        .set("DB_PASSWORD_FILE", path)
        .with_toml("x", "[db]\npassword = \"given\"\n");
    let earlier = earlier.expect("TOML");
    assert_eq!(
        earlier
            .vars()
            .secret_text("DB_PASSWORD")
            .as_ref()
            .map(Secret::expose),
        Some("given")
    );
    assert_eq!(value(&later, None, "DB_PASSWORD").0.as_deref(), Some("***"));
    std::fs::write(path, "\n").expect("written");
    let empty = Config::new().set("DB_PASSWORD_FILE", path);
    let mut vars = empty.vars();
    assert!(vars.secret_text("DB_PASSWORD").is_none());
    assert!(
        vars.into_mistakes()[0]
            .to_string()
            .contains("its first line is empty")
    );
    std::fs::remove_file(path).expect("removed");
}

#[test]
fn urls_are_shown_without_passwords() {
    let shown = |url: &str| {
        value(&Config::new().set("REDIS_URL", url), None, "REDIS_URL")
            .0
            .expect("a value")
    };
    assert_eq!(shown("redis://app:canary@h:1/2"), "redis://app:***@h:1/2");
    assert_eq!(shown("redis://h"), "redis://h");
    for url in [
        "redis://canary@h",
        "redis://h/?password=canary",
        "canary",
        "redis://a:b/canary@h",
        "redis://:canary@h",
    ] {
        assert!(!shown(url).contains("canary"), "{url}");
    }
}

const LOGIN: &str = "canary /:@?#%\u{e4}";

const ESCAPED: &str = "canary%20%2F%3A%40%3F%23%25%C3%A4";

/// What the secret variable comes to.
fn read(config: &Config, name: &str) -> String {
    let mut vars = config.vars();
    let secret = vars.secret_text(name).expect("a secret");
    assert_eq!(vars.into_mistakes(), []);
    secret.expose().to_owned()
}

#[test]
fn sealed_values_are_opened_wherever_there_are_secrets() {
    let key = SealingKey::generate();
    let seal = |text: &str| key.seal(&Secret::from(text));
    let keyed = Config::new().set("SECURITY_ENCRYPTION_KEY", key.to_text());
    for (name, before, after) in [
        (
            "DATABASE_URL",
            "postgres://app:",
            "@h1,h2:5/d?connect_timeout=3",
        ),
        ("REDIS_URL", "redis://:", "@localhost/1"),
        ("MONGODB_URI", "mongodb://app:", "@[::1]/?appName=a@b"),
        ("HTTP_BASE_URL", "http://app:", "@localhost/v1"),
    ] {
        let url = format!("{before}{ESCAPED}{after}");
        let escaped = seal(LOGIN).replace(':', "%3A");
        for given in [
            format!("{before}{}{after}", seal(LOGIN)),
            format!("{before}{escaped}{after}"),
            format!("{before}{}{after}", escaped.replace("%3A", "%3a")),
            seal(&url),
            url.clone(),
        ] {
            assert_eq!(
                read(&keyed.clone().set(name, &*given), name),
                url,
                "{given}"
            );
        }
    }
    let file = format!("[db]\npassword = \"{}\"\n", seal(LOGIN));
    let in_toml = keyed.clone().with_toml("x", &file).expect("TOML");
    assert_eq!(read(&in_toml, "DB_PASSWORD"), LOGIN);
    let of_pool = keyed.set_for("p", "DB_PASSWORD", seal(LOGIN));
    let secret = of_pool.vars_of("p").secret_text("DB_PASSWORD");
    assert_eq!(secret.expect("opened").expose(), LOGIN);

    let path = std::env::temp_dir().join(format!("millpond-sealed-{}", std::process::id()));
    std::fs::write(&path, seal(LOGIN) + "\n").expect("written");
    let path = path.to_str().expect("UTF-8").to_owned();
    let key_path = format!("{path}-key");
    std::fs::write(&key_path, key.to_text().expose()).expect("written");
    let files = Config::new()
        .set("DB_PASSWORD_FILE", &*path)
        .set("SECURITY_ENCRYPTION_KEY_FILE", &*key_path);
    assert_eq!(read(&files, "DB_PASSWORD"), LOGIN);
    std::fs::remove_file(path).expect("removed");
    std::fs::remove_file(key_path).expect("removed");
}

#[test]
fn what_cannot_be_opened_names_the_variable_and_the_key() {
    let sealed = SealingKey::generate().seal(&Secret::from("canary"));
    let of = |name: &str, value: &str| {
        Config::new()
            .set("REDIS_ENABLED", true)
            .set(name, value)
            .set("SECURITY_MASK_SENSITIVE_DATA", true)
    };
    let url = format!("postgres://app:{sealed}@localhost/d");
    let elsewhere = format!("postgres://app@localhost/d?password={sealed}");
    let other = SealingKey::generate();
    for (name, value) in [
        ("REDIS_PASSWORD", &*sealed),
        ("DATABASE_URL", &*url),
        ("DATABASE_URL", &*elsewhere),
        ("DATABASE_URL", "sealed:v7:canary"),
    ] {
        let without = told(&of(name, value)).join("\n");
        assert!(
            without.contains(&format!("{name} (the program) is `***`"))
                && without.contains("set SECURITY_ENCRYPTION_KEY or"),
            "{without}"
        );
        let wrong = of(name, value).set("SECURITY_ENCRYPTION_KEY", other.to_text());
        let wrong = told(&wrong).join("\n");
        assert!(
            wrong.contains(&format!("{name} (the program) is `***`")),
            "{wrong}"
        );
        let bad = of(name, value).set("SECURITY_ENCRYPTION_KEY", "canary");
        let bad = told(&bad).join("\n");
        assert!(
            bad.contains("SECURITY_ENCRYPTION_KEY (the program) is `***`"),
            "{bad}"
        );
        for told in [without, wrong, bad] {
            assert!(
                !told.contains("canary") && !told.contains(&sealed[10..]),
                "{told}"
            );
        }
    }
    let elsewhere = of("DATABASE_URL", &elsewhere).set("SECURITY_ENCRYPTION_KEY", other.to_text());
    let told = told(&elsewhere).join("\n");
    assert!(
        told.contains("only as the password before the host"),
        "{told}"
    );
}

#[test]
fn secrets_are_shown_sealed_where_there_is_a_key() {
    let key = SealingKey::generate();
    let sealed = key.seal(&Secret::from("given sealed"));
    let config = Config::new()
        .set("SECURITY_ENCRYPTION_KEY", key.to_text())
        .set("DB_PASSWORD", "canary")
        .set("MONGODB_PASSWORD", &*sealed)
        .set("REDIS_URL", "redis://app:can%61ry@h:1/2")
        .set("HTTP_BASE_URL", "https://h/v1")
        .set("DATABASE_URL", "postgres://h/d?password=canary");
    let of = |config: &Config, name| value(config, None, name).0.expect("a value");
    let opened = |text: &str| key.open(text).expect("opens").expose().to_owned();
    assert_eq!(opened(&of(&config, "DB_PASSWORD")), "canary");
    assert_eq!(of(&config, "MONGODB_PASSWORD"), sealed);
    let url = of(&config, "REDIS_URL");
    let password = url
        .strip_prefix("redis://app:")
        .and_then(|url| url.strip_suffix("@h:1/2"));
    assert_eq!(opened(password.expect("a URL")), "canary");
    assert_eq!(of(&config, "HTTP_BASE_URL"), "https://h/v1");
    assert_eq!(
        opened(&of(&config, "DATABASE_URL")),
        "postgres://h/d?password=canary"
    );
    assert_eq!(of(&config, "SECURITY_ENCRYPTION_KEY"), "***");
    let shown = format!("{:?}{config:?}", config.settings());
    assert!(
        !shown.contains("canary") && !shown.contains(key.to_text().expose()),
        "{shown}"
    );
    let masked = config.set("SECURITY_ENCRYPT_PASSWORDS", false);
    assert_eq!(of(&masked, "DB_PASSWORD"), "***");
    assert_eq!(of(&masked, "MONGODB_PASSWORD"), "***");
    assert_eq!(of(&masked, "REDIS_URL"), "redis://app:***@h:1/2");
    let sites = |urls| of(&masked.clone().set("HTTP_BASE_URL", urls), "HTTP_BASE_URL");
    assert_eq!(
        sites("https://u:canary@a,https://b"),
        "https://u:***@a,https://b"
    );
    // The `@` of the second one was lost.
    assert_eq!(sites("https://u:canary@a/v1,https://u:canary-b"), "***");
}
