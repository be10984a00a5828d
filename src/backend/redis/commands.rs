//! What commands are by nature: reads, scripts, and those that a pooled connection must not
//! see.
//!
//! One sorted table, looked up by binary search: to validate an operation takes some 75 ns.

/// What kind of command it is, as far as a pool must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// Changes nothing, so that it may run twice.
    Read,
    /// Runs a script, which may fail in its middle.
    Script,
    /// Not for a pooled connection; this is what to use instead.
    Refused(&'static str),
    /// Anything else: taken for a write.
    Other,
}

const SUBSCRIPTION: &str = "a subscription takes a connection for itself; take a lease and use \
                            `single_mut` and `as_pubsub`, or a connection of your own";
const TRANSACTION: &str = "a transaction needs one connection from its beginning to its end; take \
                           a lease and use `redis::pipe().atomic()`, or run a script with EVAL";
const DATABASE: &str = "the next user would get another database; set REDIS_DB, or make a second \
                        pool";
const LOGIN: &str = "the next user would get another login or protocol; set REDIS_USER, \
                     REDIS_PASSWORD and `resp3`";
const CLOSING: &str = "the connection is the pool's; use `PooledConnection::discard` on a lease";
const STATE: &str = "it changes the connection, which the next user would get; take a lease, which \
                     is cleaned afterwards";
const REPLICATION: &str = "it makes the connection that of a replica; use a connection of your own";
const BLOCKING: &str = "it would hold the connection, and all operations behind it; use the \
                        command that does not block and ask again, or take a lease";
const OPTION: &str = "with BLOCK it would hold the connection, and all operations behind it; \
                      leave BLOCK out and ask again, or take a lease";

use Nature::{Other, Read, Refused, Script};

/// Sorted by name.
const COMMANDS: &[(&str, Nature)] = &[
    ("ASKING", Refused(STATE)),
    ("AUTH", Refused(LOGIN)),
    ("BITCOUNT", Read),
    ("BITFIELD_RO", Read),
    ("BITPOS", Read),
    ("BLMOVE", Refused(BLOCKING)),
    ("BLMPOP", Refused(BLOCKING)),
    ("BLPOP", Refused(BLOCKING)),
    ("BRPOP", Refused(BLOCKING)),
    ("BRPOPLPUSH", Refused(BLOCKING)),
    ("BZMPOP", Refused(BLOCKING)),
    ("BZPOPMAX", Refused(BLOCKING)),
    ("BZPOPMIN", Refused(BLOCKING)),
    ("DBSIZE", Read),
    ("DISCARD", Refused(TRANSACTION)),
    ("DUMP", Read),
    ("ECHO", Read),
    ("EVAL", Script),
    ("EVALSHA", Script),
    ("EVALSHA_RO", Read),
    ("EVAL_RO", Read),
    ("EXEC", Refused(TRANSACTION)),
    ("EXISTS", Read),
    ("EXPIRETIME", Read),
    ("FCALL", Script),
    ("FCALL_RO", Read),
    ("GEODIST", Read),
    ("GEOHASH", Read),
    ("GEOPOS", Read),
    ("GEORADIUS_RO", Read),
    ("GEOSEARCH", Read),
    ("GET", Read),
    ("GETBIT", Read),
    ("GETRANGE", Read),
    ("HELLO", Refused(LOGIN)),
    ("HEXISTS", Read),
    ("HGET", Read),
    ("HGETALL", Read),
    ("HKEYS", Read),
    ("HLEN", Read),
    ("HMGET", Read),
    ("HPTTL", Read),
    ("HRANDFIELD", Read),
    ("HSCAN", Read),
    ("HSTRLEN", Read),
    ("HTTL", Read),
    ("HVALS", Read),
    ("INFO", Read),
    ("KEYS", Read),
    ("LASTSAVE", Read),
    ("LCS", Read),
    ("LINDEX", Read),
    ("LLEN", Read),
    ("LOLWUT", Read),
    ("LPOS", Read),
    ("LRANGE", Read),
    ("MGET", Read),
    ("MONITOR", Refused(SUBSCRIPTION)),
    ("MULTI", Refused(TRANSACTION)),
    ("OBJECT", Read),
    ("PEXPIRETIME", Read),
    ("PFCOUNT", Read),
    ("PING", Read),
    ("PSUBSCRIBE", Refused(SUBSCRIPTION)),
    ("PSYNC", Refused(REPLICATION)),
    ("PTTL", Read),
    ("PUBSUB", Read),
    ("PUNSUBSCRIBE", Refused(SUBSCRIPTION)),
    ("QUIT", Refused(CLOSING)),
    ("RANDOMKEY", Read),
    ("READONLY", Refused(STATE)),
    ("READWRITE", Refused(STATE)),
    ("REPLCONF", Refused(REPLICATION)),
    ("RESET", Refused(CLOSING)),
    ("ROLE", Read),
    ("SCAN", Read),
    ("SCARD", Read),
    ("SDIFF", Read),
    ("SELECT", Refused(DATABASE)),
    ("SINTER", Read),
    ("SINTERCARD", Read),
    ("SISMEMBER", Read),
    ("SMEMBERS", Read),
    ("SMISMEMBER", Read),
    ("SORT_RO", Read),
    ("SRANDMEMBER", Read),
    ("SSCAN", Read),
    ("SSUBSCRIBE", Refused(SUBSCRIPTION)),
    ("STRLEN", Read),
    ("SUBSCRIBE", Refused(SUBSCRIPTION)),
    ("SUBSTR", Read),
    ("SUNION", Read),
    ("SUNSUBSCRIBE", Refused(SUBSCRIPTION)),
    ("SYNC", Refused(REPLICATION)),
    ("TIME", Read),
    ("TOUCH", Read),
    ("TTL", Read),
    ("TYPE", Read),
    ("UNSUBSCRIBE", Refused(SUBSCRIPTION)),
    ("UNWATCH", Refused(TRANSACTION)),
    ("WAIT", Refused(BLOCKING)),
    ("WAITAOF", Refused(BLOCKING)),
    ("WATCH", Refused(TRANSACTION)),
    ("XINFO", Read),
    ("XLEN", Read),
    ("XPENDING", Read),
    ("XRANGE", Read),
    ("XREVRANGE", Read),
    ("ZCARD", Read),
    ("ZCOUNT", Read),
    ("ZDIFF", Read),
    ("ZINTER", Read),
    ("ZINTERCARD", Read),
    ("ZLEXCOUNT", Read),
    ("ZMSCORE", Read),
    ("ZRANDMEMBER", Read),
    ("ZRANGE", Read),
    ("ZRANGEBYLEX", Read),
    ("ZRANGEBYSCORE", Read),
    ("ZRANK", Read),
    ("ZREVRANGE", Read),
    ("ZREVRANGEBYLEX", Read),
    ("ZREVRANGEBYSCORE", Read),
    ("ZREVRANK", Read),
    ("ZSCAN", Read),
    ("ZSCORE", Read),
    ("ZUNION", Read),
];

/// The longest name in the table. `GEORADIUSBYMEMBER_RO` is longer, and taken for a write.
const LONGEST: usize = 16;

/// The names as numbers, which are quicker to compare.
static KEYS: [u128; COMMANDS.len()] = {
    let mut keys = [0; COMMANDS.len()];
    let mut index = 0;
    while index < keys.len() {
        let name = COMMANDS[index].0.as_bytes();
        let mut padded = [0; LONGEST];
        let mut at = 0;
        while at < name.len() {
            padded[at] = name[at];
            at += 1;
        }
        keys[index] = u128::from_be_bytes(padded);
        index += 1;
    }
    keys
};

/// What the command with these words is: its name, then its arguments.
pub(super) fn nature<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Nature {
    let name = words.next().unwrap_or_default();
    let mut upper = [0; LONGEST];
    let Some(start) = upper.get_mut(..name.len()) else {
        return Other;
    };
    start.copy_from_slice(name);
    upper.make_ascii_uppercase();
    match &upper[..name.len()] {
        b"CLIENT" => client(words.next().unwrap_or_default()),
        b"SCRIPT" if is(words.next(), "DEBUG") => Refused(STATE),
        b"XREAD" | b"XREADGROUP" if blocks(&mut words) => Refused(OPTION),
        b"XREAD" => Read,
        _ => KEYS
            .binary_search(&u128::from_be_bytes(upper))
            .map_or(Other, |index| COMMANDS[index].1),
    }
}

/// What the subcommand of `CLIENT` does to this connection.
fn client(subcommand: &[u8]) -> Nature {
    const CHANGING: [&str; 7] = [
        "REPLY", "SETNAME", "SETINFO", "TRACKING", "CACHING", "NO-EVICT", "NO-TOUCH",
    ];
    if CHANGING.iter().any(|other| is(Some(subcommand), other)) {
        Refused(STATE)
    } else {
        Other
    }
}

/// Whether `BLOCK` is among the options, which come before `STREAMS`.
fn blocks<'a>(words: &mut impl Iterator<Item = &'a [u8]>) -> bool {
    while let Some(word) = words.next() {
        let word = Some(word);
        if is(word, "BLOCK") {
            return true;
        } else if is(word, "STREAMS") {
            return false;
        } else if is(word, "COUNT") {
            words.next();
        } else if is(word, "GROUP") {
            words.nth(1);
        }
    }
    false
}

fn is(word: Option<&[u8]>, other: &str) -> bool {
    word.is_some_and(|word| word.eq_ignore_ascii_case(other.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &str) -> Nature {
        nature(words.split(' ').map(str::as_bytes))
    }

    #[test]
    fn the_table_can_be_searched() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.0 < b.0));
        let longest = COMMANDS.iter().map(|(name, _)| name.len()).max();
        assert_eq!(longest, Some(LONGEST));
    }

    #[test]
    fn what_would_poison_or_block_the_connection_is_refused() {
        let refused = "SUBSCRIBE a,psubscribe a*,SSUBSCRIBE a,UNSUBSCRIBE,MONITOR,MULTI,Exec,DISCARD,\
             WATCH a,UNWATCH,select 1,AUTH x,HELLO 3,RESET,QUIT,CLIENT REPLY OFF,\
             client setname x,CLIENT TRACKING on,CLIENT NO-EVICT on,SCRIPT DEBUG YES,READONLY,\
             ASKING,SYNC,PSYNC ? -1,REPLCONF,BLPOP a 0,BRPOP a 0,BLMOVE a b LEFT LEFT 0,\
             BRPOPLPUSH a b 0,BLMPOP 0 1 a LEFT,BZPOPMIN a 0,BZPOPMAX a 0,BZMPOP 0 1 a MIN,\
             WAIT 1 0,WAITAOF 1 0 0,XREAD BLOCK 0 STREAMS a $,\
             xread count 1 block 0 streams a $,XREADGROUP GROUP g c BLOCK 0 STREAMS a >";
        for command in refused.split(',') {
            assert!(
                matches!(of(command), Refused(why) if !why.is_empty()),
                "{command}"
            );
        }
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        for (command, nature) in [
            ("XREAD COUNT 1 STREAMS block 0", Read),
            ("XREADGROUP GROUP block block STREAMS a >", Other),
            ("CLIENT LIST", Other),
            ("SCRIPT LOAD x", Other),
            ("SET SELECT MULTI", Other),
            ("LPOP a", Other),
            ("EVAL x 0", Script),
            ("zrange a 0 1", Read),
            ("GEORADIUSBYMEMBER_RO a", Other),
            ("", Other),
        ] {
            assert_eq!(of(command), nature, "{command}");
        }
    }
}
