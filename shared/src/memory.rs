//! `memory_op`: reservations, memory maps and exchange (`public/memory.h`).

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[expect(missing_docs, reason = "the names are those of public/memory.h")]
mod commands {
    pub const INCREASE_RESERVATION: u64 = 0;
    pub const DECREASE_RESERVATION: u64 = 1;
    pub const MAXIMUM_RAM_PAGE: u64 = 2;
    pub const CURRENT_RESERVATION: u64 = 3;
    pub const MAXIMUM_RESERVATION: u64 = 4;
    pub const MACHPHYS_MFN_LIST: u64 = 5;
    pub const POPULATE_PHYSMAP: u64 = 6;
    pub const ADD_TO_PHYSMAP: u64 = 7;
    pub const MEMORY_MAP: u64 = 9;
    pub const MACHINE_MEMORY_MAP: u64 = 10;
    pub const EXCHANGE: u64 = 11;
    pub const MACHPHYS_MAPPING: u64 = 12;
    pub const SET_MEMORY_MAP: u64 = 13;
    pub const MAXIMUM_GPFN: u64 = 14;
    pub const REMOVE_FROM_PHYSMAP: u64 = 15;
    pub const ADD_TO_PHYSMAP_BATCH: u64 = 23;
    pub const CLAIM_PAGES: u64 = 24;
}
pub use commands::*;

/// Argument of `increase_reservation`, `decrease_reservation` and `populate_physmap`: extents of
/// frames to allocate or free.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Reservation {
    /// Guest address of `u64` frame numbers, one per extent.
    pub extent_start: u64,
    /// Number of extents.
    pub nr_extents: u64,
    /// log2 of the number of frames in an extent.
    pub extent_order: u32,
    /// `XENMEMF_*`: limit on address bits, and NUMA node.
    pub mem_flags: u32,
    /// Domain whose reservation changes.
    pub domid: u16,
    /// Zero.
    pub pad: [u16; 3],
}
assert_layout!(Reservation, size 32, extent_start @ 0, nr_extents @ 8, extent_order @ 16, mem_flags @ 20, domid @ 24);

/// Argument of `exchange`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Exchange {
    /// Extents to free.
    pub input: Reservation,
    /// Extents to allocate. List: in: pseudo-physical frame numbers, out: machine frame numbers.
    pub output: Reservation,
    /// In: zero. Out: number of extents of `input` that were exchanged.
    pub nr_exchanged: u64,
}
assert_layout!(Exchange, size 72, output @ 32, nr_exchanged @ 64);

/// Argument of `memory_map`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MemoryMap {
    /// In: capacity of `buffer` in entries. Out: number of entries written.
    pub nr_entries: u32,
    /// Zero.
    pub pad: u32,
    /// Guest address of an array of [`E820Entry`].
    pub buffer: u64,
}
assert_layout!(MemoryMap, size 16, buffer @ 8);

/// Region of the guest's memory map.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, packed)]
pub struct E820Entry {
    /// Physical address of the first byte.
    pub addr: u64,
    /// Size in bytes.
    pub size: u64,
    /// E820 type, such as [`E820_RAM`].
    pub kind: u32,
}
assert_layout!(E820Entry, size 20, size @ 8, kind @ 16);

/// [`E820Entry::kind`] of usable memory.
pub const E820_RAM: u32 = 1;

/// Result of `machphys_mapping`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MachphysMapping {
    /// First virtual address of the M2P range.
    pub v_start: u64,
    /// End of the M2P range (exclusive).
    pub v_end: u64,
    /// Highest machine frame number.
    pub max_mfn: u64,
}
assert_layout!(MachphysMapping, size 24);

/// Argument of `machphys_mfn_list`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MachphysMfnList {
    /// Capacity of the list in entries.
    pub max_extents: u32,
    /// Zero.
    pub pad: u32,
    /// Guest address of `u64` machine frame numbers, one per 2 MiB extent of the M2P.
    pub extent_start: u64,
    /// Out: number of entries written.
    pub nr_extents: u32,
    /// Zero.
    pub pad2: u32,
}
assert_layout!(MachphysMfnList, size 24, extent_start @ 8, nr_extents @ 16);
