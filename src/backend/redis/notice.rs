//! What a lease did to its connection, told from the names of its commands.
//!
//! Looking costs a few nanoseconds for a command that changes nothing: the name's
//! length rules most of them out. What is noticed *sets* a mark before the command
//! is sent; only a successful `EXEC`, `DISCARD` or `UNWATCH` takes one back.

/// The marks on one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Noticed(u8);

/// A transaction was opened.
const TRANSACTION: u8 = 1;
/// Keys are watched.
const WATCHED: u8 = 2;
/// Another database, user, name, protocol; subscriptions; anything that `RESET`
/// undoes.
const CHANGED: u8 = 4;
/// The program had the driver's own connection in hand.
const UNSEEN: u8 = 8;
/// Something that `RESET` does not undo: the connection must go.
const SPOILT: u8 = 16;

/// Marks that a successful reply takes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ending(u8);

impl Ending {
    pub(super) fn is_nothing(self) -> bool {
        self.0 == 0
    }
}

impl Noticed {
    pub(super) fn is_clean(self) -> bool {
        self.0 == 0
    }

    /// Whether the server only notes down what it is sent.
    pub(super) fn is_in_transaction(self) -> bool {
        self.0 & TRANSACTION != 0
    }

    pub(super) fn is_spoilt(self) -> bool {
        self.0 & SPOILT != 0
    }

    pub(super) fn mark_unseen(&mut self) {
        self.0 |= UNSEEN;
    }

    pub(super) fn clear(&mut self) {
        self.0 = 0;
    }

    /// The server confirmed what ended a transaction or watch.
    pub(super) fn confirm(&mut self, ending: Ending) {
        self.0 &= !ending.0;
    }

    /// Looks at one command: its name and, if needed, its first argument.
    #[inline]
    pub(super) fn see<'a>(
        &mut self,
        name: &[u8],
        argument: impl FnOnce() -> Option<&'a [u8]>,
        ending: &mut Ending,
    ) {
        // GET, SET, DEL, ... and nothing that matters has such a length.
        if name.len() < 4 || name.len() > 12 {
            return;
        }
        self.see_named(name, argument, ending);
    }

    fn see_named<'a>(
        &mut self,
        name: &[u8],
        argument: impl FnOnce() -> Option<&'a [u8]>,
        ending: &mut Ending,
    ) {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        match (name.len(), name[0].to_ascii_uppercase()) {
            (5, b'M') if is(b"MULTI") => {
                self.0 |= TRANSACTION;
                ending.0 &= !TRANSACTION;
            }
            (5, b'W') if is(b"WATCH") => {
                self.0 |= WATCHED;
                ending.0 &= !WATCHED;
            }
            // Without MULTI both are refused, and the watch goes on.
            (4, b'E') if is(b"EXEC") && self.0 & TRANSACTION != 0 => {
                ending.0 |= TRANSACTION | WATCHED;
            }
            (7, b'D') if is(b"DISCARD") && self.0 & TRANSACTION != 0 => {
                ending.0 |= TRANSACTION | WATCHED;
            }
            (7, b'U') if is(b"UNWATCH") && self.0 & TRANSACTION == 0 => ending.0 |= WATCHED,
            (6, b'S') if is(b"SELECT") => self.0 |= CHANGED,
            (6, b'C') if is(b"CLIENT") => self.see_client(argument().unwrap_or_default()),
            (4, b'A') if is(b"AUTH") => self.0 |= CHANGED,
            (5, b'H' | b'R') if is(b"HELLO") || is(b"RESET") => self.0 |= CHANGED,
            (6, b'S') if is(b"SCRIPT") && is_any(argument(), &[b"DEBUG"]) => self.0 |= SPOILT,
            (7, b'M') if is(b"MONITOR") => self.0 |= CHANGED,
            (8, b'R') if is(b"READONLY") => self.0 |= CHANGED,
            (9, b'S' | b'R') if is(b"SUBSCRIBE") || is(b"READWRITE") => self.0 |= CHANGED,
            (10, b'P' | b'S') if is(b"PSUBSCRIBE") || is(b"SSUBSCRIBE") => self.0 |= CHANGED,
            (4, b'Q' | b'S') if is(b"QUIT") || is(b"SYNC") => self.0 |= SPOILT,
            (5, b'P') if is(b"PSYNC") => self.0 |= SPOILT,
            (8, b'R') if is(b"REPLCONF") => self.0 |= SPOILT,
            _ => {}
        }
    }

    fn see_client(&mut self, subcommand: &[u8]) {
        let subcommand = Some(subcommand);
        if is_any(
            subcommand,
            &[b"SETNAME", b"SETINFO", b"REPLY", b"TRACKING", b"CACHING"],
        ) {
            self.0 |= CHANGED;
        } else if is_any(subcommand, &[b"NO-EVICT", b"NO-TOUCH"]) {
            // RESET leaves these on before Redis 7.2.
            self.0 |= SPOILT;
        }
    }

    /// Looks at every command of a packed request.
    pub(super) fn see_packed(&mut self, packed: &[u8], ending: &mut Ending) {
        let mut rest = packed;
        while !rest.is_empty() {
            let Some(after) = self.see_next(rest, ending) else {
                // Not what the driver packs: anything may have been sent.
                self.mark_unseen();
                return;
            };
            rest = after;
        }
    }

    /// Looks at the first command and returns what follows it.
    fn see_next<'a>(&mut self, packed: &'a [u8], ending: &mut Ending) -> Option<&'a [u8]> {
        let (count, rest) = number(packed, b'*')?;
        if count == 0 {
            return Some(rest);
        }
        let (name, mut rest) = bulk(rest)?;
        let arguments = rest;
        for _ in 1..count {
            rest = bulk(rest)?.1;
        }
        self.see(
            name,
            || {
                if count > 1 {
                    bulk(arguments).map(|(text, _)| text)
                } else {
                    None
                }
            },
            ending,
        );
        Some(rest)
    }
}

fn is_any(text: Option<&[u8]>, names: &[&[u8]]) -> bool {
    text.is_some_and(|text| names.iter().any(|name| text.eq_ignore_ascii_case(name)))
}

/// `*3\r\n` or `$3\r\n`: the number, and what follows.
fn number(packed: &[u8], sign: u8) -> Option<(usize, &[u8])> {
    let digits = packed.strip_prefix(&[sign])?;
    let mut value = 0_usize;
    for (index, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                value = value
                    .checked_mul(10)?
                    .checked_add(usize::from(byte - b'0'))?;
            }
            b'\r' => return Some((value, digits.get(index + 2..)?)),
            _ => return None,
        }
    }
    None
}

/// `$3\r\nGET\r\n`: the text, and what follows.
pub(super) fn bulk(packed: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(packed, b'$')?;
    let text = rest.get(..length)?;
    let rest = rest.get(length.checked_add(2)?..)?;
    Some((text, rest))
}

#[cfg(test)]
mod tests {
    use super::{Ending, Noticed};

    fn after(commands: &[&[&str]], confirmed: bool) -> Noticed {
        let mut pipe = redis::pipe();
        for command in commands {
            let mut cmd = redis::Cmd::new();
            cmd.arg(*command);
            pipe.add_command(cmd);
        }
        let (mut noticed, mut ending) = (Noticed::default(), Ending::default());
        noticed.see_packed(&pipe.get_packed_pipeline(), &mut ending);
        if confirmed {
            noticed.confirm(ending);
        }
        noticed
    }

    #[test]
    fn plain_commands_leave_no_mark() {
        let plain: [&[&str]; 6] = [
            &["GET", "a"],
            &["SET", "SELECT", "MULTI"],
            &["CLIENT", "ID"],
            &["EXEC"],
            &["SCRIPT", "LOAD", "return 1"],
            &["PING"],
        ];
        for command in plain {
            assert!(after(&[command], true).is_clean(), "{command:?}");
        }
    }

    #[test]
    fn what_changes_the_connection_leaves_one() {
        let changing: [&[&str]; 12] = [
            &["select", "3"],
            &["MULTI"],
            &["WATCH", "a"],
            &["SUBSCRIBE", "a"],
            &["psubscribe", "a*"],
            &["MONITOR"],
            &["CLIENT", "reply", "off"],
            &["CLIENT", "SETNAME", "x"],
            &["client", "tracking", "on"],
            &["AUTH", "x"],
            &["HELLO", "3"],
            &["RESET"],
        ];
        for command in changing {
            let noticed = after(&[command], true);
            assert!(!noticed.is_clean() && !noticed.is_spoilt(), "{command:?}");
        }
        assert!(after(&[&["CLIENT", "NO-EVICT", "on"]], true).is_spoilt());
    }

    #[test]
    fn a_transaction_ends_only_when_the_server_says_so() {
        let whole: &[&[&str]] = &[&["WATCH", "a"], &["MULTI"], &["INCR", "a"], &["EXEC"]];
        assert!(after(whole, true).is_clean());
        assert!(!after(whole, false).is_clean());
        // EXEC without MULTI is refused, so the watch goes on.
        assert!(!after(&[&["WATCH", "a"], &["EXEC"]], true).is_clean());
        assert!(after(&[&["WATCH", "a"], &["UNWATCH"]], true).is_clean());
        let reopened: &[&[&str]] = &[&["MULTI"], &["EXEC"], &["MULTI"]];
        assert!(!after(reopened, true).is_clean());
    }

    #[test]
    fn what_cannot_be_read_counts_as_anything() {
        let (mut noticed, mut ending) = (Noticed::default(), Ending::default());
        for odd in [
            &b"PING\r\n"[..],
            b"*1\r\n$9\r\nPI",
            b"*",
            b"*99999999999999999999999\r\n",
        ] {
            noticed.clear();
            noticed.see_packed(odd, &mut ending);
            assert!(!noticed.is_clean(), "{odd:?}");
        }
    }
}
