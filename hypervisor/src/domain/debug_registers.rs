//! Debug registers of the vCPU that is loaded.

use super::vcpu::Vcpu;
use crate::arch::debug_registers;
use x86_64::registers::debug::Dr6Flags;

/// Bit of DR6: a single step.
pub const STEP: u64 = Dr6Flags::STEP.bits();

/// Loads the guest's breakpoints, if it enabled any.
pub fn load(vcpu: &Vcpu) {
    if vcpu.debug.is_active() {
        debug_registers::load(&vcpu.debug);
    }
}

/// Disables all breakpoints.
pub fn unload() {
    debug_registers::disable();
}

/// Loads the guest's breakpoints again after it changed one.
pub fn reload(vcpu: &Vcpu) {
    unload();
    load(vcpu);
}
