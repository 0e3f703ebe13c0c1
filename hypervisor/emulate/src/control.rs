//! CR0 and CR4 as a guest reads and writes them (Intel SDM vol. 3, 2.5).
//!
//! A guest has virtual control registers. In CR0 it can change only TS. In CR4 it can set bits that
//! have no effect.

use core::fmt;
use x86_64::registers::control::{Cr0Flags, Cr4Flags};

/// The instruction raises #GP(0) in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralProtection;

impl fmt::Display for GeneralProtection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("general protection")
    }
}

/// CR0 as every guest reads it, except for TS.
pub const CR0_VIEW: u64 = Cr0Flags::PROTECTED_MODE_ENABLE
    .union(Cr0Flags::MONITOR_COPROCESSOR)
    .union(Cr0Flags::EXTENSION_TYPE)
    .union(Cr0Flags::NUMERIC_ERROR)
    .union(Cr0Flags::WRITE_PROTECT)
    .union(Cr0Flags::ALIGNMENT_MASK)
    .union(Cr0Flags::PAGING)
    .bits();

const TASK_SWITCHED: u64 = Cr0Flags::TASK_SWITCHED.bits();

/// The result of `mov r, cr0`. `task_switched`: the guest's TS.
pub const fn cr0_read(task_switched: bool) -> u64 {
    if task_switched { CR0_VIEW | TASK_SWITCHED } else { CR0_VIEW }
}

/// Emulates `mov cr0, r`. Returns the guest's new TS.
///
/// # Errors
/// [`GeneralProtection`]: the write would change another bit.
pub const fn cr0_write(new: u64) -> Result<bool, GeneralProtection> {
    if new & !TASK_SWITCHED == CR0_VIEW {
        Ok(new & TASK_SWITCHED != 0)
    } else {
        Err(GeneralProtection)
    }
}

/// Emulates `lmsw`, which loads PE, MP, EM and TS of CR0, but can't clear PE. Returns the guest's
/// new TS.
///
/// # Errors
/// As [`cr0_write`].
pub const fn lmsw(source: u16) -> Result<bool, GeneralProtection> {
    const LOADED: u64 = Cr0Flags::PROTECTED_MODE_ENABLE
        .union(Cr0Flags::MONITOR_COPROCESSOR)
        .union(Cr0Flags::EMULATE_COPROCESSOR)
        .union(Cr0Flags::TASK_SWITCHED)
        .bits();
    let kept = CR0_VIEW & !LOADED | Cr0Flags::PROTECTED_MODE_ENABLE.bits();
    cr0_write(kept | source as u64 & LOADED)
}

/// CR4 of a new vCPU: the value that Xen shows.
pub const CR4_INITIAL: u64 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
    .union(Cr4Flags::MACHINE_CHECK_EXCEPTION)
    .union(Cr4Flags::OSFXSR)
    .union(Cr4Flags::OSXMMEXCPT_ENABLE)
    .bits();
/// Bits of the guest's CR4 that the CPU's CR4 takes over while the guest runs. The hypervisor
/// decides all other bits. Those of the guest must come from its virtual CR4, never from what the
/// CPU's CR4 happens to hold (XSA-293).
pub const CR4_EFFECTIVE: u64 =
    Cr4Flags::TIMESTAMP_DISABLE.union(Cr4Flags::DEBUGGING_EXTENSIONS).bits();
/// Bits that a guest may set and clear; they read back as written.
const CR4_WRITABLE: u64 = CR4_INITIAL | CR4_EFFECTIVE;
/// Bits that are not reserved (Intel SDM vol. 3, 2.5; up to FRED and LAM).
const CR4_DEFINED: u64 = 0x1_1bff_7fff;

/// Whether a guest with this CR4 has debugging extensions (CR4.DE): I/O breakpoints work, and DR4
/// and DR5 don't exist.
pub const fn has_debug_extensions(cr4: u64) -> bool {
    cr4 & Cr4Flags::DEBUGGING_EXTENSIONS.bits() != 0
}

/// The result of `mov cr4, r`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cr4Write {
    /// The guest's new CR4.
    pub view: u64,
    /// Bits in which this differs from what the guest wrote; worth a line in the log.
    pub ignored: u64,
}

/// Emulates `mov cr4, r`. Like Xen, it ignores bits that a guest can't set, and a missing PAE.
///
/// # Errors
/// [`GeneralProtection`]: a reserved bit is set.
pub const fn cr4_write(new: u64) -> Result<Cr4Write, GeneralProtection> {
    if new & !CR4_DEFINED != 0 {
        return Err(GeneralProtection);
    }
    let view = new & CR4_WRITABLE | Cr4Flags::PHYSICAL_ADDRESS_EXTENSION.bits();
    Ok(Cr4Write { view, ignored: view ^ new })
}
