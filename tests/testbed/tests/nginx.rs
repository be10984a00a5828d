//! nginx starts and answers.

use std::io::{Read, Write};
use std::net::TcpStream;

use testbed::Nginx;

fn get(port: u16, path: &str, header: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\n{header}Connection: close\r\n\r\n"
    )
    .expect("a request");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    reply
}

#[test]
fn starts_and_answers() {
    let nginx = Nginx::start().expect("nginx");
    let get = |path, header| get(nginx.port(), path, header);
    assert!(get("/", "").ends_with("\r\n\r\nok"));
    assert!(get("/json", "").ends_with("{\"ok\":true}"));
    let busy = get("/status/503", "");
    assert!(
        busy.starts_with("HTTP/1.1 503") && busy.contains("Retry-After: 1"),
        "{busy}"
    );
    assert!(get("/status/418", "").starts_with("HTTP/1.1 418"));
    assert!(get("/redirect/2", "").contains("Location: /redirect/1"));
    assert!(get("/redirect/0", "").ends_with("ok"));
    assert!(get("/bytes/100000", "").ends_with(&"x".repeat(100_000)));
    assert!(get("/slow/20", "").ends_with("slow"));
    assert!(get("/authorization", "Authorization: Bearer x\r\n").ends_with("Bearer x"));
    assert!(get("/x-api-key", "X-Api-Key: k\r\n").ends_with("\r\n\r\nk"));
    assert!(get("/echo", "X-Y: z\r\n").contains("X-Y: z"));
    assert!(get("/basic", "").starts_with("HTTP/1.1 401"));
    // `test` and the password.
    let login = "Authorization: Basic dGVzdDpDYW5hcnk3ZjNhWi1iYXNpYw==\r\n";
    assert!(get("/basic", login).ends_with("ok"));
    assert!(get("/bearer", "").starts_with("HTTP/1.1 401"));
    assert!(
        get(
            "/bearer",
            &format!("Authorization: Bearer {}\r\n", Nginx::TOKEN)
        )
        .ends_with("ok")
    );
}

#[test]
fn comes_back_on_the_same_port() {
    let nginx = Nginx::start().expect("nginx");
    let port = nginx.port();
    nginx.kill();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    nginx.restart().expect("nginx, again");
    assert!(get(port, "/", "").ends_with("ok"));
}
