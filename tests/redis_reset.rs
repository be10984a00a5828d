//! What a lease leaves behind does not reach the next one.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use millpond::backend::Backend;
use millpond::{ManageConnection, Redis, RedisConfig, RedisConnection, Reset};
use redis::{Cmd, Commands, cmd};
use testbed::{Redis as Server, secret};

fn server() -> Server {
    Server::builder()
        .password(secret!("hunter2"))
        .arg("--user")
        .arg("other")
        .arg("on")
        .arg(concat!(">", secret!("pw")))
        .arg("~*")
        .arg("&*")
        .arg("+@all")
        .start()
        .unwrap()
}

fn manager(server: &Server, resp3: bool) -> Redis {
    let config = RedisConfig::new().host("127.0.0.1").port(server.port());
    let config = config
        .password(secret!("hunter2"))
        .db(2)
        .client_name("pooled");
    Redis::new(config.resp3(resp3).check_timeout(Duration::from_secs(1))).unwrap()
}

fn run(conn: &mut RedisConnection, words: &[&str]) {
    let mut command = Cmd::new();
    command.arg(words);
    let _ = command.exec(conn);
}

/// The connection behaves as a new one.
fn assert_new(server: &Server, manager: &Redis, conn: &mut RedisConnection, after: &str) {
    assert!(!manager.has_broken(conn), "after {after}");
    assert!(manager.is_clean(conn, Reset::Fast), "after {after}");
    let info: String = cmd("CLIENT").arg("INFO").query(conn).unwrap();
    for part in [
        " db=2 ",
        " name=pooled ",
        " multi=-1 ",
        " sub=0 psub=0 ",
        " user=default ",
    ] {
        assert!(info.contains(part), "after {after}: {part} in {info}");
    }
    assert!(info.contains(" flags=N "), "after {after}: {info}");
    // No stray message stands before the answers.
    let () = conn.set("key", after).unwrap();
    server.cli(&["PUBLISH", "news", "stray"]).unwrap();
    assert_eq!(conn.get::<_, String>("key").unwrap(), after);
}

#[test]
fn plain_work_is_clean_without_a_word_to_the_server() {
    let server = server();
    let manager = manager(&server, false);
    let mut conn = manager.connect().unwrap();
    let () = conn.set("k", 1).unwrap();
    let _: (i64, i64) = redis::pipe()
        .incr("k", 1)
        .incr("k", 1)
        .query(&mut conn)
        .unwrap();
    let _: (i64,) = redis::pipe()
        .atomic()
        .incr("k", 1)
        .query(&mut conn)
        .unwrap();
    run(&mut conn, &["WATCH", "k"]);
    run(&mut conn, &["MULTI"]);
    run(&mut conn, &["INCR", "k"]);
    run(&mut conn, &["EXEC"]);
    run(&mut conn, &["CLIENT", "ID"]);
    assert!(manager.is_clean(&conn, Reset::Fast));
    assert!(!manager.is_clean(&conn, Reset::Full));
    let before = conn.commands();
    manager.reset(&mut conn, Reset::None).unwrap();
    assert_eq!(conn.commands(), before);
}

#[test]
fn everything_left_behind_is_undone() {
    let server = server();
    let left: [&[&[&str]]; 9] = [
        &[&["MULTI"], &["SET", "k", "1"]],
        &[&["WATCH", "k"]],
        &[&["SELECT", "7"]],
        &[&["select", "0"]],
        &[&["CLIENT", "SETNAME", "intruder"]],
        &[&["CLIENT", "TRACKING", "on"]],
        &[&["AUTH", "other", "pw"]],
        &[&["RESET"]],
        &[&["MULTI"], &["NONSENSE"], &["EXEC"], &["WATCH", "k"]],
    ];
    for resp3 in [false, true] {
        let manager = manager(&server, resp3);
        for commands in left {
            let mut conn = manager.connect().unwrap();
            for command in commands {
                run(&mut conn, command);
            }
            let after = format!("{commands:?}");
            assert!(!manager.is_clean(&conn, Reset::Fast), "{after}");
            assert!(manager.is_clean(&conn, Reset::None));
            manager.reset(&mut conn, Reset::Fast).unwrap();
            assert_new(&server, &manager, &mut conn, &after);
        }
    }
}

#[test]
fn subscriptions_with_messages_waiting_are_undone() {
    let server = server();
    for resp3 in [false, true] {
        let manager = manager(&server, resp3);
        for name in ["SUBSCRIBE", "psubscribe"] {
            let mut conn = manager.connect().unwrap();
            cmd(name)
                .arg("news")
                .set_no_response(true)
                .exec(&mut conn)
                .unwrap();
            for _ in 0..5 {
                server.cli(&["PUBLISH", "news", "unread"]).unwrap();
            }
            assert!(!manager.is_clean(&conn, Reset::Fast));
            manager.reset(&mut conn, Reset::Fast).unwrap();
            assert_new(&server, &manager, &mut conn, name);
        }
    }
}

#[test]
fn monitor_and_silence_are_undone() {
    let server = server();
    for resp3 in [false, true] {
        let manager = manager(&server, resp3);
        let mut conn = manager.connect().unwrap();
        run(&mut conn, &["MONITOR"]);
        for _ in 0..5 {
            server.cli(&["GET", "watched"]).unwrap();
        }
        manager.reset(&mut conn, Reset::Fast).unwrap();
        assert_new(&server, &manager, &mut conn, "MONITOR");

        let mut conn = manager.connect().unwrap();
        let mut off = cmd("CLIENT");
        off.arg("REPLY").arg("OFF").set_no_response(true);
        off.exec(&mut conn).unwrap();
        assert!(!manager.is_clean(&conn, Reset::Fast));
        manager.reset(&mut conn, Reset::Fast).unwrap();
        assert_new(&server, &manager, &mut conn, "CLIENT REPLY OFF");
    }
}

#[test]
fn what_the_driver_did_by_itself_is_undone() {
    let server = server();
    let manager = manager(&server, false);
    let mut conn = manager.connect().unwrap();
    {
        let driver = conn.single_mut().unwrap();
        let mut messages = driver.as_pubsub();
        messages.subscribe("news").unwrap();
        server.cli(&["PUBLISH", "news", "hello"]).unwrap();
        let message = messages.get_message().unwrap();
        assert_eq!(message.get_payload::<String>().unwrap(), "hello");
    }
    conn.single_mut()
        .unwrap()
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    assert!(!manager.is_clean(&conn, Reset::Fast));
    manager.reset(&mut conn, Reset::Fast).unwrap();
    assert_new(&server, &manager, &mut conn, "the driver's own");
    server.cli(&["CLIENT", "PAUSE", "50", "ALL"]).unwrap();
    // The read timeout is back too.
    let _: Option<String> = conn.get("key").unwrap();
}

#[test]
fn full_cleans_what_nobody_noticed() {
    let server = server();
    let manager = manager(&server, false);
    let mut conn = manager.connect().unwrap();
    let () = conn.set("k", 1).unwrap();
    assert!(!manager.is_clean(&conn, Reset::Full));
    manager.reset(&mut conn, Reset::Full).unwrap();
    assert_new(&server, &manager, &mut conn, "nothing");
}

#[test]
fn what_cannot_be_undone_discards_the_connection() {
    let server = server();
    let manager = manager(&server, false);
    for command in [&["CLIENT", "NO-EVICT", "on"][..], &["QUIT"]] {
        let mut conn = manager.connect().unwrap();
        run(&mut conn, command);
        assert!(!manager.is_clean(&conn, Reset::Fast));
        assert!(
            manager.reset(&mut conn, Reset::Fast).is_err(),
            "{command:?}"
        );
        assert!(manager.has_broken(&mut conn));
    }
}

#[test]
fn a_frozen_server_does_not_hold_a_reset() {
    let server = server();
    let config = RedisConfig::new()
        .host("127.0.0.1")
        .port(server.port())
        .password(secret!("hunter2"));
    let manager = Redis::new(config.check_timeout(Duration::from_millis(200))).unwrap();
    let mut conn = manager.connect().unwrap();
    run(&mut conn, &["SELECT", "1"]);
    server.freeze();
    let start = std::time::Instant::now();
    assert!(manager.reset(&mut conn, Reset::Fast).is_err());
    assert!(start.elapsed() < Duration::from_millis(500));
    assert!(manager.has_broken(&mut conn));
}

#[test]
fn through_a_pool_the_next_lease_is_clean() {
    let server = server();
    let pool = millpond::Pool::builder()
        .max_size(1)
        .build(manager(&server, false))
        .unwrap();
    {
        let mut lease = pool.get().unwrap();
        cmd("SELECT").arg(9).exec(&mut *lease).unwrap();
        cmd("MULTI").exec(&mut *lease).unwrap();
    }
    let mut lease = pool.get().unwrap();
    let info: String = cmd("CLIENT").arg("INFO").query(&mut *lease).unwrap();
    assert!(
        info.contains(" db=2 ") && info.contains(" multi=-1 "),
        "{info}"
    );
}
