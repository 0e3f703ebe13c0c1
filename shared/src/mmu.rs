//! Page-table entries, memory types, and the structures of the MMU hypercalls (`public/xen.h`).

use crate::assert_layout;
use strum::FromRepr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags::bitflags! {
    /// Flag bits of a page-table entry (Intel SDM vol. 3, 4.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct EntryFlags: u64 {
        /// The entry is valid.
        const PRESENT = 1 << 0;
        /// Writes are allowed.
        const WRITABLE = 1 << 1;
        /// Accesses from ring 3 are allowed.
        const USER = 1 << 2;
        /// Page-level write-through: bit 0 of the PAT index.
        const WRITE_THROUGH = 1 << 3;
        /// Page-level cache disable: bit 1 of the PAT index.
        const NO_CACHE = 1 << 4;
        /// The CPU has used the entry for a translation.
        const ACCESSED = 1 << 5;
        /// The CPU has written to the page (leaf entries).
        const DIRTY = 1 << 6;
        /// L1: bit 2 of the PAT index. L2 and above: the entry maps a large page.
        const PAT_OR_SIZE = 1 << 7;
        /// A load of CR3 does not flush the translation (leaf entries, with CR4.PGE).
        const GLOBAL = 1 << 8;
        /// Instruction fetches are not allowed.
        const NO_EXECUTE = 1 << 63;
    }
}

/// Value of `IA32_PAT` for all guests (`public/arch-x86/xen.h`, PAT table). Guests can't change it.
pub const PAT: u64 = 0x0000_0501_0007_0406;

/// Memory type of a mapping (Intel SDM vol. 3, 12.3 and 12.12), selected by three flags of the L1
/// entry. The discriminant is the lowest index of the type in [`PAT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MemoryType {
    /// Cached, and written to memory when the line is evicted. The type of ordinary memory.
    #[default]
    WriteBack = 0,
    /// Cached for reads; each write also goes to memory.
    WriteThrough = 1,
    /// Not cached, unless the MTRRs make the range write-combining.
    UncachedMinus = 2,
    /// Not cached; accesses happen in program order.
    Uncached = 3,
    /// Not cached; writes are combined in buffers, and may be delayed and reordered.
    WriteCombining = 4,
    /// Cached for reads; writes go to memory and invalidate the line.
    WriteProtected = 5,
}

impl MemoryType {
    /// All memory types, by discriminant.
    pub const ALL: [MemoryType; 6] = [
        MemoryType::WriteBack,
        MemoryType::WriteThrough,
        MemoryType::UncachedMinus,
        MemoryType::Uncached,
        MemoryType::WriteCombining,
        MemoryType::WriteProtected,
    ];

    /// The flags of an L1 entry that select the memory type.
    pub const FLAGS: EntryFlags =
        EntryFlags::WRITE_THROUGH.union(EntryFlags::NO_CACHE).union(EntryFlags::PAT_OR_SIZE);

    /// The memory type that the flags of an L1 entry select. All eight combinations are valid.
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

    /// The flags of an L1 entry that select this memory type.
    pub const fn flags(self) -> EntryFlags {
        let index = self as u64;
        EntryFlags::from_bits_truncate((index & 3) << 3 | (index & 4) << 5)
    }

    /// Name in the log: `wb`, `wt`, `uc-`, `uc`, `wc`, `wp`.
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

    /// Encoding of the type in a byte of [`PAT`] (Intel SDM vol. 3, table 12-10).
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
    // `MemoryType::of` agrees with the PAT for each of the eight indexes.
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

/// Mask of the machine address in an entry (bits 12 to 51).
pub const ENTRY_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// `mmu_update` type, in the low bits of [`MmuUpdate::ptr`]: checked `*ptr = val`.
pub const MMU_NORMAL_PT_UPDATE: u64 = 0;
/// `mmu_update` type: `M2P[ptr >> 12] = val`.
pub const MMU_MACHPHYS_UPDATE: u64 = 1;
/// `mmu_update` type: as [`MMU_NORMAL_PT_UPDATE`], but keeps the current accessed and dirty bits.
pub const MMU_PT_UPDATE_PRESERVE_AD: u64 = 2;
/// `mmu_update` type: for PV guests the same as [`MMU_NORMAL_PT_UPDATE`].
pub const MMU_PT_UPDATE_NO_TRANSLATE: u64 = 3;

/// One request of `mmu_update`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MmuUpdate {
    /// Machine address of the entry, with the request type in the low two bits.
    pub ptr: u64,
    /// New value of the entry.
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
    /// Machine frame or linear address, depending on the command.
    pub arg1: u64,
    /// Number of entries, address of a vCPU bitmap, or source frame, depending on the command.
    pub arg2: u64,
}
assert_layout!(MmuextOp, size 24, cmd @ 0, arg1 @ 8, arg2 @ 16);

/// `update_va_mapping` flags: no flush.
pub const UVMF_NONE: u64 = 0;
/// `update_va_mapping` flags: flush the TLB.
pub const UVMF_TLB_FLUSH: u64 = 1;
/// `update_va_mapping` flags: flush the translation of the address.
pub const UVMF_INVLPG: u64 = 2;
/// `update_va_mapping` flags: mask of the flush type.
pub const UVMF_FLUSHTYPE_MASK: u64 = 3;
/// `update_va_mapping` flags, without [`UVMF_FLUSHTYPE_MASK`]: flush on this vCPU.
pub const UVMF_LOCAL: u64 = 0;
/// `update_va_mapping` flags, without [`UVMF_FLUSHTYPE_MASK`]: flush on all vCPUs. Any other
/// value is the address of a vCPU bitmap.
pub const UVMF_ALL: u64 = 4;

/// `vm_assist` command: enable.
pub const VMASST_CMD_ENABLE: u64 = 0;
/// `vm_assist` command: disable.
pub const VMASST_CMD_DISABLE: u64 = 1;
/// `vm_assist` type: emulate the guest's stores to its page tables.
pub const VMASST_TYPE_WRITABLE_PAGETABLES: u64 = 2;
/// `vm_assist` type: show the virtual IOPL in RFLAGS.
pub const VMASST_TYPE_ARCHITECTURAL_IOPL: u64 = 4;
/// `vm_assist` type: set [`RUNSTATE_UPDATE`](crate::vcpu::RUNSTATE_UPDATE) while a copy of the
/// runstate is updated.
pub const VMASST_TYPE_RUNSTATE_UPDATE_FLAG: u64 = 5;
/// `vm_assist` type: do not map the M2P in user mode.
pub const VMASST_TYPE_M2P_STRICT: u64 = 32;
