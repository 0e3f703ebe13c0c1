//! The loop of each CPU: runs vCPUs, frees the memory of domains that ended, and stops the machine
//! after the last one.
//!
//! | file       | about                                                          |
//! |------------|----------------------------------------------------------------|
//! | `slice`    | one time slice of a vCPU                                       |
//! | `teardown` | freeing the memory of a domain that ended                      |
//! | `summary`  | how each domain ended, how the run ended, the end of the machine |

pub mod slice;
pub mod summary;
pub mod teardown;

use crate::arch::latency::{self, Activity};
use crate::arch::percpu::cpu_number;
use crate::arch::{control, ipi};
use crate::backend::console as guest_console;
use crate::console::serial;
use crate::diagnostics::debug_keys;
use crate::domain::vcpu::Vcpu;
use crate::domain::{self, scheduler, timers};
use crate::memory::{container, isolation};
use crate::time::timers as cpu_timers;
use alloc::boxed::Box;

/// Runs vCPUs for as long as the machine runs.
pub fn run() -> ! {
    isolation::start_cpu();
    container::start_cpu();
    loop {
        latency::begin_span(Activity::SCHEDULER);
        latency::checked_scheduler();
        ipi::quiescent_point();
        timers::expire();
        guest_console::poll(debug_keys::handle);
        let runs = scheduler::take_next().map(|(vcpu, slice)| run_vcpu(vcpu, slice)).is_some();
        // A step between two slices, and one after the other if there is no vCPU to run.
        let stepped = teardown::step();
        if stepped && runs {
            scheduler::kick_idle();
        }
        if stepped || runs {
            // The timer interrupt that ended the slice is still pending, and would preempt the next
            // operation that checks for it.
            latency::end_span();
            control::open_interrupt_window();
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
    if !domain.is_ending() && !slot.is_down_wanted() {
        slice::run_slice(&mut vcpu, slice);
    }
    scheduler::note_run_end();
    if domain.is_ending() {
        teardown::destroy_vcpu(vcpu);
    } else {
        if slot.sched_out(vcpu) {
            domain.end_if_all_down();
        }
        // The domain may have ended after the check above and before the slot had the vCPU: then
        // nobody else would destroy the vCPU.
        if domain.is_ending() {
            slot.force_wake();
        }
    }
}

/// Sleeps until an interrupt comes.
fn idle() {
    scheduler::while_idle(|queue_is_empty| {
        if queue_is_empty
            && !teardown::is_any_waiting()
            && !end_if_stuck()
            && !serial::needs_polling()
        {
            cpu_timers::program();
            latency::end_span();
            // `sti; hlt`: an interrupt that is pending ends the sleep at once.
            x86_64::instructions::interrupts::enable_and_hlt();
            x86_64::instructions::interrupts::disable();
        }
    });
}

/// Ends all domains if every vCPU is blocked, and nothing is left that could wake one. True if it
/// did.
fn end_if_stuck() -> bool {
    let is_wakeup_pending = || cpu_timers::any_armed() || guest_console::can_wake_guests();
    if !scheduler::is_everything_idle(is_wakeup_pending, teardown::is_any) {
        return false;
    }
    for domain in domain::all() {
        domain.destroy("blocked for ever: no event source is left that could wake it");
    }
    true
}
