//! Control registers and EFER of a kernel in the hardware container, where it has real ones.
//!
//! The kernel may change what concerns only itself. It may not change what the validator's proof rests
//! on: paging stays on in its four-level form, ring 0 respects read-only pages (CR0.WP), no-execute bits
//! are not reserved, caches stay on.

use crate::control::GeneralProtection;
use x86_64::registers::control::{Cr0Flags, Cr4Flags, EferFlags};

/// CR0: bits that are always set.
const CR0_FIXED: u64 = Cr0Flags::PROTECTED_MODE_ENABLE
    .union(Cr0Flags::EXTENSION_TYPE)
    .union(Cr0Flags::NUMERIC_ERROR)
    .union(Cr0Flags::WRITE_PROTECT)
    .union(Cr0Flags::PAGING)
    .bits();
/// CR0: bits that the kernel may change.
const CR0_WRITABLE: u64 = Cr0Flags::MONITOR_COPROCESSOR
    .union(Cr0Flags::EMULATE_COPROCESSOR)
    .union(Cr0Flags::TASK_SWITCHED)
    .union(Cr0Flags::ALIGNMENT_MASK)
    .bits();
/// CR0 of a new vCPU.
pub const CR0_INITIAL: u64 =
    CR0_FIXED | Cr0Flags::MONITOR_COPROCESSOR.union(Cr0Flags::ALIGNMENT_MASK).bits();

/// CR4: bits that are always set. Without MCE a machine check would stop the machine.
const CR4_FIXED: u64 =
    Cr4Flags::PHYSICAL_ADDRESS_EXTENSION.union(Cr4Flags::MACHINE_CHECK_EXCEPTION).bits();
/// CR4: bits that the kernel may change, if the processor has them.
pub const CR4_WRITABLE: u64 = Cr4Flags::TIMESTAMP_DISABLE
    .union(Cr4Flags::DEBUGGING_EXTENSIONS)
    .union(Cr4Flags::OSFXSR)
    .union(Cr4Flags::OSXMMEXCPT_ENABLE)
    .union(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION)
    .union(Cr4Flags::FSGSBASE)
    .union(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION)
    .union(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION)
    .bits();
/// CR4 of a new vCPU.
pub const CR4_INITIAL: u64 = CR4_FIXED | Cr4Flags::OSFXSR.union(Cr4Flags::OSXMMEXCPT_ENABLE).bits();

/// EFER as the kernel reads it first: SCE, LME, LMA, NXE.
pub const EFER_INITIAL: u64 = crate::msr::EFER_VIEW;
/// EFER: the bit that the kernel may change.
const EFER_WRITABLE: u64 = EferFlags::SYSTEM_CALL_EXTENSIONS.bits();

/// `mov cr0, r`: returns the new CR0.
///
/// # Errors
/// [`GeneralProtection`]: a bit that is fixed would change. ET can't be cleared, and reads as set
/// whatever is written.
pub const fn cr0_write(new: u64) -> Result<u64, GeneralProtection> {
    let new = new | Cr0Flags::EXTENSION_TYPE.bits();
    if new & !CR0_WRITABLE == CR0_FIXED { Ok(new) } else { Err(GeneralProtection) }
}

/// `lmsw`, which loads PE, MP, EM and TS of CR0, but can't clear PE. Returns the new CR0.
pub const fn lmsw(cr0: u64, source: u16) -> u64 {
    const LOADED: u64 = Cr0Flags::MONITOR_COPROCESSOR
        .union(Cr0Flags::EMULATE_COPROCESSOR)
        .union(Cr0Flags::TASK_SWITCHED)
        .bits();
    cr0 & !LOADED | source as u64 & LOADED
}

/// `mov cr4, r`: returns the new CR4. `supported`: the bits of [`CR4_WRITABLE`] that the processor has.
///
/// # Errors
/// [`GeneralProtection`]: a bit would change that is fixed, or that the processor doesn't have.
pub const fn cr4_write(new: u64, supported: u64) -> Result<u64, GeneralProtection> {
    if new & !(CR4_WRITABLE & supported) == CR4_FIXED { Ok(new) } else { Err(GeneralProtection) }
}

/// `wrmsr` to EFER: returns the new EFER.
///
/// # Errors
/// [`GeneralProtection`]: another bit than SCE would change.
pub const fn efer_write(new: u64) -> Result<u64, GeneralProtection> {
    if new & !EFER_WRITABLE == EFER_INITIAL & !EFER_WRITABLE {
        Ok(new)
    } else {
        Err(GeneralProtection)
    }
}

/// The bits of [`CR4_WRITABLE`] that a processor has, by ebx and ecx of CPUID leaf 7 (Intel SDM vol. 2, CPUID).
pub const fn supported_cr4(leaf7_ebx: u32, leaf7_ecx: u32) -> u64 {
    let always = Cr4Flags::TIMESTAMP_DISABLE
        .union(Cr4Flags::DEBUGGING_EXTENSIONS)
        .union(Cr4Flags::OSFXSR)
        .union(Cr4Flags::OSXMMEXCPT_ENABLE)
        .bits();
    let optional = [
        (leaf7_ebx, 0, Cr4Flags::FSGSBASE),
        (leaf7_ebx, 7, Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION),
        (leaf7_ebx, 20, Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION),
        (leaf7_ecx, 2, Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION),
    ];
    let mut supported = always;
    let mut next = 0;
    while next < optional.len() {
        let (register, bit, flag) = optional[next];
        if register & 1 << bit != 0 {
            supported |= flag.bits();
        }
        next += 1;
    }
    supported
}
