//! Traps that hit the hypervisor itself.
//!
//! Interrupts are off whenever the hypervisor runs (except in the idle loop), and it accesses guest
//! memory only by instructions that are listed in [`crate::arch::fixup`]. So anything else here is
//! a bug of the hypervisor, and causes a panic that prints the registers.
#![expect(
    unsafe_code,
    reason = "is called by assembly, and changes the frame it was interrupted at"
)]

use crate::arch::{apic, fixup, percpu, vector};
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
    // SAFETY: the stub's frame is this function's until it returns. It ends with the words that the
    // CPU pushed; the selectors after them are not read.
    let (vector, rip) = unsafe { ((*frame).vector, (*frame).rip) };
    if let Some(resume) = fixup::resume_address(rip)
        && vector < 32
    {
        // SAFETY: as above; the fixup table has the resume address of the faulting instruction.
        unsafe { (*frame).rip = resume };
        return;
    }
    if vector >= 32 {
        if vector != u32::from(vector::SPURIOUS) {
            percpu::note_interrupt(vector as u8);
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
        // A guest's breakpoint on guest memory that the hypervisor accessed for it (breakpoints never
        // cover hypervisor memory): ignored.
        VECTOR_DEBUG => {}
        // An NMI of the machine: ignored. It can't be logged, as it may have hit a holder of the log's
        // lock.
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
