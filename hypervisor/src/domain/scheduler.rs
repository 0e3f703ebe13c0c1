//! Which vCPU runs where: every processor takes the next from a common queue, for a slice each, so
//! that none can starve another.
//!
//! Those that wake go before those that used up their slice, as they have something to answer; but
//! not every time, or a few that wake often could keep the others out. A processor prefers a vCPU
//! that it ran last, if that isn't far behind. A vCPU that wakes calls a processor that sleeps, or
//! else ends the slice of one that has run for a while.

use super::vcpu::{RunState, Vcpu};
use super::{bounce, context, ending};
use crate::arch::entry::{self, EntrySet};
use crate::arch::latency::{self, Activity};
use crate::arch::percpu::{self, MAX_CPUS, cpu_number};
use crate::arch::{control, ipi};
use crate::backend;
use crate::console;
use crate::diagnostics::listing;
use crate::memory::isolation;
use crate::run::teardown;
use crate::sync::Mutex;
use crate::time::{clock, timers};
use crate::trap::{self, Next};
use alloc::boxed::Box;
use alloc::collections::{TryReserveError, VecDeque};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use pinfold_validator::CpuSet;

/// Nanoseconds that a vCPU may run while others wait.
const SLICE_NS: u64 = 10_000_000;
/// How far back in the queue a processor looks for a vCPU that it ran last.
const AFFINITY_DEPTH: usize = 4;

/// Of so many turns one goes to who used up a slice, even if others woke.
const FAIR_TURN: u32 = 4;
/// Nanoseconds that a vCPU may run even if others that woke wait.
const MIN_RUN_NS: u64 = 1_000_000;

/// Why a vCPU is put in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnqueueReason {
    /// What it waited for came.
    Wakeup,
    /// It ran, and would run on.
    SliceExpired,
}

/// vCPUs that wait for a processor.
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
/// When the vCPU that runs on each processor began to.
static BEGAN: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// Processors whose vCPU is to make room, as bits.
static RESCHED_WANTED: AtomicU64 = AtomicU64::new(0);
/// Processors that sleep, as bits.
static IDLE: AtomicU64 = AtomicU64::new(0);
/// How often a vCPU was queued or ended its turn.
static ACTIVITY: AtomicU64 = AtomicU64::new(0);
/// vCPUs that are queued or running.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);

/// Bytes that the queue takes for so many vCPUs.
pub const fn heap_bytes(vcpus: usize) -> usize {
    2 * vcpus * size_of::<Box<Vcpu>>()
}

/// Makes room for all vCPUs there will be, before any runs.
///
/// # Errors
/// If there is no memory for it.
pub fn reserve(vcpus: usize) -> Result<(), TryReserveError> {
    let mut queue = QUEUE.lock();
    queue.woken.try_reserve_exact(vcpus)?;
    queue.expired.try_reserve_exact(vcpus)
}

/// Puts a vCPU in the queue. Called by its slot.
pub fn enqueue(vcpu: Box<Vcpu>, reason: EnqueueReason) {
    let last_cpu = vcpu.last_cpu;
    ACTIVE.fetch_add(1, Ordering::Relaxed);
    ACTIVITY.fetch_add(1, Ordering::SeqCst);
    match reason {
        EnqueueReason::Wakeup => QUEUE.lock().woken.push_back(vcpu),
        EnqueueReason::SliceExpired => QUEUE.lock().expired.push_back(vcpu),
    }
    // SeqCst: the queue first, then the sleepers; a processor does it the other way round.
    let idle = CpuSet::from_bits(IDLE.load(Ordering::SeqCst)).without(cpu_number());
    let chosen = if idle.contains(last_cpu) { Some(last_cpu) } else { idle.iter().next() };
    match chosen {
        Some(cpu) => ipi::kick(cpu),
        None if reason == EnqueueReason::Wakeup => request_resched(last_cpu),
        None => {}
    }
}

/// Wakes a processor that sleeps, if one does: there is work for it that is no vCPU.
fn kick_idle() {
    let idle = CpuSet::from_bits(IDLE.load(Ordering::SeqCst)).without(cpu_number());
    if let Some(cpu) = idle.iter().next() {
        ipi::kick(cpu);
    }
}

/// Asks the vCPU that runs on a processor to make room for one that woke.
fn request_resched(cpu: usize) {
    RESCHED_WANTED.fetch_or(1 << cpu, Ordering::Relaxed);
    ipi::kick(cpu);
}

/// Whether this processor's vCPU is to make room now. One that has only begun may run on for a
/// moment, but not for its whole slice.
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

/// The next vCPU, and how long it may run, in ns.
fn next() -> Option<(Box<Vcpu>, u64)> {
    let own = cpu_number();
    RESCHED_WANTED.fetch_and(!(1 << own), Ordering::Relaxed);
    let mut queue = QUEUE.lock();
    let vcpu = queue.take(own)?;
    let slice = if queue.woken.is_empty() { SLICE_NS } else { MIN_RUN_NS };
    Some((vcpu, slice))
}

/// Runs vCPUs for as long as the machine runs.
pub fn run() -> ! {
    isolation::start_cpu();
    loop {
        latency::begin(Activity::SCHEDULER);
        latency::looked_at_scheduler();
        ipi::quiescent_point();
        timers::expire();
        backend::console::poll();
        let runs = next().map(|(vcpu, slice)| run_vcpu(vcpu, slice)).is_some();
        // A step between two turns, and one after the other if there is no vCPU to run.
        let stepped = teardown::step();
        if stepped && runs {
            kick_idle();
        }
        if stepped || runs {
            // The timer that ended the turn is still pending, and would end the next attempt of
            // whatever looks at it.
            latency::end();
            control::let_interrupts_in();
        } else {
            idle();
        }
    }
}

fn run_vcpu(mut vcpu: Box<Vcpu>, slice: u64) {
    let domain = vcpu.domain.clone();
    let slot = &domain.slots[usize::from(vcpu.id)];
    let cpu = cpu_number();
    vcpu.last_cpu = cpu;
    slot.sched_in(cpu);
    if !domain.ending.is_completed() && !slot.is_down_wanted() {
        run_slice(&mut vcpu, slice);
    }
    ACTIVE.fetch_sub(1, Ordering::SeqCst);
    ACTIVITY.fetch_add(1, Ordering::SeqCst);
    if domain.ending.is_completed() {
        ending::destroy_vcpu(vcpu);
    } else {
        if slot.sched_out(vcpu) {
            domain.end_if_all_down();
        }
        // The domain may have ended after the look above and before the slot had the vCPU: then
        // nobody else would come for it.
        if domain.ending.is_completed() {
            slot.force_wake();
        }
    }
}

fn run_slice(vcpu: &mut Vcpu, slice: u64) {
    if !context::load(vcpu) {
        let regs = &vcpu.file.regs;
        let selectors = [regs.ds, regs.es, regs.fs, regs.gs];
        let result = bounce::failsafe(vcpu, selectors);
        trap::finish(vcpu, result);
    }
    BEGAN[cpu_number()].store(clock::now_ns(), Ordering::Relaxed);
    timers::begin_slice(slice);
    // What changed before it was loaded is looked at before it runs.
    percpu::set_need_resched(cpu_number());
    // Every way in which a vCPU itself says that it must not go on ends in `Yield`; what others say
    // comes with a call for attention.
    let entries = isolation::entry_set();
    while !percpu::take_resched() || must_go_on(vcpu) {
        if let Next::Yield = deliver_event(vcpu) {
            break;
        }
        if entries == EntrySet::Isolated {
            // Last of all: nothing behind it loads a root or answers a flush.
            isolation::fill_guest_root();
        }
        // SAFETY: `context::load` told the processor about this file; every path that sets
        // selectors and flags keeps RPL 3, IF, and neither IOPL, NT nor VM.
        let exit = unsafe { entry::enter(entries, &mut vcpu.file) };
        if let Next::Yield = trap::handle(vcpu, exit) {
            break;
        }
    }
    timers::end_slice();
    context::unload(vcpu);
}

#[cold]
fn must_go_on(vcpu: &mut Vcpu) -> bool {
    latency::begin(Activity::SCHEDULER);
    latency::looked_at_scheduler();
    ipi::quiescent_point();
    // The record of events may have moved.
    vcpu.info = vcpu.slot().info();
    if vcpu.slot().take_nmi() {
        let result = bounce::nmi(vcpu);
        trap::finish(vcpu, result);
    }
    let goes_on = !vcpu.domain.ending.is_completed()
        && !vcpu.work.take_yield()
        && !should_preempt()
        && vcpu.state == RunState::Runnable
        && !vcpu.slot().is_down_wanted()
        && listing::go_on(vcpu);
    if goes_on {
        latency::end();
    }
    goes_on
}

fn deliver_event(vcpu: &mut Vcpu) -> Next {
    let result = bounce::pending_event(vcpu);
    trap::finish(vcpu, result)
}

/// Sleeps until an interrupt comes.
fn idle() {
    let own = 1 << cpu_number();
    IDLE.fetch_or(own, Ordering::SeqCst);
    // Who queued a vCPU before it could see us asleep sent no interrupt: look once more.
    if QUEUE.lock().is_empty()
        && !teardown::is_any_waiting()
        && !nothing_can_come()
        && !console::serial::needs_polling()
    {
        timers::program();
        latency::end();
        // An interrupt that came since is taken by this, and ends the sleep.
        x86_64::instructions::interrupts::enable_and_hlt();
        x86_64::instructions::interrupts::disable();
    }
    IDLE.fetch_and(!own, Ordering::SeqCst);
}

/// Ends all domains if every vCPU waits, and nothing is left that could wake one. False if there
/// is still hope.
fn nothing_can_come() -> bool {
    let before = ACTIVITY.load(Ordering::SeqCst);
    if timers::any_armed()
        || backend::console::can_wake_guests()
        || ACTIVE.load(Ordering::SeqCst) != 0
        || teardown::is_any()
    {
        return false;
    }
    // The sleepers last: who took the last timer and will wake a vCPU by it doesn't sleep; nor does
    // who runs a vCPU that will arm one. If they are asleep again, the count tells.
    let all_sleep = CpuSet::from_bits(IDLE.load(Ordering::SeqCst)) == percpu::online();
    if !all_sleep || ACTIVITY.load(Ordering::SeqCst) != before {
        return false;
    }
    for domain in super::all() {
        domain.destroy("blocked for ever: no event source is left that could wake it");
    }
    true
}
