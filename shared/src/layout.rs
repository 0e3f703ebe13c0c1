//! Address space layout of a 64-bit PV guest and the flat selectors
//! (`public/arch-x86/xen-x86_64.h`, `public/arch-x86/xen.h`).

pub use crate::address::PAGE_SIZE;

/// First address of the range reserved for the hypervisor.
pub const HYPERVISOR_START: u64 = 0xffff_8000_0000_0000;
/// End of the range reserved for the hypervisor (exclusive).
pub const HYPERVISOR_END: u64 = 0xffff_8800_0000_0000;
/// L4 slots reserved for the hypervisor.
pub const HYPERVISOR_SLOTS: core::ops::Range<usize> = 256..272;
/// Start of the read-only machine-to-physical table (M2P): one `u64` per machine frame.
pub const M2P_START: u64 = 0xffff_8000_0000_0000;
/// End of the address range of the M2P (exclusive).
pub const M2P_END: u64 = 0xffff_8040_0000_0000;
/// M2P entry of a frame without a pseudo-physical frame number.
pub const INVALID_M2P_ENTRY: u64 = !0;

/// Selector of the flat 32-bit code segment, ring 3.
pub const FLAT_RING3_CS32: u16 = 0xe023;
/// Selector of the flat 64-bit code segment, ring 3.
pub const FLAT_RING3_CS64: u16 = 0xe033;
/// Selector of the flat data and stack segment, ring 3.
pub const FLAT_RING3_SS64: u16 = 0xe02b;
/// Code selector in exception frames that interrupted the guest kernel: [`FLAT_RING3_CS64`] with
/// RPL 0.
pub const FLAT_KERNEL_CS64: u16 = FLAT_RING3_CS64 & !3;

/// Index of the first of the two GDT pages reserved for the hypervisor.
pub const FIRST_RESERVED_GDT_PAGE: usize = 14;
/// Index of the first GDT entry reserved for the hypervisor, and so the largest number of entries
/// of a guest.
pub const FIRST_RESERVED_GDT_ENTRY: usize = FIRST_RESERVED_GDT_PAGE * 512;
/// First selector reserved for the hypervisor.
#[expect(clippy::cast_possible_truncation, reason = "0xe000")]
pub const FIRST_RESERVED_GDT_BYTE: u16 = (FIRST_RESERVED_GDT_ENTRY * 8) as u16;
/// Largest number of entries in an LDT (SDM volume 3, 3.5.1).
pub const MAX_LDT_ENTRIES: u32 = 8192;
