//! What waits to be executed, in the dispatcher's hands only: no locks.
//!
//! Operations wait in one line for each priority, or, behind another one with the same
//! ordering key, in that key's line. The more urgent go first; but of each group up to half
//! is given to those that waited for longer than `aging`, the oldest first, so that nobody
//! starves and the urgent still get their half.
//!
//! Invariants:
//! 1. Of each ordering key at most one operation is outside its key's line (in a
//!    priority's line, in a group, or waiting to be tried again), until
//!    [`Queue::release`] says that it has its outcome.
//! 2. Operations that got their outcome while queued (cancelled, expired) are found when
//!    their turn comes, or by [`Queue::sweep`]; they are never executed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::job::Job;
use crate::backend::Backend;
use crate::clock::Ticks;
use crate::operation::Priority;

type Line<B> = VecDeque<Job<B>>;

pub(super) struct Queue<B: Backend> {
    /// By urgency: `Priority as usize`.
    lines: [Line<B>; 4],
    keys: HashMap<Arc<str>, Line<B>>,
    /// How many are in the lines of the keys, by their urgency.
    behind: [usize; 4],
    /// The size of all.
    bytes: usize,
    aging: Ticks,
    /// Of groups of one, every other is for those that are due.
    alternate: bool,
}

/// How much a group may hold.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) operations: usize,
    pub(super) bytes: usize,
}

impl<B: Backend> Queue<B> {
    pub(super) fn new(aging: Ticks) -> Self {
        Self {
            lines: std::array::from_fn(|_| VecDeque::new()),
            keys: HashMap::new(),
            behind: [0; 4],
            bytes: 0,
            aging,
            alternate: false,
        }
    }

    /// A new operation.
    pub(super) fn push(&mut self, job: Job<B>) {
        self.bytes += job.size;
        if let Some(key) = &job.key {
            if let Some(line) = self.keys.get_mut(key) {
                self.behind[job.priority as usize] += 1;
                line.push_back(job);
                return;
            }
            self.keys.insert(Arc::clone(key), VecDeque::new());
        }
        self.lines[job.priority as usize].push_back(job);
    }

    /// One that is to be tried again: it was here before all others.
    pub(super) fn push_front(&mut self, job: Job<B>) {
        self.bytes += job.size;
        self.lines[job.priority as usize].push_front(job);
    }

    /// The operation that had this key is over: the next one may go.
    pub(super) fn release(&mut self, key: &str) {
        let Some(line) = self.keys.get_mut(key) else {
            return;
        };
        match line.pop_front() {
            Some(job) => {
                self.behind[job.priority as usize] -= 1;
                self.lines[job.priority as usize].push_back(job);
            }
            None => {
                self.keys.remove(key);
            }
        }
    }

    /// How many may go.
    pub(super) fn ready(&self) -> usize {
        self.lines.iter().map(VecDeque::len).sum()
    }

    /// How many there are of each priority, the most urgent first.
    pub(super) fn depths(&self) -> [usize; 4] {
        Priority::ALL.map(|priority| {
            let priority = priority as usize;
            self.lines[priority].len() + self.behind[priority]
        })
    }

    /// All of them.
    pub(super) fn len(&self) -> usize {
        self.ready() + self.behind.iter().sum::<usize>()
    }

    /// Their size.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Since when the oldest of those that may go has waited.
    pub(super) fn oldest(&self) -> Option<Ticks> {
        let heads = self.lines.iter().filter_map(VecDeque::front);
        heads.map(|job| job.since).min()
    }

    /// Takes a group that fits. Never more than one beyond the bytes, never none if there
    /// is one; the keys of those that were found to be over already are released.
    pub(super) fn take(&mut self, room: Room, now: Ticks) -> Vec<Job<B>> {
        let mut group = Vec::with_capacity(room.operations.min(self.ready()));
        let mut bytes = 0;
        let fits = |group: &Vec<_>, bytes| group.len() < room.operations && bytes < room.bytes;
        self.alternate = !self.alternate;
        let due = match room.operations {
            1 => usize::from(self.alternate),
            more => more / 2,
        };
        while group.len() < due && fits(&group, bytes) {
            let Some(line) = self.oldest_due(now) else {
                break;
            };
            bytes += self.pick(line, &mut group);
        }
        for line in (0..self.lines.len()).rev() {
            while fits(&group, bytes) && !self.lines[line].is_empty() {
                bytes += self.pick(line, &mut group);
            }
        }
        group
    }

    /// The line whose head has waited too long, and of these the longest. The most urgent
    /// line needs no such help.
    fn oldest_due(&self, now: Ticks) -> Option<usize> {
        let heads = self.lines[..3].iter().enumerate();
        let heads = heads.filter_map(|(line, jobs)| Some((jobs.front()?.since, line)));
        let (since, line) = heads.min()?;
        (now.saturating_sub(since) >= self.aging).then_some(line)
    }

    /// Moves the head of a line to the group, if it is still wanted; says how large it is.
    fn pick(&mut self, line: usize, group: &mut Vec<Job<B>>) -> usize {
        let Some(job) = self.lines[line].pop_front() else {
            return 0;
        };
        self.bytes -= job.size;
        if job.cell.pick() {
            let size = job.size;
            group.push(job);
            return size;
        }
        self.bury(&job);
        0
    }

    /// This one has its outcome.
    fn bury(&mut self, job: &Job<B>) {
        if let Some(key) = &job.key {
            self.release(key);
        }
    }

    /// Drops what has its outcome already.
    pub(super) fn sweep(&mut self, is_over: impl Fn(&Job<B>) -> bool) {
        for line in self.keys.values_mut() {
            line.retain(|job| {
                let over = is_over(job);
                if over {
                    self.behind[job.priority as usize] -= 1;
                    self.bytes -= job.size;
                }
                !over
            });
        }
        for line in 0..self.lines.len() {
            let mut over = Vec::new();
            for job in std::mem::take(&mut self.lines[line]) {
                if is_over(&job) {
                    over.push(job);
                } else {
                    self.lines[line].push_back(job);
                }
            }
            for job in over {
                self.bytes -= job.size;
                self.bury(&job);
            }
        }
    }

    /// The youngest of the least urgent, to make room for others.
    pub(super) fn shed(&mut self) -> Option<Job<B>> {
        let line = (0..self.lines.len())
            .find(|line| !self.lines[*line].is_empty() || self.behind[*line] > 0)?;
        let since = self.lines[line].back().map(|job| job.since);
        if let Some(job) = self.shed_behind(line, since) {
            return Some(job);
        }
        let job = self.lines[line].pop_back()?;
        self.bytes -= job.size;
        self.bury(&job);
        Some(job)
    }

    /// The youngest of this priority behind another one with its key, if it is younger than
    /// that. Looks at all that are behind another one: whoever sheds much uses few keys.
    fn shed_behind(&mut self, priority: usize, than: Option<Ticks>) -> Option<Job<B>> {
        if self.behind[priority] == 0 {
            return None;
        }
        let of_key = |line: &Line<B>| {
            let last = line
                .iter()
                .rposition(|job| job.priority as usize == priority)?;
            Some((line[last].since, last))
        };
        let youngest = |(_, line): &(_, &mut Line<B>)| of_key(line);
        let (_, line) = self.keys.iter_mut().max_by_key(youngest)?;
        let (since, last) = of_key(line)?;
        if Some(since) < than {
            return None;
        }
        let job = line.remove(last)?;
        self.behind[priority] -= 1;
        self.bytes -= job.size;
        Some(job)
    }

    /// Everything, in no order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Job<B>> {
        self.behind = [0; 4];
        self.bytes = 0;
        let keyed = std::mem::take(&mut self.keys).into_values().flatten();
        let lines = std::mem::take(&mut self.lines).into_iter().flatten();
        lines.chain(keyed)
    }
}
