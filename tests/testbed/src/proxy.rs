//! A TCP proxy that misbehaves on command.
//!
//! A listening thread, and two *pumps* per connection, one each way. A pump reads
//! a piece, waits as long as the faults in force say, and writes it.
//!
//! Invariants:
//! - Bytes arrive in order and none is lost, whatever faults come and go, unless
//!   the connection is cut: a black hole that ends is a network that heals.
//! - Every open connection is in `Shared::live`, so that a cut reaches it, even
//!   one whose pumps wait in a black hole.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::ports::Port;

/// Forwards loopback connections to a port, with faults on command.
///
/// On drop its connections are cut and the listener is closed.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    accepted: u64,
    refusing: bool,
    black_hole: bool,
    latency: Duration,
    /// Both ends of each connection, by number.
    live: HashMap<u64, Vec<TcpStream>>,
}

impl Proxy {
    /// Starts listening for connections to `127.0.0.1:target_port`, on which
    /// nothing needs to listen yet.
    pub fn start(target_port: u16) -> Result<Self, Error> {
        let (port, listener) = Port::listen()?;
        let proxy = Self {
            port,
            shared: Arc::new(Shared {
                target: target_port,
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
            listener: Mutex::default(),
        };
        proxy.serve(listener);
        Ok(proxy)
    }

    /// The port to connect to, on loopback.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.shared.lock().live.len()
    }

    /// Closes all connections, at both ends.
    pub fn cut(&self) {
        let live = std::mem::take(&mut self.shared.lock().live);
        for stream in live.into_values().flatten() {
            // The peer may have been faster.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }

    /// Whether new connections are refused, as if nothing listened on the port.
    /// Open ones go on.
    ///
    /// # Panics
    ///
    /// If the port was taken by someone else in the meantime.
    pub fn refuse(&self, on: bool) {
        let was = std::mem::replace(&mut self.shared.lock().refusing, on);
        match (was, on) {
            (false, true) => self.stop_listening(),
            (true, false) => self.serve(self.listen().expect("the proxy's port, free again")),
            _ => {}
        }
    }

    /// Whether to forward nothing, in both directions: connections are accepted
    /// and taken from, and never answered, not even closed. What was held back
    /// goes on its way when the black hole ends.
    pub fn black_hole(&self, on: bool) {
        self.shared.lock().black_hole = on;
        self.shared.changed.notify_all();
    }

    /// Delays every piece of data by so much in each direction; a question and its
    /// answer take twice as long.
    pub fn latency(&self, latency: Duration) {
        self.shared.lock().latency = latency;
        self.shared.changed.notify_all();
    }

    /// Listens again. For a moment the old socket may live on in a process that is
    /// being started.
    fn listen(&self) -> io::Result<TcpListener> {
        let mut attempts = 0;
        loop {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, self.port())) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts < 500 => {
                    attempts += 1;
                    thread::sleep(Duration::from_millis(1));
                }
                other => return other,
            }
        }
    }

    fn serve(&self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                match stream {
                    // What wakes us when we are to stop is a connection too.
                    _ if shared.lock().refusing => return,
                    Ok(stream) => accept(&shared, stream),
                    // Out of file handles, say: others may close some.
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        *self.listener() = Some(thread);
    }

    fn stop_listening(&self) {
        let Some(thread) = self.listener().take() else {
            return;
        };
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port()));
        // It panics only if a lock is poisoned, which we look through.
        let _ = thread.join();
    }

    fn listener(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().refusing = true;
        self.stop_listening();
        self.cut();
    }
}

/// Registers a connection and gives it a thread.
fn accept(shared: &Arc<Shared>, client: TcpStream) {
    let Ok(ours) = client.try_clone() else {
        return;
    };
    let mut state = shared.lock();
    state.accepted += 1;
    let number = state.accepted;
    state.live.insert(number, vec![ours]);
    drop(state);
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        // A connection that ends in an error has ended.
        let _ = serve(&shared, number, &client);
        let _ = client.shutdown(Shutdown::Both);
        shared.lock().live.remove(&number);
    });
}

/// Connects to the target and pumps both ways until both ends are closed.
fn serve(shared: &Arc<Shared>, number: u64, client: &TcpStream) -> io::Result<()> {
    shared.pass(number, Instant::now())?;
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.target))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    shared.lock().live_ends(number)?.push(server.try_clone()?);
    thread::scope(|scope| {
        scope.spawn(|| pump(shared, number, client, &server));
        pump(shared, number, &server, client);
    });
    Ok(())
}

/// Forwards one direction, its end included.
fn pump(shared: &Shared, number: u64, mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).unwrap_or(0);
        if shared.pass(number, Instant::now()).is_err() {
            return;
        }
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            // Half-closed connections stay so; an error closes both in its turn.
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something that came in at that moment may go out; an error if
    /// the connection was cut.
    fn pass(&self, number: u64, came: Instant) -> io::Result<()> {
        let mut state = self.lock();
        loop {
            state.live_ends(number)?;
            let left = state.latency.saturating_sub(came.elapsed());
            if !state.black_hole && left.is_zero() {
                return Ok(());
            }
            // In a black hole only a change of the faults matters.
            let left = if state.black_hole {
                Duration::MAX
            } else {
                left
            };
            state = self
                .changed
                .wait_timeout(state, left.min(Duration::from_secs(3600)))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl State {
    fn live_ends(&mut self, number: u64) -> io::Result<&mut Vec<TcpStream>> {
        self.live
            .get_mut(&number)
            .ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
    }
}
