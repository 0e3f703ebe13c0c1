//! Debug exceptions and debug registers.

use super::{Fatal, vector};
use crate::domain::bounce::{self, rflags};
use crate::domain::vcpu::Vcpu;
use core::arch::asm;
use pinfold_emulate::debug::{DR6_ONES, DR6_STATUS, DR7_ONES};

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

/// Loads the guest's breakpoints, if it enabled any. They were checked when set: none is in the
/// hypervisor's hole.
pub fn load(vcpu: &Vcpu) {
    if !vcpu.debug.is_active() {
        return;
    }
    let [d0, d1, d2, d3] = vcpu.debug.addresses;
    // SAFETY: breakpoints only at guest addresses; DR7 was sanitised.
    unsafe {
        asm!("mov dr0, {}", in(reg) d0, options(nomem, nostack, preserves_flags));
        asm!("mov dr1, {}", in(reg) d1, options(nomem, nostack, preserves_flags));
        asm!("mov dr2, {}", in(reg) d2, options(nomem, nostack, preserves_flags));
        asm!("mov dr3, {}", in(reg) d3, options(nomem, nostack, preserves_flags));
        asm!("mov dr6, {}", in(reg) DR6_ONES, options(nomem, nostack, preserves_flags));
        asm!("mov dr7, {}", in(reg) vcpu.debug.control, options(nomem, nostack, preserves_flags));
    }
}

/// Switches all breakpoints off.
pub fn unload() {
    // SAFETY: no breakpoint is enabled any more.
    unsafe { asm!("mov dr7, {}", in(reg) DR7_ONES, options(nomem, nostack, preserves_flags)) };
}

/// Loads the guest's breakpoints anew after it changed one.
pub fn reload(vcpu: &Vcpu) {
    unload();
    load(vcpu);
}
