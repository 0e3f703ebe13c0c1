//! Debug exceptions (#DB) of guests.

use crate::arch::{debug_registers, vector};
use crate::domain::bounce::{self, rflags};
use crate::domain::exit::Fatal;
use crate::domain::vcpu::Vcpu;
use pinfold_emulate::debug::DR6_STATUS;
use x86_64::registers::debug::Dr6Flags;

/// Handles a debug exception of the guest: adds the cause to the guest's DR6 and delivers #DB.
pub fn handle(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    vcpu.debug.status |= debug_registers::take_status() & DR6_STATUS;
    bounce::exception(vcpu, vector::DEBUG, None)
}

/// Delivers a single-step trap after an emulated instruction, if the guest has TF set.
pub fn step(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    if vcpu.file.regs.rflags & rflags::TF == 0 {
        return Ok(());
    }
    vcpu.debug.status |= Dr6Flags::STEP.bits();
    bounce::exception(vcpu, vector::DEBUG, None)
}
