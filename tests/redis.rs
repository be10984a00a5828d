//! Redis, one server: connecting, failing, checking, on real servers.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::backend::redis::Reply;
use millpond::{
    ConnectFailure, Error, ErrorKind, ManageConnection, Phase, Redis, RedisConfig, Tls,
};
use redis::Commands;
use testbed::{Redis as Server, secret};

const SHORT: Duration = Duration::from_millis(300);

fn at(port: u16) -> RedisConfig {
    RedisConfig::new().host("127.0.0.1").port(port)
}

fn manager(config: RedisConfig) -> Redis {
    Redis::new(config).unwrap()
}

fn fails(config: RedisConfig) -> Error {
    match manager(config).connect() {
        Ok(_) => panic!("connected"),
        Err(error) => error,
    }
}

/// Runs it and checks that it took about this long, and no longer.
fn within<T>(limit: Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    assert!(took < limit + Duration::from_millis(250), "took {took:?}");
    result
}

#[test]
fn the_drivers_whole_api_works_on_a_lease() {
    let server = Server::start().unwrap();
    let pool = millpond::Pool::new(manager(at(server.port()))).unwrap();
    let mut lease = pool.get().unwrap();
    let () = lease.set("greeting", "hello").unwrap();
    assert_eq!(lease.get::<_, String>("greeting").unwrap(), "hello");
    let text: String = redis::cmd("GET")
        .arg("greeting")
        .query(&mut *lease)
        .unwrap();
    assert_eq!(text, "hello");
    let text: String = redis::cmd("GET").arg("greeting").query(&mut lease).unwrap();
    assert_eq!(text, "hello");
    let both: (String, i64) = redis::pipe()
        .get("greeting")
        .incr("visits", 1)
        .query(&mut lease)
        .unwrap();
    assert_eq!(both, ("hello".into(), 1));
    let atomic: (i64,) = redis::pipe()
        .atomic()
        .incr("visits", 1)
        .query(&mut lease)
        .unwrap();
    assert_eq!(atomic, (2,));
    let sum: i64 = redis::Script::new("return ARGV[1] + 1")
        .arg(41)
        .invoke(&mut lease)
        .unwrap();
    assert_eq!(sum, 42);
    let keys: Vec<String> = lease.scan().unwrap().map(Result::unwrap).collect();
    assert_eq!(keys.len(), 2);
}

#[test]
fn replies_as_text_or_as_bytes() {
    let server = Server::start().unwrap();
    for (decode, resp3) in [(true, false), (false, false), (true, true), (false, true)] {
        let manager = manager(at(server.port()).decode_responses(decode).resp3(resp3));
        let mut conn = manager.connect().unwrap();
        conn.run(redis::cmd("SET").arg("k").arg("v")).unwrap();
        let expected = if decode {
            Reply::Text("v".into())
        } else {
            Reply::Bytes(b"v".to_vec())
        };
        assert_eq!(conn.run(redis::cmd("GET").arg("k")).unwrap(), expected);
        assert_eq!(conn.run(redis::cmd("GET").arg("none")).unwrap(), Reply::Nil);
        assert_eq!(
            conn.run(redis::cmd("STRLEN").arg("k")).unwrap().as_int(),
            Some(1)
        );
        let config = conn
            .run(redis::cmd("CONFIG").arg("GET").arg("maxclients"))
            .unwrap();
        assert_eq!(matches!(config, Reply::Map(_)), resp3);
        let error = conn.run(redis::cmd("INCR").arg("k")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOperation);
        assert!(!manager.has_broken(&mut conn));
    }
}

#[test]
fn passwords_and_users() {
    let server = Server::builder()
        .password(secret!("hunter2"))
        .arg("--user")
        .arg("app")
        .arg("on")
        .arg(concat!(">", secret!("pw")))
        .arg("~app:*")
        .arg("+@all")
        .arg("-@dangerous")
        .start()
        .unwrap();
    for resp3 in [false, true] {
        let to = || at(server.port()).resp3(resp3);
        let wrong = fails(to().password(secret!("wrong-hunter3")));
        assert_eq!(wrong.kind(), ErrorKind::Authentication, "{wrong}");
        assert_eq!(wrong.phase(), Phase::Connect);
        assert!(wrong.to_string().contains("REDIS_PASSWORD"), "{wrong}");
        assert!(!format!("{wrong} {wrong:?}").contains("hunter3"));
        assert!(!wrong.is_retryable());
        let none = fails(to());
        assert_eq!(none.kind(), ErrorKind::Authentication, "{none}");

        manager(to().password(secret!("hunter2")))
            .connect()
            .unwrap();
        let mut conn = manager(to().user("app").password(secret!("pw")))
            .connect()
            .unwrap();
        let who: String = redis::cmd("ACL").arg("WHOAMI").query(&mut conn).unwrap();
        assert_eq!(who, "app");
        let denied = conn.run(redis::cmd("GET").arg("other:key")).unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::Permission, "{denied}");
    }
}

#[test]
fn a_needless_password_is_an_authentication_error() {
    let server = Server::start().unwrap();
    let error = fails(at(server.port()).password(secret!("x")));
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
}

#[test]
fn the_database_and_the_name() {
    let server = Server::start().unwrap();
    for resp3 in [false, true] {
        let config = at(server.port()).db(3).client_name("worker-7").resp3(resp3);
        let mut conn = manager(config).connect().unwrap();
        let info: String = redis::cmd("CLIENT").arg("INFO").query(&mut conn).unwrap();
        assert_eq!(redis::ConnectionLike::get_db(&conn), 3);
        assert!(
            info.contains(" db=3 ") && info.contains(" name=worker-7 "),
            "{info}"
        );
        assert!(
            info.contains(if resp3 { " resp=3" } else { " resp=2" }),
            "{info}"
        );
        let error = fails(at(server.port()).db(99).resp3(resp3));
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains("REDIS_DB"), "{error}");
    }
}

#[test]
fn nobody_there() {
    let refused = fails(at(testbed::refused_port()));
    assert_eq!(
        refused.kind(),
        ErrorKind::Connect(ConnectFailure::Refused),
        "{refused}"
    );
    assert!(refused.endpoint().unwrap().starts_with("127.0.0.1:"));
    let config = RedisConfig::new()
        .host("no-such-host.invalid")
        .allow_plaintext(true);
    let unknown = fails(config);
    assert_eq!(
        unknown.kind(),
        ErrorKind::Connect(ConnectFailure::Dns),
        "{unknown}"
    );
    let missing = fails(RedisConfig::new().unix_socket("/nonexistent/redis.sock"));
    assert_eq!(
        missing.kind(),
        ErrorKind::Connect(ConnectFailure::Refused),
        "{missing}"
    );
}

/// Nobody can connect to such an address without its zone: "Invalid argument".
#[test]
fn an_address_keeps_its_zone() {
    // That of loopback, where nobody has the address.
    let address = "[fe80::1%1]:6379".parse().unwrap();
    let config = RedisConfig::new().allow_plaintext(true);
    for config in [config.at(address), config.host("fe80::1%lo")] {
        let error = fails(config.connect_timeout(SHORT));
        assert!(!error.to_string().contains("Invalid argument"), "{error}");
        assert!(
            error.endpoint().unwrap().starts_with("[fe80::1%"),
            "{error}"
        );
    }
}

#[test]
fn a_silent_server_does_not_hold_a_connect() {
    let silent = testbed::Silent::start().unwrap();
    let hole = testbed::BlackHole::start().unwrap();
    let encrypted = |port| at(port).tls(Tls::new().danger_trust_any_certificate());
    for config in [
        at(silent.port()),
        at(silent.port()).resp3(true),
        at(silent.port()).host("localhost").port(silent.port()),
        encrypted(silent.port()),
        encrypted(silent.port())
            .host("localhost")
            .port(silent.port()),
        at(hole.port()),
        encrypted(hole.port()),
    ] {
        let error = within(SHORT, || fails(config.clone().connect_timeout(SHORT)));
        let kind = ErrorKind::Connect(ConnectFailure::Timeout);
        assert_eq!(error.kind(), kind, "{error} {config:?}");
    }
}

#[test]
fn a_frozen_server_holds_neither_connect_nor_check() {
    let server = Server::start().unwrap();
    let config = at(server.port())
        .connect_timeout(SHORT)
        .check_timeout(SHORT);
    let manager = manager(config.read_timeout(SHORT));
    let mut conn = manager.connect().unwrap();
    let mut idle = manager.connect().unwrap();
    server.freeze();
    let error = within(SHORT, || manager.is_valid(&mut conn)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    assert_eq!(error.phase(), Phase::Validate);
    assert!(manager.has_broken(&mut conn));
    let error = within(SHORT, || manager.connect().err().unwrap());
    assert_eq!(
        error.kind(),
        ErrorKind::Connect(ConnectFailure::Timeout),
        "{error}"
    );
    // A read that timed out leaves a reply on the wire.
    let error = within(SHORT, || idle.get::<_, Option<String>>("k")).unwrap_err();
    let error = Error::from(error);
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.outcome_unknown());
    assert!(manager.has_broken(&mut idle));
    server.thaw();
    manager.is_valid(&mut manager.connect().unwrap()).unwrap();
}

#[test]
fn a_check_leaves_the_read_timeout_as_it_was() {
    let server = Server::builder()
        .arg("--enable-debug-command")
        .arg("yes")
        .start()
        .unwrap();
    let manager = manager(at(server.port()).check_timeout(Duration::from_millis(50)));
    let mut conn = manager.connect().unwrap();
    manager.is_valid(&mut conn).unwrap();
    redis::cmd("DEBUG")
        .arg("SLEEP")
        .arg(0.2)
        .exec(&mut conn)
        .unwrap();
    assert!(!manager.has_broken(&mut conn));
}

#[test]
fn a_connection_killed_while_idle_is_noticed() {
    let server = Server::start().unwrap();
    let manager = manager(at(server.port()));
    let mut conn = manager.connect().unwrap();
    manager.is_valid(&mut conn).unwrap();
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    let error = manager.is_valid(&mut conn).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    assert!(manager.has_broken(&mut conn));
    let mut used = manager.connect().unwrap();
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    let error = Error::from(used.incr::<_, _, i64>("k", 1).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    assert!(error.outcome_unknown() && manager.has_broken(&mut used));
}

#[test]
fn a_restarted_server_is_found_again() {
    let server = Server::start().unwrap();
    let manager = manager(at(server.port()));
    let mut conn = manager.connect().unwrap();
    server.restart().unwrap();
    assert!(manager.is_valid(&mut conn).is_err());
    manager.is_valid(&mut manager.connect().unwrap()).unwrap();
}

#[test]
fn too_many_clients_is_overload() {
    let server = Server::builder()
        .arg("--maxclients")
        .arg("2")
        .start()
        .unwrap();
    let manager = manager(at(server.port()));
    let held: Vec<_> = (0..2).map(|_| manager.connect().unwrap()).collect();
    let error = manager.connect().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert!(error.is_retryable());
    drop(held);
}

#[test]
fn out_of_memory_and_read_only() {
    let server = Server::start().unwrap();
    let mut conn = manager(at(server.port())).connect().unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let error = Error::from(conn.set::<_, _, ()>("k", "v").unwrap_err());
    assert_eq!(error.kind(), ErrorKind::ResourceLimit, "{error}");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    let port = testbed::refused_port().to_string();
    server.cli(&["REPLICAOF", "127.0.0.1", &port]).unwrap();
    let error = Error::from(conn.set::<_, _, ()>("k", "v").unwrap_err());
    assert_eq!(error.kind(), ErrorKind::WrongRole, "{error}");
}

#[test]
fn connecting_with_tls_does_not_read_the_authorities_again() {
    let ca = testbed::Ca::new();
    let server = Server::builder().tls(&ca).start().unwrap();
    let manager = manager(at(server.port()).tls(Tls::new().ca_file(ca.cert_path())));
    manager.connect().unwrap();
    let start = Instant::now();
    for _ in 0..20 {
        manager.connect().unwrap();
    }
    // Reading the system's store alone takes 12 ms each time, optimised; here is a
    // debug build, so this holds with room only if it is not read.
    let each = start.elapsed() / 20;
    assert!(each < Duration::from_millis(25), "{each:?} each");
}

#[test]
fn the_server_tells_about_itself() {
    let server = Server::start().unwrap();
    let port = server.port().to_string();
    let replica = Server::builder()
        .arg("--replicaof")
        .arg("127.0.0.1")
        .arg(port)
        .start()
        .unwrap();
    let primary = manager(at(server.port()));
    let service = primary.check(&mut primary.connect().unwrap()).unwrap();
    assert_eq!(service.role, millpond::backend::Role::Primary);
    assert_eq!(service.writable, Some(true));
    assert!(
        service
            .version
            .unwrap()
            .starts_with(|c: char| c.is_ascii_digit())
    );
    assert!(service.latency > Duration::ZERO);
    let manager = manager(at(replica.port()));
    let mut conn = manager.connect().unwrap();
    let service = manager.check(&mut conn).unwrap();
    assert_eq!(service.role, millpond::backend::Role::Replica);
    assert_eq!(service.writable, Some(false));
    assert!(Redis::traffic(&conn).statements.is_some());
}

#[test]
fn endpoints_are_written_without_secrets() {
    let config = RedisConfig::from_url("redis://app:hunter2@127.0.0.1:6390/4").unwrap();
    let manager = manager(config);
    assert_eq!(manager.endpoint(), "127.0.0.1:6390/4");
    assert!(!format!("{manager:?}").contains("hunter2"));
}
