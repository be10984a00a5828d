//! One Redis command as an operation.

use std::borrow::Cow;
use std::fmt;

use redis::{Arg, Cmd, RedisWrite as _, ToRedisArgs};
use serde::{Deserialize, Serialize};

use super::arguments::Arguments;
use super::commands::{self, Nature};
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::{Envelope, Operation};
use crate::security::values_are_masked;

/// The longest word that a server takes (`proto-max-bulk-len`).
const LONGEST: usize = 512 << 20;
/// The most words that a server takes in one command.
const MOST: usize = 1 << 20;
/// So many arguments are shown one by one in a statement.
const SHOWN: usize = 8;

/// One command for a Redis server: its name and arguments.
///
/// Arguments are whatever the driver takes ([`redis::ToRedisArgs`]): text, bytes, numbers,
/// lists of them. The driver's own builders make one too: `redis::Cmd::hset("k", "f",
/// 7).into()`.
///
/// A pool runs it on a connection that the next caller gets as it was, so commands that
/// change the connection or block it are refused by [`validate`](Operation::validate), which
/// says what to use instead.
///
/// ```no_run
/// # fn main() -> Result<(), millpond::Error> {
/// use std::time::Duration;
/// use millpond::{Operation, Pool, Redis, RedisCommand, RedisConfig};
///
/// let pool = Pool::new(Redis::new(RedisConfig::new().host("localhost"))?)?;
/// let set = RedisCommand::new("SET").arg("visits").arg(7).deadline(Duration::from_millis(300));
/// pool.execute(set)?;
/// let reply = pool.execute(RedisCommand::new("GET").arg("visits"))?;
/// assert_eq!(reply.as_text(), Some("7"));
/// # Ok(()) }
/// ```
///
/// It serialises as a list of words, each text where it is UTF-8, else base64:
///
/// ```
/// use millpond::{Operation, RedisCommand};
/// let command = RedisCommand::new("SET").arg("k").arg(b"\xff").id("7");
/// let text = serde_json::to_string(&command).unwrap();
/// assert_eq!(text, r#"{"command":["SET","k",{"bytes":"/w=="}],"id":"7"}"#);
/// assert_eq!(serde_json::from_str::<RedisCommand>(&text).unwrap(), command);
/// ```
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct RedisCommand {
    #[serde(rename = "command")]
    arguments: Arguments,
    #[serde(flatten)]
    envelope: Envelope,
}

impl RedisCommand {
    /// The command of this name, without arguments yet.
    pub fn new(name: impl AsRef<str>) -> Self {
        let mut arguments = Arguments::new();
        arguments.write_arg(name.as_ref().as_bytes());
        Self {
            arguments,
            envelope: Envelope::default(),
        }
    }

    /// Adds an argument, or all of a list.
    #[must_use]
    pub fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        argument.write_redis_args(&mut self.arguments);
        self
    }

    /// The name and the arguments.
    ///
    /// ```
    /// let command = millpond::RedisCommand::new("DEL").arg(&["a", "b"]);
    /// assert_eq!(command.words().collect::<Vec<_>>(), [&b"DEL"[..], b"a", b"b"]);
    /// ```
    pub fn words(&self) -> impl Iterator<Item = &[u8]> {
        self.arguments.iter()
    }

    pub(super) fn arguments(&self) -> &Arguments {
        &self.arguments
    }

    /// The driver's form of it.
    pub(super) fn to_cmd(&self) -> Cmd {
        let mut cmd = Cmd::with_capacity(self.arguments.len(), self.arguments.packed().len());
        for word in self.words() {
            cmd.arg(word);
        }
        cmd
    }

    /// Whether it runs a script that may write.
    pub(super) fn is_script(&self) -> bool {
        self.nature() == Nature::Script
    }

    /// Whether a server takes so many words, and so long ones.
    fn check_size(&self, most: usize, longest: usize) -> Result<(), Error> {
        let count = self.arguments.len();
        if count > most {
            return self.refuse(&format!("{count} words, and a server takes {most}"));
        }
        // Only a long command can have a long argument.
        if self.arguments.packed().len() > longest
            && let Some(word) = self.words().find(|word| word.len() > longest)
        {
            let length = word.len();
            return self.refuse(&format!(
                "an argument of {length} bytes, and a server takes {longest}"
            ));
        }
        Ok(())
    }

    fn refuse(&self, why: &str) -> Result<(), Error> {
        let message = format!("{}: {why}", self.statement());
        let (kind, phase) = (ErrorKind::InvalidOperation, Phase::Operation);
        Err(Error::new(kind, phase, message))
    }

    fn nature(&self) -> Nature {
        commands::nature(self.arguments.iter())
    }

    /// The name, where it looks like one: a value that was given as the name by mistake
    /// is none.
    fn name(&self) -> Option<&str> {
        let name = std::str::from_utf8(self.arguments.name()).ok()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (!name.is_empty() && name.len() <= 32 && name.bytes().all(plain)).then_some(name)
    }
}

impl From<&Cmd> for RedisCommand {
    fn from(cmd: &Cmd) -> Self {
        let mut arguments = Arguments::new();
        for word in cmd.args_iter() {
            match word {
                Arg::Simple(word) => arguments.write_arg(word),
                // Where a scan of the driver's would put its cursor: the beginning.
                _ => arguments.write_arg(b"0"),
            }
        }
        Self {
            arguments,
            envelope: Envelope::default(),
        }
    }
}

impl From<Cmd> for RedisCommand {
    fn from(cmd: Cmd) -> Self {
        Self::from(&cmd)
    }
}

impl Operation for RedisCommand {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn validate(&self) -> Result<(), Error> {
        if self.name().is_none() {
            return self.refuse("not a command's name; give each argument by itself, with `arg`");
        }
        self.check_size(MOST, LONGEST)?;
        match self.nature() {
            Nature::Refused(instead) => self.refuse(instead),
            Nature::Read | Nature::Script | Nature::Other => Ok(()),
        }
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.arguments.capacity() + self.envelope.size()
    }

    fn is_read(&self) -> bool {
        self.nature() == Nature::Read
    }

    /// The command's name and a `?` for each argument: `SET ? ?`.
    fn statement(&self) -> Cow<'_, str> {
        let name = self.name().unwrap_or("?");
        match self.arguments.len().saturating_sub(1) {
            0 => name.into(),
            count if count > SHOWN => format!("{name} ? ... ({count} arguments)").into(),
            count => format!("{name}{}", " ?".repeat(count)).into(),
        }
    }

    fn each_value(&self, see: &mut dyn FnMut(&str)) {
        for word in self.words().skip(1) {
            std::str::from_utf8(word).into_iter().for_each(&mut *see);
        }
    }
}

impl fmt::Debug for RedisCommand {
    /// Shows no argument, unless values are not masked and this is no command that takes
    /// passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECRET: [&str; 5] = ["AUTH", "HELLO", "CONFIG", "ACL", "MIGRATE"];
        let name = self.name().unwrap_or("AUTH");
        let hides = SECRET
            .iter()
            .any(|secret| name.eq_ignore_ascii_case(secret));
        let command = if hides || values_are_masked() {
            self.statement()
        } else {
            let words = self.words().map(String::from_utf8_lossy);
            words.collect::<Vec<_>>().join(" ").into()
        };
        f.debug_struct("RedisCommand")
            .field("command", &command)
            .field("envelope", &self.envelope)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(command: &RedisCommand) -> String {
        let error = command.validate().expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidOperation);
        error.to_string()
    }

    #[test]
    fn a_command_is_small() {
        // 300,000 of them a second go through a queue.
        assert_eq!(size_of::<RedisCommand>(), 64);
        let set = RedisCommand::new("SET").arg("key:1234567").arg("value");
        assert_eq!(set.size(), 64 + USUAL_HEAP);
    }

    /// One allocation of what `Arguments` begins with.
    const USUAL_HEAP: usize = 64;

    #[test]
    fn what_is_no_command_is_refused_without_its_values() {
        for odd in ["", "SET k v", "p\u{e4}ssword", &"x".repeat(33)] {
            let error = why(&RedisCommand::new(odd).arg("secret"));
            assert!(!error.contains("secret"), "{error}");
            assert!(odd.is_empty() || !error.contains(odd), "{error}");
        }
        let many = RedisCommand::new("DEL").arg(vec!["k"; MOST]);
        assert!(why(&many).contains("DEL ? ... (1048576 arguments)"));
        let long = RedisCommand::new("SET").arg("k").arg("x".repeat(1001));
        let error = long.check_size(MOST, 1000).expect_err("too long");
        assert!(error.to_string().contains("of 1001 bytes"), "{error}");
        long.check_size(MOST, 1001).expect("just fits");
        let empty: RedisCommand = serde_json::from_str(r#"{"command":[]}"#).expect("a list");
        why(&empty);
    }

    #[test]
    fn statements_and_debug_show_no_value() {
        let set = RedisCommand::new("SET").arg("k").arg("secret").comment("x");
        assert_eq!(set.statement(), "SET ? ?");
        assert_eq!(RedisCommand::new("PING").statement(), "PING");
        let debug = format!("{set:?}");
        assert!(
            debug.contains("SET ? ?") && !debug.contains("secret"),
            "{debug}"
        );
    }

    #[test]
    fn reads_may_repeat_and_writes_may_not() {
        for (command, read) in [
            (RedisCommand::new("get").arg("k"), true),
            (RedisCommand::new("HGETALL").arg("k"), true),
            (RedisCommand::new("SET").arg("k").arg("v"), false),
            (RedisCommand::new("GETDEL").arg("k"), false),
            (RedisCommand::new("MODULE.X"), false),
        ] {
            assert_eq!(command.may_repeat(), read, "{command:?}");
        }
        assert!(RedisCommand::new("SET").idempotent(true).may_repeat());
    }

    #[test]
    fn the_drivers_builders_make_one() {
        let ours = RedisCommand::from(Cmd::hset("k", "f", 7));
        let words: Vec<_> = ours.words().collect();
        assert_eq!(words, [&b"HSET"[..], b"k", b"f", b"7"]);
        assert_eq!(
            ours.to_cmd().get_packed_command(),
            Cmd::hset("k", "f", 7).get_packed_command()
        );
    }

    #[test]
    fn bad_json_is_an_error_without_the_value() {
        for text in [
            r#"{"command":"GET k"}"#,
            r#"{"command":[{"bytes":"secret!"}]}"#,
            "{}",
        ] {
            let error = serde_json::from_str::<RedisCommand>(text).expect_err(text);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
