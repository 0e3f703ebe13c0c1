//! Page-table entries and the MMU hypercalls' structures (`public/xen.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags::bitflags! {
    /// Flag bits of a page-table entry (Intel SDM vol. 3, 4.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct EntryFlags: u64 {
        /// The entry maps something.
        const PRESENT = 1 << 0;
        /// Writes are allowed.
        const WRITABLE = 1 << 1;
        /// Ring 3 may use the mapping.
        const USER = 1 << 2;
        /// Page-level write-through: bit 0 of the PAT index.
        const WRITE_THROUGH = 1 << 3;
        /// Page-level cache disable: bit 1 of the PAT index.
        const NO_CACHE = 1 << 4;
        /// Set by the CPU when the mapping was used.
        const ACCESSED = 1 << 5;
        /// Set by the CPU when the page was written (leaf entries).
        const DIRTY = 1 << 6;
        /// L1: bit 2 of the PAT index. L2 and above: the entry maps a large page.
        const PAT_OR_SIZE = 1 << 7;
        /// The translation survives a change of the root.
        const GLOBAL = 1 << 8;
        /// Instruction fetches fault.
        const NO_EXECUTE = 1 << 63;
    }
}

/// Bits of an entry that hold the machine address of the target.
pub const ENTRY_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// `mmu_update`: low bits of [`MmuUpdate::ptr`]: checked `*ptr = val`.
pub const MMU_NORMAL_PT_UPDATE: u64 = 0;
/// `mmu_update`: `M2P[ptr >> 12] = val`.
pub const MMU_MACHPHYS_UPDATE: u64 = 1;
/// `mmu_update`: as normal, keeping the accessed and dirty bits that are set.
pub const MMU_PT_UPDATE_PRESERVE_AD: u64 = 2;
/// `mmu_update`: as normal for PV guests.
pub const MMU_PT_UPDATE_NO_TRANSLATE: u64 = 3;

/// One request of `mmu_update`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MmuUpdate {
    /// Machine address of the entry, with the request's kind in the low two bits.
    pub ptr: u64,
    /// New contents.
    pub val: u64,
}
assert_layout!(MmuUpdate, size 16, ptr @ 0, val @ 8);

/// Command of an `mmuext_op` element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are those of public/xen.h")]
pub enum MmuextCmd {
    PinL1Table = 0,
    PinL2Table = 1,
    PinL3Table = 2,
    PinL4Table = 3,
    UnpinTable = 4,
    NewBaseptr = 5,
    TlbFlushLocal = 6,
    InvlpgLocal = 7,
    TlbFlushMulti = 8,
    InvlpgMulti = 9,
    TlbFlushAll = 10,
    InvlpgAll = 11,
    FlushCache = 12,
    SetLdt = 13,
    NewUserBaseptr = 15,
    ClearPage = 16,
    CopyPage = 17,
    FlushCacheGlobal = 18,
    MarkSuper = 19,
    UnmarkSuper = 20,
}

impl MmuextCmd {
    /// The command of a number, if there is one.
    pub const fn from_number(number: u32) -> Option<MmuextCmd> {
        use MmuextCmd::*;
        Some(match number {
            0 => PinL1Table,
            1 => PinL2Table,
            2 => PinL3Table,
            3 => PinL4Table,
            4 => UnpinTable,
            5 => NewBaseptr,
            6 => TlbFlushLocal,
            7 => InvlpgLocal,
            8 => TlbFlushMulti,
            9 => InvlpgMulti,
            10 => TlbFlushAll,
            11 => InvlpgAll,
            12 => FlushCache,
            13 => SetLdt,
            15 => NewUserBaseptr,
            16 => ClearPage,
            17 => CopyPage,
            18 => FlushCacheGlobal,
            19 => MarkSuper,
            20 => UnmarkSuper,
            _ => return None,
        })
    }
}

/// One element of `mmuext_op`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MmuextOp {
    /// A [`MmuextCmd`].
    pub cmd: u32,
    /// Zero.
    pub pad: u32,
    /// Machine frame or linear address, as the command wants.
    pub arg1: u64,
    /// Number of entries, address of a vCPU bitmap, or source frame, as the command wants.
    pub arg2: u64,
}
assert_layout!(MmuextOp, size 24, cmd @ 0, arg1 @ 8, arg2 @ 16);

/// `update_va_mapping` flags: flush nothing.
pub const UVMF_NONE: u64 = 0;
/// `update_va_mapping` flags: flush the TLB.
pub const UVMF_TLB_FLUSH: u64 = 1;
/// `update_va_mapping` flags: flush the one address.
pub const UVMF_INVLPG: u64 = 2;
/// `update_va_mapping` flags: which of the above.
pub const UVMF_FLUSHTYPE_MASK: u64 = 3;
/// `update_va_mapping` flags: on this vCPU (with [`UVMF_FLUSHTYPE_MASK`] cut off).
pub const UVMF_LOCAL: u64 = 0;
/// `update_va_mapping` flags: on all vCPUs; any other value is the address of a vCPU bitmap.
pub const UVMF_ALL: u64 = 4;

/// `vm_assist` command: switch on.
pub const VMASST_CMD_ENABLE: u64 = 0;
/// `vm_assist` command: switch off.
pub const VMASST_CMD_DISABLE: u64 = 1;
/// `vm_assist` type: emulate plain stores to page tables.
pub const VMASST_TYPE_WRITABLE_PAGETABLES: u64 = 2;
/// `vm_assist` type: show IOPL as hardware would.
pub const VMASST_TYPE_ARCHITECTURAL_IOPL: u64 = 4;
/// `vm_assist` type: mark run-state records that are being written.
pub const VMASST_TYPE_RUNSTATE_UPDATE_FLAG: u64 = 5;
/// `vm_assist` type: no M2P in user roots.
pub const VMASST_TYPE_M2P_STRICT: u64 = 32;
