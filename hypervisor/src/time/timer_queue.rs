//! The timers of one CPU, ordered by their deadlines.
//!
//! A list that has its whole room before guests run: a vCPU's timer of each kind is in one queue at
//! a time, so a queue that has room for those of all vCPUs never grows. The latest comes first:
//! what is armed is mostly due soon, and then little has to move for it.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// Which of a vCPU's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKind {
    /// Fires once.
    Singleshot,
    /// Fires again and again.
    Periodic,
    /// Ends a poll.
    Poll,
    /// Ends the domain.
    Lifetime,
    /// Ends the domain, if it doesn't arm it again in time: the first watchdog.
    Watchdog1,
    /// The second one.
    Watchdog2,
}

impl TimerKind {
    pub const ALL: [TimerKind; 6] = [
        TimerKind::Singleshot,
        TimerKind::Periodic,
        TimerKind::Poll,
        TimerKind::Lifetime,
        TimerKind::Watchdog1,
        TimerKind::Watchdog2,
    ];
}

/// A timer in a queue. Ordered by its deadline first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// System time in ns at which it fires.
    pub deadline: u64,
    /// Number of the domain.
    pub domain: u16,
    /// Number of the vCPU in the domain.
    pub vcpu: u16,
    /// Which of the vCPU's timers.
    pub kind: TimerKind,
}

/// Timers, the latest first.
pub struct TimerQueue(Vec<Entry>);

impl TimerQueue {
    /// No timers, and no room for any.
    pub const fn new() -> TimerQueue {
        TimerQueue(Vec::new())
    }

    /// Bytes that room for all timers of so many vCPUs takes.
    pub const fn heap_bytes(vcpus: usize) -> usize {
        vcpus * TimerKind::ALL.len() * size_of::<Entry>()
    }

    /// Makes room for all timers of so many vCPUs. The queue is empty.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn reserve(&mut self, vcpus: usize) -> Result<(), TryReserveError> {
        self.0.try_reserve_exact(vcpus * TimerKind::ALL.len())
    }

    /// The index of a timer, or where it would be.
    fn search(&self, entry: &Entry) -> Result<usize, usize> {
        self.0.binary_search_by(|other| entry.cmp(other))
    }

    /// Puts a timer in, which isn't in any queue.
    pub fn insert(&mut self, entry: Entry) {
        let at = self.search(&entry).unwrap_or_else(|at| at);
        self.0.insert(at, entry);
    }

    /// Takes a timer out; `false` if it isn't there.
    pub fn remove(&mut self, entry: &Entry) -> bool {
        self.search(entry).map(|at| self.0.remove(at)).is_ok()
    }

    /// Takes the earliest one out, if it is due.
    pub fn take_due(&mut self, now: u64) -> Option<Entry> {
        self.0.pop_if(|entry| entry.deadline <= now)
    }

    /// The earliest deadline.
    pub fn earliest(&self) -> Option<u64> {
        self.0.last().map(|entry| entry.deadline)
    }
}
