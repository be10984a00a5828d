//! The log from a configuration.

use millpond::audit::Ending;
use millpond::{Config, ErrorKind, Hub, Postgres, Sql};

use super::{Folder, alone, operations, right};

#[test]
fn a_hub_installs_it_and_closes_it_at_its_end() {
    let _alone = alone();
    let folder = Folder::new();
    let file = folder.0.join("settings.toml");
    let path = folder.log();
    let text = format!(
        "database_url = \"{}\"\n[audit]\nfile = \"{}\"\nmax_bytes = 5000\nkeep = 2\n",
        testbed::Postgres::shared().url(),
        path.display()
    );
    std::fs::write(&file, text).expect("written");
    let config = Config::new().with_file(&file).expect("TOML");
    let hub = Hub::from_config(&config).expect("good settings");
    let same = Hub::from_config(&config).expect("the same log");
    let pool = hub.pool::<Postgres>("postgres").expect("there");
    for _ in 0..50 {
        pool.execute(Sql::new("SELECT 1")).expect("answers");
    }
    drop(same);
    assert!(
        hub.shut_down(std::time::Duration::from_secs(5))
            .is_complete()
    );
    let told = operations(&path).len();
    drop(pool);
    drop(hub);
    assert!(told > 10 && told < 50, "files are small and few: {told}");
    let found = right(&path);
    assert_eq!((found.end, found.files.len()), (Ending::Closed, 3));
    assert_eq!(found.last.expect("a line").0, 52);
}

#[test]
fn mistakes_are_told_and_the_key_is_not() {
    let _alone = alone();
    let config = Config::new()
        .set("REDIS_URL", "redis://localhost")
        .set("AUDIT_FILE", "/nowhere/audit")
        .set("AUDIT_MAX_BYTES", "100")
        .set("AUDIT_KEEP", "many")
        .set("AUDIT_KEY", "canary");
    let told: Vec<_> = config.mistakes().iter().map(ToString::to_string).collect();
    let all = told.join("\n");
    assert_eq!(told.len(), 3, "{all}");
    for part in [
        "AUDIT_MAX_BYTES (the program) is `100`, accepted: a number of bytes, at least 4096",
        "AUDIT_KEEP (the program) is `many`, accepted: a number of files from 1 to 10000",
        "AUDIT_KEY (the program) is `***`, accepted: a secret of at least 16 bytes",
    ] {
        assert!(all.contains(part), "{all}");
    }
    assert!(!format!("{config:?}").contains("canary"));
    let config = Config::new().set("AUDIT_FILE", "/nowhere/audit");
    let error = Hub::from_config(&config).expect_err("no such folder");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(
        error.to_string().contains("/nowhere/audit (AUDIT_FILE)"),
        "{error}"
    );
}
