//! Segment registers and segment bases of the vCPU that is loaded.

use super::fixup::fixup;
use core::arch::asm;
use pinfold_abi::vcpu::CpuUserRegs;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{FsBase, KernelGsBase};

/// Reads ds, es, fs and gs. They hold the guest's selectors also while the hypervisor runs.
pub fn save_selectors(regs: &mut CpuUserRegs) {
    // SAFETY: reading selectors has no effect.
    unsafe {
        asm!("mov {0:x}, ds", out(reg) regs.ds, options(nomem, nostack, preserves_flags));
        asm!("mov {0:x}, es", out(reg) regs.es, options(nomem, nostack, preserves_flags));
        asm!("mov {0:x}, fs", out(reg) regs.fs, options(nomem, nostack, preserves_flags));
        asm!("mov {0:x}, gs", out(reg) regs.gs, options(nomem, nostack, preserves_flags));
    }
}

macro_rules! loader {
    ($(#[$doc:meta])* $name:ident, $before:literal, $load:literal, $after:literal) => {
        $(#[$doc])*
        fn $name(selector: u16) -> bool {
            let mut ok: u64 = 1;
            // SAFETY: an invalid selector faults at label 2. Execution resumes at 3, which loads the
            // null selector; that never faults. Between the two `swapgs` of `load_gs` the GS base is
            // the guest's: the trap handler doesn't use GS.
            unsafe {
                asm!(
                    $before,
                    concat!("2: ", $load),
                    "jmp 4f",
                    "3: xor {ok:e}, {ok:e}",
                    "xor {selector:e}, {selector:e}",
                    $load,
                    "4:",
                    $after,
                    fixup!("2b", "3b"),
                    selector = inout(reg) u64::from(selector) => _,
                    ok = inout(reg) ok,
                    options(nostack)
                );
            }
            ok != 0
        }
    };
}

loader!(load_ds, "", "mov ds, {selector:x}", "");
loader!(load_es, "", "mov es, {selector:x}", "");
loader!(load_fs, "", "mov fs, {selector:x}", "");
loader!(
    /// Loads the guest's gs selector. Its base ends up in `KERNEL_GS_BASE`, where the guest's GS base
    /// is while the hypervisor runs.
    load_gs,
    "swapgs",
    "mov gs, {selector:x}",
    "swapgs"
);

/// Loads the four selectors. An invalid one is replaced by null, and the result is `false`. Loading fs
/// or gs changes its base: set the bases afterwards.
pub fn load_selectors(regs: &CpuUserRegs) -> bool {
    let ds = load_ds(regs.ds);
    let es = load_es(regs.es);
    let fs = load_fs(regs.fs);
    load_gs(regs.gs) && ds && es && fs
}

/// Loads only the guest's gs selector. The GS base becomes that of the descriptor.
pub fn load_user_gs(selector: u16) -> bool {
    load_gs(selector)
}

/// FS base of the loaded vCPU.
pub fn fs_base() -> u64 {
    FsBase::read().as_u64()
}

/// Sets the FS base of the loaded vCPU.
pub fn set_fs_base(base: VirtAddr) {
    FsBase::write(base);
}

/// GS base of the loaded vCPU in its current mode.
pub fn gs_base() -> u64 {
    KernelGsBase::read().as_u64()
}

/// Sets the GS base of the loaded vCPU in its current mode.
pub fn set_gs_base(base: VirtAddr) {
    KernelGsBase::write(base);
}
