//! Two servers that claim to be primaries at the same time are told of.

use std::sync::Mutex;
use std::time::Duration;

use log::{Level, Log, Metadata, Record};
use millpond::backend::Role;
use millpond::{Fleet, Postgres, PostgresConfig, Sql};

use crate::station::until;

/// Keeps the warnings.
struct Warnings(Mutex<Vec<String>>);

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

impl Log for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() == Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut warnings = self.0.lock().expect("no poison");
            warnings.push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// The warnings about this fleet that name both.
fn warnings(fleet: &str) -> Vec<String> {
    let all = WARNINGS.0.lock().expect("no poison").clone();
    let about =
        |text: &String| text.contains(&format!("fleet {fleet}: ")) && text.contains("claim");
    all.into_iter().filter(about).collect()
}

#[test]
fn are_warned_of_once() {
    testbed::listen(&WARNINGS);
    let servers = [(); 2].map(|()| testbed::Postgres::start().expect("starts"));
    let mut builder = Fleet::builder().name("torn").pool(|pool| pool.max_size(2));
    for server in &servers {
        let config = PostgresConfig::from_url(&server.url()).expect("a URL");
        builder = builder.endpoint(Postgres::new(config).expect("good settings"));
    }
    let fleet = builder.build().expect("connects");
    fleet.write().execute(Sql::new("SELECT 1")).expect("works");
    until("two claim to be it", || {
        let endpoints = fleet.endpoints();
        endpoints.iter().all(|one| one.role == Role::Primary)
    });
    until("that is told", || !warnings("torn").is_empty());
    // They are asked again each second.
    std::thread::sleep(Duration::from_millis(1500));
    let told = warnings("torn");
    assert_eq!(told.len(), 1, "{told:?}");
    for server in &servers {
        let endpoint = format!(":{}", server.port());
        assert!(told[0].contains(&endpoint), "{told:?}");
    }
    assert!(told[0].contains("fencing"), "{told:?}");
}
