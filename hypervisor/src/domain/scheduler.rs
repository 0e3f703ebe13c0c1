//! Which vCPU runs: in turn, for a slice each, so that none can starve another.

use super::Tally;
use super::context;
use super::ending::{self, Ending};
use super::vcpu::{RunState, Vcpu};
use crate::arch::{apic, entry};
use crate::console::input;
use crate::console::log::record;
use crate::memory::teardown;
use crate::time::clock;
use crate::trap::{self, Next, bounce};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// Microseconds that a vCPU may run while others wait.
const SLICE_US: u64 = 10_000;
/// Microseconds to sleep at most when all wait: bounds what a clock error can cost.
const LONGEST_SLEEP_US: u64 = 1_000_000;

/// Runs all vCPUs until every domain has ended.
pub fn run(vcpus: Vec<Box<Vcpu>>, tally: &mut Tally) {
    let mut queue: VecDeque<Box<Vcpu>> = vcpus.into();
    while !queue.is_empty() {
        // No guest has a port for its console yet.
        input::poll(|_| {});
        for vcpu in &mut queue {
            wake(vcpu);
        }
        let Some(index) = queue.iter().position(|v| v.state == RunState::Runnable) else {
            if !sleep(&queue) {
                give_up(&queue);
            }
            continue;
        };
        let mut vcpu = queue.remove(index).expect("the index was just found");
        run_slice(&mut vcpu);
        if vcpu.domain.ending.is_completed() {
            let domain = vcpu.domain.clone();
            ending::close(&domain, tally);
            teardown::destroy(vcpu);
        } else {
            queue.push_back(vcpu);
        }
    }
}

fn wake(vcpu: &mut Vcpu) {
    let event = vcpu.upcall_pending().load(Ordering::SeqCst) != 0;
    let time_is_up = match vcpu.state {
        RunState::Polling(Some(at)) => at <= clock::now_ns(),
        _ => false,
    };
    if vcpu.state != RunState::Runnable && (event || time_is_up) {
        vcpu.state = RunState::Runnable;
    }
}

/// Sleeps until the next deadline. False if there is none, so that nothing would ever change: no
/// processor but this one could raise an event.
fn sleep(queue: &VecDeque<Box<Vcpu>>) -> bool {
    let deadlines = queue.iter().filter_map(|v| match v.state {
        RunState::Polling(deadline) => deadline,
        _ => None,
    });
    let Some(next) = deadlines.min() else { return false };
    let us = next.saturating_sub(clock::now_ns()).div_ceil(1000).clamp(1, LONGEST_SLEEP_US);
    apic::arm_timer(us);
    x86_64::instructions::interrupts::enable_and_hlt();
    x86_64::instructions::interrupts::disable();
    true
}

/// Ends domains that wait for what can't come.
fn give_up(queue: &VecDeque<Box<Vcpu>>) {
    for vcpu in queue {
        let why = "blocked for ever: no event source is bound that could wake it";
        record!(vcpu.who(), CRASH, "name={:?} reason=\"{why}\"", vcpu.domain.name);
        vcpu.domain.end(Ending::Crash(why));
    }
    // Ended vCPUs are taken off by the loop once they are runnable.
    for vcpu in queue {
        vcpu.upcall_pending().store(1, Ordering::SeqCst);
    }
}

fn run_slice(vcpu: &mut Vcpu) {
    if vcpu.domain.ending.is_completed() {
        return;
    }
    if !context::load(vcpu) {
        let regs = &vcpu.file.regs;
        let selectors = [regs.ds, regs.es, regs.fs, regs.gs];
        let result = bounce::failsafe(vcpu, selectors);
        trap::finish(vcpu, result);
    }
    apic::arm_timer(SLICE_US);
    while !vcpu.domain.ending.is_completed() && vcpu.state == RunState::Runnable {
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
    context::unload(vcpu);
}

fn deliver_event(vcpu: &mut Vcpu) -> Next {
    let result = bounce::pending_event(vcpu);
    trap::finish(vcpu, result)
}
