//! Traps that hit the hypervisor itself.
//!
//! Interrupts are off whenever the hypervisor runs (but for the idle loop), and it touches guest
//! memory only by instructions that are listed in [`crate::arch::fixup`]. So anything else here is
//! a bug of ours, and ends in a panic with the registers.

use crate::arch::{apic, fixup, vector};
use pinfold_abi::vcpu::CpuUserRegs;
use x86_64::registers::control::Cr2;

const VECTOR_DEBUG: u32 = vector::DEBUG as u32;
const VECTOR_NMI: u32 = vector::NMI as u32;

/// A trap from ring 0. Called from `arch::entry`.
///
/// # Safety
/// `frame` is what the stub pushed, on the current stack.
#[unsafe(no_mangle)]
unsafe extern "C" fn pinfold_hypervisor_trap(frame: *mut CpuUserRegs) {
    // SAFETY: the stub's frame is ours until we return. It ends with the words that the processor
    // pushed; the selectors behind them are not read.
    let (vector, rip) = unsafe { ((*frame).vector, (*frame).rip) };
    if let Some(resume) = fixup::resume_address(rip)
        && vector < 32
    {
        // SAFETY: as above; the place to resume belongs to the instruction that faulted.
        unsafe { (*frame).rip = resume };
        return;
    }
    if vector >= 32 {
        if vector != u32::from(vector::SPURIOUS) {
            apic::end_of_interrupt();
        }
        return;
    }
    // SAFETY: as above.
    unsafe { die(frame) }
}

/// NMI, machine check, double fault, or a debug exception from ring 0.
///
/// # Safety
/// As [`pinfold_hypervisor_trap`].
#[unsafe(no_mangle)]
unsafe extern "C" fn pinfold_paranoid_trap(frame: *mut CpuUserRegs) {
    // SAFETY: as for `pinfold_hypervisor_trap`.
    match unsafe { (*frame).vector } {
        // A breakpoint of the guest's on a stack or copy that we touched for it (its watch never
        // covers our own memory): the guest's own access would have hit it, ours doesn't count.
        VECTOR_DEBUG => {}
        // Nobody here asked for one. It can't be told: whom it hit may hold the log.
        VECTOR_NMI => {}
        // SAFETY: as above.
        _ => unsafe { die(frame) },
    }
}

/// # Safety
/// As [`pinfold_hypervisor_trap`].
unsafe fn die(frame: *const CpuUserRegs) -> ! {
    // SAFETY: as the caller vouches. Bounded to what the stub pushed: up to and with ss.
    let regs = unsafe {
        let mut regs = CpuUserRegs::default();
        let pushed = core::mem::offset_of!(CpuUserRegs, es);
        core::ptr::copy_nonoverlapping(frame.cast::<u8>(), (&raw mut regs).cast::<u8>(), pushed);
        regs
    };
    let cr2 = Cr2::read_raw();
    crate::panic::on_unexpected_trap(&regs, cr2)
}
