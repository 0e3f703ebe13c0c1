//! Exits of guests in hardware containers.

mod instructions;

use super::page_table_store::{self, Store};
use crate::arch::container::{Event, Exit};
use crate::arch::{control, percpu, vector};
use crate::diagnostics::crash::finish;
use crate::domain::container::{guest, raise, step};
use crate::domain::exit::{Fatal, Next};
use crate::domain::vcpu::{Mode, Vcpu};
use crate::hypercall::dispatch::handle_hypercall;
use pinfold_emulate::debug::DR6_STATUS;

/// Error-code bits of page faults (Intel SDM vol. 3, 4.7).
const PROTECTION: u32 = 1 << 0;
const WRITE: u32 = 1 << 1;

/// Handles the last exit of the loaded vCPU.
#[inline]
pub fn handle(vcpu: &mut Vcpu) -> Next {
    if let Vcpu { container: Some(guest), file, mode, .. } = vcpu
        && guest.made_hypercall()
    {
        *mode = Mode::Kernel;
        guest.skip_hypercall(&mut file.regs, instructions::measure_hypercall);
        return handle_hypercall(vcpu);
    }
    handle_other(vcpu)
}

/// Handles an exit that is no hypercall of the kernel.
#[inline(never)]
fn handle_other(vcpu: &mut Vcpu) -> Next {
    vcpu.mode = if guest(vcpu).is_kernel() { Mode::Kernel } else { Mode::User };
    let Vcpu { container, file, .. } = vcpu;
    let Some(exit) = container.as_ref().map(|guest| guest.exit_reason(&mut file.regs)) else {
        return Next::Continue;
    };
    let result = match exit {
        Exit::UserHypercall => raise(vcpu, Event::Exception(vector::INVALID_OPCODE, None)),
        Exit::Interrupt => return take_interrupts(),
        Exit::Nothing => Ok(()),
        Exit::Exception(number, address) => exception(vcpu, number, address),
        Exit::Instruction(instruction) => match instructions::execute(vcpu, instruction) {
            Ok(next) => return next,
            Err(fatal) => Err(fatal),
        },
        Exit::Forbidden(vector::INVALID_OPCODE) => {
            raise(vcpu, Event::Exception(vector::INVALID_OPCODE, None))
        }
        Exit::Forbidden(_) => raise(vcpu, Event::GENERAL_PROTECTION),
        Exit::NmiDone => {
            let rip = vcpu.file.regs.rip;
            guest(vcpu).end_nmi(rip);
            // Another one may be pending.
            percpu::set_need_resched();
            Ok(())
        }
        Exit::Fatal(why) => Err(Fatal(why)),
    };
    finish(vcpu, result)
}

/// Takes the interrupts that made the guest exit, and acts on them.
fn take_interrupts() -> Next {
    control::open_interrupt_window();
    let mut next = Next::Continue;
    for number in percpu::take_interrupts() {
        if let Next::Yield = super::act_on_interrupt(number) {
            next = Next::Yield;
        }
    }
    next
}

fn exception(vcpu: &mut Vcpu, number: u8, address: u64) -> Result<(), Fatal> {
    match number {
        vector::PAGE_FAULT => page_fault(vcpu, address),
        vector::DEBUG => {
            let status = guest(vcpu).take_dr6();
            vcpu.debug.status |= status & DR6_STATUS;
            raise(vcpu, Event::Exception(vector::DEBUG, None))
        }
        vector::MACHINE_CHECK => panic!("machine check while {} ran", vcpu.who()),
        _ => {
            let error = vcpu.file.regs.error_code;
            let error = vector::has_error_code(number).then_some(error);
            raise(vcpu, Event::Exception(number, error))
        }
    }
}

/// A page fault of a guest that wants its stores to page tables emulated. All others are its own.
fn page_fault(vcpu: &mut Vcpu, address: u64) -> Result<(), Fatal> {
    let error = vcpu.file.regs.error_code;
    let is_store = error & (PROTECTION | WRITE) == PROTECTION | WRITE;
    if is_store && vcpu.mode == Mode::Kernel {
        match page_table_store::try_emulate(vcpu, address) {
            Store::Done => return step(vcpu),
            Store::Again => return Ok(()),
            Store::Preempted => {
                vcpu.domain.stats.preemptions.bump();
                vcpu.work.yield_before_retry();
                return Ok(());
            }
            Store::NotOurs => {}
        }
    }
    raise(vcpu, Event::PageFault { address, error })
}
