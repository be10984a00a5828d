//! A server without TLS, and what a client says to it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Forwards connections to a server and keeps what the clients say. Its thread ends with the
/// process.
pub(super) struct Recorder {
    port: u16,
    /// Of each connection, in their order.
    said: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    pub(super) fn before(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let said = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let kept = Arc::clone(&said);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let number = kept.lock().unwrap().len();
                kept.lock().unwrap().push(Vec::new());
                let kept = Arc::clone(&kept);
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).unwrap();
                let answers = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pass(answers.0, answers.1, |_| {}));
                thread::spawn(move || {
                    pass(client, server, |bytes| {
                        kept.lock().unwrap()[number].extend_from_slice(bytes);
                    });
                });
            }
        });
        Self { port, said }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What was said on each connection.
    pub(super) fn said(&self) -> Vec<Vec<u8>> {
        self.said.lock().unwrap().clone()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut see: impl FnMut(&[u8])) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        see(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // Either may be gone already.
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

/// Whether this is the beginning of a TLS handshake, perhaps broken off, and nothing else:
/// records of the types 22 and 21.
#[track_caller]
pub(super) fn is_handshake(said: &[u8]) -> bool {
    let mut rest = said;
    while let [21 | 22, 3, _, high, low, after @ ..] = rest {
        let length = usize::from(*high) << 8 | usize::from(*low);
        rest = after.get(length..).unwrap_or_default();
    }
    !said.is_empty() && rest.is_empty()
}
