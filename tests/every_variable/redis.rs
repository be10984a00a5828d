//! `REDIS_*`.

use millpond::backend::redis::Reply;
use millpond::{Config, ConnectFailure, ErrorKind, Hub, Redis, RedisCommand};
use testbed::{Ca, secret};

use super::{config, hub};

fn at(server: &testbed::Redis) -> Config {
    config()
        .set("REDIS_ENABLED", true)
        .set("REDIS_HOST", "127.0.0.1")
        .set("REDIS_PORT", server.port())
        .set("POOL_CONNECTION_TIMEOUT", 1)
}

fn run(hub: &Hub, command: RedisCommand) -> Result<Reply, millpond::Error> {
    hub.pool::<Redis>("redis")?.execute(command)
}

fn ping(config: &Config) -> Result<Reply, millpond::Error> {
    run(&hub(config), RedisCommand::new("PING"))
}

#[test]
pub(super) fn enabled() {
    let server = testbed::Redis::shared();
    ping(&at(server)).unwrap();
    ping(&config().set("REDIS_URL", server.url())).unwrap();
    let off = hub(&at(server).set("REDIS_ENABLED", false));
    assert!(off.pool::<Redis>("redis").is_err());
    assert!(
        hub(&config().set("REDIS_HOST", "127.0.0.1"))
            .pool::<Redis>("redis")
            .is_err()
    );
}

#[test]
pub(super) fn host_and_port() {
    let server = testbed::Redis::shared();
    for elsewhere in [
        at(server).set("REDIS_HOST", "127.0.0.2"),
        at(server).set("REDIS_PORT", testbed::refused_port()),
    ] {
        let error = ping(&elsewhere).unwrap_err();
        assert!(error.to_string().contains("REDIS_HOST"), "{error}");
    }
}

#[test]
pub(super) fn db() {
    let server = testbed::Redis::shared();
    let hub = hub(&at(server).set("REDIS_DB", 3));
    let set = RedisCommand::new("SET")
        .arg("every_variable:db")
        .arg("here");
    run(&hub, set).unwrap();
    let exists = || RedisCommand::new("EXISTS").arg("every_variable:db");
    assert_eq!(run(&hub, exists()).unwrap().as_int(), Some(1));
    let usual = super::hub(&at(server));
    assert_eq!(run(&usual, exists()).unwrap().as_int(), Some(0));
}

#[test]
pub(super) fn password() {
    let server = testbed::Redis::builder()
        .password(secret!("right"))
        .start()
        .unwrap();
    ping(&at(&server).set("REDIS_PASSWORD", secret!("right"))).unwrap();
    for config in [
        at(&server),
        at(&server).set("REDIS_PASSWORD", secret!("wrong")),
    ] {
        let error = ping(&config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    }
}

#[test]
pub(super) fn ssl() {
    let ca = Ca::new();
    let server = testbed::Redis::builder().tls(&ca).start().unwrap();
    let trusted = at(&server).set("REDIS_SSL_CA_FILE", ca.cert_path().to_str().unwrap());
    ping(&trusted.clone().set("REDIS_SSL", true)).unwrap();
    assert!(ping(&trusted.set("REDIS_SSL", false)).is_err());
    let error = ping(&at(&server).set("REDIS_SSL", true)).unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Connect(ConnectFailure::Tls),
        "{error}"
    );
}

#[test]
pub(super) fn decode_responses() {
    let server = testbed::Redis::shared();
    let echo = || RedisCommand::new("ECHO").arg("text");
    let text = run(&hub(&at(server)), echo()).unwrap();
    assert_eq!(text, Reply::Text("text".into()));
    let bytes = run(
        &hub(&at(server).set("REDIS_DECODE_RESPONSES", false)),
        echo(),
    )
    .unwrap();
    assert_eq!(bytes, Reply::Bytes(b"text".to_vec()));
}
