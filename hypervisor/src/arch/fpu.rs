//! FPU and SSE state, switched eagerly with the vCPU. The hypervisor itself uses none.
//!
//! XSAVE is hidden from guests (see the CPUID policy), and CR4.OSXSAVE is off, so the 512 bytes
//! of FXSAVE are all the state there is.

use x86_64::registers::control::{Cr0, Cr0Flags};

/// Bits of MXCSR that every processor has: the mask where none is given (Intel SDM vol. 1,
/// 11.6.6).
const MXCSR_BITS: u32 = 0xffbf;

/// The FXSAVE area (Intel SDM vol. 1, 10.5.1).
#[repr(C, align(16))]
pub struct FpuState([u8; 512]);

impl FpuState {
    /// The state after reset, with exceptions masked in MXCSR (0x1f80) as processors start.
    pub fn new() -> FpuState {
        let mut area = [0; 512];
        area[0..2].copy_from_slice(&0x037fu16.to_le_bytes());
        area[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        FpuState(area)
    }

    /// A state that a guest made up: bits of MXCSR that no processor has would fault when loaded.
    pub fn from_guest(area: &[u8; 512]) -> FpuState {
        let mut area = *area;
        let mxcsr = u32::from_le_bytes([area[24], area[25], area[26], area[27]]);
        area[24..28].copy_from_slice(&(mxcsr & MXCSR_BITS).to_le_bytes());
        FpuState(area)
    }

    /// Stores the processor's state here. TS must be clear.
    pub fn save(&mut self) {
        // SAFETY: the area is 512 bytes, aligned to 16.
        unsafe { core::arch::asm!("fxsave64 [{}]", in(reg) &raw mut self.0, options(nostack)) };
    }

    /// Loads this state. TS must be clear.
    pub fn load(&self) {
        // SAFETY: the area comes from `save`, `new` or `from_guest`: no reserved MXCSR bit is set.
        unsafe { core::arch::asm!("fxrstor64 [{}]", in(reg) &raw const self.0, options(nostack)) };
    }
}

/// Sets or clears CR0.TS, which makes the next FPU instruction fault with #NM.
pub fn set_task_switched(set: bool) {
    // SAFETY: TS has no effect but #NM in guests; the hypervisor uses no FPU while it is set.
    unsafe { Cr0::update(|cr0| cr0.set(Cr0Flags::TASK_SWITCHED, set)) };
}
