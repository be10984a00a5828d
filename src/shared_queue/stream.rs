//! The stream: every command that is sent, and what the replies mean.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::streams::{
    StreamClaimReply, StreamId, StreamInfoConsumersReply, StreamPendingCountReply,
    StreamRangeReply, StreamReadReply,
};
use redis::{Cmd, FromRedisValue, Value, cmd};

use super::Depth;
use super::settings::Settings;
use crate::backend::redis::{Redis, RedisCommand};
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::{Envelope, Operation as _};
use crate::pool::Pool;

/// Appends, unless the stream is full or the id was seen.
const APPEND: &str = "\
local seen = KEYS[2] and redis.call('GET', KEYS[2])
if seen then return seen end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return redis.error_reply('TRYAGAIN the shared queue is full with ' .. ARGV[1] .. ' entries (max_length)')
end
local id = redis.call('XADD', KEYS[1], '*', 'op', ARGV[2])
if KEYS[2] then redis.call('SET', KEYS[2], id, 'EX', ARGV[3]) end
return id";

/// Takes entries that are done out of the stream; how many were still there.
const SETTLE: &str = "\
local group = table.remove(ARGV, 1)
redis.call('XACK', KEYS[1], group, unpack(ARGV))
return redis.call('XDEL', KEYS[1], unpack(ARGV))";

/// Makes an entry a dead letter, unless somebody else has settled it.
const BURY: &str = "\
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if redis.call('XDEL', KEYS[1], ARGV[2]) == 0 then return 0 end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'op', ARGV[4], 'entry', ARGV[2],
  'kind', ARGV[5], 'why', ARGV[6], 'deliveries', ARGV[7])
return 1";

/// Takes a consumer out of the group, unless it has taken something.
const RETIRE: &str = "\
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end";

/// How long a command waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most entries in one command.
pub(super) const MOST: usize = 1_000;

pub(super) struct Stream {
    redis: Pool<Redis>,
    key: String,
    dead: String,
    twice: String,
    group: String,
    max_length: u64,
    max_dead: u64,
    remember: Duration,
}

/// An entry of a stream.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) operation: Vec<u8>,
    /// How often it was taken, this time included.
    pub(super) deliveries: u64,
    fields: HashMap<String, Value>,
}

impl Entry {
    fn new(mut entry: StreamId, deliveries: u64) -> Self {
        let operation = entry.map.remove("op");
        let operation = operation.and_then(|value| redis::from_redis_value(value).ok());
        Self {
            id: entry.id,
            operation: operation.unwrap_or_default(),
            deliveries,
            fields: entry.map,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        redis::from_redis_value_ref(self.fields.get(name)?).ok()
    }

    /// When it was appended, by the server's clock: since 1970.
    pub(super) fn appended(&self) -> Duration {
        let millis = self.id.split_once('-').map_or("", |(millis, _)| millis);
        Duration::from_millis(millis.parse().unwrap_or_default())
    }
}

/// Why an entry is given up.
pub(super) struct Burial<'a> {
    pub(super) entry: &'a str,
    pub(super) operation: &'a [u8],
    pub(super) kind: ErrorKind,
    pub(super) why: &'a str,
    pub(super) deliveries: u64,
}

impl Stream {
    pub(super) fn new(redis: Pool<Redis>, settings: &Settings) -> Self {
        let key = format!("millpond:{{{}}}", settings.name);
        Self {
            dead: format!("{key}:dead"),
            twice: format!("{key}:twice"),
            key,
            redis,
            group: settings.group.clone(),
            max_length: settings.max_length,
            max_dead: settings.max_dead,
            remember: settings.remember,
        }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Makes the stream and the group, unless they are there. The group begins with the oldest
    /// entry.
    pub(super) fn create(&self) -> Result<(), Error> {
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(&self.key).arg(&self.group);
        let created = self.run::<Value>(create.arg("0").arg("MKSTREAM"));
        match created {
            Err(error) if error.message().contains("BUSYGROUP") => Ok(()),
            other => other.map(drop),
        }
    }

    /// The operation that appends.
    pub(super) fn append(&self, operation: &str, envelope: &Envelope) -> RedisCommand {
        let command = RedisCommand::new("EVAL").arg(APPEND);
        let command = match envelope.id() {
            Some(id) => command
                .arg(2)
                .arg(&self.key)
                .arg(format!("{}:seen:{id}", self.key))
                .arg(self.max_length)
                .arg(operation)
                .arg(self.remember.as_secs())
                // The id sees to it that it is queued once.
                .idempotent(true),
            None => command
                .arg(1)
                .arg(&self.key)
                .arg(self.max_length)
                .arg(operation),
        };
        let command = command.priority(envelope.priority());
        match envelope.deadline() {
            Some(limit) => command.deadline(limit),
            None => command,
        }
    }

    /// Takes so many new entries for this consumer; waits for the first for as long as `patience`
    /// says.
    pub(super) fn read(
        &self,
        consumer: &str,
        most: usize,
        patience: Duration,
    ) -> Result<Vec<Entry>, Error> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.group).arg(consumer);
        read.arg("COUNT").arg(most.min(MOST));
        read.arg("BLOCK").arg(patience.as_millis().max(1) as u64);
        read.arg("STREAMS").arg(&self.key).arg(">");
        let reply: Option<StreamReadReply> = self.run(&read)?;
        let keys = reply.map(|reply| reply.keys).unwrap_or_default();
        let entries = keys.into_iter().flat_map(|key| key.ids);
        Ok(entries.map(|entry| Entry::new(entry, 1)).collect())
    }

    /// Takes over entries whose consumers have given no sign of life for so long.
    pub(super) fn take_over(
        &self,
        consumer: &str,
        idle: Duration,
        most: usize,
    ) -> Result<Vec<Entry>, Error> {
        let idle = idle.as_millis() as u64;
        let mut pending = cmd("XPENDING");
        pending
            .arg(&self.key)
            .arg(&self.group)
            .arg("IDLE")
            .arg(idle);
        pending.arg("-").arg("+").arg(most.min(MOST));
        let pending: StreamPendingCountReply = self.run(&pending)?;
        if pending.ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut claim = cmd("XCLAIM");
        // Whoever else wants them finds that they are not idle any more.
        claim
            .arg(&self.key)
            .arg(&self.group)
            .arg(consumer)
            .arg(idle);
        let mut deliveries = HashMap::new();
        for row in pending.ids {
            claim.arg(&row.id);
            deliveries.insert(row.id, row.times_delivered as u64 + 1);
        }
        let claimed: StreamClaimReply = self.run(&claim)?;
        let entry = |entry: StreamId| {
            let times = deliveries.get(&entry.id).copied().unwrap_or(1);
            Entry::new(entry, times)
        };
        Ok(claimed.ids.into_iter().map(entry).collect())
    }

    /// Says that this consumer is still at work on these.
    pub(super) fn renew<'a>(
        &self,
        consumer: &str,
        ids: impl Iterator<Item = &'a str>,
    ) -> Result<(), Error> {
        let mut renew = self.claim_own(consumer);
        ids.for_each(|id| {
            renew.arg(id);
        });
        self.run::<Value>(renew.arg("JUSTID")).map(drop)
    }

    /// Leaves an entry to whoever takes it over when it has been idle for long enough, as if it
    /// had been taken so many times.
    pub(super) fn put_back(&self, consumer: &str, id: &str, deliveries: u64) -> Result<(), Error> {
        let mut back = self.claim_own(consumer);
        back.arg(id).arg("RETRYCOUNT").arg(deliveries).arg("JUSTID");
        self.run::<Value>(&back).map(drop)
    }

    fn claim_own(&self, consumer: &str) -> Cmd {
        let mut claim = cmd("XCLAIM");
        claim.arg(&self.key).arg(&self.group).arg(consumer).arg(0);
        claim
    }

    /// Counts operations that are begun again and may have taken effect.
    pub(super) fn note_twice(&self, count: usize) -> Result<(), Error> {
        self.run::<Value>(cmd("INCRBY").arg(&self.twice).arg(count))
            .map(drop)
    }

    /// Takes these out, which are done; how many were there.
    pub(super) fn settle(&self, ids: &[String]) -> Result<usize, Error> {
        let mut settle = script(SETTLE, &[&self.key]);
        self.run(settle.arg(&self.group).arg(ids))
    }

    /// Makes an entry a dead letter, unless somebody else has settled it; whether it was there.
    pub(super) fn bury(&self, burial: &Burial<'_>) -> Result<bool, Error> {
        let mut bury = script(BURY, &[&self.key, &self.dead]);
        bury.arg(&self.group).arg(burial.entry).arg(self.max_dead);
        bury.arg(burial.operation).arg(burial.kind.as_str());
        self.run(bury.arg(burial.why).arg(burial.deliveries))
    }

    /// Takes a consumer that has nothing out of the group.
    pub(super) fn retire(&self, consumer: &str) -> Result<(), Error> {
        let mut retire = script(RETIRE, &[&self.key]);
        self.run::<Value>(retire.arg(&self.group).arg(consumer))
            .map(drop)
    }

    /// Retires consumers that have nothing and have given no sign of life for so long.
    pub(super) fn retire_idle(&self, idle: Duration) -> Result<(), Error> {
        let mut ask = cmd("XINFO");
        let ask = ask.arg("CONSUMERS").arg(&self.key).arg(&self.group);
        let reply: StreamInfoConsumersReply = self.run(ask)?;
        for consumer in reply.consumers {
            if consumer.pending == 0 && consumer.idle as u128 > idle.as_millis() {
                self.retire(&consumer.name)?;
            }
        }
        Ok(())
    }

    /// How far the server's clock is ahead of ours, in milliseconds.
    pub(super) fn clock_offset(&self) -> Result<i64, Error> {
        let (seconds, micros): (i64, i64) = self.run(&cmd("TIME"))?;
        let ours = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(seconds * 1_000 + micros / 1_000 - ours.as_millis() as i64)
    }

    pub(super) fn depth(&self) -> Result<Depth, Error> {
        let length = |key: &str| self.run::<u64>(cmd("XLEN").arg(key));
        let mut pending = cmd("XPENDING");
        let summary: Vec<Value> = self.run(pending.arg(&self.key).arg(&self.group))?;
        let taken = summary.into_iter().next();
        let taken = taken.and_then(|count| redis::from_redis_value(count).ok());
        let twice: Option<u64> = self.run(cmd("GET").arg(&self.twice))?;
        Ok(Depth {
            perhaps_twice: twice.unwrap_or_default(),
            entries: length(&self.key)?,
            taken: taken.unwrap_or_default(),
            dead: length(&self.dead)?,
        })
    }

    pub(super) fn read_dead(&self, most: usize) -> Result<Vec<Entry>, Error> {
        let mut range = cmd("XRANGE");
        range.arg(&self.dead).arg("-").arg("+");
        let reply: StreamRangeReply = self.run(range.arg("COUNT").arg(most))?;
        let entries = reply.ids.into_iter();
        Ok(entries.map(|entry| Entry::new(entry, 0)).collect())
    }

    pub(super) fn forget_dead(&self, id: &str) -> Result<bool, Error> {
        self.run(cmd("XDEL").arg(&self.dead).arg(id))
    }

    fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let mut lease = self
            .redis
            .get_timeout(self.redis.connection_timeout().min(PATIENCE))?;
        let reply = command.query::<Value>(&mut *lease)?;
        redis::from_redis_value(reply).map_err(|error| {
            let message = format!("the reply is not what the command answers: {error}");
            let error = Error::new(ErrorKind::Other, Phase::Operation, message);
            self.redis.locate(error)
        })
    }
}

/// A script with these keys.
fn script(text: &str, keys: &[&str]) -> Cmd {
    let mut eval = cmd("EVAL");
    eval.arg(text).arg(keys.len()).arg(keys);
    eval
}
