//! What a connection keeps for operations: the names of statements that are prepared on
//! the SQL level, and how INSERTs become one or are copied.

use std::collections::HashMap;
use std::sync::Arc;

use super::copy::CopyIn;
use super::merge::Merge;
use super::resolve::Incarnation;
use crate::backend::postgres::sql::Statement;

/// How long a way that was of no use is left alone, in groups: doubled each time, up to
/// this.
const LONGEST_REST: u32 = 64;

pub(in super::super) struct Memory {
    capacity: usize,
    uses: u64,
    /// Part of each name. Behind a pooler another client's statement of the same name
    /// may be prepared on the same server connection; with this there is none.
    token: u64,
    next: u32,
    names: HashMap<Arc<Statement>, Named>,
    /// Prepared on the server and not known here any more.
    garbage: Vec<String>,
    ways: HashMap<Arc<Statement>, Ways>,
    /// Which server this is, in which of its lives.
    pub(super) incarnation: Option<Incarnation>,
    /// Where the statement stood in the text that was sent last to prepare one.
    pub(in super::super) shift: Shift,
}

/// How many characters stand before a statement: in what was sent, and in what its author wrote.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Shift {
    pub(in super::super) sent: usize,
    pub(in super::super) written: usize,
}

/// Whether the INSERTs of one text can be run in some way.
#[derive(Debug)]
pub(super) enum Known<T> {
    NotYet,
    /// They cannot, at least not now.
    Not,
    So(Arc<T>),
}

struct Named {
    name: Arc<str>,
    last_use: u64,
}

/// What is known about the INSERTs of one text.
struct Ways {
    merge: Way<Merge>,
    copy: Way<CopyIn>,
}

/// A way that INSERTs can be run in, which may turn out to be of no use.
struct Way<T> {
    known: Known<T>,
    misses: u32,
    rest: u32,
}

impl<T> Way<T> {
    const NEW: Self = Self {
        known: Known::NotYet,
        misses: 0,
        rest: 0,
    };

    fn keep(&mut self, found: Option<Arc<T>>) {
        self.known = found.map_or(Known::Not, Known::So);
    }

    fn get(&mut self) -> Known<T> {
        if self.rest > 0 {
            self.rest -= 1;
            return Known::Not;
        }
        match &self.known {
            Known::NotYet => Known::NotYet,
            Known::Not => Known::Not,
            Known::So(way) => Known::So(Arc::clone(way)),
        }
    }

    fn tried(&mut self, well: bool) {
        if well {
            self.misses = 0;
        } else {
            self.rest = (1 << self.misses.min(16)).min(LONGEST_REST);
            self.misses += 1;
        }
    }
}

impl Way<CopyIn> {
    /// What the server has prepared for it.
    fn name(&self) -> Option<String> {
        match &self.known {
            Known::So(copy) => Some(copy.name().to_owned()),
            Known::NotYet | Known::Not => None,
        }
    }
}

impl Memory {
    /// Room for so many prepared statements.
    pub(in super::super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            uses: 0,
            token: fastrand::u64(..),
            next: 0,
            names: HashMap::new(),
            garbage: Vec::new(),
            ways: HashMap::new(),
            incarnation: None,
            shift: Shift::default(),
        }
    }

    /// How many prepared statements are kept; none where a pooler changes the server.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The name under which the statement is prepared.
    pub(super) fn name(&mut self, statement: &Arc<Statement>) -> Option<Arc<str>> {
        self.uses += 1;
        let named = self.names.get_mut(statement)?;
        named.last_use = self.uses;
        Some(Arc::clone(&named.name))
    }

    /// A name that was never used.
    pub(super) fn new_name(&mut self) -> Arc<str> {
        self.next = self.next.wrapping_add(1);
        format!("mp_{:x}_{}", self.token, self.next).into()
    }

    /// What can be given up on the server if one more is prepared there.
    pub(super) fn take_garbage(&mut self) -> Vec<String> {
        if self.names.len() >= self.capacity {
            let oldest = self.names.iter().min_by_key(|(_, named)| named.last_use);
            if let Some(statement) = oldest.map(|(statement, _)| Arc::clone(statement)) {
                self.forget(&statement);
            }
        }
        std::mem::take(&mut self.garbage)
    }

    /// It was not given up there.
    pub(super) fn put_garbage_back(&mut self, garbage: Vec<String>) {
        self.garbage.extend(garbage);
    }

    /// Keeps the name of a statement that has been prepared.
    pub(super) fn keep(&mut self, statement: &Arc<Statement>, name: Arc<str>) {
        self.uses += 1;
        let last_use = self.uses;
        self.names
            .insert(Arc::clone(statement), Named { name, last_use });
    }

    /// Gives up a statement that may still be prepared on the server.
    pub(super) fn forget(&mut self, statement: &Arc<Statement>) {
        if let Some(named) = self.names.remove(statement) {
            self.garbage.push(named.name.as_ref().into());
        }
    }

    /// Gives up all that the server was told.
    pub(in super::super) fn clear(&mut self) {
        self.names.clear();
        self.garbage.clear();
        self.ways.clear();
    }

    /// How the statement is merged, as far as that is known.
    pub(super) fn merge(&mut self, statement: &Arc<Statement>) -> Known<Merge> {
        let ways = self.ways.get_mut(statement);
        ways.map_or(Known::NotYet, |ways| ways.merge.get())
    }

    pub(super) fn keep_merge(&mut self, statement: &Arc<Statement>, merge: Option<Arc<Merge>>) {
        if self.ways.len() >= self.capacity.max(64) {
            let forgotten = self.ways.drain();
            let names = forgotten.filter_map(|(_, ways)| ways.copy.name());
            self.garbage.extend(names);
        }
        let mut ways = Ways {
            merge: Way::NEW,
            copy: Way::NEW,
        };
        ways.merge.keep(merge);
        self.ways.insert(Arc::clone(statement), ways);
    }

    /// Notes whether merging did what it was to do. If not, it is left off for a while.
    pub(super) fn merged(&mut self, statement: &Arc<Statement>, well: bool) {
        if let Some(ways) = self.ways.get_mut(statement) {
            ways.merge.tried(well);
        }
    }

    /// How the statement, which can be merged, is copied, as far as that is known.
    pub(super) fn copy(&mut self, statement: &Arc<Statement>) -> Known<CopyIn> {
        let ways = self.ways.get_mut(statement);
        ways.map_or(Known::Not, |ways| ways.copy.get())
    }

    pub(super) fn keep_copy(&mut self, statement: &Arc<Statement>, copy: Option<Arc<CopyIn>>) {
        if let Some(ways) = self.ways.get_mut(statement) {
            ways.copy.keep(copy);
        }
    }

    /// Notes whether copying did what it was to do. If not, it is left off for a while, and
    /// then the table is looked at again.
    pub(super) fn copied(&mut self, statement: &Arc<Statement>, well: bool) {
        if let Some(ways) = self.ways.get_mut(statement) {
            ways.copy.tried(well);
            if !well {
                self.garbage.extend(ways.copy.name());
                ways.copy.known = Known::NotYet;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::postgres::sql::known;

    #[test]
    fn the_least_recently_used_goes() {
        let mut memory = Memory::new(2);
        let [a, b, c] = ["SELECT 1", "SELECT 2", "SELECT 3"].map(|sql| known(sql.into()));
        for statement in [&a, &b] {
            assert!(memory.take_garbage().is_empty());
            let name = memory.new_name();
            memory.keep(statement, name);
        }
        let name = memory.name(&a).expect("kept");
        let garbage = memory.take_garbage();
        assert_eq!(garbage.len(), 1);
        assert!(memory.name(&b).is_none() && garbage[0] != *name);
        let third = memory.new_name();
        assert!(third != name && *third != *garbage[0]);
        memory.keep(&c, third);
        assert!(memory.name(&a).is_some() && memory.name(&c).is_some());
    }

    #[test]
    fn what_does_not_merge_rests_longer_each_time() {
        let mut memory = Memory::new(2);
        let statement = known("INSERT INTO t VALUES ($1)".into());
        assert!(matches!(memory.merge(&statement), Known::NotYet));
        let merge = Arc::new(Merge::default());
        memory.keep_merge(&statement, Some(merge));
        let rests = |memory: &mut Memory| {
            (0..100).find(|_| matches!(memory.merge(&statement), Known::So(_)))
        };
        assert_eq!(rests(&mut memory), Some(0));
        for expected in [1, 2, 4] {
            memory.merged(&statement, false);
            assert_eq!(rests(&mut memory), Some(expected));
        }
        memory.merged(&statement, true);
        memory.merged(&statement, false);
        assert_eq!(rests(&mut memory), Some(1));
    }
}
