//! Servers that do nothing, each in its own way.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::error::{Context, Error};
use crate::ports::Port;

/// Accepts every connection and never says anything.
///
/// Its connections are closed on drop.
#[derive(Debug)]
pub struct Silent {
    port: Port,
    closing: Arc<AtomicBool>,
}

impl Silent {
    /// Starts listening.
    pub fn start() -> Result<Self, Error> {
        let (port, listener) = Port::listen()?;
        let closing = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&closing);
        thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                kept.push(stream);
            }
        });
        Ok(Self { port, closing })
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // Wakes the listening thread.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port()));
    }
}

/// Does not even answer the handshake: `connect` itself hangs, as with a host
/// behind a firewall that drops packets.
///
/// It is a listener that never accepts, with its backlog full.
#[derive(Debug)]
pub struct BlackHole {
    port: Port,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// Starts listening, and fills the backlog.
    pub fn start() -> Result<Self, Error> {
        let (port, listener) = Port::listen()?;
        // A second `listen` shortens the queue.
        rustix::net::listen(&listener, 0).context(|| "shorten a listener's backlog".into())?;
        let address = (Ipv4Addr::LOCALHOST, port.number()).into();
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            queue.push(stream);
        }
        Ok(Self {
            port,
            _listener: listener,
            _queue: queue,
        })
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}
