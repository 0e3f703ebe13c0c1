//! Debug exceptions and debug registers.

use crate::arch::vector;
use crate::domain::bounce::{self, rflags};
use crate::domain::exit::Fatal;
use crate::domain::vcpu::Vcpu;
use core::arch::asm;
use pinfold_emulate::debug::{DR6_ONES, DR6_STATUS};

/// DR6: a single step (Intel SDM vol. 3, 18.2.3).
const DR6_STEP: u64 = 1 << 14;

/// Handles a debug exception of the guest: its view of DR6 is brought up to date.
pub fn handle(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    let status: u64;
    // SAFETY: reads DR6 and resets its sticky bits.
    unsafe {
        asm!("mov {}, dr6", out(reg) status, options(nomem, nostack, preserves_flags));
        asm!("mov dr6, {}", in(reg) DR6_ONES, options(nomem, nostack, preserves_flags));
    }
    vcpu.debug.status |= status & DR6_STATUS;
    bounce::exception(vcpu, vector::DEBUG, None)
}

/// After an emulated instruction: a guest that steps itself gets the step.
pub fn step(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    if vcpu.file.regs.rflags & rflags::TF == 0 {
        return Ok(());
    }
    vcpu.debug.status |= DR6_STEP;
    bounce::exception(vcpu, vector::DEBUG, None)
}
