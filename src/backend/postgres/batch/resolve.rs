//! What became of a transaction whose COMMIT was sent and not answered.
//!
//! A new connection asks for the state of the transaction's number. After a crash the
//! server hands out again the numbers of transactions of which nothing had reached the
//! disk. So "committed" counts only from the same incarnation of the server: the same
//! system, started at the same time, and not restarted inside since, as after the crash of
//! one of its processes: then it resets its statistics. "Aborted", and a number that was
//! not handed out yet, count from every incarnation of the same system: what had been
//! committed would be on disk. A standby may be behind and is not asked.

use std::sync::Arc;
use std::time::Duration;

use r2d2::ManageConnection as _;

use super::super::connection::PostgresConnection;
use super::super::manager::Postgres;
use super::single::replies;
use crate::deadline::Deadline;

/// How long it is asked for where there is no deadline.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it is waited before the next question.
const PAUSE: Duration = Duration::from_millis(20);

/// The system, and whether it is a standby; then which of its incarnations.
const WHO: &str = "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
     pg_catalog.pg_is_in_recovery(), \
     concat_ws(' ', pg_catalog.pg_postmaster_start_time(), \
     pg_catalog.pg_stat_get_bgwriter_stat_reset_time())";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Committed,
    Aborted,
    Unknown,
}

/// Which server this is, in which of its lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Incarnation {
    system: Arc<str>,
    life: Arc<str>,
    standby: bool,
}

/// Asked once per connection.
pub(super) fn incarnation(conn: &mut PostgresConnection) -> Result<Incarnation, postgres::Error> {
    if let Some(known) = &conn.memory.incarnation {
        return Ok(known.clone());
    }
    let found = replies(conn.simple(WHO, false)?);
    let row = found.first().and_then(|reply| reply.rows().first());
    let text = |column| row.and_then(|row| row.text(column)).unwrap_or_default();
    let incarnation = Incarnation {
        system: text(0).into(),
        standby: text(1) == "t",
        life: text(2).into(),
    };
    conn.memory.incarnation = Some(incarnation.clone());
    Ok(incarnation)
}

/// What became of the transaction of this number; asks until it is known or the deadline
/// is over.
pub(super) fn fate(
    manager: &Postgres,
    incarnation: &Incarnation,
    xid: u64,
    deadline: Deadline,
) -> Fate {
    let deadline = deadline.min(Deadline::within(PATIENCE));
    while !deadline.is_over() {
        if let Ok(mut conn) = manager.connect() {
            let fate = conn.within(deadline, |conn| asked(conn, incarnation, xid, deadline));
            if let Some(fate) = fate {
                return fate;
            }
        }
        std::thread::sleep(deadline.remaining_within(PAUSE));
    }
    Fate::Unknown
}

/// What this connection says; `None` if another one has to be asked.
fn asked(
    conn: &mut PostgresConnection,
    before: &Incarnation,
    xid: u64,
    deadline: Deadline,
) -> Option<Fate> {
    let now = self::incarnation(conn).ok()?;
    if now.standby || now.system != before.system {
        return None;
    }
    let question = format!("SELECT pg_catalog.pg_xact_status('{xid}'::pg_catalog.xid8)");
    while !deadline.is_over() {
        let found = match conn.simple(&question, false) {
            Ok(messages) => replies(messages),
            // Of a number that is still to come.
            Err(error) if error.code().is_some_and(|code| code.code() == "22023") => {
                return Some(Fate::Aborted);
            }
            Err(_) => return None,
        };
        let row = found.first().and_then(|reply| reply.rows().first());
        match row.and_then(|row| row.text(0)) {
            Some("committed") if now.life == before.life => return Some(Fate::Committed),
            Some("aborted") => return Some(Fate::Aborted),
            Some("in progress") => std::thread::sleep(deadline.remaining_within(PAUSE)),
            // Committed in another life, or too long ago to be known.
            _ => return Some(Fate::Unknown),
        }
    }
    None
}
