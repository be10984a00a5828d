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
mod layered {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::super::known::{KNOWN, known};
    use super::super::layers::{Environment, Layer};
    use super::super::{Config, Found, Source, Vars};
    use crate::backend::http::HttpConfig;
    use crate::backend::mongodb::MongoDbConfig;
    use crate::backend::postgres::PostgresConfig;
    use crate::backend::redis::RedisConfig;
    use crate::{SealingKey, Secret};

    struct Pretended(BTreeMap<String, String>);

    impl Environment for Pretended {
        fn get(&self, name: &str) -> Option<Found> {
            Some(Found {
                text: Some(self.0.get(name)?.clone().into()),
                source: Source::Environment(name.into()),
                rank: 0,
            })
        }

        fn names(&self) -> Vec<String> {
            self.0.keys().cloned().collect()
        }
    }

    impl Config {
        pub(in crate::config) fn with_pretended(mut self, pairs: &[(&str, &str)]) -> Self {
            let pairs = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let environment = Arc::new(Pretended(pairs.collect()));
            self.layers.push(Layer::Environment(environment));
            self
        }
    }

    const FILE: &str = r#"
database_url = "postgres://app:canary@db.internal/shop?sslmode=require"

[pool]
max_connections = 20
connection_timeout = 2.5

[pools.reports]
backend = "postgres"
host = ["a.internal", "b.internal"]
name = "shop"
password = "canary"
max_connections = 4
batch_size = 500

[pools.cache]
backend = "redis"
host = "localhost"
"#;

    fn config(file: &str) -> Config {
        Config::new().with_toml("shop.toml", file).expect("TOML")
    }

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

    fn told(config: &Config) -> Vec<String> {
        config.mistakes().iter().map(ToString::to_string).collect()
    }

    fn value(config: &Config, pool: Option<&str>, variable: &str) -> (Option<String>, String) {
        let settings = config.settings();
        let found = settings
            .iter()
            .find(|setting| setting.pool.as_deref() == pool && setting.variable == variable);
        let found = found.unwrap_or_else(|| panic!("no {variable}: {settings:#?}"));
        (found.value.clone(), found.source.to_string())
    }

    #[test]
    fn exactly_the_known_variables_are_read() {
        let asked = RefCell::new(BTreeSet::new());
        let read = |given: &[(&str, &str)]| {
            let lookup = |name: &str| {
                asked.borrow_mut().insert(name.to_owned());
                let mut given = given.iter();
                given
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            let mut vars = Vars::from_lookup(lookup);
            let _ = PostgresConfig::from_vars(&mut vars);
            let _ = RedisConfig::from_vars(&mut vars);
            let _ = MongoDbConfig::from_vars(&mut vars);
            let _ = HttpConfig::from_vars(&mut vars);
            let _ = crate::Builder::<crate::Redis>::from_vars(&mut vars);
            let _ = crate::endpoints::FleetSettings::from_vars(&mut vars, 1);
            let _ = crate::resources::Limits::from_vars(&mut vars);
            let _ = crate::logging::Switches::new().with_vars(&mut vars);
            let _ = super::super::sealed::Protection::from_vars(&mut vars);
            crate::batch::check(&mut vars);
            #[cfg(feature = "exporter")]
            crate::exporter::check(&mut vars);
            #[cfg(feature = "audit")]
            let _ = crate::audit::AuditBuilder::from_vars(&mut vars);
            #[cfg(feature = "logging")]
            {
                crate::logging::check(&mut vars);
                let _ = vars.text("CONNECTION_POOL_LOG_FILE");
            }
        };
        read(&[
            ("DB_HOST", "a"),
            ("REDIS_ENABLED", "1"),
            ("REDIS_SENTINELS", "a:1"),
            ("REDIS_SENTINEL_MASTER", "m"),
            ("REDIS_SENTINEL_PASSWORD", "x"),
            ("MONGODB_ENABLED", "1"),
            ("HTTP_ENABLED", "1"),
            ("HTTP_API_KEY", "x"),
        ]);
        let unknown: Vec<_> = asked
            .borrow()
            .iter()
            .filter(|name| known(name).is_none())
            .cloned()
            .collect();
        assert_eq!(unknown, [""; 0], "are read and not known");
        let optional = |name: &str| {
            name.starts_with("EXPORTER_") && cfg!(not(feature = "exporter"))
                || name.starts_with("AUDIT_") && cfg!(not(feature = "audit"))
                || name.starts_with("CONNECTION_POOL_") && cfg!(not(feature = "logging"))
        };
        let asked = asked.borrow();
        let unread: Vec<_> = KNOWN
            .iter()
            .map(|known| known.name)
            .filter(|name| !asked.contains(*name) && !optional(name))
            .collect();
        assert_eq!(unread, [""; 0], "are known and not read");
    }

    #[test]
    fn a_file_says_what_variables_say() {
        let config = config(FILE);
        assert_eq!(told(&config), [""; 0]);
        let url = "postgres://app:***@db.internal/shop";
        assert_eq!(
            value(&config, None, "DATABASE_URL"),
            (Some("***".into()), "shop.toml, line 2".into()),
            "{url} would show it, but a query may hide a password"
        );
        let twenty = (Some("20".into()), "shop.toml, line 5".into());
        assert_eq!(value(&config, None, "POOL_MAX_CONNECTIONS"), twenty);
        let four = (Some("4".into()), "shop.toml, line 13".into());
        assert_eq!(
            value(&config, Some("reports"), "POOL_MAX_CONNECTIONS"),
            four
        );
        let hosts = (
            Some("a.internal,b.internal".into()),
            "shop.toml, line 10".into(),
        );
        assert_eq!(value(&config, Some("reports"), "DB_HOST"), hosts);
        assert_eq!(value(&config, None, "DB_SSL_MODE").1, "default");
        let in_url = (None, "shop.toml, line 2".into());
        assert_eq!(value(&config, None, "DB_PORT"), in_url, "the URL says it");
        let shown = format!("{config:?}{:?}", config.settings());
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn later_wins() {
        let config = config(FILE)
            .with_pretended(&[
                ("POOL_MAX_CONNECTIONS", "30"),
                ("POOL_IDLE_TIMEOUT", ""),
                ("REPORTS_POOL_MAX_CONNECTIONS", "5"),
                ("REPORTS_DB_HOST", "c.internal"),
                ("DB_HOST", "other.internal"),
            ])
            .set("POOL_MIN_CONNECTIONS", 1)
            .set_for("reports", "DB_NAME", "archive");
        assert_eq!(told(&config), [""; 0]);
        let of = |pool, variable| value(&config, pool, variable).0.expect("a value");
        assert_eq!(of(None, "POOL_MAX_CONNECTIONS"), "30");
        assert_eq!(of(None, "POOL_IDLE_TIMEOUT"), "300");
        assert_eq!(of(Some("reports"), "POOL_MAX_CONNECTIONS"), "5");
        assert_eq!(of(Some("reports"), "DB_HOST"), "c.internal");
        assert_eq!(of(Some("reports"), "DB_NAME"), "archive");
        let mut vars = config.vars_of("reports");
        // Everybody's server is nobody's by name, and what pools share is theirs too.
        assert_eq!(vars.text("DB_HOST").as_deref(), Some("c.internal"));
        assert_eq!(vars.text("DATABASE_URL"), None);
        assert_eq!(vars.text("POOL_CONNECTION_TIMEOUT").as_deref(), Some("2.5"));
        assert_eq!(vars.text("POOL_MIN_CONNECTIONS").as_deref(), Some("1"));
    }

    #[test]
    fn a_url_overrules_parts_of_earlier_layers_only() {
        let file = "[db]\nhost = \"old.internal\"\nname = \"shop\"\n";
        let url = "postgres://u@new.internal/other";
        let read = |config: &Config| {
            let mut vars = config.vars();
            let endpoint = PostgresConfig::from_vars(&mut vars).expect("on");
            (format!("{endpoint:?}"), vars.into_mistakes())
        };
        let later = config(file).with_pretended(&[("DATABASE_URL", url)]);
        let (shown, mistakes) = read(&later);
        assert!(
            shown.contains("new.internal") && shown.contains("other"),
            "{shown}"
        );
        assert!(!shown.contains("old.internal"), "{shown}");
        assert_eq!(mistakes, []);
        let same =
            Config::new().with_pretended(&[("DATABASE_URL", url), ("DB_HOST", "own.internal")]);
        assert!(read(&same).0.contains("own.internal"));
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
        let elsewhere =
            of("DATABASE_URL", &elsewhere).set("SECURITY_ENCRYPTION_KEY", other.to_text());
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
}
