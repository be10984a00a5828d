//! The proxy's faults, and listeners that never answer.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use testbed::{BlackHole, Proxy, Silent, refused_port};

/// A server that sends everything back.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut writer = &stream;
                std::io::copy(&mut &stream, &mut writer).ok();
            });
        }
    });
    port
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let timeout = Some(Duration::from_millis(300));
    stream.set_read_timeout(timeout).expect("a timeout");
    stream
}

fn ask(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
    let mut reply = [0; 4];
    stream.write_all(b"ping")?;
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

#[test]
fn the_proxy_forwards_and_counts() {
    let proxy = Proxy::start(echo()).expect("a proxy");
    let mut first = connect(proxy.port());
    let mut second = connect(proxy.port());
    assert_eq!(ask(&mut first).expect("an echo"), *b"ping");
    assert_eq!(ask(&mut second).expect("an echo"), *b"ping");
    assert_eq!((proxy.accepted(), proxy.open()), (2, 2));
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(10);
    while proxy.open() > 1 {
        assert!(Instant::now() < deadline, "a closed connection stays open");
        thread::yield_now();
    }
}

#[test]
fn a_cut_closes_connections_and_new_ones_work() {
    let proxy = Proxy::start(echo()).expect("a proxy");
    let mut stream = connect(proxy.port());
    ask(&mut stream).expect("an echo");
    proxy.cut();
    assert_eq!(proxy.open(), 0);
    assert_ne!(
        ask(&mut stream).expect_err("an end").kind(),
        ErrorKind::WouldBlock
    );
    ask(&mut connect(proxy.port())).expect("an echo");
}

#[test]
fn a_refusing_proxy_keeps_what_is_open() {
    let proxy = Proxy::start(echo()).expect("a proxy");
    let mut stream = connect(proxy.port());
    ask(&mut stream).expect("an echo");
    proxy.refuse(true);
    let error = TcpStream::connect(("127.0.0.1", proxy.port())).expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    ask(&mut stream).expect("an echo");
    proxy.refuse(false);
    ask(&mut connect(proxy.port())).expect("an echo");
}

#[test]
fn a_black_hole_answers_nothing_and_heals() {
    let proxy = Proxy::start(echo()).expect("a proxy");
    let mut old = connect(proxy.port());
    ask(&mut old).expect("an echo");
    proxy.black_hole(true);
    let mut new = connect(proxy.port());
    assert_eq!(
        ask(&mut old).expect_err("silence").kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(
        ask(&mut new).expect_err("silence").kind(),
        ErrorKind::WouldBlock
    );
    proxy.black_hole(false);
    let mut reply = [0; 4];
    old.read_exact(&mut reply).expect("the late echo");
    new.read_exact(&mut reply).expect("the late echo");
    proxy.black_hole(true);
    old.write_all(b"ping").expect("room in the socket");
    proxy.cut();
    assert_eq!(old.read(&mut reply).unwrap_or(0), 0);
}

#[test]
fn latency_counts_both_ways() {
    let proxy = Proxy::start(echo()).expect("a proxy");
    let mut stream = connect(proxy.port());
    proxy.latency(Duration::from_millis(50));
    let started = Instant::now();
    ask(&mut stream).expect("an echo");
    assert!(started.elapsed() >= Duration::from_millis(100));
    proxy.latency(Duration::ZERO);
    let started = Instant::now();
    ask(&mut stream).expect("an echo");
    assert!(started.elapsed() < Duration::from_millis(50));
}

#[test]
fn a_silent_server_accepts_many_and_says_nothing() {
    let silent = Silent::start().expect("a listener");
    let mut streams: Vec<_> = (0..300).map(|_| connect(silent.port())).collect();
    let error = ask(&mut streams[299]).expect_err("silence");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn connecting_to_a_black_hole_hangs() {
    let hole = BlackHole::start().expect("a listener");
    let address = ([127, 0, 0, 1], hole.port()).into();
    let error = TcpStream::connect_timeout(&address, Duration::from_millis(300));
    assert_eq!(error.expect_err("a timeout").kind(), ErrorKind::TimedOut);
}

#[test]
fn a_refused_port_refuses() {
    let error = TcpStream::connect(("127.0.0.1", refused_port())).expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}
