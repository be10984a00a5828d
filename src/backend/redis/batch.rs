//! Running commands: one, or many in one pipeline, under one deadline.
//!
//! The driver's own pipeline goes on to wait for each of its replies after a timeout, as
//! often as there are commands. Here the first failure of the connection ends it: what has
//! its reply keeps it, what was sent has an unknown outcome, what was not sent was not
//! executed.
//!
//! Commands are sent in windows, and the replies of one are read before the next is sent. So
//! neither side waits for the other with full buffers, the server holds the replies of one
//! window at most, and a connection that is lost leaves no more than one window unknown.
//!
//! In a Cluster the same happens at several nodes at once: see its own folder.

use redis::{RedisError, RedisResult};

use super::connection::{Inner, RedisConnection};
use super::errors;
use super::manager::Redis;
use super::notice::Ending;
use super::operation::RedisCommand;
use super::reply::Reply;
use super::timed::Timed;
use crate::backend::why_not_begun;
use crate::deadline::Deadline;
use crate::operation::Outcome;

/// About how many bytes are sent before their replies are read.
pub(super) const WINDOW: usize = 512 << 10;
/// A command beyond this is sent from where it is, not gathered.
const LARGE: usize = 64 << 10;

impl Redis {
    /// Gives each command its outcome, in their order.
    pub(super) fn run(
        &self,
        conn: &mut RedisConnection,
        commands: &[&RedisCommand],
        deadline: Deadline,
    ) -> Vec<Outcome<Reply>> {
        let mut outcomes = Vec::with_capacity(commands.len());
        while outcomes.len() < commands.len() {
            if let Some(error) = why_not_begun(self, conn, deadline) {
                outcomes.resize(commands.len(), Outcome::NotExecuted(error));
            } else if conn.noticed.is_in_transaction() {
                // The server would answer QUEUED, which is not done.
                let error = errors::in_transaction(self.endpoint_text());
                outcomes.resize(commands.len(), Outcome::Rejected(error));
            } else if matches!(conn.inner, Inner::Cluster(_)) {
                let rest = &commands[outcomes.len()..];
                self.run_in_cluster(conn, rest, deadline, &mut outcomes);
            } else {
                let window = window(&commands[outcomes.len()..]);
                self.run_window(conn, window, deadline, &mut outcomes);
            }
        }
        outcomes
    }

    /// Runs these together and adds their outcomes.
    fn run_window(
        &self,
        conn: &mut RedisConnection,
        commands: &[&RedisCommand],
        deadline: Deadline,
        outcomes: &mut Vec<Outcome<Reply>>,
    ) {
        let end = outcomes.len() + commands.len();
        note(conn, commands);
        let mut gathered = std::mem::take(&mut conn.packed);
        let Inner::Single(connection) = &mut conn.inner else {
            return;
        };
        let mut timed = Timed::new(connection, &self.config, deadline);
        let mut ended = false;
        let plain = commands.iter().map(|command| (*command, false));
        let result = send(&mut timed, &mut gathered, plain).and_then(|()| {
            for command in commands {
                let result = timed.receive()?.extract_error();
                outcomes.push(match result {
                    Ok(value) => Outcome::Done(Reply::from_value(value, conn.decode_responses)),
                    Err(error) => {
                        ended |= ends(&error, conn.role_can_move);
                        self.refused(command, error, conn.role_can_move)
                    }
                });
            }
            Ok(())
        });
        let sent = timed.sent;
        let result = result.and_then(|()| timed.restore());
        conn.broken |= ended || result.is_err();
        gathered.clear();
        gathered.shrink_to(WINDOW);
        conn.packed = gathered;
        if let Err(error) = result {
            let error = errors::unanswered(error, deadline, self.endpoint_text());
            let outcome = if sent {
                Outcome::Unknown(error.with_outcome_unknown())
            } else {
                Outcome::NotExecuted(error)
            };
            outcomes.resize(end, outcome);
        }
    }

    /// What an error means for the command that the server answered with it.
    pub(super) fn refused(
        &self,
        command: &RedisCommand,
        error: RedisError,
        role_can_move: bool,
    ) -> Outcome<Reply> {
        // What a script did before it failed stays done.
        let half_done = command.is_script() && errors::is_inside_script(&error);
        // The server was a primary, and another one is by now.
        let moved = role_can_move && error.code() == Some("READONLY");
        let error = errors::refused(error, self.endpoint_text());
        if half_done {
            Outcome::Unknown(error.with_outcome_unknown())
        } else if moved {
            Outcome::NotExecuted(error)
        } else {
            Outcome::failed(error)
        }
    }
}

/// Whether the connection is of no use after this reply.
pub(super) fn ends(error: &RedisError, role_can_move: bool) -> bool {
    match error.code() {
        Some("READONLY") => role_can_move,
        Some("NOAUTH") => true,
        _ => false,
    }
}

/// Counts these, and looks at what they do to the connection.
pub(super) fn note(conn: &mut RedisConnection, commands: &[&RedisCommand]) {
    conn.commands += commands.len() as u64;
    for command in commands {
        let mut words = command.words();
        let name = words.next().unwrap_or_default();
        let mut ending = Ending::default();
        conn.noticed.see(name, || words.next(), &mut ending);
    }
}

/// As many of these as are sent together, at least one.
fn window<'a>(commands: &'a [&'a RedisCommand]) -> &'a [&'a RedisCommand] {
    let mut bytes = 0;
    let fits = commands.iter().take_while(|command| {
        bytes += command.arguments().packed().len();
        bytes <= WINDOW
    });
    let count = fits.count().max(1);
    &commands[..count.min(commands.len())]
}

/// Sends all of them in as few writes as that takes, `ASKING` before those that need it.
pub(super) fn send<'a>(
    timed: &mut Timed<'_>,
    gathered: &mut Vec<u8>,
    commands: impl Iterator<Item = (&'a RedisCommand, bool)>,
) -> RedisResult<()> {
    gathered.clear();
    for (command, asking) in commands {
        if asking {
            gathered.extend_from_slice(b"*1\r\n$6\r\nASKING\r\n");
        }
        let arguments = command.arguments();
        arguments.write_head(gathered);
        if arguments.packed().len() > LARGE {
            timed.send(gathered)?;
            timed.send(arguments.packed())?;
            gathered.clear();
        } else {
            gathered.extend_from_slice(arguments.packed());
        }
    }
    if gathered.is_empty() {
        return Ok(());
    }
    timed.send(gathered)
}
