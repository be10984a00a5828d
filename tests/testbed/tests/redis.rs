//! Redis starts, answers and suffers as told; so do Sentinels and a Cluster.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use testbed::{Ca, Redis, RedisCluster, RedisSentinel, secret};

fn ping(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    stream.write_all(b"PING\r\n")?;
    let mut reply = [0; 256];
    let length = stream.read(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply[..length]).into_owned())
}

#[test]
fn starts_and_answers() {
    let redis = Redis::start().expect("Redis");
    assert_eq!(redis.cli(&["PING"]).expect("a reply"), "PONG");
    redis.cli(&["SET", "k", "a b"]).expect("a reply");
    assert_eq!(redis.cli(&["GET", "k"]).expect("a reply"), "a b");
    assert!(redis.cli(&["NONSENSE"]).is_err());
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).expect("a connection");
    assert_eq!(ping(&mut stream).expect("a reply"), "+PONG\r\n");
}

#[test]
fn freezes_thaws_dies_and_comes_back() {
    let redis = Redis::start().expect("Redis");
    let port = redis.port();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    redis.freeze();
    let error = ping(&mut stream).expect_err("no reply");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    redis.thaw();
    assert_eq!(
        ping(&mut stream).expect("a reply").get(..7),
        Some("+PONG\r\n")
    );
    redis.kill();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    redis.restart().expect("Redis, again");
    assert_eq!(
        (redis.port(), redis.cli(&["PING"]).expect("a reply")),
        (port, "PONG".into())
    );
}

#[test]
fn password_and_tls_are_asked_for() {
    let redis = Redis::builder()
        .password(secret!("redis"))
        .start()
        .expect("Redis");
    assert_eq!(
        redis.url(),
        format!("redis://:{}@127.0.0.1:{}", secret!("redis"), redis.port())
    );
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).expect("a connection");
    assert!(ping(&mut stream).expect("a reply").starts_with("-NOAUTH"));
    assert_eq!(redis.cli(&["PING"]).expect("a reply"), "PONG");

    let ca = Ca::new();
    let redis = Redis::builder().tls(&ca).start().expect("Redis with TLS");
    assert!(redis.url().starts_with("rediss://"));
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).expect("a connection");
    assert!(!ping(&mut stream).is_ok_and(|reply| reply.starts_with("+PONG")));
}

#[test]
fn sentinels_choose_a_new_master() {
    let set = RedisSentinel::start().expect("Redis with Sentinels");
    assert_eq!(
        set.current_master_port().expect("a port"),
        set.master().port()
    );
    set.master().kill();
    let deadline = Instant::now() + Duration::from_secs(30);
    while set.current_master_port().expect("a port") != set.replica().port() {
        assert!(Instant::now() < deadline, "no fail-over");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_cluster_spreads_its_keys() {
    let cluster = RedisCluster::start().expect("a Redis Cluster");
    let [first, ..] = cluster.nodes() else {
        panic!("no nodes");
    };
    let moved = (0..20).filter(|key| {
        let reply = first.cli(&["SET", &key.to_string(), "x"]);
        reply.is_err_and(|error| error.to_string().contains("MOVED"))
    });
    assert!((1..20).contains(&moved.count()));
}
