//! The timers of each CPU: a queue of those that vCPUs armed there, and the end of the time slice.
//!
//! [`take_due`] returns the timers that have expired; `domain::timers` acts on them.

use super::clock;
use super::timer_queue::{Entry, TimerQueue};
use crate::arch::apic;
use crate::arch::percpu::{self, MAX_CPUS, cpu_number};
use crate::sync::Mutex;
use alloc::collections::TryReserveError;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Longest time in nanoseconds for which the APIC timer is armed: bounds the effect of an error in its
/// measured frequency.
const LONGEST_SLEEP_NS: u64 = 1_000_000_000;
/// No deadline.
const NEVER: u64 = u64::MAX;

/// The timers of one CPU.
struct Queue {
    entries: Mutex<TimerQueue>,
    /// The earliest deadline, or [`NEVER`]. Only its own CPU makes it earlier.
    earliest: AtomicU64,
    /// End of the time slice of the vCPU that runs, or [`NEVER`].
    slice_end: AtomicU64,
}

static QUEUES: [Queue; MAX_CPUS] = [const {
    Queue {
        entries: Mutex::new(TimerQueue::new()),
        earliest: AtomicU64::new(NEVER),
        slice_end: AtomicU64::new(NEVER),
    }
}; MAX_CPUS];

/// Timers in all queues.
static ARMED: AtomicUsize = AtomicUsize::new(0);

impl Queue {
    /// Updates `earliest`. The queue is locked.
    fn note_earliest(&self, entries: &TimerQueue) {
        self.earliest.store(entries.earliest().unwrap_or(NEVER), Ordering::Relaxed);
    }
}

/// Bytes that the queues take for so many vCPUs on all CPUs.
pub fn heap_bytes(vcpus: usize) -> usize {
    percpu::online().len() as usize * TimerQueue::heap_bytes(vcpus)
}

/// Reserves capacity for the timers of `vcpus` vCPUs in the queue of each CPU. To be called before any
/// vCPU runs.
///
/// # Errors
/// If memory is short.
pub fn reserve(vcpus: usize) -> Result<(), TryReserveError> {
    percpu::online().iter().try_for_each(|cpu| QUEUES[cpu].entries.lock().reserve(vcpus))
}

/// Inserts a timer, which is in no queue, into the queue of a CPU.
pub fn insert(cpu: usize, entry: Entry) {
    let queue = &QUEUES[cpu];
    let mut entries = queue.entries.lock();
    entries.insert(entry);
    ARMED.fetch_add(1, Ordering::Relaxed);
    queue.note_earliest(&entries);
}

/// Removes a timer from the queue of a CPU, if it is in it.
pub fn remove(cpu: usize, entry: &Entry) {
    let queue = &QUEUES[cpu];
    let mut entries = queue.entries.lock();
    if entries.remove(entry) {
        ARMED.fetch_sub(1, Ordering::Relaxed);
    }
    queue.note_earliest(&entries);
}

/// Removes and returns the earliest timer of this CPU, if it has expired.
pub fn take_due() -> Option<Entry> {
    let queue = &QUEUES[cpu_number()];
    if queue.earliest.load(Ordering::Relaxed) > clock::now_ns() {
        return None;
    }
    let mut entries = queue.entries.lock();
    let due = entries.take_due(clock::now_ns());
    if due.is_some() {
        ARMED.fetch_sub(1, Ordering::Relaxed);
    }
    queue.note_earliest(&entries);
    due
}

/// Whether any timer is armed on any CPU.
pub fn any_armed() -> bool {
    ARMED.load(Ordering::Relaxed) != 0
}

/// Begins the time slice, in ns, of the vCPU that runs on this CPU now.
pub fn begin_slice(ns: u64) {
    let queue = &QUEUES[cpu_number()];
    queue.slice_end.store(clock::now_ns() + ns, Ordering::Relaxed);
    program();
}

/// Makes the current time slice end at a system time in ns, if it would end later.
pub fn end_slice_by(end: u64) {
    QUEUES[cpu_number()].slice_end.fetch_min(end, Ordering::Relaxed);
    program();
}

/// Whether the time slice of the vCPU that runs on this CPU is over.
pub fn is_slice_over() -> bool {
    QUEUES[cpu_number()].slice_end.load(Ordering::Relaxed) <= clock::now_ns()
}

/// Ends the time slice: no vCPU runs on this CPU any more.
pub fn end_slice() {
    QUEUES[cpu_number()].slice_end.store(NEVER, Ordering::Relaxed);
}

/// Programs this CPU's APIC timer for the earliest deadline or the end of the time slice, whichever is
/// earlier. If it is programmed for an earlier time already, that stays: then it interrupts too
/// early, and is programmed again.
pub fn program() {
    let queue = &QUEUES[cpu_number()];
    let next = queue.earliest.load(Ordering::Relaxed).min(queue.slice_end.load(Ordering::Relaxed));
    let latest = clock::now_ns().saturating_add(LONGEST_SLEEP_NS);
    apic::arm_timer(clock::tsc_at(next.min(latest)));
}
