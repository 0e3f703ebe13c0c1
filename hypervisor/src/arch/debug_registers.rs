//! Debug registers of this CPU (Intel SDM vol. 3, 18.2).

use core::arch::asm;
use pinfold_emulate::debug::{DR6_ONES, DR7_ONES, DebugRegisters};
use x86_64::registers::debug::{DebugAddressRegister, Dr0, Dr1, Dr2, Dr3, Dr6, Dr7};

/// Loads the breakpoints of a vCPU and clears DR6. `DebugRegisters` holds only breakpoints outside
/// the hypervisor's addresses and a sanitised DR7.
pub fn load(registers: &DebugRegisters) {
    let [dr0, dr1, dr2, dr3] = registers.addresses;
    Dr0::write(dr0);
    Dr1::write(dr1);
    Dr2::write(dr2);
    Dr3::write(dr3);
    write_dr6(DR6_ONES);
    Dr7::write_raw(registers.control);
}

/// Disables all breakpoints.
pub fn disable() {
    Dr7::write_raw(DR7_ONES);
}

/// Reads DR6 and clears its status bits, which the CPU only ever sets.
pub fn take_status() -> u64 {
    let status = Dr6::read_raw();
    write_dr6(DR6_ONES);
    status
}

fn write_dr6(value: u64) {
    // SAFETY: DR6 only reports; the callers write its reserved bits as the SDM requires.
    unsafe { asm!("mov dr6, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}
