//! The machine that guests run on: QEMU, set up for Pinfold or for Xen.

mod bare;
mod clean;
mod command;
pub(crate) mod keyboard;
mod process;

pub(crate) use clean::Lines;
pub(crate) use command::{Machine, Start, pinfold, pinfold_direct, xen};
pub(crate) use process::{Ended, Input, Watch, run};

/// QEMU's exit status when a kernel writes `code` to the debug-exit port.
pub(crate) const fn debug_exit(code: u8) -> i32 {
    ((code as i32) << 1) | 1
}

/// The code for: every guest ended well.
pub(crate) const CODE_OK: u8 = 0x10;
/// The code for: the hypervisor is fine, but some guest is not.
pub(crate) const CODE_NOT_OK: u8 = 0x11;
/// The code for: the hypervisor panicked.
pub(crate) const CODE_PANIC: u8 = 0x12;
