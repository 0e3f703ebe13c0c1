//! The timers of one processor, ordered by their deadlines.
//!
//! A list that has its whole room before guests run: a vCPU's timer of each kind is in one queue at
//! a time, so a queue that has room for those of all vCPUs never grows. The latest comes first:
//! what is armed is mostly due soon, and then little has to move for it.

use super::timers::Kind;
use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// A timer in a queue. Ordered by its deadline first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) deadline: u64,
    pub(super) domain: u16,
    pub(super) vcpu: u16,
    pub(super) kind: Kind,
}

/// Timers, the latest first.
pub(super) struct TimerQueue(Vec<Entry>);

impl TimerQueue {
    /// No timers, and no room for any.
    pub(super) const fn new() -> TimerQueue {
        TimerQueue(Vec::new())
    }

    /// Bytes that room for all timers of so many vCPUs takes.
    pub(super) const fn heap_bytes(vcpus: usize) -> usize {
        vcpus * Kind::ALL.len() * size_of::<Entry>()
    }

    /// Makes room for all timers of so many vCPUs. The queue is empty.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(super) fn reserve(&mut self, vcpus: usize) -> Result<(), TryReserveError> {
        self.0.try_reserve_exact(vcpus * Kind::ALL.len())
    }

    /// The index of a timer, or where it would be.
    fn search(&self, entry: &Entry) -> Result<usize, usize> {
        self.0.binary_search_by(|other| entry.cmp(other))
    }

    /// Puts a timer in, which isn't in any queue.
    pub(super) fn insert(&mut self, entry: Entry) {
        let at = self.search(&entry).unwrap_or_else(|at| at);
        self.0.insert(at, entry);
    }

    /// Takes a timer out; `false` if it isn't there.
    pub(super) fn remove(&mut self, entry: &Entry) -> bool {
        self.search(entry).map(|at| self.0.remove(at)).is_ok()
    }

    /// Takes the earliest one out, if it is due.
    pub(super) fn take_due(&mut self, now: u64) -> Option<Entry> {
        self.0.pop_if(|entry| entry.deadline <= now)
    }

    /// The earliest deadline.
    pub(super) fn earliest(&self) -> Option<u64> {
        self.0.last().map(|entry| entry.deadline)
    }
}
