//! Registers of the processor.

use core::arch::asm;

/// The flag that says whether interrupts, which are events here, can be delivered.
pub(super) const RFLAGS_IF: u64 = 1 << 9;
/// Base of GS in the running mode.
const GS_BASE: u32 = 0xc000_0101;
/// Base of GS that `swapgs` brings.
const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Writes a model-specific register.
///
/// # Safety
///
/// The processor has the register, and what changes with it is the caller's to change.
pub(super) unsafe fn write_msr(msr: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: passed on to the caller.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high, options(nostack)) };
}

/// Sets the GS bases: the kernel's, and 0 for user mode.
///
/// # Safety
///
/// `kernel` must be the address of this vCPU's `PerCpu`.
pub(super) unsafe fn set_bases(kernel: u64) {
    // SAFETY: nothing has used GS until now.
    unsafe {
        write_msr(GS_BASE, kernel);
        write_msr(KERNEL_GS_BASE, 0);
    }
}

/// Whether interrupts are enabled on this vCPU.
pub(in crate::entry) fn interrupts_enabled() -> bool {
    let flags: u64;
    // SAFETY: it reads the flags; the target has no red zone that the push would overwrite.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) };
    flags & RFLAGS_IF != 0
}

/// Disables interrupts. Returns whether they were enabled.
pub(in crate::entry) fn disable_interrupts() -> bool {
    let enabled = interrupts_enabled();
    // SAFETY: a kernel may run with interrupts disabled.
    unsafe { asm!("cli") };
    enabled
}

/// Enables interrupts. A pending one is handled before this returns: it is taken after the
/// instruction behind `sti`.
pub(in crate::entry) fn enable_interrupts() {
    // SAFETY: the gate of the upcall is in the IDT, and its handler restores all registers.
    unsafe { asm!("sti", "nop") };
}

/// The address of the last page fault.
pub(in crate::entry) fn cr2() -> u64 {
    let cr2: u64;
    // SAFETY: it only reads.
    unsafe { asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack, preserves_flags)) };
    cr2
}
