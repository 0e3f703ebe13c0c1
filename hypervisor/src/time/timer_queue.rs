//! The timers of one CPU, ordered by deadline.
//!
//! The queue is a sorted vector that never grows while guests run: a timer is in one queue at most, so
//! capacity for the timers of all vCPUs suffices. The latest deadline comes first: most timers that
//! are armed expire soon, so that an insertion moves few elements.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// Which of a vCPU's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKind {
    /// `VCPUOP_set_singleshot_timer`.
    Singleshot,
    /// `VCPUOP_set_periodic_timer`.
    Periodic,
    /// Timeout of `SCHEDOP_poll`.
    Poll,
    /// End of the domain's lifetime, which the manifest can limit.
    Lifetime,
    /// First watchdog (`SCHEDOP_watchdog`).
    Watchdog1,
    /// Second watchdog.
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
    /// System time in ns at which it expires.
    pub deadline: u64,
    /// Number of the domain.
    pub domain: u16,
    /// Number of the vCPU in the domain.
    pub vcpu: u16,
    /// Which of the vCPU's timers.
    pub kind: TimerKind,
}

/// The queue, with the latest deadline first.
pub struct TimerQueue(Vec<Entry>);

impl TimerQueue {
    /// An empty queue without capacity.
    pub const fn new() -> TimerQueue {
        TimerQueue(Vec::new())
    }

    /// Bytes of a queue with capacity for all timers of so many vCPUs.
    pub const fn heap_bytes(vcpus: usize) -> usize {
        vcpus * TimerKind::ALL.len() * size_of::<Entry>()
    }

    /// Reserves capacity for all timers of so many vCPUs. The queue is empty.
    ///
    /// # Errors
    /// If memory is short.
    pub fn reserve(&mut self, vcpus: usize) -> Result<(), TryReserveError> {
        self.0.try_reserve_exact(vcpus * TimerKind::ALL.len())
    }

    /// Index of a timer, or the index at which to insert it.
    fn search(&self, entry: &Entry) -> Result<usize, usize> {
        self.0.binary_search_by(|other| entry.cmp(other))
    }

    /// Inserts a timer that is in no queue.
    pub fn insert(&mut self, entry: Entry) {
        let at = self.search(&entry).unwrap_or_else(|at| at);
        self.0.insert(at, entry);
    }

    /// Removes a timer. Returns `false` if it isn't in the queue.
    pub fn remove(&mut self, entry: &Entry) -> bool {
        self.search(entry).map(|at| self.0.remove(at)).is_ok()
    }

    /// Removes and returns the earliest timer, if it has expired.
    pub fn take_due(&mut self, now: u64) -> Option<Entry> {
        self.0.pop_if(|entry| entry.deadline <= now)
    }

    /// The earliest deadline.
    pub fn earliest(&self) -> Option<u64> {
        self.0.last().map(|entry| entry.deadline)
    }
}
