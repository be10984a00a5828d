//! A fixed place for each connection, taken and given back with one atomic swap.
//!
//! The slots are never freed or moved while the pool lives, so there is nothing to
//! reclaim and no ABA problem. A slot's content is an
//! `AtomicCell<Option<Box<T>>>`: a swap moves the box in or out, and whoever got the
//! box out owns it; no unsafe code, no lock. Beside it stands `ready`, which spares a
//! scan the swap of an empty cell: set after the box was swapped in, cleared after it
//! was swapped out. A full cell has `ready` set once `put` returns; the reverse need
//! not hold, and a scan that finds the cell empty just goes on. Setting `ready` is
//! also the one sequentially consistent step of `put`, which costs half of a fence
//! behind it.
//!
//! A thread remembers the number of the slot that it used last (a number, never a
//! connection) and starts there, so threads keep to different cache lines. One
//! shared bitmap word measured twice as slow as a state per slot once two threads
//! use it.
//!
//! Each slot carries a *desk*: what the owner of the box tells the world about it.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicBool, AtomicCell, announce, last_slot, set_last_slot};

/// Growing beyond the first block doubles the number of slots each time; more
/// doublings than this do not fit a `u32`.
const EXTRA_BLOCKS: usize = 32;

pub(crate) struct Slot<T, D> {
    ready: AtomicBool,
    cell: AtomicCell<Option<Box<T>>>,
    pub(crate) desk: D,
}

type Block<T, D> = Box<[CachePadded<Slot<T, D>>]>;

pub(crate) struct Slots<T, D> {
    first: Block<T, D>,
    extra: [OnceLock<Block<T, D>>; EXTRA_BLOCKS],
}

impl<T: Send, D: Default> Slots<T, D> {
    /// So many empty slots; at least one.
    pub(crate) fn new(count: u32) -> Self {
        Self {
            first: block(count.max(1) as usize),
            extra: [const { OnceLock::new() }; EXTRA_BLOCKS],
        }
    }

    /// Makes room for `count` slots in all.
    pub(crate) fn grow_to(&self, count: u32) {
        let mut have = self.first.len();
        for extra in &self.extra {
            if have >= count as usize {
                break;
            }
            extra.get_or_init(|| block(have));
            have *= 2;
        }
    }

    /// How many slots there are.
    pub(crate) fn count(&self) -> u32 {
        self.blocks().map(|block| block.len() as u32).sum()
    }

    fn blocks(&self) -> impl Iterator<Item = &Block<T, D>> {
        std::iter::once(&self.first).chain(self.extra.iter().map_while(OnceLock::get))
    }

    /// All slots in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot<T, D>> {
        self.blocks()
            .flat_map(|block| block.iter().map(|slot| &**slot))
    }

    /// The slot with this number, which must be below [`count`](Self::count).
    #[inline]
    pub(crate) fn slot(&self, number: u32) -> &Slot<T, D> {
        let index = number as usize;
        match self.first.get(index) {
            Some(slot) => slot,
            None => self.extra_slot(index),
        }
    }

    #[cold]
    fn extra_slot(&self, mut index: usize) -> &Slot<T, D> {
        for block in self.blocks() {
            match block.get(index) {
                Some(slot) => return slot,
                None => index -= block.len(),
            }
        }
        unreachable!("slot numbers come from the ledger, which hands out existing ones only")
    }

    /// Takes a box out of any full slot, beginning where this thread was last.
    #[inline]
    pub(crate) fn take(&self) -> Option<Box<T>> {
        let hint = last_slot() as usize;
        if let Some(slot) = self.first.get(hint)
            && let Some(item) = slot.take()
        {
            return Some(item);
        }
        self.scan(hint)
    }

    fn scan(&self, hint: usize) -> Option<Box<T>> {
        let start = if hint < self.first.len() { hint } else { 0 };
        let (before, from) = self.first.split_at(start);
        for (offset, slot) in from.iter().enumerate() {
            if let Some(item) = slot.take() {
                set_last_slot((start + offset) as u32);
                return Some(item);
            }
        }
        for (number, slot) in before.iter().enumerate() {
            if let Some(item) = slot.take() {
                set_last_slot(number as u32);
                return Some(item);
            }
        }
        self.extra
            .iter()
            .map_while(OnceLock::get)
            .flat_map(|block| block.iter())
            .find_map(|slot| slot.take())
    }

    /// Whether a scan would probably find something.
    pub(crate) fn any_ready(&self) -> bool {
        self.iter().any(|slot| slot.ready.load(Ordering::SeqCst))
    }
}

impl<T: Send, D> Slot<T, D> {
    /// Takes the box out of this slot, if there is one.
    #[inline]
    pub(crate) fn take(&self) -> Option<Box<T>> {
        if !self.ready.load(Ordering::SeqCst) {
            return None;
        }
        let item = self.cell.swap(None)?;
        self.ready.store(false, Ordering::Relaxed);
        Some(item)
    }

    /// Puts a box into this slot. Only the owner of the slot's box may, so the
    /// slot is empty.
    #[inline]
    pub(crate) fn put(&self, item: Box<T>) {
        let before = self.cell.swap(Some(item));
        debug_assert!(before.is_none(), "a slot has one owner");
        announce(&self.ready);
    }
}

fn block<T: Send, D: Default>(count: usize) -> Block<T, D> {
    let empty = || {
        CachePadded::new(Slot {
            ready: AtomicBool::new(false),
            cell: AtomicCell::new(None),
            desk: D::default(),
        })
    };
    std::iter::repeat_with(empty).take(count).collect()
}
