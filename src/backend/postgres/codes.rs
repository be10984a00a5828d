//! The table of PostgreSQL's codes.

use postgres::error::SqlState;

use crate::backend::table::{Row, codes};
use crate::error::{ErrorKind, Phase};

codes! {
    /// The kind of error that a SQLSTATE stands for on an established connection.
    ///
    /// ```
    /// use millpond::{ErrorKind, backend::postgres::kind_of_sqlstate};
    ///
    /// assert_eq!(kind_of_sqlstate("40P01"), ErrorKind::Conflict); // deadlock
    /// assert_eq!(kind_of_sqlstate("23505"), ErrorKind::Constraint); // by its class, 23
    /// ```
    ///
    /// # The table
    ///
    /// After appendix A of PostgreSQL's manual. A code that has no row of its own is
    /// counted with its class, the first two characters; words after a code are how the
    /// server's message begins. When an established connection is lost, the outcome of what
    /// was sent is unknown; of the other kinds only where it says so, as the server has
    /// rolled back what it answers with an error.
    ///
    /// | SQLSTATE | the server calls it | kind |
    /// |---|---|---|
    pub fn kind_of_sqlstate(code: &str) -> ErrorKind {
        row_of(code, "").map_or(ErrorKind::Other, |row| row.kind)
    }

    const ROWS: &'static str;
    "02"    "no data"                                   => NotFound;
    "03"    "SQL statement not yet complete"            => InvalidOperation;
    "08007" "transaction resolution unknown"            => ConnectionLost, connecting Connect(Refused), outcome unknown;
    "08"    "connection exception"                      => ConnectionLost, connecting Connect(Refused);
    "09"    "triggered action exception"                => InvalidOperation;
    "0A"    "feature not supported"                     => InvalidOperation;
    "0B"    "invalid transaction initiation"            => InvalidOperation;
    "0F"    "locator exception"                         => InvalidOperation;
    "0L"    "invalid grantor"                           => Permission;
    "0P"    "invalid role specification"                => InvalidOperation;
    "0Z"    "diagnostics exception"                     => InvalidOperation;
    "10"    "XQuery error"                              => InvalidOperation;
    "20"    "case not found"                            => InvalidOperation;
    "21"    "cardinality violation"                     => InvalidOperation;
    "22"    "data exception"                            => InvalidOperation, connecting Configuration;
    "23"    "integrity constraint violation"            => Constraint;
    "24"    "invalid cursor state"                      => InvalidOperation;
    "25006" "read-only SQL transaction"                 => WrongRole;
    "25P03" "idle in transaction session timeout"       => ConnectionLost;
    "25P04" "transaction timeout"                       => ConnectionLost;
    "25"    "invalid transaction state"                 => InvalidOperation;
    "26"    "invalid SQL statement name"                => NotFound;
    "27"    "triggered data change violation"           => Constraint;
    "28"    "invalid authorization specification"       => Authentication;
    "2B"    "dependent objects still exist"             => Constraint;
    "2D"    "invalid transaction termination"           => InvalidOperation;
    "2F"    "SQL routine exception"                     => InvalidOperation;
    "34"    "invalid cursor name"                       => NotFound;
    "38"    "external routine exception"                => Other;
    "39"    "external routine invocation exception"     => Other;
    "3B001" "invalid savepoint specification"           => NotFound;
    "3B"    "savepoint exception"                       => InvalidOperation;
    "3D"    "invalid catalog name"                      => NotFound, connecting Configuration;
    "3F"    "invalid schema name"                       => NotFound, connecting Configuration;
    "40002" "transaction integrity constraint violation" => Constraint;
    "40003" "statement completion unknown"              => ConnectionLost, outcome unknown;
    "40"    "transaction rollback: serialization failure (40001), deadlock (40P01)" => Conflict;
    "42501" "insufficient privilege"                    => Permission;
    "42P01" "undefined table"                           => NotFound;
    "42704" "undefined object"                          => NotFound, connecting Configuration;
    "42883" "undefined function"                        => NotFound;
    "42P03" "duplicate cursor"                          => Constraint;
    "42P04" "duplicate database"                        => Constraint;
    "42P05" "duplicate prepared statement"              => Constraint;
    "42P06" "duplicate schema"                          => Constraint;
    "42P07" "duplicate table"                           => Constraint;
    "42710" "duplicate object"                          => Constraint;
    "42723" "duplicate function"                        => Constraint;
    "42"    "syntax error or access rule violation"     => InvalidOperation, connecting Configuration;
    "44"    "WITH CHECK OPTION violation"               => Constraint;
    "53300" "too many connections"                      => Overloaded;
    "53"    "insufficient resources: disk full (53100), out of memory (53200), a configured limit (53400)" => ResourceLimit;
    "54"    "program limit exceeded"                    => InvalidOperation;
    "55006" "object in use"                             => Conflict;
    "55P03" "lock not available"                        => Conflict;
    "55"    "object not in prerequisite state"          => InvalidOperation, connecting Connect(Refused);
    "57014 canceling statement due to statement timeout" "query canceled, by `statement_timeout`" => DeadlineExceeded;
    "57014" "query canceled"                            => Cancelled;
    "57P01" "admin shutdown"                            => ConnectionLost, connecting Connect(Refused);
    "57P02" "crash shutdown"                            => ConnectionLost, connecting Connect(Refused);
    "57P03" "cannot connect now"                        => ConnectionLost, connecting Connect(Refused);
    "57P04" "database dropped"                          => ConnectionLost, connecting Configuration;
    "57P05" "idle session timeout"                      => ConnectionLost, connecting Connect(Refused);
    "57"    "operator intervention"                     => Cancelled;
    "58P01" "undefined file"                            => NotFound;
    "58P02" "duplicate file"                            => Constraint;
    "58"    "system error, I/O error (58030)"           => Other;
    "72000" "snapshot too old"                          => Conflict;
    "F0"    "configuration file error"                  => Configuration;
    "HV001" "foreign data wrapper: out of memory"       => ResourceLimit;
    "HV00Q" "foreign data wrapper: schema not found"    => NotFound;
    "HV00R" "foreign data wrapper: table not found"     => NotFound;
    "HV"    "foreign data wrapper error"                => Other;
    "P0001" "raised by `RAISE EXCEPTION` of a function or trigger" => Constraint;
    "P0002" "no data found"                             => NotFound;
    "P0"    "PL/pgSQL error: too many rows (P0003), assert failure (P0004)" => InvalidOperation;
    "XX"    "internal error, corruption of data (XX001) or of an index (XX002)" => Other;
}

/// The first row that fits this code and message.
fn row_of(code: &str, message: &str) -> Option<&'static Row<&'static str>> {
    ROWS.iter().find(|row| {
        let (state, words) = row.code.split_once(' ').unwrap_or((row.code, ""));
        code.starts_with(state) && message.starts_with(words)
    })
}

/// The kind of a server's error in this phase.
pub(super) fn kind_of_state(state: &SqlState, message: &str, phase: Phase) -> ErrorKind {
    match (row_of(state.code(), message), phase) {
        (Some(row), Phase::Connect) => row.connecting,
        (Some(row), _) => row.kind,
        (None, _) => ErrorKind::Other,
    }
}

/// Whether the server leaves open what became of the operation.
pub(super) fn is_open(state: &SqlState) -> bool {
    row_of(state.code(), "").is_some_and(|row| row.open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_before_their_classes() {
        for row in ROWS {
            let (code, message) = row.code.split_once(' ').unwrap_or((row.code, ""));
            let found = row_of(code, message).map(|row| row.code);
            assert_eq!(found, Some(row.code));
        }
    }

    #[test]
    fn the_phase_and_the_message_count() {
        let kind = |code, message, phase| kind_of_state(&SqlState::from_code(code), message, phase);
        let (here, there) = (Phase::Connect, Phase::Operation);
        assert_eq!(kind("3D000", "", here), ErrorKind::Configuration);
        assert_eq!(kind("3D000", "", there), ErrorKind::NotFound);
        let own = "canceling statement due to user request";
        assert_eq!(kind("57014", own, there), ErrorKind::Cancelled);
        let late = "canceling statement due to statement timeout";
        assert_eq!(kind("57014", late, there), ErrorKind::DeadlineExceeded);
        assert_eq!(kind("01000", "", there), ErrorKind::Other);
    }

    #[test]
    fn two_codes_leave_the_outcome_open() {
        for (code, open) in [
            ("08007", true),
            ("40003", true),
            ("08006", false),
            ("40001", false),
        ] {
            assert_eq!(is_open(&SqlState::from_code(code)), open, "{code}");
        }
    }
}
