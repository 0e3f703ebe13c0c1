//! `grant_table_op` (`public/grant_table.h`): sharing frames with other domains.
//!
//! Grant table version 1: entries of 8 bytes, 512 per frame. The guest writes which domain may use
//! which frame; the hypervisor sets flags in the same entry while the frame is in use.

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

/// Number of entries in a frame of the table.
pub const ENTRIES_PER_FRAME: u32 = 512;
/// Number of references reserved for the tool stack, from 0.
pub const RESERVED_ENTRIES: u32 = 8;

/// Result of one element of a `grant_table_op` (`GNTST_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Status {
    /// Success.
    Okay = 0,
    /// An error without a code of its own.
    GeneralError = -1,
    /// No such domain.
    BadDomain = -2,
    /// No such grant reference, or its entry does not permit the operation.
    BadReference = -3,
    /// No such mapping handle.
    BadHandle = -4,
    /// The virtual address cannot be mapped or unmapped.
    BadVirtualAddress = -5,
    /// Invalid device address.
    BadDeviceAddress = -6,
    /// No space for device mappings.
    NoDeviceSpace = -7,
    /// Not permitted.
    PermissionDenied = -8,
    /// The frame is not the caller's, or cannot be used.
    BadPage = -9,
    /// A range to copy crosses a page boundary.
    BadCopyArgument = -10,
    /// The address is too large.
    AddressTooBig = -11,
    /// Not possible at present; the caller may try again.
    Again = -12,
    /// A table or list is full.
    NoSpace = -13,
}

bitflags! {
    /// Flags of a table entry (`GTF_*`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct EntryFlags: u16 {
        /// Type: the frame may be mapped and copied.
        const PERMIT_ACCESS = 1;
        /// Type: the domain accepts a frame.
        const ACCEPT_TRANSFER = 2;
        /// Only read access is permitted.
        const READ_ONLY = 1 << 2;
        /// Set by the hypervisor: the frame is in use for reading.
        const READING = 1 << 3;
        /// Set by the hypervisor: the frame is in use for writing.
        const WRITING = 1 << 4;
        /// Set by the hypervisor: a transfer to this entry has begun.
        const TRANSFER_COMMITTED = 1 << 2;
        /// Set by the hypervisor: the transfer is complete, [`EntryV1::frame`] is valid.
        const TRANSFER_COMPLETED = 1 << 3;
    }
}

impl EntryFlags {
    /// Mask of the type. Type 0: the entry is unused.
    pub const TYPE: u16 = 3;
}

/// Entry of the grant table.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EntryV1 {
    /// [`EntryFlags`].
    pub flags: u16,
    /// Domain that may use the frame or transfer one.
    pub domid: u16,
    /// Machine frame. After a transfer: the frame that was received.
    pub frame: u32,
}
assert_layout!(EntryV1, size 8, domid @ 2, frame @ 4);

bitflags! {
    /// Flags of a mapping (`GNTMAP_*`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MapFlags: u32 {
        /// Maps the frame for devices.
        const DEVICE_MAP = 1;
        /// Maps the frame at [`MapGrantRef::host_addr`].
        const HOST_MAP = 1 << 1;
        /// Maps the frame read-only.
        const READ_ONLY = 1 << 2;
        /// The mapping is also accessible in user mode.
        const APPLICATION_MAP = 1 << 3;
        /// [`MapGrantRef::host_addr`] is the machine address of a page-table entry.
        const CONTAINS_PTE = 1 << 4;
        /// The caller handles failure.
        const CAN_FAIL = 1 << 5;
        /// Bits 16 and up are copied to the available bits of the page-table entry, from bit 9.
        const _ = !0;
    }
}

impl MapFlags {
    /// Lowest of the bits that are copied to the available bits of the page-table entry.
    pub const AVAILABLE_SHIFT: u32 = 16;
}

/// Argument of [`MAP_GRANT_REF`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MapGrantRef {
    /// Virtual address to map the frame at, or machine address of a page-table entry.
    pub host_addr: u64,
    /// [`MapFlags`].
    pub flags: u32,
    /// Grant reference: index of the entry in the granting domain's table.
    pub reference: u32,
    /// Granting domain.
    pub dom: u16,
    /// Out: [`Status`].
    pub status: i16,
    /// Out: handle of the mapping.
    pub handle: u32,
    /// Out: machine address of the frame.
    pub dev_bus_addr: u64,
}
assert_layout!(MapGrantRef, size 32, flags @ 8, reference @ 12, dom @ 16, status @ 18, handle @ 20, dev_bus_addr @ 24);

/// Argument of [`UNMAP_GRANT_REF`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct UnmapGrantRef {
    /// Virtual address of the mapping, or machine address of its page-table entry.
    pub host_addr: u64,
    /// Zero, or the machine address of the frame.
    pub dev_bus_addr: u64,
    /// Handle of the mapping.
    pub handle: u32,
    /// Out: [`Status`].
    pub status: i16,
    /// Zero.
    pub pad: u16,
}
assert_layout!(UnmapGrantRef, size 24, dev_bus_addr @ 8, handle @ 16, status @ 20);

/// Argument of [`UNMAP_AND_REPLACE`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct UnmapAndReplace {
    /// Virtual address of the mapping, or machine address of its page-table entry.
    pub host_addr: u64,
    /// Virtual address whose page-table entry is moved to `host_addr`.
    pub new_addr: u64,
    /// Handle of the mapping.
    pub handle: u32,
    /// Out: [`Status`].
    pub status: i16,
    /// Zero.
    pub pad: u16,
}
assert_layout!(UnmapAndReplace, size 24, new_addr @ 8, handle @ 16, status @ 20);

/// Argument of [`SETUP_TABLE`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SetupTable {
    /// Domain that owns the table.
    pub dom: u16,
    /// Zero.
    pub pad: u16,
    /// Number of frames that the table should have.
    pub nr_frames: u32,
    /// Out: [`Status`].
    pub status: i16,
    /// Zero.
    pub pad2: [u16; 3],
    /// Guest address to which the machine frame numbers are written, `u64` each.
    pub frame_list: u64,
}
assert_layout!(SetupTable, size 24, nr_frames @ 4, status @ 8, frame_list @ 16);

/// Argument of [`QUERY_SIZE`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct QuerySize {
    /// Domain that owns the table.
    pub dom: u16,
    /// Zero.
    pub pad: u16,
    /// Out: number of frames that the table has.
    pub nr_frames: u32,
    /// Out: number of frames that the table can have.
    pub max_nr_frames: u32,
    /// Out: [`Status`].
    pub status: i16,
    /// Zero.
    pub pad2: u16,
}
assert_layout!(QuerySize, size 16, nr_frames @ 4, max_nr_frames @ 8, status @ 12);

/// Argument of [`TRANSFER`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Transfer {
    /// Machine frame of the caller to transfer.
    pub mfn: u64,
    /// Domain that receives the frame.
    pub domid: u16,
    /// Zero.
    pub pad: u16,
    /// Grant reference of the receiving domain.
    pub reference: u32,
    /// Out: [`Status`].
    pub status: i16,
    /// Zero.
    pub pad2: [u16; 3],
}
assert_layout!(Transfer, size 24, domid @ 8, reference @ 12, status @ 16);

/// Source or destination of a [`struct@Copy`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CopyPointer {
    /// Grant reference (low 32 bits), or a frame of the domain.
    pub frame: u64,
    /// Domain that owns the frame.
    pub domid: u16,
    /// Offset of the first byte in the frame.
    pub offset: u16,
    /// Zero.
    pub pad: u32,
}
assert_layout!(CopyPointer, size 16, domid @ 8, offset @ 10);

/// Argument of [`COPY`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Copy {
    /// Source.
    pub source: CopyPointer,
    /// Destination.
    pub dest: CopyPointer,
    /// Number of bytes.
    pub len: u16,
    /// [`COPY_SOURCE_REFERENCE`], [`COPY_DEST_REFERENCE`].
    pub flags: u16,
    /// Out: [`Status`].
    pub status: i16,
    /// Zero.
    pub pad: u16,
}
assert_layout!(Copy, size 40, dest @ 16, len @ 32, flags @ 34, status @ 36);

/// `flags` of [`struct@Copy`]: the source is a grant reference.
pub const COPY_SOURCE_REFERENCE: u16 = 1;
/// `flags` of [`struct@Copy`]: the destination is a grant reference.
pub const COPY_DEST_REFERENCE: u16 = 2;

/// Argument of [`SWAP_GRANT_REF`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SwapGrantRef {
    /// Grant reference of the first entry.
    pub ref_a: u32,
    /// Grant reference of the second entry.
    pub ref_b: u32,
    /// Out: [`Status`].
    pub status: i16,
    /// Zero.
    pub pad: u16,
}
assert_layout!(SwapGrantRef, size 12, ref_b @ 4, status @ 8);

/// Argument of [`GET_VERSION`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GetVersion {
    /// Domain that owns the table.
    pub dom: u16,
    /// Zero.
    pub pad: u16,
    /// Out: version of the table.
    pub version: u32,
}
assert_layout!(GetVersion, size 8, version @ 4);

/// Argument of [`GET_STATUS_FRAMES`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GetStatusFrames {
    /// Number of frames requested.
    pub nr_frames: u32,
    /// Domain that owns the table.
    pub dom: u16,
    /// Out: [`Status`].
    pub status: i16,
    /// Guest address to which the machine frame numbers are written, `u64` each.
    pub frame_list: u64,
}
assert_layout!(GetStatusFrames, size 16, dom @ 4, status @ 6, frame_list @ 8);
