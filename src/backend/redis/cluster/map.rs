//! Which node has which slot.
//!
//! One map for all connections of a manager: the first that is sent elsewhere reads it anew
//! for all of them. The lock is held to look and to put, never while a server is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redis::Value;

use super::keys::SLOTS;
use crate::backend::redis::config::Address;

/// The map as it is known, for all connections.
#[derive(Default)]
pub(in crate::backend::redis) struct Shared {
    map: Mutex<Arc<Map>>,
    /// Whether a server said something that the map does not.
    stale: AtomicBool,
}

impl Shared {
    pub(super) fn get(&self) -> Arc<Map> {
        self.map.lock().clone()
    }

    pub(super) fn put(&self, map: Map) {
        // Only the old map's own memory is freed after the lock.
        let old = std::mem::replace(&mut *self.map.lock(), Arc::new(map));
        drop(old);
    }

    pub(super) fn doubt(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }

    /// Whether it is in doubt; only the first to ask is told so.
    pub(super) fn take_doubt(&self) -> bool {
        self.stale.load(Ordering::Relaxed) && self.stale.swap(false, Ordering::Relaxed)
    }
}

/// A map from slots to the primaries that own them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Map {
    primaries: Vec<Address>,
    /// For each slot the number of its primary, from one; zero for none.
    owners: Vec<u16>,
}

impl Map {
    /// Reads an answer to `CLUSTER SLOTS` of the node at this host.
    pub(super) fn read(answer: &Value, asked: &str) -> Option<Self> {
        let Value::Array(ranges) = answer else {
            return None;
        };
        let mut map = Self {
            primaries: Vec::new(),
            owners: vec![0; usize::from(SLOTS)],
        };
        for range in ranges {
            let Value::Array(range) = range else {
                return None;
            };
            let [Value::Int(first), Value::Int(last), primary, ..] = &**range else {
                return None;
            };
            let Some(primary) = address(primary, asked) else {
                // Its address is not known yet.
                continue;
            };
            let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
            let number = map.number(primary)?;
            map.owners.get_mut(first..=last)?.fill(number);
        }
        Some(map)
    }

    /// The primary that owns this slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Address> {
        let number = self.owners.get(usize::from(slot))?;
        self.primaries.get(usize::from(*number).checked_sub(1)?)
    }

    /// All primaries that own slots.
    pub(super) fn primaries(&self) -> &[Address] {
        &self.primaries
    }

    fn number(&mut self, primary: Address) -> Option<u16> {
        let known = self.primaries.iter().position(|known| *known == primary);
        let index = known.unwrap_or_else(|| {
            self.primaries.push(primary);
            self.primaries.len() - 1
        });
        u16::try_from(index + 1).ok()
    }
}

/// A node in an answer: host, port, and more. A host that is missing is the one that was
/// asked, and `?` is one that is not known.
fn address(node: &Value, asked: &str) -> Option<Address> {
    let Value::Array(node) = node else {
        return None;
    };
    let [host, Value::Int(port), ..] = &**node else {
        return None;
    };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::Nil => "",
        _ => return None,
    };
    let host = match host {
        "?" => return None,
        "" | "0.0.0.0" | "::" => asked,
        host => host,
    };
    Some(Address::Tcp(host.to_owned(), u16::try_from(*port).ok()?))
}

#[cfg(test)]
mod tests {
    use redis::Value::{Array, BulkString, Int, Nil};

    use super::*;

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = Array(vec![host, Int(port), BulkString(b"id".to_vec())]);
        Array(vec![Int(first), Int(last), node])
    }

    fn text(text: &str) -> Value {
        BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn ranges_are_read() {
        let answer = Array(vec![
            range(0, 99, text("10.0.0.1"), 1),
            range(100, 100, Nil, 2),
            range(101, 16_382, text("10.0.0.1"), 1),
            range(16_383, 16_383, text("?"), 3),
        ]);
        let map = Map::read(&answer, "asked").expect("an answer");
        let one = Address::Tcp("10.0.0.1".into(), 1);
        let two = Address::Tcp("asked".into(), 2);
        assert_eq!(map.primaries(), [one.clone(), two.clone()]);
        for (slot, owner) in [
            (0, Some(&one)),
            (99, Some(&one)),
            (100, Some(&two)),
            (16_382, Some(&one)),
            (16_383, None),
            (u16::MAX, None),
        ] {
            assert_eq!(map.owner(slot), owner, "{slot}");
        }
        assert_eq!(Map::default().owner(0), None);
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for odd in [
            Nil,
            Array(vec![Nil]),
            Array(vec![Array(vec![Int(0), Int(1)])]),
            Array(vec![range(0, 16_384, text("h"), 1)]),
            Array(vec![range(-1, 1, text("h"), 1)]),
            Array(vec![range(7, 5, text("h"), 1)]),
        ] {
            assert_eq!(Map::read(&odd, "asked"), None, "{odd:?}");
        }
        // A port that is none leaves the slot without an owner.
        let odd = Array(vec![range(0, 1, text("h"), 70_000)]);
        assert_eq!(Map::read(&odd, "asked").expect("read").owner(0), None);
    }
}
