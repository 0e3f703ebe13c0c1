//! The debug registers of the vCPU that runs.

use super::vcpu::Vcpu;
use core::arch::asm;
use pinfold_emulate::debug::{DR6_ONES, DR7_ONES};

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
