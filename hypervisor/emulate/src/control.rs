//! CR0 and CR4 as a guest sees and sets them (Intel SDM vol. 3, 2.5).
//!
//! The guest has neither: the hypervisor shows it a register file of its own. In CR0 only TS is
//! the guest's to change. In CR4 it may ask for more than it gets.

use crate::GeneralProtection;

/// CR0: protected mode.
pub const CR0_PE: u64 = 1 << 0;
/// CR0: monitor coprocessor.
pub const CR0_MP: u64 = 1 << 1;
/// CR0: no FPU.
pub const CR0_EM: u64 = 1 << 2;
/// CR0: task switched, so the next FPU use is #NM.
pub const CR0_TS: u64 = 1 << 3;
/// CR0: always set.
pub const CR0_ET: u64 = 1 << 4;
/// CR0: FPU errors are #MF.
pub const CR0_NE: u64 = 1 << 5;
/// CR0: ring 0 heeds write protection.
pub const CR0_WP: u64 = 1 << 16;
/// CR0: alignment checks can be switched on.
pub const CR0_AM: u64 = 1 << 18;
/// CR0: paging.
pub const CR0_PG: u64 = 1 << 31;

/// CR0 as every guest sees it, but for TS.
pub const CR0_VIEW: u64 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;

/// What `mov r, cr0` reads, given the guest's TS.
pub const fn cr0_read(task_switched: bool) -> u64 {
    if task_switched { CR0_VIEW | CR0_TS } else { CR0_VIEW }
}

/// `mov cr0, r`: the guest's TS from now on; #GP when anything else would change.
pub const fn cr0_write(new: u64) -> Result<bool, GeneralProtection> {
    if new & !CR0_TS == CR0_VIEW { Ok(new & CR0_TS != 0) } else { Err(GeneralProtection) }
}

/// `lmsw`: loads the low four bits of CR0, and can't clear PE.
pub const fn lmsw(source: u16) -> Result<bool, GeneralProtection> {
    let low = CR0_PE | CR0_MP | CR0_EM | CR0_TS;
    cr0_write(CR0_VIEW & !low | source as u64 & low | CR0_PE)
}

/// CR4: RDTSC is privileged.
pub const CR4_TSD: u64 = 1 << 2;
/// CR4: debugging extensions: I/O breakpoints, and DR4 and DR5 are #UD.
pub const CR4_DE: u64 = 1 << 3;
/// CR4: physical address extension; on for as long as the CPU is in long mode.
pub const CR4_PAE: u64 = 1 << 5;
/// CR4: machine checks.
pub const CR4_MCE: u64 = 1 << 6;
/// CR4: FXSAVE and SSE.
pub const CR4_OSFXSR: u64 = 1 << 9;
/// CR4: SSE errors are #XM.
pub const CR4_OSXMMEXCPT: u64 = 1 << 10;

/// Bits that a guest may set and clear; they read back as written.
pub const CR4_GUEST: u64 = CR4_TSD | CR4_DE | CR4_PAE | CR4_MCE | CR4_OSFXSR | CR4_OSXMMEXCPT;
/// Bits of the guest's that reach the CPU while the guest runs; all others there are the
/// hypervisor's. They must be derived from the guest's value, never from what the CPU happens to
/// have (the lesson of XSA-293).
pub const CR4_EFFECTIVE: u64 = CR4_TSD | CR4_DE;
/// CR4 of a new vCPU, as the reference shows it.
pub const CR4_INITIAL: u64 = CR4_PAE | CR4_MCE | CR4_OSFXSR | CR4_OSXMMEXCPT;
/// Every bit that the manual defines (up to FRED and LAM); the others are reserved.
const CR4_DEFINED: u64 = 0x1_1bff_7fff;

/// The result of `mov cr4, r`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cr4Write {
    /// What the guest reads from now on.
    pub view: u64,
    /// Bits that it asked to be otherwise; worth a line in the log.
    pub ignored: u64,
}

/// `mov cr4, r`: #GP for reserved bits. What the guest can't have or can't be without is ignored,
/// as the reference does: it neither complains of SMEP nor of a missing PAE.
pub const fn cr4_write(new: u64) -> Result<Cr4Write, GeneralProtection> {
    if new & !CR4_DEFINED != 0 {
        return Err(GeneralProtection);
    }
    let view = new & CR4_GUEST | CR4_PAE;
    Ok(Cr4Write { view, ignored: view ^ new })
}
