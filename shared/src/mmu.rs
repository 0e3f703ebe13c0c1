//! Page-table entries and the MMU hypercalls' structures (`public/xen.h`).

use crate::assert_layout;
use strum::FromRepr;
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

/// The page attribute table (`IA32_PAT`) that the flags of guests' entries are looked up in
/// (`public/arch-x86/xen.h`, PAT table). No guest can change it.
pub const PAT: u64 = 0x0000_0501_0007_0406;

/// How processors treat accesses through a mapping (Intel SDM vol. 3, 12.3 and 12.12), as an L1
/// entry says by its three caching flags. The discriminant is the lowest index of it in [`PAT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MemoryType {
    /// Cached, written back when the line is wanted elsewhere: all ordinary memory.
    #[default]
    WriteBack = 0,
    /// Cached, and each write goes through to memory.
    WriteThrough = 1,
    /// Not cached, unless the firmware made the range write-combining.
    UncachedMinus = 2,
    /// Not cached, and in order.
    Uncached = 3,
    /// Not cached; writes are gathered and may come late, and out of order.
    WriteCombining = 4,
    /// Reads are cached, writes go to memory and drop the line.
    WriteProtected = 5,
}

impl MemoryType {
    /// All of them.
    pub const ALL: [MemoryType; 6] = [
        MemoryType::WriteBack,
        MemoryType::WriteThrough,
        MemoryType::UncachedMinus,
        MemoryType::Uncached,
        MemoryType::WriteCombining,
        MemoryType::WriteProtected,
    ];

    /// The flags of an L1 entry that say of which type its mapping is.
    pub const FLAGS: EntryFlags =
        EntryFlags::WRITE_THROUGH.union(EntryFlags::NO_CACHE).union(EntryFlags::PAT_OR_SIZE);

    /// The type of an L1 entry's mapping. Total: all eight combinations mean something.
    pub const fn of(flags: EntryFlags) -> MemoryType {
        let bits = flags.bits();
        // Bits 3, 4 and 7 of the entry are bits 0, 1 and 2 of the index.
        match bits >> 3 & 3 | bits >> 5 & 4 {
            0 => MemoryType::WriteBack,
            1 => MemoryType::WriteThrough,
            2 => MemoryType::UncachedMinus,
            4 => MemoryType::WriteCombining,
            5 => MemoryType::WriteProtected,
            _ => MemoryType::Uncached,
        }
    }

    /// The flags of an L1 entry that make its mapping one of this type.
    pub const fn flags(self) -> EntryFlags {
        let index = self as u64;
        EntryFlags::from_bits_truncate((index & 3) << 3 | (index & 4) << 5)
    }

    /// Short name for the log: `wb`, `wt`, `uc-`, `uc`, `wc`, `wp`.
    pub const fn name(self) -> &'static str {
        match self {
            MemoryType::WriteBack => "wb",
            MemoryType::WriteThrough => "wt",
            MemoryType::UncachedMinus => "uc-",
            MemoryType::Uncached => "uc",
            MemoryType::WriteCombining => "wc",
            MemoryType::WriteProtected => "wp",
        }
    }

    /// What a byte of [`PAT`] says for the type (Intel SDM vol. 3, table 12-10).
    const fn encoding(self) -> u8 {
        match self {
            MemoryType::WriteBack => 6,
            MemoryType::WriteThrough => 4,
            MemoryType::UncachedMinus => 7,
            MemoryType::Uncached => 0,
            MemoryType::WriteCombining => 1,
            MemoryType::WriteProtected => 5,
        }
    }
}

const _: () = {
    // Each of the eight indexes means in `MemoryType::of` what it means in the PAT.
    let mut index = 0_u64;
    while index < 8 {
        let flags = EntryFlags::from_bits_truncate((index & 3) << 3 | (index & 4) << 5);
        assert!(MemoryType::of(flags).encoding() as u64 == PAT >> (8 * index) & 0xff);
        index += 1;
    }
    let mut number = 0;
    while number < MemoryType::ALL.len() {
        let kind = MemoryType::ALL[number];
        assert!(kind as usize == number && MemoryType::of(kind.flags()) as u8 == kind as u8);
        number += 1;
    }
};

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

/// Command of an `mmuext_op` element. [`MmuextCmd::from_repr`] is `None` for an unknown number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromRepr)]
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
