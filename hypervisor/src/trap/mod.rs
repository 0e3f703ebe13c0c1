//! Exits of guests: exceptions, interrupts and system calls.

pub mod container;
pub mod debug;
pub mod emulation;
pub mod general_protection;
pub mod hypervisor;
pub mod invalid_opcode;
pub mod page_fault;
pub mod page_table_store;

use crate::arch::entry::Exit;
use crate::arch::latency::{self, Activity};
use crate::arch::vector::{self, has_error_code};
use crate::arch::{apic, ipi};
use crate::diagnostics::crash::finish;
use crate::diagnostics::debug_keys;
use crate::domain::bounce;
use crate::domain::exit::{Fatal, Next};
use crate::domain::vcpu::{Handler, Mode, Vcpu};
use crate::domain::{scheduler, timers};

use crate::{backend, hypercall};

/// Handles one exit of the loaded vCPU.
pub fn handle(vcpu: &mut Vcpu, exit: Exit) -> Next {
    let result = match exit {
        Exit::Syscall if vcpu.mode == Mode::Kernel => {
            return hypercall::dispatch::handle_hypercall(vcpu);
        }
        Exit::Syscall => bounce_syscall(vcpu, vcpu.callbacks.syscall),
        Exit::CompatSyscall => bounce_syscall(vcpu, vcpu.callbacks.syscall32),
        Exit::Exception(number) => exception(vcpu, number),
        Exit::ReturnFault(vector::PAGE_FAULT) => page_fault::handle_return(vcpu),
        // `iretq` to the guest faulted. The registers still hold the guest's state, so the fault is
        // delivered at the place where the guest was to resume.
        Exit::ReturnFault(number) => {
            let error = vcpu.file.regs.error_code;
            // The handler gets the flat selectors, which always load; the bad ones are in the frame.
            bounce::exception(vcpu, number, Some(error))
        }
        Exit::Int80 => general_protection::int80(vcpu),
        Exit::Interrupt(number) => return interrupt(number),
    };
    finish(vcpu, result)
}

/// Handles an interrupt that came while a guest ran.
fn interrupt(number: u8) -> Next {
    latency::stamp();
    latency::set_activity_const::<{ Activity::INTERRUPT.0 }>();
    latency::measure_from_stamp();
    if number != vector::SPURIOUS {
        apic::end_of_interrupt();
    }
    act_on_interrupt(number)
}

/// Does what an interrupt, which was acknowledged, is for.
fn act_on_interrupt(number: u8) -> Next {
    match number {
        vector::TIMER if timers::tick() || scheduler::should_preempt() => return Next::Yield,
        vector::SERIAL => backend::console::poll(debug_keys::handle),
        // Another CPU requests a flush, or a reschedule.
        vector::IPI => {
            ipi::service_ipis();
            if scheduler::should_preempt() {
                return Next::Yield;
            }
        }
        _ => {}
    }
    Next::Continue
}

fn exception(vcpu: &mut Vcpu, number: u8) -> Result<(), Fatal> {
    match number {
        vector::PAGE_FAULT => {
            latency::stamp();
            latency::set_activity_const::<{ Activity::PAGE_FAULT.0 }>();
            page_fault::handle(vcpu)
        }
        vector::GENERAL_PROTECTION => {
            latency::stamp();
            latency::set_activity_const::<{ Activity::GENERAL_PROTECTION.0 }>();
            general_protection::handle(vcpu)
        }
        vector::INVALID_OPCODE => invalid_opcode::handle(vcpu),
        vector::DEBUG => debug::handle(vcpu),
        vector::DEVICE_NOT_AVAILABLE => {
            // Requested by the guest with `fpu_taskswitch`; its handler runs with TS clear.
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

/// Bytes of the `syscall` instruction.
const SYSCALL_BYTES: u64 = 2;

fn bounce_syscall(vcpu: &mut Vcpu, handler: Handler) -> Result<(), Fatal> {
    if handler.address == 0 {
        vcpu.file.regs.rip = vcpu.file.regs.rip.wrapping_sub(SYSCALL_BYTES);
        return bounce::exception(vcpu, vector::INVALID_OPCODE, None);
    }
    bounce::callback(vcpu, handler, bounce::ClearDirection::Yes)
}
