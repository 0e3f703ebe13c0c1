//! FPU and SSE state, switched eagerly with the vCPU. The hypervisor itself uses none.
//!
//! XSAVE is hidden from guests (see the CPUID policy), and CR4.OSXSAVE is off, so the 512 bytes
//! of FXSAVE are all the state there is.

use core::sync::atomic::{AtomicBool, Ordering};
use pinfold_cpu_flaws::fxrstor_keeps_fpu_pointers;
use x86_64::registers::control::{Cr0, Cr0Flags};

/// `fxrstor` may leave the pointers of whoever ran before. Written once at boot.
static POINTERS_STAY: AtomicBool = AtomicBool::new(false);

/// Has the FPU's pointers overwritten from now on wherever loading a state would leave them.
pub fn overwrite_pointers_at_loads() {
    POINTERS_STAY.store(true, Ordering::Relaxed);
}

/// Makes the FPU's pointers those of an instruction here. TS must be clear; the rest of the state
/// becomes anything.
fn overwrite_pointers() {
    static ZERO: u32 = 0;
    // SAFETY: changes the FPU's registers alone, which the caller loads next. A pending exception is
    // cleared first and a register is freed, so that the load of an integer raises none.
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

/// Bits of MXCSR that every CPU has: the mask where none is given (Intel SDM vol. 1,
/// 11.6.6).
const MXCSR_BITS: u32 = 0xffbf;

/// The FXSAVE area (Intel SDM vol. 1, 10.5.1).
#[repr(C, align(16))]
pub struct FpuState([u8; 512]);

impl FpuState {
    /// The state after reset, with exceptions masked in MXCSR (0x1f80) as CPUs start.
    pub fn new() -> FpuState {
        let mut area = [0; 512];
        area[0..2].copy_from_slice(&0x037fu16.to_le_bytes());
        area[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        FpuState(area)
    }

    /// A state that a guest made up: bits of MXCSR that no CPU has would fault when loaded.
    pub fn from_guest(area: &[u8; 512]) -> FpuState {
        let mut area = *area;
        let mxcsr = u32::from_le_bytes([area[24], area[25], area[26], area[27]]);
        area[24..28].copy_from_slice(&(mxcsr & MXCSR_BITS).to_le_bytes());
        FpuState(area)
    }

    /// Stores the CPU's state here. TS must be clear.
    pub fn save(&mut self) {
        // SAFETY: the area is 512 bytes, aligned to 16.
        unsafe { core::arch::asm!("fxsave64 [{}]", in(reg) &raw mut self.0, options(nostack)) };
    }

    /// Loads this state. TS must be clear.
    pub fn load(&self) {
        if POINTERS_STAY.load(Ordering::Relaxed) && fxrstor_keeps_fpu_pointers(&self.0) {
            overwrite_pointers();
        }
        // SAFETY: the area comes from `save`, `new` or `from_guest`: no reserved MXCSR bit is set.
        unsafe { core::arch::asm!("fxrstor64 [{}]", in(reg) &raw const self.0, options(nostack)) };
    }
}

/// Sets or clears CR0.TS, which makes the next FPU instruction fault with #NM.
pub fn set_task_switched(set: bool) {
    // SAFETY: TS has no effect but #NM in guests; the hypervisor uses no FPU while it is set.
    unsafe { Cr0::update(|cr0| cr0.set(Cr0Flags::TASK_SWITCHED, set)) };
}
