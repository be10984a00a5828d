//! Running something on a connection with its fuse lit.

use std::time::{Duration, Instant};

use postgres::Error;
use postgres::error::SqlState;

use super::super::batch::Shift;
use super::super::errors::{cancelled_in_time, leaves_open, left_at_deadline, ours_shifted};
use super::super::fuse::{Lit, Then};
use super::PostgresConnection;
use crate::deadline::Deadline;
use crate::error::{ErrorKind, Phase};

/// The longest time for the driver's good-bye on drop, which waits for nothing but
/// answers that are still due.
const GOOD_BYE: Duration = Duration::from_secs(1);

impl PostgresConnection {
    /// Runs what must be over by this deadline: whatever this closure waits for the server
    /// is cut short.
    ///
    /// At the deadline the server is asked to cancel the statement. If it does, the
    /// statement was not applied, and the connection is as good as before. A server that
    /// has stopped answering is left some 60 ms later, and the connection with it.
    /// (Not on a Unix socket: there such a server holds the thread, and the
    /// connection is given up after any cancel request.)
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// use millpond::Deadline;
    ///
    /// # fn example(pool: &millpond::Pool<millpond::Postgres>) -> Result<(), millpond::Error> {
    /// let mut lease = pool.get()?;
    /// let soon = Deadline::within(Duration::from_millis(200));
    /// let rows = lease.within_deadline(soon, |conn| conn.query("SELECT * FROM report", &[]))?;
    /// # let _ = rows; Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What the closure gives, as [`millpond::Error`](crate::Error), and
    /// [`DeadlineExceeded`](ErrorKind::DeadlineExceeded). With
    /// [`outcome_unknown`](crate::Error::outcome_unknown) the last statement may have
    /// been applied.
    pub fn within_deadline<R>(
        &mut self,
        deadline: Deadline,
        run: impl FnOnce(&mut Self) -> Result<R, Error>,
    ) -> Result<R, crate::Error> {
        if deadline.is_over() {
            return Err(crate::Error::new(
                ErrorKind::DeadlineExceeded,
                Phase::Operation,
                "the deadline was over before anything was sent",
            ));
        }
        self.within(deadline, run)
            .map_err(|error| self.blame(error, true))
    }

    /// Runs this with the deadline in force. Whoever calls this looks first whether it is
    /// over already: what is sent all the same is sent, and then cancelled.
    pub(in crate::backend::postgres) fn within<R>(
        &mut self,
        deadline: Deadline,
        run: impl FnOnce(&mut Self) -> R,
    ) -> R {
        self.fused(deadline.moment(), Then::Cancel, run)
    }

    /// Runs what the connection is not worth keeping for if it takes longer.
    pub(in crate::backend::postgres) fn limited<R>(
        &mut self,
        limit: Duration,
        run: impl FnOnce(&mut Self) -> R,
    ) -> R {
        self.fused(Instant::now().checked_add(limit), Then::GiveUp, run)
    }

    fn fused<R>(&mut self, at: Option<Instant>, then: Then, run: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.fuse.light(at, then);
        let burning = Burning { conn: self, before };
        run(&mut *burning.conn)
    }

    /// The error of an operation, which was `sent` or not, that ran
    /// [`within`](Self::within) its deadline.
    pub(in crate::backend::postgres) fn blame(&self, error: Error, sent: bool) -> crate::Error {
        if error.code() == Some(&SqlState::QUERY_CANCELED) && self.fuse.has_cancelled() {
            return cancelled_in_time(error);
        }
        let open = sent && self.fuse.has_sent() && leaves_open(&error);
        // What was not sent could not be prepared.
        let shift = if sent {
            Shift::default()
        } else {
            self.memory.shift
        };
        let error = match ours_shifted(error, Phase::Operation, shift) {
            // A call after the one that the fuse ended.
            error if error.kind() == ErrorKind::ConnectionLost && self.fuse.is_blown() => {
                left_at_deadline(error)
            }
            error => error,
        };
        if open {
            error.with_outcome_unknown()
        } else {
            error
        }
    }
}

/// A connection whose fuse is lit; on drop it is put out.
struct Burning<'a> {
    conn: &'a mut PostgresConnection,
    before: Option<Lit>,
}

impl Drop for Burning<'_> {
    fn drop(&mut self) {
        self.conn.fuse.put_out(self.before);
        self.conn.broken |= self.conn.fuse.is_blown();
    }
}

impl Drop for PostgresConnection {
    /// Dropping the driver's client talks to the server.
    fn drop(&mut self) {
        if self.broken {
            self.fuse.blow();
        } else {
            let end = Instant::now().checked_add(GOOD_BYE);
            self.fuse.light(end, Then::GiveUp);
        }
    }
}
