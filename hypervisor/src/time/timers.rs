//! The timers of each CPU: a queue of those that vCPUs armed there, and the end of the time slice.
//!
//! Nothing here knows what a timer is for: [`take_due`] returns what expired, and the domain's floor
//! acts on it.

use super::clock;
use super::timer_queue::{Entry, TimerQueue};
use crate::arch::apic;
use crate::arch::percpu::{self, MAX_CPUS, cpu_number};
use crate::sync::Mutex;
use alloc::collections::TryReserveError;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Longest time, in microseconds, that a CPU sleeps: bounds what an error of the timer's rate can
/// cost.
const LONGEST_SLEEP_US: u64 = 1_000_000;
/// No deadline.
const NEVER: u64 = u64::MAX;

/// The timers of one CPU.
struct Queue {
    entries: Mutex<TimerQueue>,
    /// The earliest deadline, or [`NEVER`]: only its own CPU brings it forward.
    earliest: AtomicU64,
    /// When the time slice of the vCPU that runs ends.
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
    fn note_earliest(&self, entries: &TimerQueue) {
        self.earliest.store(entries.earliest().unwrap_or(NEVER), Ordering::Relaxed);
    }
}

/// Bytes that the queues take for so many vCPUs on all CPUs.
pub fn heap_bytes(vcpus: usize) -> usize {
    percpu::online().len() as usize * TimerQueue::heap_bytes(vcpus)
}

/// Makes room for the timers of all vCPUs there will be, on each CPU, before any runs.
///
/// # Errors
/// If there is no memory for it.
pub fn reserve(vcpus: usize) -> Result<(), TryReserveError> {
    percpu::online().iter().try_for_each(|cpu| QUEUES[cpu].entries.lock().reserve(vcpus))
}

/// Adds a timer to the queue of a CPU; it isn't in any.
pub fn insert(cpu: usize, entry: Entry) {
    let queue = &QUEUES[cpu];
    let mut entries = queue.entries.lock();
    entries.insert(entry);
    ARMED.fetch_add(1, Ordering::Relaxed);
    queue.note_earliest(&entries);
}

/// Removes a timer from the queue of a CPU, if it is there.
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

/// Ends the slice that was begun at this system time in ns, if not earlier.
pub fn end_slice_by(end: u64) {
    QUEUES[cpu_number()].slice_end.fetch_min(end, Ordering::Relaxed);
    program();
}

/// Whether the time slice of the vCPU that runs on this CPU is over.
pub fn is_slice_over() -> bool {
    QUEUES[cpu_number()].slice_end.load(Ordering::Relaxed) <= clock::now_ns()
}

/// No vCPU runs on this CPU any more.
pub fn end_slice() {
    QUEUES[cpu_number()].slice_end.store(NEVER, Ordering::Relaxed);
}

/// Programs this CPU's APIC timer for what comes first: a deadline, or the end of the slice.
pub fn program() {
    let queue = &QUEUES[cpu_number()];
    let next = queue.earliest.load(Ordering::Relaxed).min(queue.slice_end.load(Ordering::Relaxed));
    let ns = next.saturating_sub(clock::now_ns());
    apic::arm_timer(ns.div_ceil(1000).clamp(1, LONGEST_SLEEP_US));
}
