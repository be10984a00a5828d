//! Which slot a command belongs to, told from its words.

/// How many hash slots a Cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// The longest name below.
const LONGEST: usize = 16;

/// Where a command has its keys.
#[derive(Clone, Copy)]
enum Keys {
    /// The word of this number is one; all others have to be in its slot.
    At(usize),
    /// The word of this number says how many keys follow it.
    Counted(usize),
    /// Every so many words from the first argument on.
    Every(usize),
    /// After the word `STREAMS`.
    Streams,
    /// It has none, or its work is at several nodes.
    Elsewhere,
}

/// The slot of a command with these words, its name first; none where it has no key, or keys
/// in several slots that the driver asks one after the other.
pub(super) fn slot<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<u16> {
    let name = words.next()?;
    match keys(name) {
        Keys::At(index) => words.nth(index - 1).map(slot_of),
        Keys::Counted(index) => {
            let count = std::str::from_utf8(words.nth(index - 1)?).ok()?;
            // A script without keys can run anywhere.
            let any = count.parse::<u64>().is_ok_and(|count| count > 0);
            words.next().filter(|_| any).map(slot_of)
        }
        Keys::Every(step) => {
            let mut slots = words.step_by(step).map(slot_of);
            let first = slots.next()?;
            slots.all(|slot| slot == first).then_some(first)
        }
        Keys::Streams => {
            words.find(|word| word.eq_ignore_ascii_case(b"STREAMS"))?;
            words.next().map(slot_of)
        }
        Keys::Elsewhere => None,
    }
}

fn keys(name: &[u8]) -> Keys {
    let mut upper = [0; LONGEST];
    let Some(start) = upper.get_mut(..name.len()) else {
        return Keys::At(1);
    };
    start.copy_from_slice(name);
    start.make_ascii_uppercase();
    match &*start {
        b"MGET" | b"DEL" | b"EXISTS" | b"UNLINK" | b"TOUCH" => Keys::Every(1),
        b"MSET" => Keys::Every(2),
        b"BITOP" | b"OBJECT" | b"XGROUP" | b"XINFO" => Keys::At(2),
        b"EVAL" | b"EVALSHA" | b"EVAL_RO" | b"EVALSHA_RO" | b"FCALL" | b"FCALL_RO" => {
            Keys::Counted(2)
        }
        b"LMPOP" | b"SINTERCARD" | b"ZDIFF" | b"ZINTER" | b"ZINTERCARD" | b"ZMPOP" | b"ZUNION" => {
            Keys::Counted(1)
        }
        b"XREAD" | b"XREADGROUP" => Keys::Streams,
        b"ACL" | b"AUTH" | b"BGREWRITEAOF" | b"BGSAVE" | b"CLIENT" | b"CLUSTER" | b"COMMAND"
        | b"CONFIG" | b"DBSIZE" | b"DEBUG" | b"ECHO" | b"FAILOVER" | b"FLUSHALL" | b"FLUSHDB"
        | b"FUNCTION" | b"INFO" | b"JSON.DEBUG" | b"JSON.MGET" | b"JSON.MSET" | b"KEYS"
        | b"LASTSAVE" | b"LATENCY" | b"LOLWUT" | b"MEMORY" | b"MIGRATE" | b"MODULE"
        | b"PFDEBUG" | b"PING" | b"PUBLISH" | b"PUBSUB" | b"RANDOMKEY" | b"REPLICAOF" | b"ROLE"
        | b"SAVE" | b"SCAN" | b"SCRIPT" | b"SHUTDOWN" | b"SLAVEOF" | b"SLOWLOG" | b"SWAPDB"
        | b"TFCALL" | b"TFCALLASYNC" | b"TFUNCTION" | b"TIME" => Keys::Elsewhere,
        upper if upper.starts_with(b"FT.") => Keys::Elsewhere,
        _ => Keys::At(1),
    }
}

/// The slot of a key: of what is between its first braces, where there is something.
fn slot_of(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    };
    crc16::State::<crc16::XMODEM>::calculate(tag().unwrap_or(key)) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &str) -> Option<u16> {
        slot(command.split(' ').map(str::as_bytes))
    }

    #[test]
    fn slots_are_the_servers_own() {
        // As CLUSTER KEYSLOT says.
        assert_eq!(of("GET foo"), Some(12_182));
        assert_eq!(of("GET {foo}bar"), Some(12_182));
        assert_eq!(of("GET {}foo"), Some(slot_of(b"{}foo")));
        assert_ne!(of("GET {}foo"), Some(slot_of(b"")));
        assert_eq!(of("GET x{foo}{bar}"), Some(12_182));
        assert_eq!(of("GET {foo"), Some(slot_of(b"{foo")));
    }

    #[test]
    fn keys_are_found_where_the_command_has_them() {
        let key = Some(12_182);
        for command in [
            "set foo 1",
            "SOME.MODULES.COMMAND foo",
            "DEL foo",
            "mget foo {foo}1",
            "MSET foo bar {foo}1 baz",
            "BITOP AND foo a",
            "XGROUP CREATE foo g $",
            "EVAL script 1 foo bar",
            "ZINTER 2 foo {foo}2",
            "XREADGROUP GROUP g c STREAMS foo >",
            "xread count 1 streams foo 0",
            "GEORADIUSBYMEMBER_RO foo",
        ] {
            assert_eq!(of(command), key, "{command}");
        }
    }

    #[test]
    fn what_has_no_slot_or_several_has_none() {
        for command in [
            "",
            "GET",
            "PING",
            "ping foo",
            "DBSIZE",
            "KEYS foo",
            "MGET foo bar",
            "MSET foo 1 bar 2",
            "EVAL script 0 foo",
            "EVAL script",
            "EVAL script x foo",
            "XREAD STREAMS",
            "FT.SEARCH foo",
            "CLIENT LIST",
        ] {
            assert_eq!(of(command), None, "{command}");
        }
    }
}
