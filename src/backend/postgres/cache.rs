//! Prepared statements of one connection, the least recently used given up first.

use std::collections::HashMap;

use postgres::Statement;

use super::statement::is_dirty;

struct Cached {
    statement: Statement,
    dirty: bool,
    last_use: u64,
}

pub(super) struct StatementCache {
    capacity: usize,
    uses: u64,
    statements: HashMap<Box<str>, Cached>,
}

impl StatementCache {
    /// Room for so many statements.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            uses: 0,
            statements: HashMap::new(),
        }
    }

    /// Whether it keeps nothing at all.
    pub(super) fn is_off(&self) -> bool {
        self.capacity == 0
    }

    /// The statement, and whether it may leave something behind.
    pub(super) fn get(&mut self, sql: &str) -> Option<(&Statement, bool)> {
        self.uses += 1;
        let cached = self.statements.get_mut(sql)?;
        cached.last_use = self.uses;
        Some((&cached.statement, cached.dirty))
    }

    /// Keeps a statement; says whether it may leave something behind.
    pub(super) fn insert(&mut self, sql: &str, statement: Statement) -> bool {
        if self.statements.len() >= self.capacity {
            let oldest = self
                .statements
                .iter()
                .min_by_key(|(_, cached)| cached.last_use);
            if let Some(sql) = oldest.map(|(sql, _)| sql.clone()) {
                self.statements.remove(&sql);
            }
        }
        let dirty = is_dirty(sql);
        self.statements.insert(
            sql.into(),
            Cached {
                statement,
                dirty,
                last_use: self.uses,
            },
        );
        dirty
    }

    /// Gives up a statement that the server does not know any more.
    pub(super) fn remove(&mut self, sql: &str) {
        self.statements.remove(sql);
    }

    /// Gives up all.
    pub(super) fn clear(&mut self) {
        self.statements.clear();
    }
}
