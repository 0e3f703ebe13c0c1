//! FPU and SSE state, switched eagerly with the vCPU. The hypervisor itself doesn't use it.
//!
//! CPUID hides XSAVE from guests, and CR4.OSXSAVE is clear, so the 512 bytes of FXSAVE are the whole
//! state.

use core::sync::atomic::{AtomicBool, Ordering};
use pinfold_cpu_flaws::fxrstor_keeps_fpu_pointers;
use x86_64::registers::control::{Cr0, Cr0Flags};

/// `fxrstor` may leave the FPU instruction and data pointers of the previous vCPU (AMD, CVE-2006-1056).
/// Written once at boot.
static POINTERS_STAY: AtomicBool = AtomicBool::new(false);

/// Makes [`FpuState::load`] overwrite the FPU pointers where `fxrstor` would leave them.
pub fn overwrite_pointers_at_loads() {
    POINTERS_STAY.store(true, Ordering::Relaxed);
}

/// Sets the FPU pointers to an instruction and an operand of this function. CR0.TS must be clear. The
/// rest of the FPU state is undefined afterwards.
fn overwrite_pointers() {
    static ZERO: u32 = 0;
    // SAFETY: changes only FPU registers, which the caller loads next. A pending exception is cleared
    // and a register freed first, so that `fild` raises none.
    unsafe {
        core::arch::asm!(
            "fnclex",
            "ffree st(7)",
            "fild dword ptr [{}]",
            in(reg) &raw const ZERO,
            options(nostack)
        );
    }
}

/// MXCSR bits that every CPU supports: the default MXCSR_MASK (Intel SDM vol. 1, 11.6.6).
const MXCSR_BITS: u32 = 0xffbf;

/// The FXSAVE area (Intel SDM vol. 1, 10.5.1).
#[repr(C, align(16))]
pub struct FpuState([u8; 512]);

impl FpuState {
    /// The state after reset: FCW 0x37f as `fninit` sets it, MXCSR 0x1f80.
    pub fn new() -> FpuState {
        let mut area = [0; 512];
        area[0..2].copy_from_slice(&0x037fu16.to_le_bytes());
        area[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        FpuState(area)
    }

    /// A state that a guest supplies. Reserved bits of MXCSR are cleared: loading them would fault.
    pub fn from_guest(area: &[u8; 512]) -> FpuState {
        let mut area = *area;
        let mxcsr = u32::from_le_bytes([area[24], area[25], area[26], area[27]]);
        area[24..28].copy_from_slice(&(mxcsr & MXCSR_BITS).to_le_bytes());
        FpuState(area)
    }

    /// Saves the state of this CPU. CR0.TS must be clear.
    pub fn save(&mut self) {
        // SAFETY: the area is 512 bytes, aligned to 16.
        unsafe { core::arch::asm!("fxsave64 [{}]", in(reg) &raw mut self.0, options(nostack)) };
    }

    /// Loads this state. CR0.TS must be clear.
    pub fn load(&self) {
        if POINTERS_STAY.load(Ordering::Relaxed) && fxrstor_keeps_fpu_pointers(&self.0) {
            overwrite_pointers();
        }
        // SAFETY: the area comes from `save`, `new` or `from_guest`: no reserved MXCSR bit is set.
        unsafe { core::arch::asm!("fxrstor64 [{}]", in(reg) &raw const self.0, options(nostack)) };
    }
}

/// Sets or clears CR0.TS. While it is set, FPU instructions fault with #NM.
pub fn set_task_switched(set: bool) {
    // SAFETY: TS has no effect but #NM, and the hypervisor executes no FPU instruction while it is
    // set.
    unsafe { Cr0::update(|cr0| cr0.set(Cr0Flags::TASK_SWITCHED, set)) };
}
