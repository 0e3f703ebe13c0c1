//! Which vCPU runs where: one queue, from which every processor takes the next, for a slice each,
//! so that none can starve another.
//!
//! A processor prefers a vCPU that it ran last, if that isn't far behind in the queue; a vCPU that
//! wakes interrupts a processor that sleeps, if one does.

use super::context;
use super::ending::{self, Ending};
use super::vcpu::{RunState, Vcpu};
use crate::arch::percpu::{self, cpu_number};
use crate::arch::{entry, ipi};
use crate::console;
use crate::console::log::record;
use crate::sync::Mutex;
use crate::time::timers;
use crate::trap::{self, Next, bounce};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use pinfold_validator::CpuSet;

/// Microseconds that a vCPU may run while others wait.
const SLICE_US: u64 = 10_000;
/// How far back in the queue a processor looks for a vCPU that it ran last.
const AFFINITY_DEPTH: usize = 4;

/// vCPUs that wait for a processor.
static QUEUE: Mutex<VecDeque<Box<Vcpu>>> = Mutex::new(VecDeque::new());
/// Processors that sleep, as bits.
static IDLE: AtomicU64 = AtomicU64::new(0);
/// vCPUs that are queued or running.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);

/// Makes room for so many vCPUs more, before they run.
pub fn reserve(vcpus: usize) {
    QUEUE.lock().reserve(vcpus);
}

/// Puts a vCPU in the queue. Called by its seat.
pub fn enqueue(vcpu: Box<Vcpu>) {
    let last_cpu = vcpu.last_cpu;
    ACTIVE.fetch_add(1, Ordering::Relaxed);
    QUEUE.lock().push_back(vcpu);
    // SeqCst: the queue first, then the sleepers; a processor does it the other way round.
    let idle = CpuSet::from_bits(IDLE.load(Ordering::SeqCst)).without(cpu_number());
    let chosen = if idle.contains(last_cpu) { Some(last_cpu) } else { idle.iter().next() };
    if let Some(cpu) = chosen {
        ipi::kick(cpu);
    }
}

fn next() -> Option<Box<Vcpu>> {
    let own = cpu_number();
    let mut queue = QUEUE.lock();
    let mine = queue.iter().take(AFFINITY_DEPTH).position(|vcpu| vcpu.last_cpu == own);
    queue.remove(mine.unwrap_or(0))
}

/// Runs vCPUs for as long as the machine runs.
pub fn run() -> ! {
    loop {
        ipi::safe_point();
        timers::expire();
        console::bring_input();
        match next() {
            Some(vcpu) => take_turn(vcpu),
            None => idle(),
        }
    }
}

fn take_turn(mut vcpu: Box<Vcpu>) {
    let domain = vcpu.domain.clone();
    let seat = &domain.seats[usize::from(vcpu.id)];
    let cpu = cpu_number();
    vcpu.last_cpu = cpu;
    seat.begin_to_run(cpu);
    if !domain.ending.is_completed() && !seat.is_down_wanted() {
        run_slice(&mut vcpu);
    }
    ACTIVE.fetch_sub(1, Ordering::Relaxed);
    if domain.ending.is_completed() {
        ending::retire(vcpu);
    } else {
        seat.end_to_run(vcpu);
        // The domain may have ended after the look above and before the seat had the vCPU: then
        // nobody else would come for it.
        if domain.ending.is_completed() {
            seat.rouse();
        }
    }
}

fn run_slice(vcpu: &mut Vcpu) {
    if !context::load(vcpu) {
        let regs = &vcpu.file.regs;
        let selectors = [regs.ds, regs.es, regs.fs, regs.gs];
        let result = bounce::failsafe(vcpu, selectors);
        trap::finish(vcpu, result);
    }
    timers::begin_slice(SLICE_US);
    while must_go_on(vcpu) {
        if let Next::Yield = deliver_event(vcpu) {
            break;
        }
        // SAFETY: `context::load` told the processor about this file; every path that sets
        // selectors and flags keeps RPL 3, IF, and neither IOPL, NT nor VM.
        let exit = unsafe { entry::enter(&mut vcpu.file) };
        if let Next::Yield = trap::handle(vcpu, exit) {
            break;
        }
    }
    timers::end_slice();
    context::unload(vcpu);
}

fn must_go_on(vcpu: &mut Vcpu) -> bool {
    ipi::safe_point();
    !vcpu.domain.ending.is_completed()
        && vcpu.state == RunState::Runnable
        && !vcpu.seat().is_down_wanted()
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
    if QUEUE.lock().is_empty() && !nothing_can_come() {
        timers::program();
        // An interrupt that came since is taken by this, and ends the sleep.
        x86_64::instructions::interrupts::enable_and_hlt();
        x86_64::instructions::interrupts::disable();
    }
    IDLE.fetch_and(!own, Ordering::SeqCst);
}

/// Ends all domains if every vCPU waits, and nothing is left that could wake one. False if there
/// is still hope.
fn nothing_can_come() -> bool {
    let all_sleep = CpuSet::from_bits(IDLE.load(Ordering::SeqCst)) == percpu::online();
    if !all_sleep
        || ACTIVE.load(Ordering::SeqCst) != 0
        || timers::any_armed()
        || console::takes_input()
    {
        return false;
    }
    for domain in super::all() {
        let why = "blocked for ever: no event source is left that could wake it";
        if !domain.ending.is_completed() {
            record!(domain.who(), CRASH, "name={:?} reason=\"{why}\"", domain.name);
            domain.end(Ending::Crash(why));
        }
    }
    true
}
