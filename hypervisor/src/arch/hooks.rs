//! Functions that this floor calls and floors above it define. The linker connects them: a hook
//! costs no more than a call, and a missing one is a link error.

use pinfold_abi::vcpu::CpuUserRegs;

unsafe extern "Rust" {
    /// Flushes all guest translations from the TLB of the calling CPU. Defined in `memory::tlb`.
    pub safe fn pinfold_flush_guest_tlb();
}

unsafe extern "C" {
    /// Handles an exception or interrupt in ring 0. Defined in `trap::hypervisor`; called by the
    /// stubs in [`super::entry`].
    pub fn pinfold_hypervisor_trap(frame: *mut CpuUserRegs);
    /// Handles a double fault, an NMI or a machine check, and a debug exception in ring 0, all of
    /// which have IST stacks. Defined in `trap::hypervisor`.
    pub fn pinfold_paranoid_trap(frame: *mut CpuUserRegs);
}
