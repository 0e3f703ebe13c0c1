//! Where things are in a PV64 guest's address space, and the flat selectors
//! (`public/arch-x86/xen-x86_64.h`).

pub use crate::address::PAGE_SIZE;

/// First address of the hypervisor's hole.
pub const HYPERVISOR_START: u64 = 0xffff_8000_0000_0000;
/// First address after the hypervisor's hole.
pub const HYPERVISOR_END: u64 = 0xffff_8800_0000_0000;
/// L4 slots that belong to the hypervisor: first and one past the last.
pub const HYPERVISOR_SLOTS: core::ops::Range<usize> = 256..272;
/// Read-only machine-to-physical table: `u64` per machine frame.
pub const M2P_START: u64 = 0xffff_8000_0000_0000;
/// One past the window of the machine-to-physical table.
pub const M2P_END: u64 = 0xffff_8040_0000_0000;
/// What the machine-to-physical table says of a frame with no guest frame number.
pub const INVALID_M2P_ENTRY: u64 = !0;

/// Flat 32-bit code, ring 3.
pub const FLAT_RING3_CS32: u16 = 0xe023;
/// Flat 64-bit code, ring 3.
pub const FLAT_RING3_CS64: u16 = 0xe033;
/// Flat data and stack, ring 3.
pub const FLAT_RING3_SS64: u16 = 0xe02b;
/// Code selector that frames of the guest kernel show: [`FLAT_RING3_CS64`] with RPL 0.
pub const FLAT_KERNEL_CS64: u16 = FLAT_RING3_CS64 & !3;

/// First of the two GDT pages that belong to the hypervisor.
pub const FIRST_RESERVED_GDT_PAGE: usize = 14;
/// First GDT entry that belongs to the hypervisor; a guest may have as many.
pub const FIRST_RESERVED_GDT_ENTRY: usize = FIRST_RESERVED_GDT_PAGE * 512;
/// First selector that belongs to the hypervisor.
#[expect(clippy::cast_possible_truncation, reason = "0xe000")]
pub const FIRST_RESERVED_GDT_BYTE: u16 = (FIRST_RESERVED_GDT_ENTRY * 8) as u16;
/// Entries of the largest LDT.
pub const MAX_LDT_ENTRIES: u32 = 8192;
