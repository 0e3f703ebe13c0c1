//! Segment registers and bases of the guest that is loaded.

use super::fixup::fixup;
use core::arch::asm;
use pinfold_abi::vcpu::CpuUserRegs;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{FsBase, KernelGsBase};

/// Reads ds, es, fs and gs, which stay the guest's while the hypervisor runs.
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
            // SAFETY: a selector that the CPU refuses faults at label 2, and the trap
            // handler goes on at 3, where null is loaded instead; null never faults. GS is the
            // guest's only between the two `swapgs`, where the trap handler doesn't use it.
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
    /// Loads the guest's gs, which parks the base that belongs to it in `KERNEL_GS_BASE`.
    load_gs,
    "swapgs",
    "mov gs, {selector:x}",
    "swapgs"
);

/// Loads the four selectors; false if any was refused and made null. Loading fs or gs changes its
/// base: set the bases afterwards.
pub fn load_selectors(regs: &CpuUserRegs) -> bool {
    let ds = load_ds(regs.ds);
    let es = load_es(regs.es);
    let fs = load_fs(regs.fs);
    load_gs(regs.gs) && ds && es && fs
}

/// Loads the guest's gs selector alone; its base becomes the descriptor's.
pub fn load_user_gs(selector: u16) -> bool {
    load_gs(selector)
}

/// The loaded guest's FS base.
pub fn fs_base() -> u64 {
    FsBase::read().as_u64()
}

/// Sets the loaded guest's FS base, a canonical address.
pub fn set_fs_base(base: VirtAddr) {
    FsBase::write(base);
}

/// The loaded guest's live GS base.
pub fn gs_base() -> u64 {
    KernelGsBase::read().as_u64()
}

/// Sets the loaded guest's live GS base, a canonical address.
pub fn set_gs_base(base: VirtAddr) {
    KernelGsBase::write(base);
}
