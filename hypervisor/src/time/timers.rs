//! Timers of vCPUs. Each processor has a queue, on which a vCPU puts its timers while it runs
//! there; they stay there if it moves on, and raise its event from there.

use super::clock;
use super::timer_queue::{Entry, TimerQueue};
use crate::arch::apic;
use crate::arch::percpu::{self, MAX_CPUS, cpu_number};
use crate::domain::ending::ShutdownReason;
use crate::domain::{self, Domain};
use crate::event::ports;
use crate::sync::Mutex;
use alloc::collections::TryReserveError;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use pinfold_abi::event::VIRQ_TIMER;
use pinfold_abi::sched::SHUTDOWN_WATCHDOG;
use pinfold_validator::DomId;

/// Which of a vCPU's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
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

impl Kind {
    pub(super) const ALL: [Kind; 6] = [
        Kind::Singleshot,
        Kind::Periodic,
        Kind::Poll,
        Kind::Lifetime,
        Kind::Watchdog1,
        Kind::Watchdog2,
    ];
}

/// Shortest period that a guest may ask for (`public/vcpu.h` names 1 ms).
pub const SHORTEST_PERIOD_NS: u64 = 1_000_000;
/// Longest time, in microseconds, that a processor sleeps: bounds what an error of the timer's
/// rate can cost.
const LONGEST_SLEEP_US: u64 = 1_000_000;
/// No deadline.
const NEVER: u64 = u64::MAX;

/// The timers of one processor.
struct Queue {
    entries: Mutex<TimerQueue>,
    /// The earliest deadline, or [`NEVER`]: only its own processor brings it forward.
    earliest: AtomicU64,
    /// When the vCPU that runs has had its share.
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

/// One timer of a vCPU, if it is armed.
#[derive(Clone, Copy, Debug)]
struct Armed {
    cpu: usize,
    deadline: u64,
    period: u64,
}

/// Bytes that the queues take for so many vCPUs on all processors.
pub fn heap_bytes(vcpus: usize) -> usize {
    percpu::online().len() as usize * TimerQueue::heap_bytes(vcpus)
}

/// Makes room for the timers of all vCPUs there will be, on each processor, before any runs.
///
/// # Errors
/// If there is no memory for it.
pub fn reserve(vcpus: usize) -> Result<(), TryReserveError> {
    percpu::online().iter().try_for_each(|cpu| QUEUES[cpu].entries.lock().reserve(vcpus))
}

/// The timers of a vCPU, by [`Kind`].
#[derive(Debug, Default)]
pub struct Timers(Mutex<[Option<Armed>; Kind::ALL.len()]>);

fn insert(cpu: usize, entry: Entry) {
    let queue = &QUEUES[cpu];
    let mut entries = queue.entries.lock();
    entries.insert(entry);
    ARMED.fetch_add(1, Ordering::Relaxed);
    let earliest = entries.earliest().unwrap_or(NEVER);
    queue.earliest.store(earliest, Ordering::Relaxed);
}

fn remove(cpu: usize, entry: &Entry) {
    let queue = &QUEUES[cpu];
    let mut entries = queue.entries.lock();
    if entries.remove(entry) {
        ARMED.fetch_sub(1, Ordering::Relaxed);
    }
    let earliest = entries.earliest().unwrap_or(NEVER);
    queue.earliest.store(earliest, Ordering::Relaxed);
}

/// Arms a timer of a vCPU on this processor, in place of what it was armed for.
/// `period`: nanoseconds until it fires again, 0 for once.
pub fn arm(domain: &Domain, vcpu: u16, kind: Kind, deadline: u64, period: u64) {
    let Some(slot) = domain.slots.get(usize::from(vcpu)) else { return };
    let cpu = cpu_number();
    {
        let mut timers = slot.timers.0.lock();
        let entry = |deadline| Entry { deadline, domain: domain.id.get(), vcpu, kind };
        if let Some(old) = timers[kind as usize].take() {
            remove(old.cpu, &entry(old.deadline));
        }
        timers[kind as usize] = Some(Armed { cpu, deadline, period });
        insert(cpu, entry(deadline));
    }
    program();
}

/// Disarms a timer of a vCPU.
pub fn disarm(domain: &Domain, vcpu: u16, kind: Kind) {
    let Some(slot) = domain.slots.get(usize::from(vcpu)) else { return };
    let mut timers = slot.timers.0.lock();
    if let Some(Armed { cpu, deadline, .. }) = timers[kind as usize].take() {
        remove(cpu, &Entry { deadline, domain: domain.id.get(), vcpu, kind });
    }
}

/// Disarms all timers of a vCPU.
pub fn disarm_all(domain: &Domain, vcpu: u16) {
    for kind in Kind::ALL {
        disarm(domain, vcpu, kind);
    }
}

/// Fires what is due on this processor.
pub fn expire() {
    let queue = &QUEUES[cpu_number()];
    while queue.earliest.load(Ordering::Relaxed) <= clock::now_ns() {
        let due = {
            let mut entries = queue.entries.lock();
            let due = entries.take_due(clock::now_ns());
            if due.is_some() {
                ARMED.fetch_sub(1, Ordering::Relaxed);
            }
            let earliest = entries.earliest().unwrap_or(NEVER);
            queue.earliest.store(earliest, Ordering::Relaxed);
            due
        };
        match due {
            Some(entry) => fire(entry),
            None => return,
        }
    }
}

fn fire(entry: Entry) {
    // A domain that is gone had its timers disarmed; one was just being fired.
    let Some(domain) = domain::find(DomId::new(entry.domain)) else { return };
    let Some(slot) = domain.slots.get(usize::from(entry.vcpu)) else { return };
    {
        let mut timers = slot.timers.0.lock();
        let slot = &mut timers[entry.kind as usize];
        match slot {
            Some(armed) if armed.deadline == entry.deadline && armed.cpu == cpu_number() => {
                // Firings that were missed are skipped, the beat is kept.
                let late = clock::now_ns().saturating_sub(armed.deadline);
                match late.checked_div(armed.period) {
                    None => *slot = None,
                    Some(missed) => {
                        let beats = (missed + 1).saturating_mul(armed.period);
                        armed.deadline = armed.deadline.saturating_add(beats);
                        insert(armed.cpu, Entry { deadline: armed.deadline, ..entry });
                    }
                }
            }
            // Armed anew since.
            _ => return,
        }
    }
    match entry.kind {
        Kind::Poll => slot.kick(),
        Kind::Lifetime => domain.destroy("its lifetime, as the manifest has it, is over"),
        Kind::Watchdog1 | Kind::Watchdog2 => {
            domain.end(ShutdownReason::Shutdown(SHUTDOWN_WATCHDOG))
        }
        Kind::Singleshot | Kind::Periodic => ports::raise_virq(&domain, VIRQ_TIMER, entry.vcpu),
    }
}

/// Whether any timer is armed anywhere.
pub fn any_armed() -> bool {
    ARMED.load(Ordering::Relaxed) != 0
}

/// Gives the vCPU that runs now some nanoseconds, and sets the processor's timer.
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

/// The processor's timer fired while a vCPU ran: fires what is due. True if its share is used up.
pub fn tick() -> bool {
    expire();
    let slice_end = QUEUES[cpu_number()].slice_end.load(Ordering::Relaxed);
    let over = slice_end <= clock::now_ns();
    if !over {
        program();
    }
    over
}

/// No vCPU runs any more.
pub fn end_slice() {
    QUEUES[cpu_number()].slice_end.store(NEVER, Ordering::Relaxed);
}

/// Sets this processor's timer to what comes first: a deadline, or the end of the slice.
pub fn program() {
    let queue = &QUEUES[cpu_number()];
    let next = queue.earliest.load(Ordering::Relaxed).min(queue.slice_end.load(Ordering::Relaxed));
    let ns = next.saturating_sub(clock::now_ns());
    apic::arm_timer(ns.div_ceil(1000).clamp(1, LONGEST_SLEEP_US));
}
