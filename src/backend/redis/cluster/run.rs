//! Running commands at the nodes that own their slots.
//!
//! The commands are dealt out to the nodes, and each node gets its share in windows, as a
//! single server does: all are sent before the replies of any is read, so that the nodes work
//! at the same time. A command that a node sends elsewhere (`MOVED`, `ASK`), or asks to come
//! again (`TRYAGAIN`), was not executed, and goes into the next round. A node that is lost
//! takes with it what was sent to it and not answered, and nothing else.
//!
//! Commands of one key keep their order: they go to one node, and are sent on together.

use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};

use super::{Cluster, keys, nowhere, unreachable};
use crate::backend::redis::batch::{WINDOW, ends, note, send};
use crate::backend::redis::config::Address;
use crate::backend::redis::connection::{Inner, RedisConnection};
use crate::backend::redis::errors;
use crate::backend::redis::manager::Redis;
use crate::backend::redis::operation::RedisCommand;
use crate::backend::redis::reply::Reply;
use crate::backend::redis::timed::Timed;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind as Kind};
use crate::operation::Outcome;

/// How often a command is sent on, or asked to come again, before its caller is told.
const ROUNDS: u32 = 12;
/// The first pause before a command comes again; it doubles, up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// The time that is kept for each node whose replies are read later, so that a silent one does
/// not cost the others theirs. A timeout of a socket can end some milliseconds late.
const KEPT: Duration = Duration::from_millis(20);

/// How long is looked for replies that have arrived when the time is over.
const LOOK: Duration = Duration::from_millis(5);

/// A command that has no outcome yet.
struct Errand {
    /// Its number among the commands.
    index: usize,
    slot: u16,
    /// Where another node sent it, and whether it has to ask there.
    sent_on: Option<(Address, bool)>,
}

impl Errand {
    fn is_asking(&self) -> bool {
        self.sent_on.as_ref().is_some_and(|(_, asking)| *asking)
    }
}

/// What one node has to do in a round.
struct Share {
    node: usize,
    errands: Vec<Errand>,
    /// How many of them were sent, and how many of those were answered.
    sent: usize,
    answered: usize,
    lost: Option<Error>,
}

/// The commands of a group and what became of them.
struct Group<'a> {
    commands: &'a [&'a RedisCommand],
    outcomes: Vec<Option<Outcome<Reply>>>,
    deadline: Deadline,
    /// What comes again in the next round, and whether after a pause.
    again: Vec<Errand>,
    pause: bool,
    /// No redirection is followed any more.
    last_round: bool,
    /// The connection is of no use after what was answered.
    ended: bool,
}

impl Redis {
    /// Runs the first of these commands: as many as have one slot each, or else one that the
    /// driver has to run; and adds their outcomes.
    pub(in crate::backend::redis) fn run_in_cluster(
        &self,
        conn: &mut RedisConnection,
        commands: &[&RedisCommand],
        deadline: Deadline,
        outcomes: &mut Vec<Outcome<Reply>>,
    ) {
        let slots = commands
            .iter()
            .map_while(|command| keys::slot(command.words()));
        let errands = slots.enumerate().map(|(index, slot)| Errand {
            index,
            slot,
            sent_on: None,
        });
        let errands: Vec<_> = errands.collect();
        if errands.is_empty() {
            let first = commands.iter().take(1);
            outcomes.extend(first.map(|command| self.run_by_driver(conn, command, deadline)));
            return;
        }
        let commands = &commands[..errands.len()];
        note(conn, commands);
        let mut group = Group {
            commands,
            outcomes: commands.iter().map(|_| None).collect(),
            deadline,
            again: errands,
            pause: false,
            last_round: false,
            ended: false,
        };
        for round in 1..=ROUNDS {
            group.last_round = round == ROUNDS;
            if std::mem::take(&mut group.pause) {
                let pause = PAUSE.saturating_mul(1 << round).min(LONGEST_PAUSE);
                std::thread::sleep(deadline.remaining_within(pause));
            }
            let errands = std::mem::take(&mut group.again);
            if errands.is_empty() {
                break;
            }
            self.round(conn, &mut group, errands);
        }
        conn.broken |= group.ended;
        let missing = || Outcome::NotExecuted(nowhere(self.endpoint_text()));
        let settled = group.outcomes.into_iter();
        // The last round leaves nothing open.
        outcomes.extend(settled.map(|outcome| outcome.unwrap_or_else(missing)));
    }

    /// Sends each of these once.
    fn round(&self, conn: &mut RedisConnection, group: &mut Group<'_>, errands: Vec<Errand>) {
        let mut gathered = std::mem::take(&mut conn.packed);
        let decode = conn.decode_responses;
        let Inner::Cluster(cluster) = &mut conn.inner else {
            return;
        };
        let mut shares = self.deal(cluster, group, errands);
        while shares.iter().any(Share::has_more) {
            for share in &mut shares {
                let node = &mut cluster.nodes[share.node];
                let mut timed = Timed::new(&mut node.connection, &self.config, group.deadline);
                let result = share.send(&mut timed, &mut gathered, group.commands);
                if let Err(error) = result.and_then(|()| timed.restore()) {
                    share.lose(errors::unanswered(error, group.deadline, &node.text()));
                }
            }
            let mut behind = u32::try_from(shares.len()).unwrap_or(u32::MAX);
            for share in &mut shares {
                behind -= 1;
                let node = &mut cluster.nodes[share.node];
                let deadline = earlier(group.deadline, KEPT.saturating_mul(behind));
                let mut timed = Timed::new(&mut node.connection, &self.config, deadline);
                let result = self.answers(share, &mut timed, group, &node.address, decode);
                if let Err(error) = result.and_then(|()| timed.restore()) {
                    share.lose(errors::unanswered(error, deadline, &node.text()));
                }
            }
        }
        let mut lost: Vec<_> = shares.iter().filter(|share| share.lost.is_some()).collect();
        lost.sort_unstable_by_key(|share| std::cmp::Reverse(share.node));
        for share in lost {
            cluster.nodes.swap_remove(share.node);
            conn.broken = true;
            self.map.doubt();
        }
        for share in shares {
            share.settle(group);
        }
        gathered.clear();
        gathered.shrink_to(WINDOW);
        conn.packed = gathered;
    }

    /// Deals the errands out to the nodes, and connects to those that there is no connection
    /// to.
    fn deal(
        &self,
        cluster: &mut Cluster,
        group: &mut Group<'_>,
        errands: Vec<Errand>,
    ) -> Vec<Share> {
        if self.map.take_doubt() {
            self.refresh(cluster, group.deadline);
        }
        let map = self.map.get();
        let mut by_node: Vec<(Address, Vec<Errand>)> = Vec::new();
        for errand in errands {
            let sent_on = errand.sent_on.as_ref().map(|(address, _)| address);
            let Some(address) = sent_on.or_else(|| map.owner(errand.slot)) else {
                self.map.doubt();
                let outcome = Outcome::NotExecuted(nowhere(self.endpoint_text()));
                group.outcomes[errand.index] = Some(outcome);
                continue;
            };
            match by_node.iter_mut().find(|(known, _)| known == address) {
                Some((_, errands)) => errands.push(errand),
                None => by_node.push((address.clone(), vec![errand])),
            }
        }
        let any_open = by_node.iter().any(|(address, _)| cluster.has(address));
        let mut shares = Vec::with_capacity(by_node.len());
        for (address, errands) in by_node {
            let waits = any_open || !shares.is_empty();
            if waits && !group.last_round && !cluster.has(&address) {
                // Nobody waits for another node's connection: it is made in a later round.
                group.again.extend(errands);
                continue;
            }
            // Half of the time, so that a node that is silent leaves some to the others.
            let half = group.deadline.remaining().map(|left| left / 2);
            match self.node(cluster, &address, half) {
                Ok(node) => shares.push(Share {
                    node,
                    errands,
                    sent: 0,
                    answered: 0,
                    lost: None,
                }),
                Err(error) => {
                    self.map.doubt();
                    let refused = error.kind() == Kind::Authentication;
                    group.ended |= refused;
                    let others = !refused && !cluster.nodes.is_empty();
                    let error = if others { unreachable(&error) } else { error };
                    for errand in errands {
                        let outcome = Outcome::NotExecuted(error.clone());
                        group.outcomes[errand.index] = Some(outcome);
                    }
                }
            }
        }
        shares
    }

    /// Reads the replies to what was sent last.
    fn answers(
        &self,
        share: &mut Share,
        timed: &mut Timed<'_>,
        group: &mut Group<'_>,
        asked: &Address,
        decode: bool,
    ) -> RedisResult<()> {
        while share.lost.is_none() && share.answered < share.sent {
            let errand = &share.errands[share.answered];
            if errand.is_asking() {
                timed.receive()?;
            }
            let reply = timed.receive()?.extract_error();
            share.answered += 1;
            let command = group.commands[errand.index];
            let error = match reply {
                Ok(value) => {
                    let reply = Reply::from_value(value, decode);
                    group.outcomes[errand.index] = Some(Outcome::Done(reply));
                    continue;
                }
                Err(error) => error,
            };
            if let Some(again) = self.comes_again(command, &error, errand, asked, group) {
                group.again.push(again);
                continue;
            }
            group.ended |= ends(&error, true);
            group.outcomes[errand.index] = Some(self.refused(command, error, true));
        }
        Ok(())
    }

    /// What to do next about a command that was answered with this, if it was not executed.
    fn comes_again(
        &self,
        command: &RedisCommand,
        error: &RedisError,
        errand: &Errand,
        asked: &Address,
        group: &mut Group<'_>,
    ) -> Option<Errand> {
        let ErrorKind::Server(kind) = error.kind() else {
            return None;
        };
        let sent_on = match kind {
            ServerErrorKind::Moved => {
                self.map.doubt();
                Some((target(error, asked)?, false))
            }
            ServerErrorKind::Ask => Some((target(error, asked)?, true)),
            ServerErrorKind::TryAgain => {
                group.pause = true;
                errand.sent_on.clone()
            }
            ServerErrorKind::ClusterDown | ServerErrorKind::ReadOnly => {
                self.map.doubt();
                return None;
            }
            _ => return None,
        };
        let half_done = command.is_script() && errors::is_inside_script(error);
        (!group.last_round && !half_done && !group.deadline.is_over()).then_some(Errand {
            index: errand.index,
            slot: errand.slot,
            sent_on,
        })
    }
}

impl Share {
    fn has_more(&self) -> bool {
        self.lost.is_none() && self.sent < self.errands.len()
    }

    /// Sends as many as make a window.
    fn send(
        &mut self,
        timed: &mut Timed<'_>,
        gathered: &mut Vec<u8>,
        commands: &[&RedisCommand],
    ) -> RedisResult<()> {
        if !self.has_more() {
            return Ok(());
        }
        let rest = &self.errands[self.sent..];
        let mut bytes = 0;
        let fits = rest.iter().take_while(|errand| {
            bytes += commands[errand.index].arguments().packed().len();
            bytes <= WINDOW
        });
        let count = fits.count().max(1).min(rest.len());
        let window = rest[..count].iter();
        let window = window.map(|errand| (commands[errand.index], errand.is_asking()));
        let result = send(timed, gathered, window);
        if timed.sent {
            self.sent += count;
        }
        result
    }

    fn lose(&mut self, error: Error) {
        self.lost.get_or_insert(error);
    }

    /// What was sent to a lost node and not answered may have been done; what was not sent was
    /// not.
    fn settle(self, group: &mut Group<'_>) {
        let Some(error) = self.lost else { return };
        for (number, errand) in self.errands.iter().enumerate().skip(self.answered) {
            let error = error.clone();
            group.outcomes[errand.index] = Some(if number < self.sent {
                Outcome::Unknown(error.with_outcome_unknown())
            } else {
                Outcome::NotExecuted(error)
            });
        }
    }
}

/// Where `MOVED 7 host:port` and `ASK 7 host:port` send a command; the host that was asked
/// where none is named.
fn target(error: &RedisError, asked: &Address) -> Option<Address> {
    let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
    let port = port.parse().ok()?;
    Some(match asked {
        Address::Tcp(asked, _) if host.is_empty() => Address::Tcp(asked.clone(), port),
        _ => Address::Tcp(host.to_owned(), port),
    })
}

/// The deadline less this, and not less than half of what is left; but not over yet, as a
/// reply that has arrived is worth a look.
fn earlier(deadline: Deadline, by: Duration) -> Deadline {
    let Some(left) = deadline.remaining() else {
        return deadline;
    };
    Deadline::within(left.saturating_sub(by.min(left / 2)).max(LOOK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> RedisError {
        let reply = redis::parse_redis_value(format!("-{text}\r\n").as_bytes());
        let reply = reply.and_then(redis::Value::extract_error);
        reply.expect_err("an error reply")
    }

    #[test]
    fn redirections_name_a_node() {
        let asked = Address::Tcp("asked".into(), 1);
        for (text, node) in [
            ("MOVED 7 10.0.0.1:6380", Some(("10.0.0.1", 6380))),
            ("ASK 7 ::1:6380", Some(("::1", 6380))),
            ("MOVED 7 :6380", Some(("asked", 6380))),
            ("MOVED 7", None),
            ("MOVED 7 here", None),
            ("MOVED x 10.0.0.1:6380", None),
            ("TRYAGAIN later", None),
        ] {
            let node = node.map(|(host, port)| Address::Tcp(host.into(), port));
            assert_eq!(target(&answer(text), &asked), node, "{text}");
        }
    }

    #[test]
    fn an_earlier_deadline_is_not_over() {
        let by = Duration::from_millis(20);
        let left = |deadline: Deadline| deadline.remaining().expect("has an end");
        assert_eq!(earlier(Deadline::NEVER, by), Deadline::NEVER);
        let second = Duration::from_secs(1);
        let usual = left(earlier(Deadline::within(second), by));
        assert!(usual + by <= second && usual > second / 2, "{usual:?}");
        assert!(!left(earlier(Deadline::within(Duration::ZERO), by)).is_zero());
    }
}
