//! The run queue: every CPU takes the next vCPU from one queue and runs it for a time slice, so that
//! none can starve another.
//!
//! vCPUs that wake go before those whose slice expired, as they have an event to handle; but not
//! always, or a few that wake often could starve the others. A CPU prefers a vCPU that it ran last,
//! if that is near the head. A vCPU that wakes kicks an idle CPU, or preempts a vCPU that has run
//! for a while.

use super::vcpu::Vcpu;
use crate::arch::ipi;
use crate::arch::percpu::{self, MAX_CPUS, cpu_number};
use crate::sync::Mutex;
use crate::time::{clock, timers};
use alloc::boxed::Box;
use alloc::collections::{TryReserveError, VecDeque};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use pinfold_validator::CpuSet;

/// Time slice, in ns.
const SLICE_NS: u64 = 10_000_000;
/// Entries from the head of the queue in which a CPU prefers a vCPU that it ran last.
const AFFINITY_DEPTH: usize = 4;

/// Every so many turns, a vCPU whose slice expired goes first, even if others woke.
const FAIR_TURN: u32 = 4;
/// Time, in ns, that a vCPU may run even if others woke.
const MIN_RUN_NS: u64 = 1_000_000;

/// Why a vCPU is put in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnqueueReason {
    /// What it waited for has happened.
    Wakeup,
    /// Its time slice is over, and it is still runnable.
    SliceExpired,
}

/// Runnable vCPUs.
struct Queue {
    woken: VecDeque<Box<Vcpu>>,
    expired: VecDeque<Box<Vcpu>>,
    turns: u32,
}

impl Queue {
    fn take(&mut self, cpu: usize) -> Option<Box<Vcpu>> {
        self.turns = self.turns.wrapping_add(1);
        let fair = self.turns.is_multiple_of(FAIR_TURN) && !self.expired.is_empty();
        let list = if fair || self.woken.is_empty() { &mut self.expired } else { &mut self.woken };
        let own = list.iter().take(AFFINITY_DEPTH).position(|vcpu| vcpu.last_cpu == cpu);
        list.remove(own.unwrap_or(0))
    }

    fn is_empty(&self) -> bool {
        self.woken.is_empty() && self.expired.is_empty()
    }
}

static QUEUE: Mutex<Queue> =
    Mutex::new(Queue { woken: VecDeque::new(), expired: VecDeque::new(), turns: 0 });
/// System time in ns when each CPU's vCPU began to run.
static BEGAN: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// CPUs whose vCPU is to be preempted, as bits.
static RESCHED_WANTED: AtomicU64 = AtomicU64::new(0);
/// Idle CPUs, as bits.
static IDLE: AtomicU64 = AtomicU64::new(0);
/// How often a vCPU was queued or stopped running.
static ACTIVITY: AtomicU64 = AtomicU64::new(0);
/// vCPUs that are queued or running.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);

/// Heap bytes that the queue takes for so many vCPUs.
pub const fn heap_bytes(vcpus: usize) -> usize {
    2 * vcpus * size_of::<Box<Vcpu>>()
}

/// Reserves room for all vCPUs, before any runs.
///
/// # Errors
/// If there is no memory for it.
pub fn reserve(vcpus: usize) -> Result<(), TryReserveError> {
    let mut queue = QUEUE.lock();
    queue.woken.try_reserve_exact(vcpus)?;
    queue.expired.try_reserve_exact(vcpus)
}

/// Puts a vCPU in the queue. Called by its [`super::VcpuSlot`].
pub fn enqueue(vcpu: Box<Vcpu>, reason: EnqueueReason) {
    let last_cpu = vcpu.last_cpu;
    ACTIVE.fetch_add(1, Ordering::Relaxed);
    ACTIVITY.fetch_add(1, Ordering::SeqCst);
    match reason {
        EnqueueReason::Wakeup => QUEUE.lock().woken.push_back(vcpu),
        EnqueueReason::SliceExpired => QUEUE.lock().expired.push_back(vcpu),
    }
    // SeqCst: the queue first, then the idle CPUs; a CPU that goes idle does it the other way round.
    let idle = CpuSet::from_bits(IDLE.load(Ordering::SeqCst)).without(cpu_number());
    let chosen = if idle.contains(last_cpu) { Some(last_cpu) } else { idle.iter().next() };
    match chosen {
        Some(cpu) => ipi::kick(cpu),
        None if reason == EnqueueReason::Wakeup => request_resched(last_cpu),
        None => {}
    }
}

/// Kicks an idle CPU, if there is one: there is work for it other than a vCPU.
pub fn kick_idle() {
    let idle = CpuSet::from_bits(IDLE.load(Ordering::SeqCst)).without(cpu_number());
    if let Some(cpu) = idle.iter().next() {
        ipi::kick(cpu);
    }
}

/// Requests that a CPU reschedule, for a vCPU that woke.
fn request_resched(cpu: usize) {
    RESCHED_WANTED.fetch_or(1 << cpu, Ordering::Relaxed);
    ipi::kick(cpu);
}

/// Whether this CPU's vCPU is to be preempted now. One that has only just begun runs on until
/// [`MIN_RUN_NS`] are over, but not for its whole slice.
pub fn should_preempt() -> bool {
    let own = cpu_number();
    if RESCHED_WANTED.load(Ordering::Relaxed) & 1 << own == 0 {
        return false;
    }
    let end = BEGAN[own].load(Ordering::Relaxed) + MIN_RUN_NS;
    let over = end <= clock::now_ns();
    if !over {
        timers::end_slice_by(end);
    }
    over
}

/// Removes and returns the next vCPU for this CPU, and how long it may run, in ns.
pub fn take_next() -> Option<(Box<Vcpu>, u64)> {
    let own = cpu_number();
    RESCHED_WANTED.fetch_and(!(1 << own), Ordering::Relaxed);
    let mut queue = QUEUE.lock();
    let vcpu = queue.take(own)?;
    let slice = if queue.woken.is_empty() { SLICE_NS } else { MIN_RUN_NS };
    Some((vcpu, slice))
}

/// The vCPU that [`take_next`] returned begins to run on this CPU.
pub fn note_run_begin() {
    BEGAN[cpu_number()].store(clock::now_ns(), Ordering::Relaxed);
}

/// The vCPU that [`take_next`] returned runs no more on this CPU.
pub fn note_run_end() {
    ACTIVE.fetch_sub(1, Ordering::SeqCst);
    ACTIVITY.fetch_add(1, Ordering::SeqCst);
}

/// Does something while this CPU counts as idle: whoever queues a vCPU from now on kicks it.
/// `sleep` is told whether the queue was empty after that.
pub fn while_idle(sleep: impl FnOnce(bool)) {
    let own = 1 << cpu_number();
    IDLE.fetch_or(own, Ordering::SeqCst);
    // Whoever queued a vCPU before it could see this CPU idle sent no interrupt: look once more. The
    // lock is released before the sleep.
    let is_empty = QUEUE.lock().is_empty();
    sleep(is_empty);
    IDLE.fetch_and(!own, Ordering::SeqCst);
}

/// Whether all CPUs are idle and will stay so: no vCPU is queued or runs, none did between the two
/// looks, and in between there was no wakeup to come and no other work. Work is asked for after the
/// count of active vCPUs, since a vCPU that ends leaves some.
pub fn is_everything_idle(
    is_wakeup_pending: impl FnOnce() -> bool,
    is_work_left: impl FnOnce() -> bool,
) -> bool {
    let before = ACTIVITY.load(Ordering::SeqCst);
    if is_wakeup_pending() || ACTIVE.load(Ordering::SeqCst) != 0 || is_work_left() {
        return false;
    }
    // The idle CPUs last: whoever took the last timer and will wake a vCPU by it isn't idle; nor is
    // one that runs a vCPU that will arm one. If they are idle again, the count tells.
    let all_idle = CpuSet::from_bits(IDLE.load(Ordering::SeqCst)) == percpu::online();
    all_idle && ACTIVITY.load(Ordering::SeqCst) == before
}
