//! What the processor's floor asks of the floors above it: functions that they define and the linker
//! finds. A hook costs what a call costs, and can't be left unset.

use pinfold_abi::vcpu::CpuUserRegs;

unsafe extern "Rust" {
    /// Drops all translations of guests that the calling CPU holds. Defined in `memory::tlb`.
    pub safe fn pinfold_flush_guest_tlb();
}

unsafe extern "C" {
    /// Handles an exception or interrupt that hit the hypervisor itself. Defined in
    /// `trap::hypervisor`; called by the stubs in [`super::entry`].
    pub fn pinfold_hypervisor_trap(frame: *mut CpuUserRegs);
    /// The same for double faults, NMIs, machine checks and debug exceptions, which have stacks of
    /// their own. Defined in `trap::hypervisor`.
    pub fn pinfold_paranoid_trap(frame: *mut CpuUserRegs);
}
