//! The exporter's thread: waits for all its clients at once, and for none of them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use super::connection::Connection;
use super::site::Site;

/// Connections that may be open at once. 16 KiB of each are kept at most.
pub(super) const MOST_CONNECTIONS: usize = 256;
/// So many are accepted in each [`SPELL`]; others wait in the kernel's queue, so that a flood of
/// them does not take the processor from the program.
const ACCEPTED: usize = 100;
const SPELL: Duration = Duration::from_millis(100);
/// It looks this often whether it is to stop.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

pub(super) struct Server {
    poll: Poll,
    listener: TcpListener,
    site: Site,
    stop: Arc<AtomicBool>,
    connections: Vec<Option<Connection>>,
    /// Whether somebody may wait to be accepted.
    knocked: bool,
    accepted: usize,
    spell_ends: Instant,
}

impl Server {
    /// One that is not running yet, and what wakes it.
    pub(super) fn new(
        mut listener: TcpListener,
        site: Site,
        stop: Arc<AtomicBool>,
    ) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(registry, WAKER)?;
        let server = Self {
            poll,
            listener,
            site,
            stop,
            connections: (0..MOST_CONNECTIONS).map(|_| None).collect(),
            knocked: false,
            accepted: 0,
            spell_ends: Instant::now(),
        };
        Ok((server, waker))
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(MOST_CONNECTIONS);
        while !self.stop.load(SeqCst) {
            let pause = self.pause(Instant::now());
            if let Err(error) = self.poll.poll(&mut events, Some(pause))
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("millpond: the exporter has stopped: {error}");
                return;
            }
            let now = Instant::now();
            for event in &events {
                match event.token() {
                    LISTENER => self.knocked = true,
                    WAKER => {}
                    Token(number) => self.serve(number, now),
                }
            }
            self.expire(now);
            self.accept(now);
        }
    }

    /// How long there is nothing to do unless somebody stirs.
    fn pause(&self, now: Instant) -> Duration {
        let deadlines = self.connections.iter().flatten().map(|one| one.deadline);
        let accepting = self.knocked.then_some(self.spell_ends);
        let next = deadlines.chain(accepting).min();
        let pause = next.map_or(LONGEST_SLEEP, |next| next.saturating_duration_since(now));
        // Timers of the kernel may be a little early, and count in milliseconds.
        pause.clamp(Duration::from_millis(1), LONGEST_SLEEP)
    }

    fn serve(&mut self, number: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(number).and_then(Option::as_mut) else {
            return;
        };
        if !matches!(connection.go_on(&mut self.site, now), Ok(true)) {
            self.connections[number] = None;
        }
    }

    fn expire(&mut self, now: Instant) {
        for place in &mut self.connections {
            if place.as_ref().is_some_and(|one| one.deadline <= now) {
                *place = None;
            }
        }
    }

    /// Lets in those that wait, as many as may now.
    fn accept(&mut self, now: Instant) {
        if now >= self.spell_ends {
            self.spell_ends = now + SPELL;
            self.accepted = 0;
        }
        while self.knocked && self.accepted < ACCEPTED {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    self.accepted += 1;
                    let number = self.make_room();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    let registry = self.poll.registry();
                    if registry
                        .register(&mut stream, Token(number), interest)
                        .is_ok()
                    {
                        self.connections[number] = Some(Connection::new(stream, now));
                        self.serve(number, now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.knocked = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It went away, or there are no files left: a moment later there may be.
                Err(_) => self.accepted += 1,
            }
        }
    }

    /// A place for one more; the one nearest its end gives way, first among those that have
    /// not even asked.
    fn make_room(&mut self) -> usize {
        if let Some(free) = self.connections.iter().position(Option::is_none) {
            return free;
        }
        let places = self.connections.iter().flatten().enumerate();
        let oldest = places.min_by_key(|(_, one)| (!one.is_asking(), one.deadline));
        let oldest = oldest.map_or(0, |(number, _)| number);
        self.connections[oldest] = None;
        oldest
    }
}
