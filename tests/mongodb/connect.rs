//! Connecting, and saying why it did not work.

use std::time::{Duration, Instant};

use millpond::backend::{Backend, Role};
use millpond::{ConnectFailure, ErrorKind, ManageConnection, MongoDbConfig, Phase};
use mongodb::bson::doc;
use mongodb::options::ReadPreference;
use testbed::{BlackHole, Mongo, Pace, Silent, secret};

use super::{config, connect_error, items, manager, works};

/// What one attempt may take, and no second one.
const AT_ONCE: Duration = Duration::from_millis(600);

/// What connecting fails with, at once.
#[track_caller]
fn fails_at_once(config: MongoDbConfig) -> millpond::Error {
    let (error, took) = Pace::start().time(|| connect_error(config));
    assert!(took < AT_ONCE, "{took:?}: {error}");
    error
}

#[test]
fn a_lease_is_the_drivers_own_client() {
    let mongo = Mongo::shared();
    let manager = manager(config(mongo.port()));
    let mut lease = manager.connect().expect("connects");
    works(&lease).expect("works");
    let names = lease.list_database_names().run().expect("the driver's API");
    assert!(names.contains(&"test".to_owned()), "{names:?}");
    manager.is_valid(&mut lease).expect("valid");
    assert!(!manager.has_broken(&mut lease));
    assert_eq!(
        manager.endpoint(),
        format!("127.0.0.1:{}/test", mongo.port())
    );
}

#[test]
fn no_database_is_a_setting_that_is_missing() {
    let config = MongoDbConfig::from_url(&Mongo::shared().uri()).expect("uri");
    let lease = manager(config).connect().expect("connects");
    let error = lease.db().expect_err("none configured");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("MONGODB_DB"), "{error}");
}

#[test]
fn a_wrong_password_is_told_at_once() {
    let mongo = Mongo::builder().auth().start().expect("mongod");
    let config = || config(mongo.port()).user("test");
    let lease = manager(config().password(Mongo::PASSWORD)).connect();
    works(&lease.expect("the right password")).expect("works");

    for config in [
        config().password(secret!("hunter2")),
        config().password(Mongo::PASSWORD).auth_source("shop"),
    ] {
        let error = fails_at_once(config);
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        assert_eq!(error.phase(), Phase::Connect);
        let text = format!("{error} {error:?}");
        assert!(text.contains("MONGODB_PASSWORD"), "{text}");
        assert!(!testbed::bears_mark(&text), "{text}");
    }
}

#[test]
fn without_a_login_the_user_may_do_nothing() {
    let mongo = Mongo::builder().auth().start().expect("mongod");
    let lease = manager(config(mongo.port())).connect().expect("connects");
    let error = millpond::Error::from(works(&lease).expect_err("not allowed"));
    assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
}

#[test]
fn nobody_listens() {
    let error = fails_at_once(config(testbed::refused_port()));
    assert_eq!(
        error.kind(),
        ErrorKind::Connect(ConnectFailure::Refused),
        "{error}"
    );
    assert!(error.to_string().contains("MONGODB_PORT"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn every_further_attempt_is_as_quick_as_the_servers_are_looked_after() {
    let manager = manager(config(testbed::refused_port()));
    for _ in 0..3 {
        let (result, took) = Pace::start().time(|| manager.connect());
        let error = result.expect_err("refused");
        assert_eq!(
            error.kind(),
            ErrorKind::Connect(ConnectFailure::Refused),
            "{error}"
        );
        // The driver looks at most every half second.
        assert!(took < Duration::from_millis(900), "{took:?}");
    }
}

#[test]
fn a_name_that_does_not_exist() {
    let config = MongoDbConfig::new()
        .host("no-such-host.invalid")
        .allow_plaintext(true);
    let error = connect_error(config.connect_timeout(Duration::from_secs(20)));
    assert_eq!(
        error.kind(),
        ErrorKind::Connect(ConnectFailure::Dns),
        "{error}"
    );
    assert!(error.to_string().contains("MONGODB_HOST"), "{error}");
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() {
    let silent = Silent::start().expect("listener");
    let hole = BlackHole::start().expect("listener");
    for port in [silent.port(), hole.port()] {
        let limit = Duration::from_millis(400);
        let pace = Pace::start();
        let start = Instant::now();
        let error = connect_error(config(port).connect_timeout(limit));
        assert!(start.elapsed() >= limit, "{:?}", start.elapsed());
        assert_eq!(
            error.kind(),
            ErrorKind::Connect(ConnectFailure::Timeout),
            "{error}"
        );
        let took = pace.since(start);
        assert!(took < limit * 2, "{took:?}");
    }
}

#[test]
fn a_server_outside_any_set_has_no_primary() {
    let mongo = Mongo::builder()
        .arg("--replSet")
        .arg("rs9")
        .start()
        .expect("mongod");
    let error = connect_error(config(mongo.port()).connect_timeout(Duration::from_millis(700)));
    assert_eq!(error.kind(), ErrorKind::WrongRole, "{error}");
}

#[test]
fn the_wrong_set_is_a_wrong_setting() {
    let mongo = Mongo::builder().replica_set(1).start().expect("mongod");
    let error = fails_at_once(config(mongo.port()).replica_set("other"));
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.to_string().contains("MONGODB_REPLICA_SET"), "{error}");
}

#[test]
fn check_tells_version_and_role() {
    let manager = manager(config(Mongo::shared().port()));
    let mut lease = manager.connect().expect("connects");
    let service = manager.check(&mut lease).expect("answers");
    assert_eq!(service.role, Role::Standalone);
    assert_eq!(service.writable, Some(true));
    assert_eq!(service.lag, None);
    let version = service.version.expect("a version");
    assert!(version.split('.').count() == 3, "{version}");
    assert!(service.latency > Duration::ZERO && service.latency < Duration::from_millis(500));
}

#[test]
fn check_tells_a_secondary_and_its_lag() {
    let set = Mongo::builder().replica_set(3).start().expect("a set");
    let config = || {
        let config = MongoDbConfig::from_url(&set.uri()).expect("uri");
        config
            .database("test")
            .connect_timeout(Duration::from_secs(20))
    };
    let primary = manager(config());
    let mut lease = primary.connect().expect("a primary");
    items(&lease, "lag")
        .insert_one(doc! { "n": 1 })
        .run()
        .expect("written");
    assert_eq!(
        primary.check(&mut lease).expect("answers").role,
        Role::Primary
    );

    let options = None;
    let secondary = manager(config().read_preference(ReadPreference::Secondary { options }));
    let mut lease = secondary.connect().expect("a secondary");
    let service = secondary.check(&mut lease).expect("answers");
    assert_eq!(service.role, Role::Replica);
    assert_eq!(service.writable, Some(false));
    assert!(
        service.lag.expect("a lag") < Duration::from_secs(20),
        "{service:?}"
    );
}
