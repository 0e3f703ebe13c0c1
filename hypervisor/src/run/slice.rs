//! One time slice of a vCPU: enters its guest and handles its exits until it has to stop.
#![expect(unsafe_code, reason = "enters the guest")]

use crate::arch::entry::{self, EntrySet};
use crate::arch::ipi;
use crate::arch::latency::{self, Activity};
use crate::arch::percpu;
use crate::diagnostics::crash::finish;
use crate::diagnostics::listing;
use crate::domain::exit::Next;
use crate::domain::vcpu::Vcpu;
use crate::domain::{bounce, container, context, scheduler};
use crate::memory::isolation;
use crate::time::timers;
use crate::trap;

/// Runs a vCPU until its time slice of `slice` ns is over, or it blocks, yields or ends.
pub fn run_slice(vcpu: &mut Vcpu, slice: u64) {
    if !context::load(vcpu) {
        let regs = &vcpu.file.regs;
        let selectors = [regs.ds, regs.es, regs.fs, regs.gs];
        let result = bounce::failsafe(vcpu, selectors);
        finish(vcpu, result);
    }
    scheduler::note_run_begin();
    timers::begin_slice(slice);
    // Changes from before it was loaded are checked before it runs.
    percpu::set_need_resched();
    // A vCPU that must stop for its own reasons returns `Yield`; other CPUs set need_resched.
    if vcpu.container.is_some() {
        run_in_container(vcpu);
    } else {
        run_in_ring3(vcpu);
    }
    timers::end_slice();
    context::unload(vcpu);
}

/// Runs a vCPU whose kernel is in ring 3.
fn run_in_ring3(vcpu: &mut Vcpu) {
    let entries = isolation::entry_set();
    while !percpu::take_resched() || can_continue(vcpu) {
        if let Next::Yield = deliver_event(vcpu) {
            break;
        }
        if entries == EntrySet::Isolated {
            // Last: nothing after it loads a root or services a flush request.
            isolation::fill_guest_root();
        }
        // SAFETY: `context::load` registered this file with the CPU; every path that sets
        // selectors and flags keeps RPL 3, IF, and neither IOPL, NT nor VM.
        let exit = unsafe { entry::enter(entries, &mut vcpu.file) };
        if let Next::Yield = trap::handle(vcpu, exit) {
            break;
        }
    }
}

/// Runs a vCPU in a hardware container.
fn run_in_container(vcpu: &mut Vcpu) {
    while !percpu::take_resched() || can_continue(vcpu) {
        container::run(vcpu);
        if let Next::Yield = trap::container::handle(vcpu) {
            break;
        }
    }
}

#[cold]
fn can_continue(vcpu: &mut Vcpu) -> bool {
    latency::begin_span(Activity::SCHEDULER);
    latency::checked_scheduler();
    ipi::quiescent_point();
    // The `vcpu_info` may have moved.
    vcpu.info = vcpu.slot().info();
    if vcpu.container.is_some() {
        container::refresh(vcpu);
        let result = container::raise_nmi(vcpu);
        finish(vcpu, result);
    } else if vcpu.slot().take_nmi() {
        let result = bounce::nmi(vcpu);
        finish(vcpu, result);
    }
    let goes_on = !vcpu.domain.is_ending()
        && !vcpu.work.take_yield()
        && !scheduler::should_preempt()
        && !vcpu.is_waiting()
        && !vcpu.slot().is_down_wanted()
        && listing::continue_listings(vcpu);
    if goes_on {
        latency::end_span();
    }
    goes_on
}

fn deliver_event(vcpu: &mut Vcpu) -> Next {
    let result = bounce::pending_event(vcpu);
    finish(vcpu, result)
}
