//! Why a guest stopped, and what is done about it.

pub mod debug;
pub mod emulation;
pub mod general_protection;
pub mod hypervisor;
pub mod invalid_opcode;
pub mod page_fault;
pub mod page_table_store;

use crate::arch::entry::Exit;
use crate::arch::latency::{self, Activity};
use crate::arch::{apic, idt, ipi};
use crate::domain::bounce;
use crate::domain::ending::{self, ShutdownReason};
use crate::domain::scheduler;
use crate::domain::vcpu::{Handler, Mode, Vcpu};
use crate::time::timers;
use crate::{backend, hypercall};

/// Exception vectors (Intel SDM vol. 3, table 6-1).
pub mod vector {
    pub const DEBUG: u8 = 1;
    pub const INVALID_OPCODE: u8 = 6;
    pub const DEVICE_NOT_AVAILABLE: u8 = 7;
    pub const GENERAL_PROTECTION: u8 = 13;
    pub const PAGE_FAULT: u8 = 14;
}

/// A guest can't go on: the reason, for the log. The domain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fatal(pub &'static str);

/// What the scheduler is to do after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Let the vCPU go on, unless its time is up.
    Continue,
    /// Its time is up, or it gave the rest away.
    Yield,
}

/// Handles one exit of the loaded vCPU.
pub fn handle(vcpu: &mut Vcpu, exit: Exit) -> Next {
    let result = match exit {
        Exit::Syscall if vcpu.mode == Mode::Kernel => return hypercall::handle_hypercall(vcpu),
        Exit::Syscall => bounce_syscall(vcpu, vcpu.callbacks.syscall),
        Exit::CompatSyscall => bounce_syscall(vcpu, vcpu.callbacks.syscall32),
        Exit::Exception(number) => exception(vcpu, number),
        Exit::ReturnFault(vector::PAGE_FAULT) => page_fault::handle_return(vcpu),
        // Registers still hold the guest state that could not be entered: the fault is the
        // guest's, at the place where it was to go on.
        Exit::ReturnFault(number) => {
            let error = vcpu.file.regs.error_code;
            // The flat selectors always load; the ones that didn't are in the frame.
            bounce::exception(vcpu, number, Some(error))
        }
        Exit::Int80 => general_protection::int80(vcpu),
        Exit::Interrupt(number) => return interrupt(number),
    };
    finish(vcpu, result)
}

/// An interrupt of the machine's, while a guest ran.
fn interrupt(number: u8) -> Next {
    latency::stamp();
    latency::does::<{ Activity::INTERRUPT.0 }>();
    latency::measure();
    if number != idt::SPURIOUS_VECTOR {
        apic::end_of_interrupt();
    }
    match number {
        idt::TIMER_VECTOR if timers::tick() || scheduler::should_preempt() => return Next::Yield,
        idt::SERIAL_VECTOR => backend::console::poll(),
        // Another processor wants something: a flush, or that this one looks around.
        idt::IPI_VECTOR => {
            ipi::service_ipis();
            if scheduler::should_preempt() {
                return Next::Yield;
            }
        }
        _ => {}
    }
    Next::Continue
}

/// Ends the domain if what was done says so.
pub fn finish(vcpu: &mut Vcpu, result: Result<(), Fatal>) -> Next {
    match result {
        Ok(()) => Next::Continue,
        Err(Fatal(why)) => {
            crash(vcpu, why);
            Next::Yield
        }
    }
}

/// Ends the domain of the loaded vCPU, with a report.
pub fn crash(vcpu: &mut Vcpu, why: &'static str) {
    ending::report_crash(vcpu, why);
    vcpu.domain.end(ShutdownReason::Crash(why));
}

fn exception(vcpu: &mut Vcpu, number: u8) -> Result<(), Fatal> {
    match number {
        vector::PAGE_FAULT => {
            latency::stamp();
            latency::does::<{ Activity::PAGE_FAULT.0 }>();
            page_fault::handle(vcpu)
        }
        vector::GENERAL_PROTECTION => {
            latency::stamp();
            latency::does::<{ Activity::GENERAL_PROTECTION.0 }>();
            general_protection::handle(vcpu)
        }
        vector::INVALID_OPCODE => invalid_opcode::handle(vcpu),
        vector::DEBUG => debug::handle(vcpu),
        vector::DEVICE_NOT_AVAILABLE => {
            // The guest asked for this one with `fpu_taskswitch`; TS is clear when it hears of it.
            vcpu.task_switched = false;
            crate::arch::fpu::set_task_switched(false);
            bounce::exception(vcpu, number, None)
        }
        _ => {
            let error = vcpu.file.regs.error_code;
            bounce::exception(vcpu, number, has_error_code(number).then_some(error))
        }
    }
}

/// Whether the processor pushes an error code (Intel SDM vol. 3, table 6-1).
pub fn has_error_code(number: u8) -> bool {
    matches!(number, 8 | 10..=14 | 17)
}

/// Bytes of the `syscall` instruction.
const SYSCALL_BYTES: u64 = 2;

fn bounce_syscall(vcpu: &mut Vcpu, handler: Handler) -> Result<(), Fatal> {
    if handler.address == 0 {
        vcpu.file.regs.rip = vcpu.file.regs.rip.wrapping_sub(SYSCALL_BYTES);
        return bounce::exception(vcpu, vector::INVALID_OPCODE, None);
    }
    bounce::callback(vcpu, handler, bounce::ClearDirection::Yes)
}
