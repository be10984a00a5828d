//! What nginx cannot say by itself: a small HTTP/1.0 server behind it.
//!
//! It runs in this process, a thread per request, one request per connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::error::Error;
use crate::ports::Port;

/// The server; ends on drop.
pub(super) struct Responder {
    port: Port,
    closing: Arc<AtomicBool>,
}

impl Responder {
    pub(super) fn start() -> Result<Self, Error> {
        let (port, listener) = Port::listen()?;
        let closing = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&closing);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(stream) = stream {
                    // A client that hangs up is no concern of ours.
                    thread::spawn(move || serve(&stream).ok());
                }
            }
        });
        Ok(Self { port, closing })
    }

    pub(super) fn port(&self) -> u16 {
        self.port.number()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // Wakes the listening thread.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port()));
    }
}

struct Reply {
    status: u16,
    header: String,
    body: Vec<u8>,
}

impl Reply {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            header: String::new(),
            body: body.into(),
        }
    }
}

fn serve(mut stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = head.split(' ').nth(1).unwrap_or("/");
    let reply = answer(path, &head, &body);
    let head = format!(
        "HTTP/1.0 {} Testbed\r\nContent-Length: {}\r\nContent-Type: text/plain\r\n{}\r\n",
        reply.status,
        reply.body.len(),
        reply.header
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&reply.body)
}

fn answer(path: &str, head: &str, body: &[u8]) -> Reply {
    let (route, argument) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or_default();
    let number: Option<u64> = argument.parse().ok();
    match (route, number) {
        ("status", Some(status @ 200..=599)) => Reply::new(status as u16, status.to_string()),
        ("redirect", Some(0)) => Reply::new(200, "ok"),
        ("redirect", Some(left)) => Reply {
            header: format!("Location: /redirect/{}\r\n", left - 1),
            ..Reply::new(302, "")
        },
        ("bytes", Some(count @ ..=100_000_000)) => Reply::new(200, vec![b'x'; count as usize]),
        ("slow", Some(millis)) => {
            thread::sleep(Duration::from_millis(millis));
            Reply::new(200, "slow")
        }
        _ if path == "/echo" => {
            // Without nginx's own "Connection: close" the head is the client's.
            let lines = head.lines().filter(|line| !line.starts_with("Connection:"));
            let mut text = lines.collect::<Vec<_>>().join("\n").into_bytes();
            text.push(b'\n');
            text.extend_from_slice(body);
            Reply::new(200, text)
        }
        _ => Reply::new(404, "no such path"),
    }
}
