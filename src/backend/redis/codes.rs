//! The table of Redis' error codes.

use crate::backend::table::{Row, codes};
use crate::error::ErrorKind;

codes! {
    /// The kind of error that Redis' answer stands for on an established connection. An
    /// answer is a code and a text: `WRONGTYPE Operation against a key ...`.
    ///
    /// ```
    /// use millpond::{ErrorKind, backend::redis::kind_of_answer};
    ///
    /// assert_eq!(kind_of_answer("NOSCRIPT No matching script."), ErrorKind::NotFound);
    /// assert_eq!(kind_of_answer("ERR syntax error"), ErrorKind::InvalidOperation);
    /// ```
    ///
    /// # The table
    ///
    /// Each row is the beginning of an answer, the first that fits counts. Any other code,
    /// such as one of a module or a script, is an `InvalidOperation`. A server that answers
    /// so has done nothing, but for a script, which is not undone where it stopped. What is
    /// `Overloaded` *at any load* is no reason for [fewer
    /// connections](crate::Builder::adaptive).
    ///
    /// | answer | what it means | kind |
    /// |---|---|---|
    pub fn kind_of_answer(answer: &str) -> ErrorKind {
        let (code, text) = answer.split_once(' ').unwrap_or((answer, ""));
        kind_of_code(code, text)
    }

    const ROWS: &'static str;
    "NOAUTH"      "no login yet, and one is required"               => Authentication;
    "WRONGPASS"   "unknown user, wrong password, or user disabled"  => Authentication;
    "ERR invalid password"       "wrong password, before Redis 6"   => Authentication;
    "ERR AUTH"                   "a password, and none is required" => Authentication;
    "ERR Client sent AUTH"       "the same, before Redis 6"         => Authentication;
    "ERR operation not permitted" "`NOAUTH`, before Redis 2.8"      => Authentication;
    "NOPERM"      "the ACL forbids the command, key or channel"     => Permission;
    "DENIED"      "protected mode: no password is set, and the client is on another host" => Permission;
    "ERR DEBUG command not allowed"  "forbidden by `enable-debug-command`"    => Permission;
    "ERR MODULE command not allowed" "forbidden by `enable-module-command`"   => Permission;
    "READONLY"    "a write to a replica"                            => WrongRole;
    "MOVED"       "another node of the Cluster has the key"         => WrongRole;
    "ASK"         "the key is on its way to another node"           => WrongRole;
    "REDIRECT"    "another server is the primary (Valkey)"          => WrongRole;
    "UNBLOCKED force unblock" "the server's role changed under a blocking command" => WrongRole;
    "LOADING"     "reading its data from disk"                      => Overloaded, at any load;
    "BUSY"        "a script or function has run for too long"       => Overloaded, at any load;
    "TRYAGAIN"    "the keys are being moved between nodes"          => Overloaded, at any load;
    "CLUSTERDOWN" "the Cluster is incomplete, as while a master is replaced" => WrongRole;
    "MASTERDOWN"  "a replica that has lost its primary"             => Overloaded, at any load;
    "NOMASTERLINK" "a replica that has lost its primary"            => Overloaded, at any load;
    "NOREPLICAS"  "fewer replicas than `min-replicas-to-write`"     => Overloaded, at any load;
    "NOQUORUM"    "Sentinel: too few Sentinels"                     => Overloaded, at any load;
    "NOGOODSLAVE" "Sentinel: no replica is fit to become primary"   => Overloaded, at any load;
    "INPROG"      "Sentinel: a fail-over is under way"              => Conflict;
    "ERR max number of clients" "`maxclients` is reached"           => Overloaded;
    "OOM"         "`maxmemory` is reached, and nothing is evicted"  => ResourceLimit;
    "MISCONF"     "it cannot write its data to disk"                => ResourceLimit;
    "NOSCRIPT"    "no script of this hash"                          => NotFound;
    "NOGROUP"     "no such consumer group or stream"                => NotFound;
    "NOTBUSY"     "no script is running"                            => NotFound;
    "ERR no such key" "no such key"                                 => NotFound;
    "ERR No such master" "Sentinel: no primary of this name"        => NotFound, connecting Configuration;
    "BUSYKEY"     "the key exists already"                          => Constraint;
    "BUSYGROUP"   "the consumer group exists already"               => Constraint;
    "UNBLOCKED"   "unblocked by `CLIENT UNBLOCK`"                   => Cancelled;
    "NOPROTO"     "it does not speak this version of the protocol"  => Configuration;
    "ERR DB index"         "no database of this number"             => InvalidOperation, connecting Configuration;
    "ERR invalid DB index" "no database of this number"             => InvalidOperation, connecting Configuration;
    "ERR SELECT is not allowed" "a Cluster has one database"        => InvalidOperation, connecting Configuration;
    "ERR This instance has cluster support disabled" "it is no node of a Cluster" => InvalidOperation, connecting Configuration;
    "WRONGTYPE"   "the key holds another type"                      => InvalidOperation;
    "EXECABORT"   "a command before `EXEC` was refused"             => InvalidOperation;
    "CROSSSLOT"   "the keys are in several slots of the Cluster"    => InvalidOperation;
    "UNKILLABLE"  "the script has written already"                  => InvalidOperation;
    "NOSUB"       "not subscribed to it"                            => InvalidOperation;
    "ERR"         "anything else: syntax, unknown command, number of arguments" => InvalidOperation;
}

fn row_of(code: &str, text: &str) -> Option<&'static Row<&'static str>> {
    ROWS.iter().find(|row| {
        let (first, words) = row.code.split_once(' ').unwrap_or((row.code, ""));
        code == first && text.starts_with(words)
    })
}

pub(super) fn kind_of_code(code: &str, text: &str) -> ErrorKind {
    row_of(code, text).map_or(ErrorKind::InvalidOperation, |row| row.kind)
}

/// The same while connecting.
pub(super) fn kind_of_connect_code(code: &str, text: &str) -> ErrorKind {
    row_of(code, text).map_or(ErrorKind::InvalidOperation, |row| row.connecting)
}

/// Whether the server says so however few connections are used.
pub(super) fn is_at_any_load(code: &str, text: &str) -> bool {
    row_of(code, text).is_some_and(|row| row.at_any_load)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_reached() {
        for row in ROWS {
            let (code, text) = row.code.split_once(' ').unwrap_or((row.code, ""));
            assert_eq!(row_of(code, text).map(|row| row.code), Some(row.code));
        }
    }

    #[test]
    fn whole_codes_count_and_texts_by_their_beginning() {
        for (answer, kind) in [
            ("ASK 7 127.0.0.1:1", ErrorKind::WrongRole),
            ("ASKING", ErrorKind::InvalidOperation),
            (
                "UNBLOCKED client unblocked via CLIENT UNBLOCK",
                ErrorKind::Cancelled,
            ),
            ("ERR max number of clients reached", ErrorKind::Overloaded),
            ("ERR syntax error", ErrorKind::InvalidOperation),
            ("MYCODE of a script", ErrorKind::InvalidOperation),
        ] {
            assert_eq!(kind_of_answer(answer), kind, "{answer}");
        }
        let out_of_range = ("ERR", "DB index is out of range");
        assert_eq!(
            kind_of_connect_code(out_of_range.0, out_of_range.1),
            ErrorKind::Configuration
        );
    }
}
