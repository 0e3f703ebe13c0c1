//! `grant_table_op` (`public/grant_table.h`): lending frames to other domains.
//!
//! Version 1 of the table: entries of eight bytes, 512 a frame. The guest writes who may have what;
//! the hypervisor marks, in the same entry, what is in use.

use crate::assert_layout;
use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[expect(missing_docs, reason = "the names are those of public/grant_table.h")]
mod commands {
    pub const MAP_GRANT_REF: u64 = 0;
    pub const UNMAP_GRANT_REF: u64 = 1;
    pub const SETUP_TABLE: u64 = 2;
    pub const DUMP_TABLE: u64 = 3;
    pub const TRANSFER: u64 = 4;
    pub const COPY: u64 = 5;
    pub const QUERY_SIZE: u64 = 6;
    pub const UNMAP_AND_REPLACE: u64 = 7;
    pub const SET_VERSION: u64 = 8;
    pub const GET_STATUS_FRAMES: u64 = 9;
    pub const GET_VERSION: u64 = 10;
    pub const SWAP_GRANT_REF: u64 = 11;
    pub const CACHE_FLUSH: u64 = 12;
}
pub use commands::*;

/// Entries in a frame of the table.
pub const ENTRIES_PER_FRAME: u32 = 512;
/// References of the tool stack's; a guest's own begin here.
pub const RESERVED_ENTRIES: u32 = 8;

/// Status of an element: done, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Status {
    /// Done.
    Okay = 0,
    /// Something else than below.
    GeneralError = -1,
    /// No such domain.
    BadDomain = -2,
    /// No such reference, or not for this.
    BadReference = -3,
    /// No such handle.
    BadHandle = -4,
    /// The address has no place in the address space.
    BadVirtualAddress = -5,
    /// The device address is none.
    BadDeviceAddress = -6,
    /// No device mappings here.
    NoDeviceSpace = -7,
    /// Not permitted.
    PermissionDenied = -8,
    /// The frame is none of the caller's, or can't be had.
    BadPage = -9,
    /// Ranges to copy that leave their pages.
    BadCopyArgument = -10,
    /// The address is too large.
    AddressTooBig = -11,
    /// Not now: ask again.
    Again = -12,
    /// No room for more.
    NoSpace = -13,
}

bitflags! {
    /// First half-word of a table's entry.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct EntryFlags: u16 {
        /// Type, two bits: may be mapped and copied.
        const PERMIT_ACCESS = 1;
        /// Type, two bits: a frame is wanted.
        const ACCEPT_TRANSFER = 2;
        /// Not for writing.
        const READ_ONLY = 1 << 2;
        /// The hypervisor: somebody reads it.
        const READING = 1 << 3;
        /// The hypervisor: somebody writes to it.
        const WRITING = 1 << 4;
        /// The hypervisor, of a transfer: a frame is on its way.
        const TRANSFER_COMMITTED = 1 << 2;
        /// The hypervisor, of a transfer: the frame is there.
        const TRANSFER_COMPLETED = 1 << 3;
    }
}

impl EntryFlags {
    /// The bits of the type: 0 is none.
    pub const TYPE: u16 = 3;
}

/// An entry of the table.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EntryV1 {
    /// [`EntryFlags`].
    pub flags: u16,
    /// For whom.
    pub domid: u16,
    /// The frame; of a completed transfer: the one that came.
    pub frame: u32,
}
assert_layout!(EntryV1, size 8, domid @ 2, frame @ 4);

bitflags! {
    /// How to map.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MapFlags: u32 {
        /// For devices.
        const DEVICE_MAP = 1;
        /// At an address.
        const HOST_MAP = 1 << 1;
        /// Not for writing.
        const READ_ONLY = 1 << 2;
        /// For guest user mode too.
        const APPLICATION_MAP = 1 << 3;
        /// The address is the machine address of a page-table entry.
        const CONTAINS_PTE = 1 << 4;
        /// The caller can bear a failure.
        const CAN_FAIL = 1 << 5;
        /// Bits 16 and up go to the entry's bits 9 and up, as far as there are any.
        const _ = !0;
    }
}

impl MapFlags {
    /// First of the bits that go to the entry.
    pub const AVAILABLE_SHIFT: u32 = 16;
}

/// Argument of `map_grant_ref`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MapGrantRef {
    /// Where to.
    pub host_addr: u64,
    /// [`MapFlags`].
    pub flags: u32,
    /// Which entry of the granter's table.
    pub reference: u32,
    /// Who grants.
    pub dom: u16,
    /// Out: [`Status`].
    pub status: i16,
    /// Out: names the mapping.
    pub handle: u32,
    /// Out: machine address of the frame.
    pub dev_bus_addr: u64,
}
assert_layout!(MapGrantRef, size 32, flags @ 8, reference @ 12, dom @ 16, status @ 18, handle @ 20, dev_bus_addr @ 24);

/// Argument of `unmap_grant_ref`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct UnmapGrantRef {
    /// Where from.
    pub host_addr: u64,
    /// Zero, or the machine address of the frame.
    pub dev_bus_addr: u64,
    /// The mapping.
    pub handle: u32,
    /// Out: [`Status`].
    pub status: i16,
    /// Zero.
    pub pad: u16,
}
assert_layout!(UnmapGrantRef, size 24, dev_bus_addr @ 8, handle @ 16, status @ 20);

/// Argument of `unmap_and_replace`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct UnmapAndReplace {
    /// Where from.
    pub host_addr: u64,
    /// Whose entry moves there.
    pub new_addr: u64,
    /// The mapping.
    pub handle: u32,
    /// Out: [`Status`].
    pub status: i16,
    /// Zero.
    pub pad: u16,
}
assert_layout!(UnmapAndReplace, size 24, new_addr @ 8, handle @ 16, status @ 20);

/// Argument of `setup_table`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SetupTable {
    /// Whose table.
    pub dom: u16,
    /// Zero.
    pub pad: u16,
    /// Frames wanted.
    pub nr_frames: u32,
    /// Out: [`Status`].
    pub status: i16,
    /// Zero.
    pub pad2: [u16; 3],
    /// Where to write the numbers of the frames: `u64` each.
    pub frame_list: u64,
}
assert_layout!(SetupTable, size 24, nr_frames @ 4, status @ 8, frame_list @ 16);

/// Argument of `query_size`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct QuerySize {
    /// Whose table.
    pub dom: u16,
    /// Zero.
    pub pad: u16,
    /// Out: frames that it has.
    pub nr_frames: u32,
    /// Out: frames that it can have.
    pub max_nr_frames: u32,
    /// Out: [`Status`].
    pub status: i16,
    /// Zero.
    pub pad2: u16,
}
assert_layout!(QuerySize, size 16, nr_frames @ 4, max_nr_frames @ 8, status @ 12);

/// Argument of `transfer`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Transfer {
    /// The caller's frame.
    pub mfn: u64,
    /// Who gets it.
    pub domid: u16,
    /// Zero.
    pub pad: u16,
    /// By which entry of his table.
    pub reference: u32,
    /// Out: [`Status`].
    pub status: i16,
    /// Zero.
    pub pad2: [u16; 3],
}
assert_layout!(Transfer, size 24, domid @ 8, reference @ 12, status @ 16);

/// One side of a copy.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CopyPointer {
    /// A grant reference (low half), or a frame of the domain's.
    pub frame: u64,
    /// Whose.
    pub domid: u16,
    /// First byte in the frame.
    pub offset: u16,
    /// Zero.
    pub pad: u32,
}
assert_layout!(CopyPointer, size 16, domid @ 8, offset @ 10);

/// Argument of `copy`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Copy {
    /// From where.
    pub source: CopyPointer,
    /// To where.
    pub dest: CopyPointer,
    /// Bytes.
    pub len: u16,
    /// [`COPY_SOURCE_REFERENCE`], [`COPY_DEST_REFERENCE`].
    pub flags: u16,
    /// Out: [`Status`].
    pub status: i16,
    /// Zero.
    pub pad: u16,
}
assert_layout!(Copy, size 40, dest @ 16, len @ 32, flags @ 34, status @ 36);

/// The source is a grant reference.
pub const COPY_SOURCE_REFERENCE: u16 = 1;
/// The destination is a grant reference.
pub const COPY_DEST_REFERENCE: u16 = 2;

/// Argument of `swap_grant_ref`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SwapGrantRef {
    /// An entry.
    pub ref_a: u32,
    /// Another.
    pub ref_b: u32,
    /// Out: [`Status`].
    pub status: i16,
    /// Zero.
    pub pad: u16,
}
assert_layout!(SwapGrantRef, size 12, ref_b @ 4, status @ 8);

/// Argument of `get_version`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GetVersion {
    /// Whose table.
    pub dom: u16,
    /// Zero.
    pub pad: u16,
    /// Out: the version.
    pub version: u32,
}
assert_layout!(GetVersion, size 8, version @ 4);

/// Argument of `get_status_frames`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GetStatusFrames {
    /// Frames wanted.
    pub nr_frames: u32,
    /// Whose.
    pub dom: u16,
    /// Out: [`Status`].
    pub status: i16,
    /// Where to write the numbers of the frames.
    pub frame_list: u64,
}
assert_layout!(GetStatusFrames, size 16, dom @ 4, status @ 6, frame_list @ 8);
