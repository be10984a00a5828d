//! One client: its request is read, its answer written, and what it sends beyond that thrown
//! away for a moment, so that the answer is not lost in a reset.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::answer::{Answer, Status};
use super::request::{Method, Parsed, parse};
use super::site::Site;

/// The most bytes of a request's head.
const HEAD_LIMIT: usize = 16 << 10;
/// The time for sending a request.
const REQUEST_TIME: Duration = Duration::from_secs(2);
/// The time for taking the answer, which can be some megabytes over a slow line.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// The time for noticing the answer's end, and how much of what comes meanwhile is read.
const FAREWELL_TIME: Duration = Duration::from_millis(500);
const FAREWELL_LIMIT: usize = 4 << 20;

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    state: State,
    /// When it is closed, whatever it does.
    pub(super) deadline: Instant,
}

enum State {
    Reading(Vec<u8>),
    Writing {
        head: Vec<u8>,
        body: Arc<[u8]>,
        written: usize,
    },
    /// Everything is said; so many bytes came since.
    Leaving(usize),
}

impl Connection {
    pub(super) fn new(stream: TcpStream, now: Instant) -> Self {
        Self {
            stream,
            state: State::Reading(Vec::new()),
            deadline: now + REQUEST_TIME,
        }
    }

    /// Whether it has not yet sent its request.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    /// Does what can be done without waiting; whether there will be more to do.
    pub(super) fn go_on(&mut self, site: &mut Site, now: Instant) -> io::Result<bool> {
        loop {
            let done = match &mut self.state {
                State::Reading(buffer) => match read_head(&mut self.stream, buffer)? {
                    Some(request) => {
                        let (answer, with_body) = respond(request, site, now);
                        self.deadline = now + ANSWER_TIME;
                        self.state = State::Writing {
                            head: answer.head(),
                            body: if with_body { answer.body } else { Arc::new([]) },
                            written: 0,
                        };
                        true
                    }
                    None => false,
                },
                State::Writing {
                    head,
                    body,
                    written,
                } => {
                    let done = write_on(&mut self.stream, head, body, written)?;
                    if done {
                        self.stream.shutdown(Shutdown::Write)?;
                        self.deadline = now + FAREWELL_TIME;
                        self.state = State::Leaving(0);
                    }
                    done
                }
                State::Leaving(read) => return read_on(&mut self.stream, read),
            };
            if !done {
                return Ok(true);
            }
        }
    }
}

fn respond(parsed: Parsed, site: &mut Site, now: Instant) -> (Answer, bool) {
    match parsed {
        Parsed::Whole(request) => (site.answer(&request, now), request.method != Method::Head),
        Parsed::TooLarge => (Answer::plain(Status::HeadTooLarge), true),
        Parsed::Nonsense | Parsed::Part => (Answer::plain(Status::BadRequest), true),
    }
}

/// Reads as far as the end of the head; what it is, once that is known.
fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Parsed>> {
    let mut chunk = [0; 4096];
    loop {
        let room = HEAD_LIMIT - buffer.len();
        if room == 0 {
            return Ok(Some(Parsed::TooLarge));
        }
        let most = room.min(chunk.len());
        match stream.read(&mut chunk[..most]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer.extend_from_slice(&chunk[..count]);
                // Bytes that trickle in are not parsed again and again.
                if !chunk[..count].contains(&b'\n') {
                    continue;
                }
                match parse(buffer) {
                    Parsed::Part => {}
                    known => return Ok(Some(known)),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes what can be written; whether that was all.
fn write_on(
    stream: &mut TcpStream,
    head: &[u8],
    body: &[u8],
    written: &mut usize,
) -> io::Result<bool> {
    loop {
        let rest = match head.get(*written..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => &body[*written - head.len()..],
        };
        if rest.is_empty() {
            return Ok(true);
        }
        match stream.write(rest) {
            Ok(count) => *written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Throws away what comes; whether there will be more.
fn read_on(stream: &mut TcpStream, read: &mut usize) -> io::Result<bool> {
    let mut chunk = [0; 4096];
    while *read < FAREWELL_LIMIT {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(false),
            Ok(count) => *read += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
