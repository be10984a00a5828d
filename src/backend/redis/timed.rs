//! One server's connection under one deadline.
//!
//! The driver knows a timeout for each read and write, and sets it anew for each; here the
//! time that is left is what it gets. To set one is a system call, so one that is right
//! within [`SLACK`] is left as it is. What was configured applies where it is shorter, and
//! is set again in the end.
//!
//! A single reply that the server begins and does not end is waited for anew with each of
//! its pieces: the driver hides its socket, so this cannot be bounded from outside.

use std::time::Duration;

use redis::{RedisResult, Value};

use super::config::RedisConfig;
use super::wire::timed_out;
use crate::deadline::Deadline;

/// How much later than the deadline a read may end.
const SLACK: Duration = Duration::from_millis(10);
/// What fits into the buffers of a socket on which nothing is on its way, so that writing it
/// cannot block.
const FITS: usize = 4096;
/// How much is written at a time.
const CHUNK: usize = 256 << 10;

/// The connection, the deadline, and the socket's timeouts as they are set now.
pub(super) struct Timed<'a> {
    connection: &'a mut redis::Connection,
    config: &'a RedisConfig,
    deadline: Deadline,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    /// Whether any byte may have been sent.
    pub(super) sent: bool,
}

impl<'a> Timed<'a> {
    pub(super) fn new(
        connection: &'a mut redis::Connection,
        config: &'a RedisConfig,
        deadline: Deadline,
    ) -> Self {
        Self {
            connection,
            config,
            deadline,
            read_timeout: config.read_timeout,
            write_timeout: config.write_timeout,
            sent: false,
        }
    }

    /// Sends these bytes, all of them or as many as the deadline allows.
    pub(super) fn send(&mut self, bytes: &[u8]) -> RedisResult<()> {
        if bytes.len() <= FITS && !self.sent {
            self.sent = true;
            return self.connection.send_packed_command(bytes);
        }
        for chunk in bytes.chunks(CHUNK) {
            // A server that stops reading takes part of the chunk and none of the rest: the
            // kernel waits twice.
            let wanted = wanted(self.deadline, self.config.write_timeout, 2)?;
            if !will_do(self.write_timeout, wanted) {
                self.connection.set_write_timeout(wanted)?;
                self.write_timeout = wanted;
            }
            self.sent = true;
            self.connection.send_packed_command(chunk)?;
        }
        Ok(())
    }

    /// The next reply.
    pub(super) fn receive(&mut self) -> RedisResult<Value> {
        loop {
            let wanted = wanted(self.deadline, self.config.read_timeout, 1)?;
            if !will_do(self.read_timeout, wanted) {
                self.connection.set_read_timeout(wanted)?;
                self.read_timeout = wanted;
            }
            match self.connection.recv_response()? {
                // Said by the server on its own account (RESP3).
                Value::Push { .. } => {}
                value => return Ok(value),
            }
        }
    }

    /// Sets what was configured again.
    pub(super) fn restore(self) -> RedisResult<()> {
        if self.read_timeout != self.config.read_timeout {
            self.connection.set_read_timeout(self.config.read_timeout)?;
        }
        if self.write_timeout != self.config.write_timeout {
            self.connection
                .set_write_timeout(self.config.write_timeout)?;
        }
        Ok(())
    }
}

/// The timeout for the next read or write: a share of what is left of the deadline, or less
/// where less is configured.
pub(super) fn wanted(
    deadline: Deadline,
    configured: Option<Duration>,
    share: u32,
) -> RedisResult<Option<Duration>> {
    let Some(left) = deadline.remaining() else {
        return Ok(configured);
    };
    if left.is_zero() {
        return Err(timed_out());
    }
    let left = (left / share).max(Duration::from_micros(1));
    Ok(Some(
        configured.map_or(left, |configured| configured.min(left)),
    ))
}

/// Whether a timeout that is set will do for this one.
fn will_do(set: Option<Duration>, wanted: Option<Duration>) -> bool {
    match (set, wanted) {
        (None, None) => true,
        (Some(set), Some(wanted)) => set.abs_diff(wanted) < SLACK,
        _ => false,
    }
}
